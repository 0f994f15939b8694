/*
 * child.h - system calls on one of our own mounts, made by a process of their own.
 *
 * A thread of the daemon that waits in the kernel for the daemon's own answers
 * cannot be killed: it never leaves, so the descriptor of the connection stays
 * open, so nobody tells the kernel that no answer will come. A child without
 * descriptors can wait just as well, and the kernel lets it go once the daemon
 * has died.
 */
#ifndef VARVE_FS_CHILD_H
#define VARVE_FS_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/base/macros.h"

/*
 * As umount2(2), if the topmost mount at mountpoint is the one with this id (as
 * mountinfo has it) and device; else -EXDEV. 0 or -errno.
 */
MUST_CHECK int child_umount(const char *mountpoint, uint64_t mount_id, dev_t dev, int flags);
/* syncfs(2) of what is mounted at mountpoint; -ENODEV if that has another st_dev. */
MUST_CHECK int child_syncfs(const char *mountpoint, dev_t dev);
/* The same for the filesystem of an open directory (O_PATH is enough). */
MUST_CHECK int child_syncfs_fd(int dir_fd);
/* Are both paths, which may end in symlinks, one inode? 0; -EXDEV: no. */
MUST_CHECK int child_same_file(const char *a, const char *b);
/* The type (S_IFMT) of what is at path itself, as lstat(2) has it; -ENOENT. */
MUST_CHECK int child_file_type(const char *path);
/*
 * Read a regular file below a directory that stands for "/" (symlinks are followed in it, those of
 * /proc are not): its first bytes, room_len at most. How many, or -errno; -EINVAL: it is no regular
 * file.
 */
MUST_CHECK ssize_t child_read_in_root(const char *root, const char *path, void *room,
				      size_t room_len);
/*
 * Write dirty pages of a file back and wait for that. dev: the mount's st_dev;
 * -ENODEV if something else is at mountpoint. Node ids are FUSE's, with
 * generation 1. -ESTALE if the kernel no longer knows the inode: then it has
 * no pages of it.
 */
MUST_CHECK int child_write_back(const char *mountpoint, dev_t dev, uint64_t ino);

#endif
