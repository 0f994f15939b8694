#include "fs/fuse/ops_reply.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>

#include <fuse_lowlevel.h>

#include "store/base/log.h"

/* The one place where failures become what the kernel is told. */
int ops_kernel_error(uint64_t ino, int r)
{
	const char *what = r == -EBADMSG     ? "a chunk or node is damaged"
			   : r == -ENODATA   ? "a chunk or node is missing"
			   : r == -ETIMEDOUT ? "a chunk or node did not come in time"
			   : r == -ECANCELED ? "a chunk or node is no longer waited for"
					     : NULL;

	if (!what)
		return -r;
	log_error("inode %llu: %s", (unsigned long long)ino, what);
	return EIO;
}

/* What it wants is far away: it runs again from its start once that is here. */
static void park(fuse_req_t req)
{
	const struct fuse_in_header *in = session_current_request();
	int error;

	if (parked_add(session_current(), in, in->len, &error))
		fuse_reply_none(req);
	else
		fuse_reply_err(req, -error);
}

void ops_reply_err(fuse_req_t req, uint64_t ino, int r)
{
	if (r == -EINPROGRESS) {
		park(req);
		return;
	}
	fuse_reply_err(req, r ? ops_kernel_error(ino, r) : 0);
}

void ops_fill_entry(struct fuse_entry_param *e, const struct view_attr *a)
{
	memset(e, 0, sizeof(*e));
	e->ino = shared_node(session_current(), a->ino);
	e->generation = 1; /* numbers are never given out again */
	inode_to_stat(a->ino, &a->rec, &e->attr);
	e->attr_timeout = FOREVER;
	e->entry_timeout = FOREVER;
}

void ops_attr_to_wire(const struct stat *st, struct fuse_attr *a)
{
	memset(a, 0, sizeof(*a));
	a->ino = st->st_ino;
	a->mode = st->st_mode;
	a->nlink = (uint32_t)st->st_nlink;
	a->uid = st->st_uid;
	a->gid = st->st_gid;
	a->blksize = (uint32_t)st->st_blksize;
	a->atime = (uint64_t)st->st_atim.tv_sec;
	a->mtime = (uint64_t)st->st_mtim.tv_sec;
	a->ctime = (uint64_t)st->st_ctim.tv_sec;
	a->atimensec = (uint32_t)st->st_atim.tv_nsec;
	a->mtimensec = (uint32_t)st->st_mtim.tv_nsec;
	a->ctimensec = (uint32_t)st->st_ctim.tv_nsec;
}

void ops_entry_to_wire(const struct view_attr *a, struct fuse_entry_out *out)
{
	struct stat st;

	inode_to_stat(a->ino, &a->rec, &st);
	out->nodeid = shared_node(session_current(), a->ino);
	out->generation = 1;
	out->entry_valid = out->attr_valid = (uint64_t)FOREVER;
	ops_attr_to_wire(&st, &out->attr);
}
