/*
 * Windows live in a list, the last used first. One is made by the thread that misses, under the
 * lock, in the state FAR_LOADING; its request is submitted without the lock. Who needs it counts as
 * a user, so does its request; without users it stays until others need its memory.
 *
 * A call begins all windows that its items need, then waits for each. An item that does not hash to
 * its digest is asked for again, past the window; then at the next place that is said of it.
 */
#include "store/lazy/far.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/layout/share_key.h"
#include "store/layout/vpk.h"
#include "store/lazy/far_buckets.h"
#include "store/lazy/far_frame.h"
#include "store/remote/moved.h"

#define GAP_MAX (96u << 10) /* between windows that follow each other */
#define GROWTH 3u	    /* how much longer the next one is */
#define BACK (48u << 10)    /* before the chunk, where no window was */
#define FILL (64u << 10)    /* to another window: what is between comes, too */
#define AHEAD 4u	    /* windows that are fetched before they are asked for */
#define PLACE_TRIES 2u
#define LOG_EVERY_MS 10000
#define MOVED_BYTES ((size_t)16 << 20)

enum window_state { FAR_LOADING, FAR_READY, FAR_FAILED };

struct window {
	TAILQ_ENTRY(window) link;
	struct far *far;
	struct far_bucket *from;
	struct object_request rq;
	char key[SHARE_KEY_SIZE];
	struct pack_id pack;
	uint32_t offset, len; /* in the container */
	uint32_t aim;	      /* bytes that it was to have */
	/* guarded by far->lock */
	enum window_state state;
	unsigned users;
	unsigned run; /* how many windows before it were asked for in order */
	bool ahead;   /* nobody has asked for it yet */
};

struct far {
	struct source source;
	struct lazy_index *ix;	   /* borrowed */
	struct remotes *rs;	   /* borrowed */
	struct prefetch *prefetch; /* borrowed; or NULL */
	struct moved *moved;	   /* containers that were found gone */
	pthread_mutex_t lock;
	pthread_cond_t changed;		     /* a window's state, or stopped */
	TAILQ_HEAD(windows, window) windows; /* guarded by lock */
	size_t bytes;			     /* guarded by lock; of all windows */
	bool stopped;			     /* guarded by lock */
	struct far_stats stats;		     /* guarded by lock */
	int64_t logged_ms;		     /* guarded by lock */
	struct far_buckets buckets;
};

static struct far *far_of(struct source *src)
{
	return CONTAINER_OF(src, struct far, source);
}

/* ---- windows ---- */

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

static void window_release(struct far *f, struct window *w)
{
	if (--w->users == 0 && w->state == FAR_FAILED)
		window_free(f, w);
}

/* A failure of a remote: of its credentials, its service or the way there. */
static bool is_of_remote(int rc)
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
	far_bucket_leave(&f->buckets, w->from, is_of_remote(rq->result));
	if (rq->result == 0 && rq->data.len < w->len) { /* the container ends here */
		f->bytes -= w->len - rq->data.len;
		w->len = (uint32_t)rq->data.len;
		w->run = 0;
	}
	if (rq->result < 0 && rq->result != -ENOENT && !w->ahead && !f->stopped &&
	    monotonic_ms() - f->logged_ms > LOG_EVERY_MS) {
		f->logged_ms = monotonic_ms();
		log_warn("%s: %s", w->key, rq->err.msg[0] ? rq->err.msg : strerror(-rq->result));
	}
	window_release(f, w);
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

static bool covers(const struct window *w, const struct share_place *at)
{
	return w->state != FAR_FAILED && pack_id_cmp(&w->pack, &at->pack) == 0 &&
	       at->offset >= w->offset &&
	       (uint64_t)at->offset + at->len <= (uint64_t)w->offset + w->len;
}

static struct window *find_window(struct far *f, const struct share_place *at)
{
	struct window *w;

	TAILQ_FOREACH(w, &f->windows, link)
	if (covers(w, at))
		return w;
	return NULL;
}

/* The window that ends where this place begins, or shortly before. */
static const struct window *window_before(struct far *f, const struct share_place *at)
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
static void meet_others(struct far *f, const struct share_place *at, uint32_t *from, uint32_t *to)
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

/* About `aim` bytes, of which `back` before the place, and it whole. */
static void set_span(struct window *w, const struct share_place *at, uint32_t back)
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
static struct window *window_new(struct far *f, struct far_bucket *from,
				 const struct share_place *at, bool ahead, bool past)
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

