/*
 * Windows live in a list, the last used first. One is made by the thread that misses, under the
 * lock, in the state FAR_LOADING; its request is submitted without the lock. Who needs it counts as
 * a user, so does its request; without users it stays until others need its memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/layout/vpk.h"
#include "store/lazy/far_internal.h"

#define GAP_MAX (96u << 10) /* between windows that follow each other */
#define GROWTH 3u	    /* how much longer the next one is */
#define BACK (32u << 10)    /* before the chunk, where no window was */
#define FILL (256u << 10)   /* to another window: what is between comes, too */

static void window_free(struct far *f, struct window *w)
{
	TAILQ_REMOVE(&f->windows, w, link);
	f->bytes -= w->len;
	object_request_fini(&w->rq);
	free(w);
}

static void make_room(struct far *f)
{
	struct window *w, *prev;

	for (w = TAILQ_LAST(&f->windows, windows); w && f->bytes > FAR_MEMORY; w = prev) {
		prev = TAILQ_PREV(w, windows, link);
		if (!w->users)
			window_free(f, w);
	}
}

void far_window_release(struct far *f, struct window *w)
{
	if (--w->users == 0 && w->state == FAR_FAILED)
		window_free(f, w);
}

bool far_is_of_remote(int rc)
{
	return rc == -EACCES || rc == -EIO || rc == -ETIMEDOUT;
}

