/*
 * kernel_mount.h - a FUSE connection's mounts in the kernel: make one, place it,
 * find it again, and unmount exactly that one, nothing that others have mounted.
 *
 * A mount is made before it has a place (fsmount(2)): until it is placed, closing
 * its descriptor undoes all. A connection may have several; the same superblock
 * is in each, and the connection ends with the last. A descriptor of a mount
 * without a place reaches the superblock, whatever happens to the others. Needs
 * Linux 5.15.
 */
#ifndef VARVE_FS_KERNEL_MOUNT_H
#define VARVE_FS_KERNEL_MOUNT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/base/error.h"
#include "store/base/macros.h"

struct kernel_mount {
	uint64_t id; /* as mountinfo has it; 0: none */
	dev_t dev;   /* of the superblock, as stat(2) shows it */
};
struct kernel_mount_options {
	const char *source;
	bool read_only, allow_dev, allow_suid, no_exec;
};

/*
 * Make a mount of the connection, its first or one more, without a place. *out_fd
 * is a descriptor (O_PATH) of its root, for the caller to close. -ENOTCONN if the
 * connection had a mount before and has ended.
 */
MUST_CHECK int kernel_mount_new(int fuse_fd, const struct kernel_mount_options *opt, int *out_fd,
				struct kernel_mount *out);
/* Place it on a directory. */
MUST_CHECK int kernel_mount_place(int mount_fd, const char *mountpoint);
/* The same upon an open one (O_PATH), such as an automount point, where a path would lead to a
 * wait. */
MUST_CHECK int kernel_mount_place_on(int mount_fd, int dir_fd);

/*
 * Unmount k, wherever it is now. After a failure nothing is unmounted:
 * -ENOENT  it is nowhere that we can see: others have unmounted it
 * -EEXIST  another mount hides it, err says which
 * -EBUSY   it is in use; err names a mount inside it, if there is one. Not if lazy
 *          (MNT_DETACH), which takes the mounts inside away as well.
 */
MUST_CHECK int kernel_mount_remove(const struct kernel_mount *k, const char *mountpoint, bool lazy,
				   struct error *err);

struct mountinfo_entry;
/* "tmpfs (source) is mounted at PATH". */
void kernel_mount_describe(const struct mountinfo_entry *e, char *out, size_t size);

#endif
