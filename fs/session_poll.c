/* Looking for requests without sleeping: see struct poller in session_internal.h. */
#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <time.h>

#include "fs/session_internal.h"

/* How long a thread looks for the next request before it sleeps. */
#define POLL_NS 50000u
/* Requests without a pause after which other threads are called in. */
#define POLL_STREAK 8u

static uint64_t token_of(const struct session *s)
{
	return (uint64_t)s->generation << 32 | s->slot;
}

uint64_t session_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int session_arm(struct session *s, int op)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u64 = token_of(s) };

	return epoll_ctl(s->pool->epoll_fd, op, s->fd, &ev) < 0 ? -errno : 0;
}

static void disarm(struct session *s)
{
	struct epoll_event ev = { .events = 0, .data.u64 = token_of(s) };

	epoll_ctl(s->pool->epoll_fd, EPOLL_CTL_MOD, s->fd, &ev);
}

void poll_stop(struct poller *p)
{
	if (!p->polling)
		return;
	p->polling = false;
	atomic_store(&p->s->pool->polling, false);
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
	else if (!p->called)
		(void)!session_arm(p->s, EPOLL_CTL_MOD);
	p->called = true;
}

void poll_before_wait(void)
{
	if (poller_here)
		call_others(poller_here);
}

/* Nothing to read: true to look again. */
bool poll_idle(struct poller *p)
{
	p->streak = 0;
	if (!p->polling) {
		if (atomic_exchange(&p->s->pool->polling, true))
			return false;
		p->polling = true;
		disarm(p->s);
		p->deadline_ns = 0;
		return true; /* what came before disarming may have been signalled to nobody */
	}
	uint64_t now = session_now_ns();

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
	if (wire_takes_long(request, n) || (p->polling && ++p->streak > POLL_STREAK))
		call_others(p);
}

void poll_handle(struct poller *p, void *request, size_t n)
{
	poll_busy(p, request, n);
	poller_here = p;
	wire_handle(p->s, request, n);
	poller_here = NULL;
}