/* From the bucket's thread. */
static void window_done(struct object_request *rq)
{
	struct window *w = CONTAINER_OF(rq, struct window, rq);
	struct far *f = w->far;

	pthread_mutex_lock(&f->lock);
	w->state = rq->result == 0 ? FAR_READY : FAR_FAILED;
	f->stats.bytes += rq->data.len;
	far_bucket_leave(&f->buckets, w->from, far_is_of_remote(rq->result));
	if (rq->result == 0 && rq->data.len < w->len) { /* the container ends here */
		f->bytes -= w->len - rq->data.len;
		w->len = (uint32_t)rq->data.len;
		w->run = 0;
	}
	if (rq->result < 0 && rq->result != -ENOENT && !w->ahead && !f->stopped &&
	    monotonic_ms() - f->logged_ms > FAR_LOG_EVERY_MS) {
		f->logged_ms = monotonic_ms();
		log_warn("%s: %s", w->key, rq->err.msg[0] ? rq->err.msg : strerror(-rq->result));
	}
	far_window_release(f, w);
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

static bool covers(const struct window *w, const struct share_loc *at)
{
	return w->state != FAR_FAILED && pack_id_cmp(&w->pack, &at->pack) == 0 &&
	       at->offset >= w->offset &&
	       (uint64_t)at->offset + at->len <= (uint64_t)w->offset + w->len;
}

struct window *far_window_find(struct far *f, const struct share_loc *at)
{
	struct window *w;

	TAILQ_FOREACH(w, &f->windows, link)
	if (covers(w, at))
		return w;
	return NULL;
}

/* The window that ends where this location begins, or shortly before. */
static const struct window *window_before(struct far *f, const struct share_loc *at)
{
	const struct window *w;

	TAILQ_FOREACH(w, &f->windows, link)
	{
		uint64_t end = (uint64_t)w->offset + w->len;

		if (pack_id_cmp(&w->pack, &at->pack) == 0 && at->offset <= end + GAP_MAX &&
		    (uint64_t)at->offset + at->len > end && at->offset >= w->offset)
			return w;
	}
	return NULL;
}

/* Where the windows beside [*from, *to) are: those that end before `at`, or begin after it. */
static void meet_others(struct far *f, const struct share_loc *at, uint32_t *from, uint32_t *to)
{
	uint32_t at_end = at->offset + at->len, before = 0, after = UINT32_MAX;
	const struct window *w;

	TAILQ_FOREACH(w, &f->windows, link)
	{
		if (w->state == FAR_FAILED || pack_id_cmp(&w->pack, &at->pack) != 0)
			continue;
		if (w->offset + w->len <= at->offset)
			before = MAX(before, w->offset + w->len);
		else if (w->offset >= at_end)
			after = MIN(after, w->offset);
	}
	if (before > *from || (before && *from - before <= FILL))
		*from = before;
	if (after < *to || after - *to <= FILL)
		*to = after;
}

/* About `aim` bytes, of which `back` before the location, and it whole. */
static void set_span(struct window *w, const struct share_loc *at, uint32_t back)
{
	uint32_t from = at->offset - MIN(at->offset, back);
	uint32_t to = at->offset + MAX(w->aim, at->len);

	lazy_index_edges(w->far->ix, remote_uuid(w->from->r), &at->pack, &from, &to);
	from = MIN(from, at->offset);
	to = MAX(to, at->offset + at->len);
	meet_others(w->far, at, &from, &to);
	w->offset = from;
	w->len = to - from;
}

/*
 * A new window around `at`, or with `ahead` from there on; its request is the caller's to submit.
 * NULL: no memory, or nothing lies ahead. `past`: not from a cache on the way, which may have
 * damaged what it gave before; and no more than what is wanted, as damage beside it fails all of a
 * window of an encrypted bucket.
 */
static struct window *window_new(struct far *f, struct far_bucket *from, const struct share_loc *at,
				 bool ahead, bool past)
{
	const struct window *before = window_before(f, at);
	struct window *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->far = f;
	w->from = from;
	w->pack = at->pack;
	w->offset = at->offset;
	w->len = at->len;
	w->aim = before ? MIN(GROWTH * before->aim, FAR_WINDOW_MAX) : FAR_WINDOW_MIN;
	if (!past)
		set_span(w, at, before || ahead ? 0 : BACK);
	if (ahead && w->len == at->len) {
		free(w);
		return NULL;
	}
	far_bucket_share(&f->buckets, from);
	w->run = before ? before->run + 1 : 0;
	w->ahead = ahead;
	w->users = 1; /* the request */
	share_key_pack(&w->pack, w->key);
	w->rq = (struct object_request){ .op = OBJECT_GET,
					 .priority = ahead ? OBJECT_READAHEAD : OBJECT_DEMAND,
					 .immutable = !past,
					 .key = w->key,
					 .offset = w->offset,
					 .len = w->len,
					 .done = window_done };
	TAILQ_INSERT_HEAD(&f->windows, w, link);
	f->bytes += w->len;
	f->stats.requests++;
	f->stats.ahead += ahead;
	make_room(f);
	return w;
}

struct window *far_window_begin(struct far *f, struct far_bucket *from, const struct share_loc *at,
				bool ahead, bool past, struct submits *s)
{
	struct window *w = window_new(f, from, at, ahead, past);

	if (w)
		s->v[s->n++] = w;
	return w;
}

void far_window_ahead(struct far *f, struct far_bucket *from, const struct window *w,
		      struct submits *s)
{
	struct share_loc next = { .pack = w->pack, .offset = w->offset + w->len, .len = 1 };

	for (unsigned i = 0; i < FAR_AHEAD && w && w->run >= 2 && w->state != FAR_FAILED; i++) {
		if (next.offset < w->offset || next.offset >= VPK_SIZE_MAX)
			return;
		w = far_window_find(f, &next);
		if (!w)
			w = far_window_begin(f, from, &next, true, false, s);
		if (w)
			next.offset = w->offset + w->len;
	}
}

void far_windows_submit(struct submits *s)
{
	for (size_t i = 0; i < s->n; i++)
		object_submit(s->v[i]->from->os, &s->v[i]->rq);
	s->n = 0;
}

int far_window_wait(struct far *f, struct window *w)
{
	int rc = 0;

	pthread_mutex_lock(&f->lock);
	while (w->state == FAR_LOADING && !f->stopped)
		pthread_cond_wait(&f->changed, &f->lock);
	if (w->state == FAR_LOADING)
		rc = -ECANCELED;
	else if (w->state == FAR_FAILED)
		rc = w->rq.result == -ENOENT	? -ENODATA
		     : w->rq.result == -EBADMSG ? -EBADMSG
						: -EIO;
	pthread_mutex_unlock(&f->lock);
	return rc;
}

void far_windows_free(struct far *f)
{
	struct window *w;

	while ((w = TAILQ_FIRST(&f->windows)))
		window_free(f, w);
}
