/* ops_reply.h - what the files that implement FUSE operations share. */
#ifndef VARVE_FS_OPS_REPLY_H
#define VARVE_FS_OPS_REPLY_H

#include "fs/fuse/session_internal.h"

#define FOREVER 1e9 /* seconds */

struct fuse_attr;
struct fuse_entry_out;
struct fuse_entry_param;
struct stat;

/* The view of the connection whose request this thread handles. */
static inline struct view *view_of_request(void)
{
	return session_view(session_current());
}

/* The one place where failures become what the kernel is told: a positive errno. */
int ops_kernel_error(uint64_t ino, int r);
/* Answer with it; r may be 0. -EINPROGRESS: the request is parked instead. */
void ops_reply_err(struct fuse_req *req, uint64_t ino, int r);
void ops_fill_entry(struct fuse_entry_param *e, const struct view_attr *a);
/* As the kernel takes them, where libfuse has no part in it. */
void ops_attr_to_wire(const struct stat *st, struct fuse_attr *a);
void ops_entry_to_wire(const struct view_attr *a, struct fuse_entry_out *out);

/* --- ops_places.c --- */

/*
 * The inode to answer a lookup with instead of what is there (NULL: nothing), or
 * 0. The kernel's lookups of it are not counted.
 */
uint64_t ops_place_find(struct view *v, uint64_t dir, const char *name, const struct view_attr *is);
bool ops_place_is(uint64_t ino);
void ops_place_attr(uint64_t ino, struct stat *st);
/* A listing must not tell the kernel the inode of this name. */
bool ops_place_hides(const struct view *v, const char *name);

void ops_readdir(struct fuse_req *req, uint64_t dir, size_t size, off_t off, bool plus);

#endif
