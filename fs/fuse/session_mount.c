/* The places of a connection: where its superblock is mounted. */
#include "fs/fuse/session_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fs/host/child.h"
#include "fs/host/mountinfo.h"

static struct kernel_mount_options kernel_options(const struct session_options *opt)
{
	return (struct kernel_mount_options){ .source = opt->fsname,
					      .read_only = opt->read_only,
					      .allow_dev = opt->allow_dev,
					      .allow_suid = opt->allow_suid,
					      .no_exec = opt->no_exec };
}

int session_open_mount(struct session *s, const struct session_options *opt, int *out_fd,
		       struct error *err)
{
	const struct kernel_mount_options ko = kernel_options(opt);
	int r;

	s->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (s->fd < 0)
		return error_set_errno(err, -errno, "cannot open /dev/fuse");
	r = kernel_mount_new(s->fd, &ko, out_fd, &s->at);
	if (r)
		return error_set_errno(err, r, "cannot make a FUSE mount");
	s->dev = s->at.dev;
	return 0;
}

int session_find_places(struct session *s, const struct session_options *opt, bool *out_placed,
			struct error *err)
{
	const struct kernel_mount_options ko = kernel_options(opt);
	struct mountinfo mi;
	int fd, r = kernel_mount_new(s->fd, &ko, &fd, &s->at); /* tells the device */

	if (r)
		return error_set_errno(err, r, "cannot find what a FUSE connection serves");
	close(fd);
	s->dev = s->at.dev;
	r = mountinfo_read("/proc/self/mountinfo", &mi);
	if (r)
		return error_set_errno(err, r, "cannot read what is mounted");
	*out_placed = false;
	for (size_t i = 0; i < mi.n && !*out_placed; i++) {
		const struct mountinfo_entry *e = &mi.entries[i];

		*out_placed = e->dev == s->dev && strcmp(e->mountpoint, opt->mountpoint) == 0;
		if (*out_placed)
			s->at.id = e->id;
	}
	mountinfo_fini(&mi);
	return 0;
}

int session_place(int mount_fd, const struct session_options *opt, struct error *err)
{
	int r = opt->place_fd ? kernel_mount_place_on(mount_fd, opt->place_fd)
			      : kernel_mount_place(mount_fd, opt->mountpoint);

	return r ? error_set_errno(err, r, "cannot mount at %s", opt->mountpoint) : 0;
}

int session_place_again(struct session *s, const struct session_options *opt, struct error *err)
{
	const struct kernel_mount_options ko = kernel_options(opt);
	struct kernel_mount at;
	int fd, r = kernel_mount_new(s->fd, &ko, &fd, &at);

	if (r)
		return error_set_errno(err, r, "cannot mount once more what others hold");
	r = session_place(fd, opt, err);
	close(fd);
	if (!r)
		s->at = at;
	return r;
}

const struct kernel_mount *session_at(const struct session *s)
{
	return &s->at;
}

int session_syncfs(struct session *s, unsigned max_ms)
{
	const struct kernel_mount_options ko = { .source = "sync" };
	struct kernel_mount at;
	int fd, r = child_syncfs(s->mountpoint, s->dev);

	if (r) { /* it is not there any more, or hidden: a mount without a place reaches it */
		r = kernel_mount_new(s->fd, &ko, &fd, &at);
		if (r)
			return r == -ENOTCONN ? 0 : r;
		r = child_syncfs_fd(fd);
		close(fd);
	}
	return r ? r : session_drain(s, max_ms);
}
