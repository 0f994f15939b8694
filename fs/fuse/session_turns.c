/*
 * Which sessions the serving threads are with.
 *
 * A tenant with many processes keeps a session's queue from ever being empty, and
 * may have every thread that answers it wait for a disk. So:
 *
 *   share   A session gets another thread only while it has fewer than there are
 *           free ones (dynamic thresholds, Choudhury and Hahne 1998). One busy
 *           session has half of the threads; of n busy sessions each has an
 *           (n + 1)th, and as many stay free for who comes next. A session with
 *           its share is held: not armed in epoll until one of its threads leaves,
 *           or enough of the others' that its share has grown.
 *   visit   A thread that has handled VISIT_COST looks, without sleeping, whether
 *           epoll has another session. Then it leaves, which puts the session
 *           that it was with at the end of epoll's list: round robin.
 *
 * A session that is held has a thread, so it lives, and somebody arms it again.
 */
#include "fs/fuse/session_internal.h"

#include <sys/epoll.h>

/* Holding and arming happen under the lock, so that the last one counts; neither sleeps. */
static void hold_locked(struct session *s)
{
	if (!atomic_exchange(&s->held, true))
		LIST_INSERT_HEAD(&s->pool->held, s, held_link);
	session_disarm(s);
}

static bool let_go_locked(struct session *s)
{
	bool was_held = atomic_exchange(&s->held, false);

	if (was_held)
		LIST_REMOVE(s, held_link);
	return was_held;
}

static bool may_have_more_locked(const struct session *s)
{
	return s->threads < s->pool->n_serving - s->pool->busy;
}

/* A thread is free: its own threads may all wait, and would never arm them. */
static void arm_others_locked(struct session_pool *sp)
{
	struct session *s, *next;

	for (s = LIST_FIRST(&sp->held); s; s = next) {
		next = LIST_NEXT(s, held_link);
		if (may_have_more_locked(s) && let_go_locked(s) && !session_ended(s))
			(void)!session_arm(s, EPOLL_CTL_MOD);
	}
}

struct session *turn_begin(struct session_pool *sp, uint64_t token)
{
	struct session *s;

	pthread_mutex_lock(&sp->lock);
	s = session_find_locked(sp, token);
	if (s && may_have_more_locked(s)) {
		s->active++;
		s->threads++;
		sp->busy++;
	} else if (s) {
		hold_locked(s);
		s = NULL;
	}
	pthread_mutex_unlock(&sp->lock);
	return s;
}

void turn_end(struct session *s, bool has_more)
{
	struct session_pool *sp = s->pool;

	pthread_mutex_lock(&sp->lock);
	s->threads--;
	sp->busy--;
	if ((let_go_locked(s) || has_more) && !session_ended(s))
		(void)!session_arm(s, EPOLL_CTL_MOD);
	arm_others_locked(sp);
	session_release_locked(s);
	pthread_mutex_unlock(&sp->lock);
}

uint64_t turn_other(const struct session *s)
{
	struct epoll_event ev;

	/* Its own may be the first: the thread that it calls is here already. */
	for (int i = 0; i < 2 && epoll_wait(s->pool->epoll_fd, &ev, 1, 0) == 1; i++)
		if (ev.data.u64 != session_token(s))
			return ev.data.u64;
	return 0;
}
