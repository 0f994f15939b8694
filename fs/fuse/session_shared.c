/*
 * Cache mode `shared` on the wire: OPEN and RELEASE, which libfuse 3.14 cannot
 * answer with a backing file, INIT's part of it, and node ids.
 *
 * Node ids have a generation (passthrough.h) that nothing behind this file knows:
 * it is taken out of requests here, and ops.c puts it into the entries that it
 * answers with.
 *
 * An open that needs another node is answered with ESTALE by a thread of its own,
 * after the kernel was made to forget the names: that waits for the directories'
 * locks, which are held by processes that wait for serving threads.
 */
#include "fs/fuse/session_internal.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "fs/shared/backing.h"
#include "store/base/log.h"
#include "store/base/wire.h"

struct open_reply {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};

void shared_negotiate(struct session *s, const struct fuse_init_in *init,
		      struct fuse_init_out *reply)
{
	if (!s->passthrough)
		return;
	if (!(init->flags & FUSE_INIT_EXT) || !(init->flags2 & BACKING_INIT_FLAGS2)) {
		log_warn("%s: this kernel has no FUSE passthrough (Linux 6.9): cache mode "
			 "\"shared\" is served as \"private\"",
			 s->mountpoint);
		return;
	}
	passthrough_set_negotiated(s->passthrough);
	s->is_shared = true;
	reply->flags |= FUSE_INIT_EXT;
	reply->flags2 |= BACKING_INIT_FLAGS2;
	reply->unused[0] = s->pool->stacking + 1; /* max_stack_depth */
}

static void queue_stale(struct session *s, const struct fuse_in_header *in)
{
	struct deferred_request q = { .unique = in->unique, .ino = passthrough_ino(in->nodeid) };

	atomic_fetch_add(&s->stales, 1);
	if (!atomic_load(&s->no_stales) && session_defer(&s->pool->stales, s, &q))
		return;
	atomic_fetch_sub(&s->stales, 1);
	session_reply_raw(in, -ESTALE, NULL, 0);
}

void shared_end(struct session *s)
{
	atomic_store(&s->no_stales, true);
	while (atomic_load(&s->stales))
		usleep(1000);
}

static void handle_open(struct session *s, const struct fuse_in_header *in, size_t n)
{
	const struct fuse_open_in *arg = (const void *)(in + 1);
	struct open_reply reply = { 0 };
	struct passthrough_open how;
	int r = -EINVAL;

	if (n >= sizeof(*in) + sizeof(*arg))
		r = passthrough_open(s->passthrough, in->nodeid, arg->flags,
				     in->unique & ~SESSION_RESENT, &how);
	if (r == -ESTALE) {
		queue_stale(s, in);
		return;
	}
	if (r == -EINPROGRESS && parked_add(s, in, n, &r))
		return;
	if (r) {
		session_reply_raw(in, r, NULL, 0);
		return;
	}
	reply.fh = how.kind;
	switch (how.kind) {
	case PASSTHROUGH_CACHED:
		reply.open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH;
		break;
	case PASSTHROUGH_SHARED:
		reply.open_flags = BACKING_OPEN_FLAG | FOPEN_NOFLUSH;
		reply.backing_id = how.backing_id;
		break;
	case PASSTHROUGH_DIRECT:
		reply.open_flags = FOPEN_DIRECT_IO | FOPEN_NOFLUSH;
		break;
	}
	if (session_reply_raw(in, 0, &reply, sizeof(reply)))
		passthrough_release(s->passthrough, in->nodeid, how.kind);
}

static void handle_release(struct session *s, const struct fuse_in_header *in, size_t n)
{
	const struct fuse_release_in *arg = (const void *)(in + 1);
	const bool is_whole = n >= sizeof(*in) + sizeof(*arg);
	const bool is_counted =
		is_whole && passthrough_release_request(s->passthrough, in->nodeid,
							(enum passthrough_kind)arg->fh,
							in->unique & ~SESSION_RESENT);

	session_reply_raw(in, 0, NULL, 0);
	if (is_whole && !is_counted)
		passthrough_release(s->passthrough, in->nodeid, (enum passthrough_kind)arg->fh);
}

uint64_t shared_open_new(struct session *s, uint64_t ino)
{
	struct passthrough_open how;

	const uint64_t request = session_current_request()->unique & ~SESSION_RESENT;

	if (!s->is_shared || passthrough_open(s->passthrough, ino, O_RDWR, request, &how))
		return 0;
	return how.kind;
}

