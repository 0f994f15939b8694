/* ops_internal.h - shared by the files that implement FUSE operations. */
#ifndef VARVE_FS_OPS_INTERNAL_H
#define VARVE_FS_OPS_INTERNAL_H

#include "fs/session_internal.h"

#define FOREVER 1e9 /* seconds */

struct fuse_entry_param;

/* The view of the connection whose request this thread handles. */
static inline struct view *view_of_request(void)
{
	return session_view(session_current());
}

/* The one place where failures become what the kernel is told: a positive errno. */
int ops_kernel_error(uint64_t ino, int r);
/* Answer with it; r may be 0. */
void ops_reply_err(struct fuse_req *req, uint64_t ino, int r);
void ops_fill_entry(struct fuse_entry_param *e, const struct view_attr *a);
void ops_readdir(struct fuse_req *req, uint64_t dir, size_t size, off_t off, bool plus);

#endif
