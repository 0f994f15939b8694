#include "fs/fuse/session_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "fs/host/child.h"
#include "fs/host/short_slice.h"
#include "store/base/clock.h"
#include "store/base/log.h"

#define STOP_TOKEN UINT64_MAX

struct session *session_find_locked(struct session_pool *sp, uint64_t token)
{
	size_t slot = (uint32_t)token;
	struct session *s = slot < sp->n_slots ? sp->slots[slot] : NULL;

	return s && s->generation == (uint32_t)(token >> 32) ? s : NULL;
}

struct session *session_acquire(struct session_pool *sp, uint64_t token)
{
	struct session *s;

	pthread_mutex_lock(&sp->lock);
	s = session_find_locked(sp, token);
	if (s)
		s->active++;
	pthread_mutex_unlock(&sp->lock);
	return s;
}

void session_release_locked(struct session *s)
{
	if (--s->active == 0)
		pthread_cond_broadcast(&s->idle);
}

void session_release(struct session *s)
{
	struct session_pool *sp = s->pool;

	pthread_mutex_lock(&sp->lock);
	session_release_locked(s);
	pthread_mutex_unlock(&sp->lock);
}

static void end(struct session *s)
{
	if (atomic_exchange(&s->ended, true))
		return;
	epoll_ctl(s->pool->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
	if (s->on_end)
		s->on_end(s->arg);
}

/* Read a request and handle it. As read(2); *cost falls by what it cost, to 0 at least. */
static ssize_t serve_one(struct session *s, struct serving *me, struct poller *p, void *buf,
			 unsigned *cost)
{
	atomic_fetch_add(&me->pass, 1);
	ssize_t n = read(s->fd, buf, wire_buffer_size());
	int saved = errno;
	bool is_write = n > 0 && wire_is_write(buf, (size_t)n);

	if (is_write)
		atomic_fetch_add(&s->writes, 1);
	else
		atomic_fetch_add(&me->pass, 1);
	if (n > 0) {
		unsigned c = wire_takes_long(buf, (size_t)n) ? VISIT_COST_LONG : 1;

		*cost -= MIN(c, *cost);
		/* Relaxed: it only has to change. */
		atomic_fetch_add_explicit(&s->requests, 1, memory_order_relaxed);
		poll_handle(p, buf, (size_t)n);
	}
	if (is_write)
		atomic_fetch_add(&me->pass, 1);
	errno = saved;
	return n;
}

/* Until there is nothing to read, or another session waits: its token, else 0. */
static uint64_t serve(struct session *s, struct serving *me, void *buf)
{
	struct poller p = { .s = s };
	unsigned cost = VISIT_COST;
	uint64_t other = 0;

	while (!other && !atomic_load(&s->ended)) {
		ssize_t n = serve_one(s, me, &p, buf, &cost);

		if (n > 0 && cost)
			continue;
		if (n > 0) {
			cost = VISIT_COST;
			other = turn_other(s);
			continue;
		}
		if (n < 0 && errno == EAGAIN) {
			if (poll_idle(&p))
				continue;
			return 0;
		}
		if (n < 0 && (errno == EINTR || errno == ENOENT))
			continue;
		if (n < 0 && errno != ENODEV && errno != ECONNABORTED)
			log_error("reading a FUSE connection: %s", strerror(errno));
		end(s);
	}
	poll_stop(&p);
	return other;
}

/* The token of what there is to do. */
static uint64_t wait_for_token(struct session_pool *sp)
{
	struct epoll_event ev;
	int n;

	do
		n = epoll_wait(sp->epoll_fd, &ev, 1, -1);
	while (n == 0 || (n < 0 && errno == EINTR));
	return n > 0 ? ev.data.u64 : STOP_TOKEN;
}

static void *serving_thread(void *arg)
{
	struct serving *me = arg;
	struct session_pool *sp = me->pool;
	void *buf = malloc(wire_buffer_size());
	uint64_t token = 0;

	pthread_setname_np(pthread_self(), "varve-fuse");
	short_slice();
	while (buf) {
		if (!token)
			token = wait_for_token(sp);
		if (token == STOP_TOKEN)
			break;
		struct session *s = turn_begin(sp, token);

		token = 0;
		if (s) {
			atomic_store(&me->with, s);
			token = serve(s, me, buf);
			atomic_store(&me->with, NULL);
			turn_end(s, token != 0);
		}
	}
	free(buf);
	return NULL;
}

/* One sync answers every request that was queued when it began. */
static void run_syncs(struct deferred_request *q)
{
	struct deferred_request *next;
	struct session *s = q->session;
	int r = view_sync(s->view);

	wire_set_current(s, NULL);
	for (; q; q = next) {
		next = q->next;
		fuse_reply_err(q->req, r ? EIO : 0);
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
		wire_invalidate(s, ino);
}

static void run_seeks(struct deferred_request *q)
{
	struct deferred_request *next;

	for (; q; q = next) {
		next = q->next;
		wire_set_current(q->session, NULL);
		write_back(q->session, q->ino);
		ops_seek(q->session, q);
		session_release(q->session);
		free(q);
	}
}

bool session_defer(struct deferred *d, struct session *s, const struct deferred_request *what)
{
	struct deferred_request *q = malloc(sizeof(*q));

	if (!q) {
		if (what->req)
			fuse_reply_err(what->req, ENOMEM);
		return false;
	}
	*q = *what;
	q->session = s;
	pthread_mutex_lock(&s->pool->lock);
	s->active++;
	pthread_mutex_unlock(&s->pool->lock);
	deferred_push(d, q);
	return true;
}

/* One thread may do it itself, which is faster; more would leave too few to serve. */
static bool sync_here(struct session *s, struct fuse_req *req)
{
	struct session_pool *sp = s->pool;
	bool mine = false;

	if (atomic_fetch_add(&sp->syncs_here, 1) < sp->n_threads / 2 &&
	    !atomic_exchange(&s->syncing, true)) {
		poll_before_wait();
		fuse_reply_err(req, view_sync(s->view) ? EIO : 0);
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
	(void)session_defer(
		&s->pool->seeks, s,
		&(struct deferred_request){ .req = req, .ino = ino, .off = off, .whence = whence });
}

static void run_ahead(struct session *s, const struct ahead_job *job)
{
	ahead_run(s->view, job);
	if (ahead_is_tree(job))
		atomic_store(&s->walking, false);
	session_release(s);
}

static bool push_ahead(struct session *s, const struct ahead_job *job)
{
	bool pushed;

	pthread_mutex_lock(&s->pool->lock);
	s->active++;
	pthread_mutex_unlock(&s->pool->lock);
	pushed = ahead_pool_push(&s->pool->ahead, s, job);
	if (!pushed)
		session_release(s);
	return pushed;
}

void session_note_read(struct session *s, uint64_t ino, uint64_t off, uint64_t len)
{
	struct ahead_job job;

	if (ahead_note(&s->ahead, ino, off, len, &job))
		(void)push_ahead(s, &job);
}

void session_note_listing(struct session *s, uint64_t dir)
{
	const struct ahead_job job = { .ino = dir };

	if (!atomic_exchange(&s->walking, true) && !push_ahead(s, &job))
		atomic_store(&s->walking, false);
}

static int start_threads(struct session_pool *sp, unsigned threads)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = deferred_start(&sp->syncs);
	if (!r)
		r = deferred_start(&sp->seeks);
	if (!r)
		r = deferred_start(&sp->stales);
	if (!r)
		r = ahead_pool_start(&sp->ahead, run_ahead);
	if (!r)
		r = poll_guard_start(sp);
	for (; !r && sp->n_threads < threads; sp->n_threads += r == 0) {
		struct serving *t = &sp->threads[sp->n_threads];

		t->pool = sp;
		r = -pthread_create(&t->thread, NULL, serving_thread, t);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

void session_pool_limit_metadata(struct session_pool *sp, uint64_t bytes)
{
	sp->metadata_bytes = bytes;
}

uint64_t session_pool_metadata(const struct session_pool *sp)
{
	return sp->metadata_bytes;
}

struct session_pool *session_pool_new(unsigned threads, struct error *err)
{
	struct session_pool *sp = calloc(1, sizeof(*sp));
	struct epoll_event stop = { .events = EPOLLIN, .data.u64 = STOP_TOKEN };
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int r;

	/* One busy mount gets half of them. */
	if (!threads)
		threads = (unsigned)MAX(4 * cores, 8L);
	if (sp)
		sp->threads =
			aligned_alloc(_Alignof(struct serving), threads * sizeof(*sp->threads));
	if (!sp || !sp->threads) {
		free(sp);
		error_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	memset(sp->threads, 0, threads * sizeof(*sp->threads));
	sp->n_serving = threads;
	pthread_mutex_init(&sp->lock, NULL);
	pthread_mutex_init(&sp->init_lock, NULL);
	deferred_init(&sp->syncs, "varve-sync", run_syncs);
	deferred_init(&sp->seeks, "varve-seek", run_seeks);
	deferred_init(&sp->stales, "varve-stale", shared_run_stales);
	sp->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	sp->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = sp->epoll_fd < 0 || sp->stop_fd < 0 ? -errno : 0;
	if (!r && epoll_ctl(sp->epoll_fd, EPOLL_CTL_ADD, sp->stop_fd, &stop) < 0)
		r = -errno;
	if (!r)
		r = wire_init(sp, err);
	if (!r)
		r = start_threads(sp, threads);
	if (!r)
		return sp;
	error_prefix(err, r, "cannot start the threads that serve mounts");
	session_pool_free(sp);
	return NULL;
}

void session_pool_free(struct session_pool *sp)
{
	uint64_t one = 1;

	if (!sp)
		return;
	/* Level-triggered and never read: every thread sees it. */
	(void)!write(sp->stop_fd, &one, sizeof(one));
	for (unsigned i = 0; i < sp->n_threads; i++)
		pthread_join(sp->threads[i].thread, NULL);
	deferred_fini(&sp->syncs);
	deferred_fini(&sp->seeks);
	deferred_fini(&sp->stales);
	ahead_pool_stop(&sp->ahead);
	poll_guard_stop(sp);
	wire_fini(sp);
	if (sp->epoll_fd >= 0)
		close(sp->epoll_fd);
	if (sp->stop_fd >= 0)
		close(sp->stop_fd);
	pthread_mutex_destroy(&sp->lock);
	pthread_mutex_destroy(&sp->init_lock);
	free(sp->slots);
	free(sp->threads);
	free(sp);
}

uint64_t session_pool_requests(struct session_pool *sp)
{
	uint64_t n;

	pthread_mutex_lock(&sp->lock);
	n = sp->requests_gone;
	for (size_t i = 0; i < sp->n_slots; i++)
		if (sp->slots[i])
			n += atomic_load_explicit(&sp->slots[i]->requests, memory_order_relaxed);
	pthread_mutex_unlock(&sp->lock);
	return n;
}

/* Put s into a free slot; a slot's number and generation name it in epoll. */
static int take_slot(struct session_pool *sp, struct session *s)
{
	size_t i = 0;
	int r = 0;

	pthread_mutex_lock(&sp->lock);
	while (i < sp->n_slots && sp->slots[i])
		i++;
	if (i == sp->n_slots) {
		size_t n = sp->n_slots ? sp->n_slots * 2 : 16;
		struct session **p = realloc(sp->slots, n * sizeof(*p));

		if (p) {
			memset(p + sp->n_slots, 0, (n - sp->n_slots) * sizeof(*p));
			sp->slots = p;
			sp->n_slots = n;
		} else {
			r = -ENOMEM;
		}
	}
	if (!r) {
		sp->slots[i] = s;
		s->slot = i;
		/* The top bit is never set, so no token equals STOP_TOKEN. */
		s->generation = ++sp->generation & 0x7fffffff;
	}
	pthread_mutex_unlock(&sp->lock);
	return r;
}

static void leave_slot(struct session *s)
{
	struct session_pool *sp = s->pool;

	pthread_mutex_lock(&sp->lock);
	sp->slots[s->slot] = NULL;
	while (s->active)
		pthread_cond_wait(&s->idle, &sp->lock);
	sp->requests_gone += s->requests;
	pthread_mutex_unlock(&sp->lock);
}

static void session_destroy(struct session *s)
{
	pthread_cond_destroy(&s->idle);
	ahead_fini(&s->ahead);
	free(s->mountpoint);
	free(s);
}

static int begin_to_serve(struct session *s, const struct session_options *opt, struct error *err)
{
	int r;

	if (opt->shared && s->pool->files) {
		s->passthrough = passthrough_new(s->view, s->pool->files, s->fd);
		if (!s->passthrough)
			return error_set(err, -ENOMEM, "out of memory");
	}
	r = session_arm(s, EPOLL_CTL_ADD);
	return r ? error_set_errno(err, r, "cannot watch a FUSE connection") : 0;
}

int session_start(struct session_pool *sp, struct view *v, const struct session_options *opt,
		  struct session **out, struct error *err)
{
	struct session *s = calloc(1, sizeof(*s));
	int mount_fd = -1, r;

	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	s->pool = sp;
	s->view = v;
	s->fd = -1;
	s->on_end = opt->on_end;
	s->arg = opt->arg;
	v->before_wait = poll_before_wait;
	ahead_init(&s->ahead);
	pthread_cond_init(&s->idle, NULL);
	s->mountpoint = strdup(opt->mountpoint);
	r = s->mountpoint ? take_slot(sp, s) : -ENOMEM;
	if (r) {
		session_destroy(s);
		return error_set(err, r, "out of memory");
	}
	/* The place comes last: what fails before it leaves no mount behind. */
	r = session_open_mount(s, opt, &mount_fd, err);
	if (!r)
		r = begin_to_serve(s, opt, err);
	if (!r) {
		r = kernel_mount_place(mount_fd, opt->mountpoint);
		if (r)
			error_set_errno(err, r, "cannot mount at %s", opt->mountpoint);
	}
	if (r)
		session_stop(s); /* before its mount ends, so that on_end is not called */
	else
		*out = s;
	if (mount_fd >= 0)
		close(mount_fd);
	return r;
}

void session_stop(struct session *s)
{
	if (!s)
		return;
	shared_end(s);
	if (!atomic_exchange(&s->ended, true) && s->fd >= 0)
		epoll_ctl(s->pool->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
	leave_slot(s);
	passthrough_free(s->passthrough);
	if (s->fd >= 0)
		close(s->fd); /* the last descriptor: aborts what is still mounted */
	session_destroy(s);
}

bool session_ended(const struct session *s)
{
	return atomic_load(&s->ended);
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
 * all that were being handled had been answered, and none was read meanwhile.
 */
int session_drain(struct session *s, unsigned max_ms)
{
	uint64_t until = (uint64_t)monotonic_ns() + max_ms * 1000000ull;

	while (!session_ended(s) && (uint64_t)monotonic_ns() < until) {
		uint64_t writes = atomic_load(&s->writes);
		int quiet = 0;

		for (; quiet < 2 && !is_request_queued(s); quiet++)
			wait_passes(s);
		if (quiet == 2 && atomic_load(&s->writes) == writes)
			return 0;
		usleep(50);
	}
	return session_ended(s) ? 0 : -ETIMEDOUT;
}

struct view *session_view(struct session *s)
{
	return s->view;
}