/* Windows to submit, once the lock is not held. */
struct submits {
	struct window *v[SOURCE_ITEMS_MAX * (AHEAD + 1)];
	size_t n;
};

static struct window *begin_window(struct far *f, struct far_bucket *from,
				   const struct share_place *at, bool ahead, bool past,
				   struct submits *s)
{
	struct window *w = window_new(f, from, at, ahead, past);

	if (w)
		s->v[s->n++] = w;
	return w;
}

/* Somebody reads on and on: have what follows ready. */
static void begin_ahead(struct far *f, struct far_bucket *from, const struct window *w,
			struct submits *s)
{
	struct share_place next = { .pack = w->pack, .offset = w->offset + w->len, .len = 1 };

	for (unsigned i = 0; i < AHEAD && w && w->run >= 2 && w->state != FAR_FAILED; i++) {
		if (next.offset < w->offset || next.offset >= VPK_SIZE_MAX)
			return;
		w = find_window(f, &next);
		if (!w)
			w = begin_window(f, from, &next, true, false, s);
		if (w)
			next.offset = w->offset + w->len;
	}
}

/* ---- items ---- */

/* An item that is under way. */
struct job {
	struct source_item *item;
	struct lazy_place place;
	struct share_place at; /* where it is now, if it has moved from place.at */
	unsigned tries, hops;
	struct window *w; /* we are its user; NULL: none */
	bool alone;	  /* not from a window that others have */
	/* What it is asked of, to be told from another; and whether another was tried. */
	char remote[REMOTE_NAME_MAX + 1];
	const struct object_store *os;
	bool refused, reopened;
};

/* The item's next place. */
static bool next_place(struct far *f, struct job *j)
{
	if (!lazy_index_find(f->ix, &j->item->digest, j->tries / PLACE_TRIES, &j->place))
		return false;
	j->at = j->place.at;
	moved_known(f->moved, j->place.uuid, &j->item->digest, &j->at);
	return true;
}

static void log_gone(struct far *f, const struct job *j, const struct error *err)
{
	char pack[PACK_ID_SIZE];
	bool now;

	pthread_mutex_lock(&f->lock);
	now = !f->stopped && monotonic_ms() - f->logged_ms > LOG_EVERY_MS;
	if (now)
		f->logged_ms = monotonic_ms();
	pthread_mutex_unlock(&f->lock);
	pack_id_text(&j->at.pack, pack);
	if (now)
		log_warn("container %s is gone from its bucket%s%s", pack, err->msg[0] ? ": " : "",
			 err->msg);
}

/*
 * The item's container is gone: whether it was repacked, and j->at is where the item is now. If the
 * bucket does not say, the item has failed as its bucket has.
 */
static bool has_moved(struct far *f, struct job *j)
{
	struct moved_bucket b = { .uuid = j->place.uuid, .priority = OBJECT_DEMAND };
	struct error err = ERROR_INIT;
	struct far_bucket *from;
	int rc =
		j->hops++ < SHARE_MOVED_HOPS ? far_bucket_use(&f->buckets, b.uuid, &from) : -ENOENT;

	if (rc == 0) {
		b.os = from->os;
		rc = moved_ask(f->moved, &b, &j->item->digest, &j->at, &err);
		far_bucket_leave(&f->buckets, from, is_of_remote(rc));
	}
	if (is_of_remote(rc)) {
		j->item->result = -EIO;
		j->refused = true;
	}
	if (rc < 0)
		log_gone(f, j, &err);
	return rc == 0;
}

static void begin_job(struct far *f, struct job *j, struct submits *s)
{
	struct far_bucket *from;
	int rc = far_bucket_use(&f->buckets, j->place.uuid, &from);

	if (rc < 0) {
		j->item->result = rc;
		return;
	}
	j->os = from->os;
	snprintf(j->remote, sizeof(j->remote), "%s", remote_name(from->r));
	pthread_mutex_lock(&f->lock);
	if (f->stopped) {
		rc = -ECANCELED;
	} else {
		j->w = j->alone ? NULL : find_window(f, &j->at);
		if (j->w) {
			TAILQ_REMOVE(&f->windows, j->w, link);
			TAILQ_INSERT_HEAD(&f->windows, j->w, link);
			j->w->ahead = false;
		} else {
			j->w = begin_window(f, from, &j->at, false, j->alone, s);
		}
		if (j->w) {
			j->w->users++;
			begin_ahead(f, from, j->w, s);
		}
		rc = j->w ? 0 : -ENOMEM;
	}
	pthread_mutex_unlock(&f->lock);
	far_bucket_leave(&f->buckets, from, false);
	j->item->result = rc;
}

