/*
 * FUSE operations: decode, call the view, reply. Thin.
 *
 * The daemon is the only writer, so the kernel may keep everything: entries,
 * negative entries and attributes for ever, data and directories across opens.
 * OPEN (but in cache mode `shared`, see session_shared.c) and OPENDIR are answered
 * with ENOSYS once; after that the kernel opens without asking. No lock operation
 * is registered: the kernel's own are right.
 *
 * The kernel's writeback cache is not asked for: with it every close is followed
 * by a GETATTR, and every close after a write and every unlink by a SETATTR with
 * the kernel's times (Linux 6.18), which costs more than its gathering of small
 * writes saves. So what write(2) returned for is here, and only what is written
 * through a mapping waits in the kernel.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <fuse_lowlevel.h>

#include "fs/fuse/ops_reply.h"
#include "store/base/log.h"

/* Reply with an inode that the kernel then counts as looked up once more. */
static void reply_entry(fuse_req_t req, const struct view_attr *a)
{
	struct view *v = view_of_request();
	struct fuse_entry_param e;

	if (live_add(v->live, a->ino, 1)) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	ops_fill_entry(&e, a);
	if (fuse_reply_entry(req, &e))
		view_forget(v, a->ino, 1); /* the caller was interrupted */
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	const unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_DONT_MASK |
			      FUSE_CAP_READDIRPLUS | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS |
			      FUSE_CAP_POSIX_ACL | FUSE_CAP_CACHE_SYMLINKS |
			      FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT;

	(void)userdata;
	conn->want = want & conn->capable;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
}

/* By file handle the kernel looks up "." and "..": the inode itself, its parent. */
static int lookup_handle(struct view *v, uint64_t ino, const char *name, struct view_attr *a)
{
	int r = strcmp(name, ".") == 0 ? view_getattr(v, ino, a) : view_parent(v, ino, a);

	if (r == -ENOENT || (!r && a->rec.nlink == 0))
		return -ESTALE;
	return r;
}

static void reply_place(fuse_req_t req, uint64_t ino)
{
	struct fuse_entry_param e = {
		.ino = ino, .generation = 1, .attr_timeout = FOREVER, .entry_timeout = FOREVER
	};

	ops_place_attr(ino, &e.attr);
	fuse_reply_entry(req, &e);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct view *v = view_of_request();
	struct view_attr a;
	uint64_t place;
	int r;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		r = lookup_handle(v, parent, name, &a);
	} else {
		do
			r = view_lookup(v, parent, name, &a);
		while (r == -EAGAIN);
	}
	place = !r || r == -ENOENT ? ops_place_find(v, parent, name, r ? NULL : &a) : 0;
	if (!place && want_count())
		r = -EINPROGRESS; /* of either */
	if (place) {
		reply_place(req, place);
	} else if (r == -ENOENT) {
		struct fuse_entry_param none = { .entry_timeout = FOREVER };

		fuse_reply_entry(req, &none);
	} else if (r) {
		ops_reply_err(req, parent, r);
	} else {
		reply_entry(req, &a);
	}
}

