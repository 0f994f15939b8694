/*
 * What has to wait for a disk or for the kernel: fsync, and lseek for data or holes. The
 * thread that read the request does not wait for it, but for one fsync of a mount.
 */
#include "fs/fuse/ops_reply.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "fs/host/child.h"
#include "store/base/clock.h"

/* Callers know two reasons why data may not be safe. */
static int sync_error(int r)
{
	return !r ? 0 : r == -ENOSPC ? ENOSPC : EIO;
}

/* One sync answers every request that was queued when it began. */
void session_run_syncs(struct deferred_request *q)
{
	struct deferred_request *next;
	struct session *s = q->session;
	/* The first stands for all. */
	int r = request_begin(s, q->request) ? view_sync(s->view) : -EIO;

	session_set_current(s, NULL);
	for (; q; q = next) {
		next = q->next;
		fuse_reply_err(q->req, sync_error(r));
		if (!next)
			request_end(s);
		session_release(s);
		free(q);
	}
}

/*
 * Up to Linux 6.15 a page being written back to FUSE was copied and at once
 * called clean, so that waiting for it told nothing of the request.
 */
static bool kernel_waits_for_writes(void)
{
	struct utsname u;
	unsigned major, minor;

	return uname(&u) == 0 && sscanf(u.release, "%u.%u", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 16));
}

/* Have the kernel's dirty pages of an inode written to us. */
static void write_back(struct session *s, uint64_t ino)
{
	int r = s->dev ? child_write_back(s->mountpoint, s->dev, shared_node(s, ino)) : -ENODEV;

	if (!r && !kernel_waits_for_writes())
		(void)session_drain(s, SESSION_DRAIN_MS);
	/* Detached lazily, or hidden below another mount: there is this way, too. */
	if (r && r != -ESTALE)
		session_invalidate(s, ino);
}

static void seek(struct session *s, const struct deferred_request *q)
{
	int64_t r = view_seek(s->view, q->ino, q->off, q->whence);

	if (r < 0)
		ops_reply_err(q->req, q->ino, (int)r);
	else
		fuse_reply_lseek(q->req, r);
}

void session_run_seeks(struct deferred_request *q)
{
	struct deferred_request *next;

	for (; q; q = next) {
		next = q->next;
		session_set_current(q->session, q->request);
		want_begin(NULL, 0);
		if (request_begin(q->session, q->request)) {
			write_back(q->session, q->ino);
			seek(q->session, q);
		} else {
			fuse_reply_err(q->req, EIO);
		}
		request_end(q->session);
		session_release(q->session);
		free(q);
	}
}

/* One thread may do it itself, which is faster; more would leave too few to serve. */
static bool sync_here(struct session *s, struct fuse_req *req)
{
	struct session_pool *sp = s->pool;
	bool mine = false;

	if (atomic_fetch_add(&sp->syncs_here, 1) < sp->n_threads / 2 &&
	    !atomic_exchange(&s->syncing, true)) {
		s->view->before_wait();
		fuse_reply_err(req, sync_error(view_sync(s->view)));
		atomic_store(&s->syncing, false);
		mine = true;
	}
	atomic_fetch_sub(&sp->syncs_here, 1);
	return mine;
}

void session_queue_sync(struct session *s, struct fuse_req *req)
{
	if (sync_here(s, req))
		return;
	(void)session_defer(&s->pool->syncs, s, &(struct deferred_request){ .req = req });
}

void session_queue_seek(struct session *s, struct fuse_req *req, uint64_t ino, uint64_t off,
			int whence)
{
	struct deferred_request q = { .req = req, .ino = ino, .off = off, .whence = whence };

	_Static_assert(sizeof(q.request) >=
			       sizeof(struct fuse_in_header) + sizeof(struct fuse_lseek_in),
		       "no room");
	(void)session_defer(&s->pool->seeks, s, &q);
}

/* Until every pass of a thread that serves s, and was under way, has ended. */
static void wait_passes(struct session *s)
{
	for (unsigned i = 0; i < s->pool->n_threads; i++) {
		struct serving *t = &s->pool->threads[i];
		unsigned pass = atomic_load(&t->pass);

		while (pass % 2 && atomic_load(&t->with) == s && atomic_load(&t->pass) == pass)
			usleep(20);
	}
}

static bool is_request_queued(const struct session *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0 && (p.revents & POLLIN);
}

/*
 * Writes are background requests: the kernel lets so many out, and answering one
 * lets out the next. So none is left where, twice in a row, none was queued and
 * all that were being handled had been answered, none was read meanwhile, and none is parked.
 */
int session_drain(struct session *s, unsigned max_ms)
{
	uint64_t until = (uint64_t)monotonic_ns() + max_ms * 1000000ull;

	while (!session_ended(s) && (uint64_t)monotonic_ns() < until) {
		uint64_t writes = atomic_load(&s->writes);
		int quiet = 0;

		for (; quiet < 2 && !is_request_queued(s); quiet++)
			wait_passes(s);
		if (quiet == 2 && atomic_load(&s->writes) == writes && !parked_writes(s))
			return 0;
		usleep(50);
	}
	return session_ended(s) ? 0 : -ETIMEDOUT;
}