void shared_close_new(struct session *s, uint64_t ino, uint64_t fh)
{
	if (fh)
		passthrough_release(s->passthrough, ino, (enum passthrough_kind)fh);
}

bool shared_handle(struct session *s, void *request, size_t n)
{
	struct fuse_in_header *in = request;

	if (!s->is_shared)
		return false;
	switch (in->opcode) {
	case FUSE_OPEN:
		handle_open(s, in, n);
		return true;
	case FUSE_RELEASE:
		handle_release(s, in, n);
		return true;
	case FUSE_LSEEK: /* with its old content; copying programs then read all of it */
		if (passthrough_node(s->passthrough, passthrough_ino(in->nodeid)) == in->nodeid)
			return false;
		session_reply_raw(in, -EINVAL, NULL, 0);
		return true;
	default:
		return false;
	}
}

static void strip_forgets(void *request, size_t n)
{
	struct fuse_in_header *in = request;
	struct fuse_batch_forget_in *arg = (void *)(in + 1);
	struct fuse_forget_one *one = (void *)(arg + 1);

	if (n < sizeof(*in) + sizeof(*arg))
		return;
	size_t max = (n - sizeof(*in) - sizeof(*arg)) / sizeof(*one);

	for (size_t i = 0; i < MIN(max, (size_t)arg->count); i++)
		one[i].nodeid = passthrough_ino(one[i].nodeid);
}

void shared_strip(struct session *s, void *request, size_t n)
{
	struct fuse_in_header *in = request;
	struct fuse_link_in *link = (void *)(in + 1);

	if (!s->is_shared)
		return;
	in->nodeid = passthrough_ino(in->nodeid);
	if (in->opcode == FUSE_BATCH_FORGET)
		strip_forgets(request, n);
	else if (in->opcode == FUSE_LINK && n >= sizeof(*in) + sizeof(*link))
		link->oldnodeid = passthrough_ino(link->oldnodeid);
}

static void invalidate_attr(void *arg, uint64_t node)
{
	struct session *s = arg;

	(void)!fuse_lowlevel_notify_inval_inode(s->pool->fuse, node, -1, 0);
}

void shared_changed(struct session *s, uint64_t ino)
{
	if (s->is_shared)
		passthrough_each_node(s->passthrough, ino, invalidate_attr, s);
}

uint64_t shared_node(struct session *s, uint64_t ino)
{
	return s && s->is_shared ? passthrough_node(s->passthrough, ino) : ino;
}

/* Make the kernel look an inode's names up anew. */
static void forget_names(struct session *s, uint64_t ino)
{
	struct buf names CLEANUP(buf_fini_p) = BUF_INIT;
	int r = view_names(s->view, ino, &names);

	if (r && r != -ENOENT)
		log_warn("%s: the names of inode %llu: %s", s->mountpoint, (unsigned long long)ino,
			 strerror(-r));
	for (size_t at = 0; at + 9 <= names.len; at += 9u + names.data[at + 8])
		(void)!fuse_lowlevel_notify_inval_entry(s->pool->fuse, wire_get64(names.data + at),
							(const char *)names.data + at + 9,
							names.data[at + 8]);
}

void shared_run_stales(struct deferred_request *q)
{
	struct deferred_request *next;

	for (; q; q = next) {
		struct fuse_in_header in = { .unique = q->unique };
		const bool begins = request_begin(q->session, q->request);

		next = q->next;
		session_set_current(q->session, NULL);
		if (begins)
			forget_names(q->session, q->ino);
		session_reply_raw(&in, begins ? -ESTALE : -EIO, NULL, 0);
		request_end(q->session);
		atomic_fetch_sub(&q->session->stales, 1);
		session_release(q->session);
		free(q);
	}
}

void session_pool_share(struct session_pool *sp, struct shared_files *files)
{
	sp->files = files;
	sp->stacking = shared_files_stacking(files);
}

struct shared_files *session_pool_shared(const struct session_pool *sp)
{
	return sp->files;
}

void session_invalidate(struct session *s, uint64_t ino)
{
	/* A failure (nothing cached) is none. */
	(void)!fuse_lowlevel_notify_inval_inode(s->pool->fuse, shared_node(s, ino), 0, 0);
}

void session_invalidate_attr(uint64_t ino)
{
	(void)!fuse_lowlevel_notify_inval_inode(session_current()->pool->fuse,
						shared_node(session_current(), ino), -1, 0);
}
