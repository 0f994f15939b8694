/*
 * backing.h - the kernel's side of FUSE passthrough (Linux 6.9 and newer),
 * which older headers and libfuse 3.14 do not know (include/uapi/linux/fuse.h,
 * protocol 7.40).
 *
 * A connection that has negotiated it may register an open file and answer OPEN
 * with its number: reads and mmaps of the opened file then go to that file,
 * and so to its pages, without the daemon. Needs CAP_SYS_ADMIN.
 */
#ifndef VARVE_FS_BACKING_H
#define VARVE_FS_BACKING_H

#include <stdint.h>

#include "store/base/macros.h"

/* INIT: bits of flags2, which are bits 32.. of the flags, and what follows it. */
#define BACKING_INIT_FLAGS2 (1u << 5) /* FUSE_PASSTHROUGH, bit 37 */
/* OPEN: a bit of open_flags; the id is the last word of struct fuse_open_out. */
#define BACKING_OPEN_FLAG (1u << 7) /* FOPEN_PASSTHROUGH */

/*
 * Register fd with the connection fuse_fd; returns an id above 0. The kernel
 * keeps a reference of its own; fd can be closed. -EPERM, -ENOTTY, -EOPNOTSUPP
 * if there is no passthrough; -ELOOP if the file's filesystem is stacked itself.
 */
MUST_CHECK int backing_open(int fuse_fd, int fd);
/* Files already open through it keep working. */
void backing_close(int fuse_fd, int id);

#endif