static void submit_all(struct submits *s)
{
	for (size_t i = 0; i < s->n; i++)
		object_submit(s->v[i]->from->os, &s->v[i]->rq);
	s->n = 0;
}

/* Copy the item's frame out of a window that is ready, and check it. */
static int copy_frame(const struct job *j)
{
	const struct share_place *at = &j->at;
	const struct buf *data = &j->w->rq.data;
	size_t start = at->offset - j->w->offset;
	uint8_t *copy;

	if (start + at->len > data->len)
		return -EBADMSG;
	copy = malloc(at->len);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, data->data + start, at->len);
	j->item->frame =
		(struct source_frame){ .data = copy, .len = at->len, .pin = copy, .release = free };
	return far_frame_check(&j->item->frame, &j->item->digest);
}

/* Wait for the item's window. */
static int wait_window(struct far *f, struct window *w)
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

static void end_job(struct far *f, struct job *j)
{
	struct source_item *it = j->item;

	if (it->result == 0)
		it->result = wait_window(f, j->w);
	if (it->result == 0)
		it->result = copy_frame(j);
	pthread_mutex_lock(&f->lock);
	if (j->w) {
		j->refused = it->result == -EIO && is_of_remote(j->w->rq.result);
		window_release(f, j->w);
	}
	j->w = NULL;
	f->stats.chunks += it->result == 0;
	pthread_mutex_unlock(&f->lock);
}

/* Its credentials may have changed, or another remote may be the same bucket. */
static bool reopen(struct far *f, struct job *j)
{
	if (!j->refused || j->reopened)
		return false;
	j->reopened = true;
	remotes_failed(f->rs, j->remote, j->os);
	return true;
}

/* Damaged, or gone from that place: whether there is something else to try. */
static bool try_again(struct far *f, struct job *j)
{
	int rc = j->item->result;

	if (rc == -EIO)
		return reopen(f, j);
	if (rc != -EBADMSG && rc != -ENODATA)
		return false;
	if (rc == -ENODATA && has_moved(f, j))
		return true;
	if (j->item->result == -EIO)
		return reopen(f, j);
	j->tries = rc == -EBADMSG ? j->tries + 1 : (j->tries / PLACE_TRIES + 1) * PLACE_TRIES;
	j->alone = true;
	return next_place(f, j);
}

static struct prefetch_chunk chunk_of(const struct job *j)
{
	return (struct prefetch_chunk){ j->place.uuid, &j->place.at.pack, &j->item->digest };
}

/* Whether the item comes from a hot object, or will not come at all. */
static bool is_prefetched(struct far *f, struct job *j)
{
	const struct prefetch_chunk c = chunk_of(j);
	int rc = f->prefetch ? prefetch_get(f->prefetch, &c, &j->item->frame) : -ENODATA;

	if (rc == -ENODATA)
		return false;
	j->item->result = rc;
	pthread_mutex_lock(&f->lock);
	f->stats.chunks += rc == 0;
	pthread_mutex_unlock(&f->lock);
	return true;
}

static void note_missed(struct far *f, const struct job *j)
{
	const struct prefetch_chunk c = chunk_of(j);

	if (f->prefetch && j->item->result == 0)
		prefetch_missed(f->prefetch, &c, j->item->frame.len);
}

static void get_chunks(struct far *f, struct source_item *items, size_t n)
{
	struct job jobs[SOURCE_ITEMS_MAX];
	struct submits s = { .n = 0 };

	assert(n <= SOURCE_ITEMS_MAX);
	for (size_t i = 0; i < n; i++) {
		jobs[i] = (struct job){ .item = &items[i] };
		items[i].result = -ENODATA;
		if (next_place(f, &jobs[i]) && !is_prefetched(f, &jobs[i]))
			begin_job(f, &jobs[i], &s);
		submit_all(&s); /* at once: others may wait for it */
	}
	for (size_t i = 0; i < n; i++) {
		struct job *j = &jobs[i];

		if (!j->w)
			continue;
		end_job(f, j);
		while (try_again(f, j)) {
			begin_job(f, j, &s);
			submit_all(&s);
			end_job(f, j);
		}
		note_missed(f, j);
	}
	pthread_mutex_lock(&f->lock);
	for (size_t i = 0; i < n; i++)
		f->stats.failed += items[i].result < 0;
	pthread_mutex_unlock(&f->lock);
	far_buckets_tidy(&f->buckets);
}

