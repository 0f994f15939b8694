/* The table of sessions, who uses them, and what they ask others to do. */
#include "fs/fuse/session_internal.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>

#include <fuse_lowlevel.h>

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

void session_use(struct session *s)
{
	pthread_mutex_lock(&s->pool->lock);
	s->active++;
	pthread_mutex_unlock(&s->pool->lock);
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

bool session_defer(struct deferred *d, struct session *s, const struct deferred_request *what)
{
	const struct fuse_in_header *in = session_current_request();
	struct deferred_request *q = malloc(sizeof(*q));

	if (!q) {
		if (what->req)
			fuse_reply_err(what->req, ENOMEM);
		return false;
	}
	*q = *what;
	q->session = s;
	memcpy(q->request, in, MIN((size_t)in->len, sizeof(q->request)));
	session_use(s);
	deferred_push(d, q);
	suspects_defer(s->pool->suspects);
	return true;
}

static bool push_ahead(struct session *s, const struct ahead_job *job)
{
	session_use(s);
	bool pushed = ahead_pool_push(&s->pool->ahead, s, job);
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

/* Put s into a free slot; a slot's number and generation name it in epoll. */
int session_take_slot(struct session_pool *sp, struct session *s)
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

void session_leave_slot(struct session *s)
{
	struct session_pool *sp = s->pool;

	pthread_mutex_lock(&sp->lock);
	sp->slots[s->slot] = NULL;
	while (s->active)
		pthread_cond_wait(&s->idle, &sp->lock);
	sp->requests_gone += s->requests;
	pthread_mutex_unlock(&sp->lock);
}

bool session_is_kept(const struct session *s)
{
	return s->is_kept;
}

bool session_ended(const struct session *s)
{
	return atomic_load(&s->ended);
}

struct view *session_view(struct session *s)
{
	return s->view;
}
