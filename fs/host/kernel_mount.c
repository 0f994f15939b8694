#include "fs/host/kernel_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/host/child.h"
#include "fs/host/mountinfo.h"

/* The mount that a descriptor belongs to. */
static int identify(int fd, struct kernel_mount *out)
{
	struct statx stx;

	/* Without asking the filesystem, which is us. */
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &stx) < 0)
		return -errno;
	if (!(stx.stx_mask & STATX_MNT_ID))
		return -EOPNOTSUPP;
	out->id = stx.stx_mnt_id;
	out->dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
	return 0;
}

static int configure(int fs, int fuse_fd, const struct kernel_mount_options *opt)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", fuse_fd);
	const char *const options[][2] = {
		{ "fd", number },    { "rootmode", "40000" }, { "user_id", "0" },
		{ "group_id", "0" }, { "subtype", "varve" },  { "source", opt->source },
	};
	const char *const flags[] = { "allow_other", "default_permissions", "ro" };

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (fsconfig(fs, FSCONFIG_SET_STRING, options[i][0], options[i][1], 0) < 0)
			return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(flags) - !opt->read_only; i++)
		if (fsconfig(fs, FSCONFIG_SET_FLAG, flags[i], NULL, 0) < 0)
			return -errno;
	return fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 ? -errno : 0;
}

int kernel_mount_new(int fuse_fd, const struct kernel_mount_options *opt, int *out_fd,
		     struct kernel_mount *out)
{
	unsigned attr =
		(opt->read_only ? MOUNT_ATTR_RDONLY : 0) | (opt->allow_dev ? 0 : MOUNT_ATTR_NODEV) |
		(opt->allow_suid ? 0 : MOUNT_ATTR_NOSUID) | (opt->no_exec ? MOUNT_ATTR_NOEXEC : 0);
	int fs = fsopen("fuse", FSOPEN_CLOEXEC), fd = -1, r;

	if (fs < 0)
		return -errno;
	r = configure(fs, fuse_fd, opt);
	if (!r) {
		fd = fsmount(fs, FSMOUNT_CLOEXEC, attr);
		r = fd < 0 ? -errno : identify(fd, out);
	}
	close(fs);
	if (r && fd >= 0)
		close(fd);
	if (!r)
		*out_fd = fd;
	return r;
}

int kernel_mount_place(int mount_fd, const char *mountpoint)
{
	int r = move_mount(mount_fd, "", AT_FDCWD, mountpoint,
			   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);

	return r < 0 ? -errno : 0;
}

int kernel_mount_place_on(int mount_fd, int dir_fd)
{
	int r = move_mount(mount_fd, "", dir_fd, "",
			   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);

	return r < 0 ? -errno : 0;
}

void kernel_mount_describe(const struct mountinfo_entry *e, char *out, size_t size)
{
	snprintf(out, size, "%s (%s) is mounted at %s", e->type, e->source, e->mountpoint);
}

/* Unmount it at the place that the kernel reports. */
static int remove_found(const struct mountinfo *mi, const struct mountinfo_entry *e, bool lazy,
			struct error *err)
{
	const struct mountinfo_entry *cover = mountinfo_cover(mi, e);
	const struct mountinfo_entry *inside = mountinfo_inside(mi, e);
	char what[512];
	int r;

	if (cover) {
		kernel_mount_describe(cover, what, sizeof(what));
		return error_set(err, -EEXIST, "%s and hides it: unmount that first", what);
	}
	r = child_umount(e->mountpoint, e->id, e->dev, (lazy ? MNT_DETACH : 0) | UMOUNT_NOFOLLOW);
	if (r == -EBUSY && inside) {
		kernel_mount_describe(inside, what, sizeof(what));
		return error_set(err, r, "%s is in use: %s, inside it", e->mountpoint, what);
	}
	return r ? error_set_errno(err, r, "%s", e->mountpoint) : 0;
}

int kernel_mount_remove(const struct kernel_mount *k, const char *mountpoint, bool lazy,
			struct error *err)
{
	struct mountinfo mi;
	const struct mountinfo_entry *e;
	int r = child_umount(mountpoint, k->id, k->dev, (lazy ? MNT_DETACH : 0) | UMOUNT_NOFOLLOW);

	if (!r)
		return 0;
	/* Find out why not: it is in use, or the path leads to another mount. */
	r = mountinfo_read("/proc/self/mountinfo", &mi);
	if (r)
		return error_set_errno(err, r, "cannot read what is mounted");
	e = mountinfo_find(&mi, k->id, k->dev);
	r = e ? remove_found(&mi, e, lazy, err)
	      : error_set(err, -ENOENT, "it is not mounted any more");
	mountinfo_fini(&mi);
	return r;
}