static void get_many(struct source *src, enum source_kind kind, struct source_item *items, size_t n)
{
	if (kind == SOURCE_CHUNK) {
		get_chunks(far_of(src), items, n);
		return;
	}
	for (size_t i = 0; i < n; i++)
		items[i].result = -ENODATA;
}

/* What a hot object has brought. */
static int get_ready(struct source *src, enum source_kind kind, const struct digest *d,
		     struct source_frame *out)
{
	struct far *f = far_of(src);
	struct lazy_place at;
	int rc;

	if (kind != SOURCE_CHUNK || !f->prefetch || !lazy_index_find(f->ix, d, 0, &at))
		return -ENODATA;
	const struct prefetch_chunk c = { at.uuid, &at.at.pack, d };

	rc = prefetch_ready(f->prefetch, &c, out);
	if (rc == 0) {
		pthread_mutex_lock(&f->lock);
		f->stats.chunks++;
		pthread_mutex_unlock(&f->lock);
	}
	return rc;
}

static void has_many(struct source *src, enum source_kind kind, struct source_item *items, size_t n)
{
	struct lazy_place at;

	for (size_t i = 0; i < n; i++)
		items[i].result = kind == SOURCE_CHUNK &&
				  lazy_index_find(far_of(src)->ix, &items[i].digest, 0, &at);
}

static int put_many(struct source *src, enum source_kind kind, const struct source_item *items,
		    size_t n)
{
	(void)src, (void)kind, (void)items, (void)n;
	return -EROFS;
}

static void stop(struct source *src)
{
	struct far *f = far_of(src);

	pthread_mutex_lock(&f->lock);
	f->stopped = true;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

static void free_far(struct source *src)
{
	struct far *f = far_of(src);
	struct window *w;

	while ((w = TAILQ_FIRST(&f->windows)))
		window_free(f, w);
	far_buckets_fini(&f->buckets);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
	moved_free(f->moved);
	free(f);
}

/* The name of the first remote that is the bucket. */
struct remote_of {
	const char *uuid;
	char name[REMOTE_NAME_MAX + 1];
};

static int note_remote(void *arg, const char *name, const char *bucket,
		       const struct object_counts *counts)
{
	struct remote_of *of = arg;

	(void)counts;
	if (strcmp(bucket, of->uuid) != 0)
		return 0;
	snprintf(of->name, sizeof(of->name), "%s", name);
	return 1;
}

static void where(struct source *src, enum source_kind kind, const struct digest *d, char *out,
		  size_t size)
{
	struct far *f = far_of(src);
	char pack[PACK_ID_SIZE];
	struct lazy_place at;

	*out = '\0';
	if (kind != SOURCE_CHUNK || !lazy_index_find(f->ix, d, 0, &at))
		return;
	struct remote_of of = { .uuid = at.uuid, .name = "" };

	pack_id_text(&at.at.pack, pack);
	if (remotes_each_seen(f->rs, note_remote, &of) > 0)
		snprintf(out, size, "container %s of remote %s", pack, of.name);
	else
		snprintf(out, size, "container %s of bucket %s, which no remote is", pack, at.uuid);
}

struct source *far_new(struct lazy_index *ix, struct remotes *rs)
{
	static const struct source_ops ops = { .get_many = get_many,
					       .get_ready = get_ready,
					       .has_many = has_many,
					       .put_many = put_many,
					       .stop = stop,
					       .free = free_far,
					       .where = where };
	struct far *f = calloc(1, sizeof(*f));

	if (f)
		f->moved = moved_new(MOVED_BYTES);
	if (!f || !f->moved) {
		free(f);
		return NULL;
	}
	f->source.ops = &ops;
	f->ix = ix;
	f->rs = rs;
	f->logged_ms = INT64_MIN / 2;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	TAILQ_INIT(&f->windows);
	far_buckets_init(&f->buckets, rs);
	return &f->source;
}

void far_set_prefetch(struct source *far, struct prefetch *p)
{
	far_of(far)->prefetch = p;
}

void far_stats(struct source *far, struct far_stats *out)
{
	struct far *f = far_of(far);

	pthread_mutex_lock(&f->lock);
	*out = f->stats;
	pthread_mutex_unlock(&f->lock);
}
