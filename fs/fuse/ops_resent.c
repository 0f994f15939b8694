/*
 * Requests that a former process has done and not answered: their answers, of the journal
 * and of how things are now. The caller has waited, and the kernel has kept others from what
 * its locks protect, so that is how they were.
 *
 *   entry with the attributes of now   MKNOD, MKDIR, SYMLINK, TMPFILE, LINK
 *   attributes of now                  SETATTR
 *   success                            UNLINK, RMDIR, RENAME, SETXATTR, REMOVEXATTR, FALLOCATE
 *
 * Whatever else is sent again is done again. That is so of WRITE, too: the same bytes at the
 * same place, of which the former process may have written a part.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <string.h>

#include <fuse_lowlevel.h>

#include "fs/fuse/ops_reply.h"

static void reply(struct session *s, const struct fuse_in_header *in, const void *payload,
		  size_t len)
{
	(void)s;
	/* Whom an answer does not reach was interrupted. */
	(void)!session_reply_raw(in, 0, payload, len);
}

static void reply_made(struct session *s, const struct fuse_in_header *in, uint64_t ino)
{
	struct view_attr a;
	int r = view_getattr(s->view, ino, &a);

	if (!r)
		r = live_add(s->view->live, ino, 1);
	if (r) {
		session_reply_raw(in, -ops_kernel_error(ino, r), NULL, 0);
		return;
	}
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;
	const bool opens = in->opcode == FUSE_TMPFILE;

	memset(&out, 0, sizeof(out));
	ops_entry_to_wire(&a, &out.entry);
	out.open.open_flags = FOPEN_KEEP_CACHE;
	out.open.fh = opens ? shared_open_new(s, ino) : 0;
	if (session_reply_raw(in, 0, &out, opens ? sizeof(out) : sizeof(out.entry))) {
		shared_close_new(s, ino, out.open.fh);
		view_forget(s->view, ino, 1);
	}
}

static void reply_attr(struct session *s, const struct fuse_in_header *in)
{
	struct fuse_attr_out out = { .attr_valid = (uint64_t)FOREVER };
	struct view_attr a;
	struct stat st;
	int r = view_getattr(s->view, in->nodeid, &a);

	if (r) {
		session_reply_raw(in, -ops_kernel_error(in->nodeid, r), NULL, 0);
		return;
	}
	inode_to_stat(in->nodeid, &a.rec, &st);
	ops_attr_to_wire(&st, &out.attr);
	shared_changed(s, in->nodeid);
	reply(s, in, &out, sizeof(out));
}

bool ops_resent(struct session *s, const void *request, size_t n)
{
	const struct fuse_in_header *in = request;
	const struct fuse_link_in *link = (const void *)(in + 1);
	uint64_t ino;

	if (!(in->unique & SESSION_RESENT))
		return false;
	switch (in->opcode) {
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_TMPFILE:
	case FUSE_LINK:
	case FUSE_SETATTR:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
	case FUSE_FALLOCATE:
		break;
	default:
		return false;
	}
	if (!journal_was_done(s->view->journal, in->unique & ~SESSION_RESENT, &ino))
		return false;
	if (in->opcode == FUSE_SETATTR)
		reply_attr(s, in);
	else if (in->opcode == FUSE_LINK && n >= sizeof(*in) + sizeof(*link))
		reply_made(s, in, link->oldnodeid);
	else if (ino)
		reply_made(s, in, ino);
	else
		reply(s, in, NULL, 0);
	return true;
}