/* What the kernel was told by a former process counts as well, and nobody knows how often. */
static void forget(uint64_t ino, uint64_t nlookup)
{
	struct session *s = session_current();

	if (ops_place_is(ino))
		return;
	if (s->is_adopted && session_kernel_knows(s, ino))
		(void)live_sub(s->view->live, ino, nlookup);
	else
		view_forget(s->view, ino, nlookup);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	forget(ino, nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		forget(forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void reply_attr(fuse_req_t req, uint64_t ino, int r, const struct view_attr *a)
{
	struct stat st;

	if (r) {
		ops_reply_err(req, ino, r);
		return;
	}
	inode_to_stat(ino, &a->rec, &st);
	fuse_reply_attr(req, &st, FOREVER);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct view_attr a;

	(void)fi;
	if (ops_place_is(ino)) {
		struct stat st;

		ops_place_attr(ino, &st);
		fuse_reply_attr(req, &st, FOREVER);
		return;
	}
	int r = view_getattr(view_of_request(), ino, &a);

	reply_attr(req, ino, r, &a);
}

static bool is_of_group(fuse_req_t req, gid_t gid)
{
	gid_t groups[64];
	int n = fuse_req_getgroups(req, ARRAY_SIZE(groups), groups);

	if (fuse_req_ctx(req)->gid == gid)
		return true;
	for (int i = 0; i < MIN(n, (int)ARRAY_SIZE(groups)); i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/*
 * What a write, truncate or chown that loses setuid takes away: only members of
 * the group keep setgid on a file that the group may not execute (Linux,
 * setattr_should_drop_sgid). 0: there is nothing to take. -EINPROGRESS.
 */
static int kill_flags(fuse_req_t req, fuse_ino_t ino)
{
	struct view_attr a;
	int r = view_getattr(view_of_request(), ino, &a);

	if (r)
		return r == -EINPROGRESS ? r : (int)VIEW_WRITE_KILL;
	if (!(a.rec.mode & (S_ISUID | S_ISGID)))
		return 0;
	if (fuse_req_ctx(req)->uid == 0 || (a.rec.mode & (S_ISGID | S_IXGRP)) != S_ISGID ||
	    is_of_group(req, a.rec.gid))
		return VIEW_WRITE_KILL;
	return VIEW_WRITE_KILL | VIEW_WRITE_KILL_SGID;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int valid,
		       struct fuse_file_info *fi)
{
	struct view_setattr set = { .mode = st->st_mode,
				    .uid = st->st_uid,
				    .gid = st->st_gid,
				    .size = (uint64_t)st->st_size,
				    .atime = st->st_atim,
				    .mtime = st->st_mtim };
	static const struct {
		int from;
		unsigned to;
	} map[] = { { FUSE_SET_ATTR_MODE, VIEW_SET_MODE },
		    { FUSE_SET_ATTR_UID, VIEW_SET_UID },
		    { FUSE_SET_ATTR_GID, VIEW_SET_GID },
		    { FUSE_SET_ATTR_SIZE, VIEW_SET_SIZE },
		    { FUSE_SET_ATTR_ATIME, VIEW_SET_ATIME },
		    { FUSE_SET_ATTR_MTIME, VIEW_SET_MTIME },
		    { FUSE_SET_ATTR_KILL_SUID, VIEW_KILL_SUIDGID } };
	struct view_attr a;

	(void)fi;
	for (unsigned i = 0; i < ARRAY_SIZE(map); i++)
		if (valid & map[i].from)
			set.valid |= map[i].to;
	int kill = set.valid & VIEW_KILL_SUIDGID ? kill_flags(req, ino) : 0;

	if (kill < 0) {
		ops_reply_err(req, ino, kill);
		return;
	}
	if (kill & (int)VIEW_WRITE_KILL_SGID)
		set.valid |= VIEW_KILL_SGID;
	if (valid & FUSE_SET_ATTR_ATIME_NOW)
		set.atime = view_now();
	if (valid & FUSE_SET_ATTR_MTIME_NOW)
		set.mtime = view_now();
	int r = view_setattr(view_of_request(), ino, &set, &a);

	shared_changed(session_current(), ino);
	reply_attr(req, ino, r, &a);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct buf target CLEANUP(buf_fini_p) = BUF_INIT;
	int r = view_readlink(view_of_request(), ino, &target);
	const char *s = r ? NULL : buf_cstr(&target);

	if (s)
		fuse_reply_readlink(req, s);
	else
		ops_reply_err(req, ino, r ? r : -ENOMEM);
}

static void create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
		   const char *target)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct view_cred cred = { ctx->uid, ctx->gid, ctx->umask };
	struct view_attr a;
	int r = view_create(view_of_request(), parent, name, mode, rdev, target, &cred, &a);

	if (r)
		ops_reply_err(req, parent, r);
	else
		reply_entry(req, &a);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	create(req, parent, name, mode & S_IFMT ? mode : mode | S_IFREG, rdev, NULL);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	create(req, parent, name, S_IFDIR | (mode & 07777), 0, NULL);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	if (strlen(target) > SYMLINK_MAX)
		fuse_reply_err(req, ENAMETOOLONG);
	else
		create(req, parent, name, S_IFLNK | 0777, 0, target);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	ops_reply_err(req, parent, view_unlink(view_of_request(), parent, name));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	ops_reply_err(req, parent, view_rmdir(view_of_request(), parent, name));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned int flags)
{
	ops_reply_err(req, parent,
		      view_rename(view_of_request(), parent, name, newparent, newname, flags));
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct view_attr a;
	int r;

	do
		r = view_link(view_of_request(), ino, newparent, newname, &a);
	while (r == -EAGAIN);
	shared_changed(session_current(), ino);
	if (r)
		ops_reply_err(req, ino, r);
	else
		reply_entry(req, &a);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, ENOSYS);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	void *buf = session_reply_buffer(size);

	session_note_read(session_current(), ino, (uint64_t)off, size);
	int64_t n = buf ? view_read(view_of_request(), ino, (uint64_t)off, buf, size) : -ENOMEM;

	(void)fi;
	if (n < 0)
		ops_reply_err(req, ino, (int)n);
	else
		fuse_reply_buf(req, buf, (size_t)n);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	const struct fuse_write_in *in = (const void *)(session_current_request() + 1);
	unsigned flags = fi->writepage ? VIEW_WRITE_CACHED : 0;
	int kill = in->write_flags & FUSE_WRITE_KILL_SUIDGID ? kill_flags(req, ino) : 0;

	if (kill < 0) {
		ops_reply_err(req, ino, kill);
		return;
	}
	flags |= (unsigned)kill;
	int64_t n = view_write(view_of_request(), ino, (uint64_t)off, data, size, flags);

	if (flags & VIEW_WRITE_KILL)
		session_invalidate_attr(ino); /* or the kernel runs it setuid from its cache */
	if (n < 0)
		ops_reply_err(req, ino, (int)n);
	else
		fuse_reply_write(req, (size_t)n);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	session_queue_sync(session_current(), req);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	(void)fi;
	ops_readdir(req, ino, size, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   struct fuse_file_info *fi)
{
	(void)fi;
	ops_readdir(req, ino, size, off, true);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	int r = view_statfs(view_of_request(), &st);

	if (r)
		ops_reply_err(req, ino, r);
	else
		fuse_reply_statfs(req, &st);
}

/* Here -ENODATA is no damage, but an attribute that is not there. */
static void reply_xattr_err(fuse_req_t req, uint64_t ino, int r)
{
	if (r == -ENODATA)
		fuse_reply_err(req, ENODATA);
	else
		ops_reply_err(req, ino, r);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			size_t size, int flags)
{
	bool kill_sgid = session_current_request()->padding & FUSE_SETXATTR_ACL_KILL_SGID;
	int r = view_setxattr(view_of_request(), ino, name, value, size, flags, kill_sgid);

	shared_changed(session_current(), ino);
	reply_xattr_err(req, ino, r);
}

static void reply_xattr(fuse_req_t req, uint64_t ino, int r, const struct buf *value, size_t size)
{
	if (r)
		reply_xattr_err(req, ino, r);
	else if (!size)
		fuse_reply_xattr(req, value->len);
	else if (value->len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, (const char *)value->data, value->len);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct buf value CLEANUP(buf_fini_p) = BUF_INIT;
	int r = view_getxattr(view_of_request(), ino, name, &value);

	reply_xattr(req, ino, r, &value, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct buf names CLEANUP(buf_fini_p) = BUF_INIT;
	int r = view_listxattr(view_of_request(), ino, fuse_req_ctx(req)->uid == 0, &names);

	reply_xattr(req, ino, r, &names, size);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	int r = view_removexattr(view_of_request(), ino, name);

	shared_changed(session_current(), ino);
	reply_xattr_err(req, ino, r);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	/* The kernel does not say whether the caller may keep setuid; root may. */
	int kill = fuse_req_ctx(req)->uid ? kill_flags(req, ino) : 0;
	int r = kill < 0 ? kill
			 : view_fallocate(view_of_request(), ino, mode, (uint64_t)off,
					  (uint64_t)len, (unsigned)kill);

	(void)fi;
	if (kill > 0)
		session_invalidate_attr(ino); /* as op_write */
	ops_reply_err(req, ino, r);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	(void)fi;
	session_queue_seek(session_current(), req, ino, (uint64_t)off, whence);
}

void ops_tmpfile(struct session *s, const void *request, size_t n)
{
	const struct fuse_in_header *in = request;
	const struct fuse_create_in *arg = (const void *)(in + 1);
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;
	struct view_cred cred = { in->uid, in->gid, 0 };
	struct view_attr a;
	int r;

	if (n < sizeof(*in) + sizeof(*arg)) {
		session_reply_raw(in, -EINVAL, NULL, 0);
		return;
	}
	cred.umask = arg->umask;
	r = view_tmpfile(s->view, in->nodeid, arg->mode, &cred, &a);
	if (r == -EINPROGRESS && parked_add(s, request, n, &r))
		return;
	if (r) {
		session_reply_raw(in, -ops_kernel_error(in->nodeid, r), NULL, 0);
		return;
	}
	memset(&out, 0, sizeof(out));
	ops_entry_to_wire(&a, &out.entry);
	out.open.open_flags = FOPEN_KEEP_CACHE;
	out.open.fh = shared_open_new(s, a.ino);
	if (session_reply_raw(in, 0, &out, sizeof(out))) {
		shared_close_new(s, a.ino, out.open.fh);
		view_forget(s->view, a.ino, 1);
	}
}

const struct fuse_lowlevel_ops varve_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.opendir = op_open,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
	.fsyncdir = op_fsync,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
};
