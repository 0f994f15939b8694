/*
 * open_beneath.h - opens a path that cannot lead out of a directory, whatever
 * symlinks are in it.
 */
#ifndef VARVE_OPEN_BENEATH_H
#define VARVE_OPEN_BENEATH_H

#include "store/base/macros.h"

enum open_beneath {
	OPEN_BENEATH, /* -EXDEV where the path leads out */
	OPEN_IN_ROOT, /* the directory stands for "/", as with chroot(2) */
};

/*
 * flags as of open(2), without O_CREAT; O_CLOEXEC is added. Magic links (of
 * /proc) are not followed. Returns a descriptor that the caller closes, or
 * -errno.
 *
 * The kernel gives up with EAGAIN when anything on the host is renamed or mounted
 * while it walks a ".."; this tries again.
 */
MUST_CHECK int open_beneath(int dir_fd, const char *path, int flags, enum open_beneath how);

#endif
