/* Looking for requests without sleeping: see struct poller in session_internal.h. */
#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"

#include "fs/fuse/session_internal.h"

/* How long a thread looks for the next request before it sleeps. */
#define POLL_NS 50000u
/* Requests without a pause after which other threads are called in. */
#define POLL_STREAK 8u

uint64_t session_token(const struct session *s)
{
	return (uint64_t)s->generation << 32 | s->slot;
}

int session_arm(struct session *s, int op)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u64 = session_token(s) };

	return epoll_ctl(s->pool->epoll_fd, op, s->fd, &ev) < 0 ? -errno : 0;
}

void session_disarm(struct session *s)
{
	struct epoll_event ev = { .events = 0, .data.u64 = session_token(s) };

	epoll_ctl(s->pool->epoll_fd, EPOLL_CTL_MOD, s->fd, &ev);
}

void poll_stop(struct poller *p)
{
	if (!p->polling)
		return;
	p->polling = false;
	atomic_store(&p->s->pool->polled, 0);
	(void)!session_arm(p->s, EPOLL_CTL_MOD); /* signals what has come meanwhile */
}

/* Of the request that this thread handles. */
static _Thread_local struct poller *poller_here;

/*
 * Edge-triggered, what else is queued would wait for this thread: arming wakes
 * another one if there is more.
 */
static void call_others(struct poller *p)
{
	if (p->polling)
		poll_stop(p);
	else if (!p->called && !atomic_load(&p->s->held))
		(void)!session_arm(p->s, EPOLL_CTL_MOD);
	p->called = true;
}

void poll_before_wait(void)
{
	if (poller_here)
		call_others(poller_here);
}

/* ---- the guard ---- */

/* How long a request may take before others are called in. */
#define GUARD_US 2000

static void wake_guard(struct poll_guard *g)
{
	uint64_t one = 1;

	if (atomic_load_explicit(&g->asleep, memory_order_seq_cst) &&
	    atomic_exchange(&g->asleep, false))
		(void)!write(g->wake_fd, &one, sizeof(one));
}

/* The requests that were read of the session that is polled. */
static uint64_t polled_requests(struct session_pool *sp, uint64_t token)
{
	uint64_t n = 0;

	pthread_mutex_lock(&sp->lock);
	struct session *s = session_find_locked(sp, token);

	if (s)
		n = atomic_load(&s->requests);
	pthread_mutex_unlock(&sp->lock);
	return n;
}

/* Nobody polls: sleep until somebody does. */
static void guard_sleep(struct session_pool *sp)
{
	struct poll_guard *g = &sp->guard;
	uint64_t n;

	atomic_store(&g->asleep, true);
	if (atomic_load(&sp->polled) == 0 && !atomic_load(&g->stop))
		(void)!read(g->wake_fd, &n, sizeof(n));
	atomic_store(&g->asleep, false);
}

static void *guard_main(void *arg)
{
	struct session_pool *sp = arg;

	pthread_setname_np(pthread_self(), "varve-guard");
	while (!atomic_load(&sp->guard.stop)) {
		uint64_t token = atomic_load(&sp->polled);

		if (!token) {
			guard_sleep(sp);
			continue;
		}
		uint64_t requests = polled_requests(sp, token);

		usleep(GUARD_US);
		if (atomic_load(&sp->polled) != token || polled_requests(sp, token) != requests)
			continue;
		struct session *s = session_acquire(sp, token);

		if (s) {
			(void)!session_arm(s, EPOLL_CTL_MOD);
			session_release(s);
		}
	}
	return NULL;
}

int poll_guard_start(struct session_pool *sp)
{
	struct poll_guard *g = &sp->guard;
	int r;

	g->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (g->wake_fd < 0)
		return -errno;
	r = -pthread_create(&g->thread, NULL, guard_main, sp);
	g->started = r == 0;
	if (r)
		close(g->wake_fd);
	return r;
}

void poll_guard_stop(struct session_pool *sp)
{
	struct poll_guard *g = &sp->guard;
	uint64_t one = 1;

	if (!g->started)
		return;
	atomic_store(&g->stop, true);
	(void)!write(g->wake_fd, &one, sizeof(one));
	pthread_join(g->thread, NULL);
	close(g->wake_fd);
}

/* ---- requests ---- */

/* Nothing to read: true to look again. */
bool poll_idle(struct poller *p)
{
	p->streak = 0;
	if (!p->polling) {
		struct session_pool *sp = p->s->pool;
		uint64_t none = 0;

		if (!atomic_compare_exchange_strong(&sp->polled, &none, session_token(p->s)))
			return false;
		wake_guard(&sp->guard);
		p->polling = true;
		session_disarm(p->s);
		p->deadline_ns = 0;
		return true; /* what came before disarming may have been signalled to nobody */
	}
	uint64_t now = (uint64_t)monotonic_ns();

	if (!p->deadline_ns)
		p->deadline_ns = now + POLL_NS;
	if (now >= p->deadline_ns) {
		poll_stop(p);
		return false;
	}
	sched_yield();
	return true;
}

/*
 * A request has been read. Others are needed where it takes long (one that turns
 * out to wait for a disk calls them itself), or where requests come faster than
 * one thread answers them.
 */
static void poll_busy(struct poller *p, const void *request, size_t n)
{
	p->deadline_ns = 0;
	p->called = false;
	if (request_takes_long(request, n) || (p->polling && ++p->streak > POLL_STREAK))
		call_others(p);
}

void poll_handle(struct poller *p, void *request, size_t n)
{
	poll_busy(p, request, n);
	poller_here = p;
	wire_handle(p->s, request, n);
	poller_here = NULL;
}
