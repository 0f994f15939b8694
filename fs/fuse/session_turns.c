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
 *           its share is held: not armed in epoll until one of its threads leaves.
 *   visit   A thread that has handled VISIT_COST looks, without sleeping, whether
 *           epoll has another session. Then it leaves, which puts the session
 *           that it was with at the end of epoll's list: round robin.
 *
 * A session that is held has a thread, so somebody arms it again.
 */
#include "fs/fuse/session_internal.h"

#include <sys/epoll.h>

/* Holding and arming happen under the lock, so that the last one counts; neither sleeps. */
static void hold_locked(struct session *s)
{
	atomic_store(&s->held, true);
	session_disarm(s);
}

struct session *turn_begin(struct session_pool *sp, uint64_t token)
{
	struct session *s;

	pthread_mutex_lock(&sp->lock);
	s = session_find_locked(sp, token);
	if (s && s->threads < sp->n_serving - sp->busy) {
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
	if ((atomic_exchange(&s->held, false) || has_more) && !session_ended(s))
		(void)!session_arm(s, EPOLL_CTL_MOD);
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
