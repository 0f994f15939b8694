/* The threads that serve all sessions. */
#include "fs/fuse/session_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "fs/host/keeper.h"
#include "fs/host/short_slice.h"
#include "fs/shared/open_table.h"
#include "store/base/log.h"

#define KEPT_REQUESTS "requests"
#define STOP_TOKEN UINT64_MAX

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
	ssize_t n = read(s->fd, buf, session_buffer_size());
	int saved = errno;
	bool is_write = n > 0 && request_is_write(buf, (size_t)n);

	if (is_write)
		atomic_fetch_add(&s->writes, 1);
	else
		atomic_fetch_add(&me->pass, 1);
	if (n > 0) {
		unsigned c = request_takes_long(buf, (size_t)n) ? VISIT_COST_LONG : 1;

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
	void *buf = malloc(session_buffer_size());
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

static void run_ahead(struct session *s, const struct ahead_job *job)
{
	ahead_run(s->view, job);
	if (ahead_is_tree(job))
		atomic_store(&s->walking, false);
	session_release(s);
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

/* Linux 6.9: before it, what a process has read and not answered nobody can answer. */
static bool kernel_sends_again(void)
{
	struct utsname u;
	unsigned major, minor;

	return uname(&u) == 0 && sscanf(u.release, "%u.%u", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 9));
}

int session_pool_check_kept(const char *name, int fd)
{
	const char *dot = strchr(name, '.');

	if (strcmp(name, KEPT_REQUESTS) == 0)
		return suspects_knows(fd) ? 0 : -EPROTO;
	if (dot)
		return strcmp(dot, SESSION_KEPT_OPENS) == 0 ? open_table_check(fd) : -EPROTO;
	/* A mount's id, of hex digits and '-'. */
	return name[strspn(name, "0123456789abcdef-")] ? -EPROTO : 0;
}

void session_pool_keep(struct session_pool *sp, struct keeper *k)
{
	static const char name[] = KEPT_REQUESTS;

	if (k && !kernel_sends_again()) {
		log_warn("mounts end with this process: to go on with them needs Linux 6.9");
		return;
	}
	sp->keeper = k;
	if (!k)
		return;
	int fd = keeper_take(k, name);

	sp->suspects = suspects_new(fd, keeper_has_crashed(k));
	const bool adopted = sp->suspects && suspects_is_adopted(sp->suspects);

	if (fd >= 0 && !adopted) /* of another version, perhaps */
		keeper_drop(k, name);
	if (!sp->suspects || (!adopted && keeper_put(k, name, suspects_fd(sp->suspects))))
		log_warn("a request that kills daemons will not be found");
}

struct keeper *session_pool_keeper(const struct session_pool *sp)
{
	return sp ? sp->keeper : NULL;
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
	deferred_init(&sp->syncs, "varve-sync", session_run_syncs);
	deferred_init(&sp->seeks, "varve-seek", session_run_seeks);
	deferred_init(&sp->stales, "varve-stale", shared_run_stales);
	parked_init(&sp->parked, wire_again);
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
	parked_fini(&sp->parked);
	ahead_pool_stop(&sp->ahead);
	poll_guard_stop(sp);
	wire_fini(sp);
	if (sp->epoll_fd >= 0)
		close(sp->epoll_fd);
	if (sp->stop_fd >= 0)
		close(sp->stop_fd);
	pthread_mutex_destroy(&sp->lock);
	suspects_free(sp->suspects);
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
