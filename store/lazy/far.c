/*
 * A call begins all windows that its items need (far_windows.c), then waits for each. An item that
 * does not hash to its digest is asked for again, past the window; then at the next location that
 * is said of it.
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
#include "store/lazy/far_frame.h"
#include "store/lazy/far_internal.h"

#define LOC_TRIES 2u
#define MOVED_BYTES ((size_t)16 << 20)

static struct far *far_of(struct source *src)
{
	return CONTAINER_OF(src, struct far, source);
}

/* ---- items ---- */

/* An item that is under way. */
struct job {
	struct source_item *item;
	struct lazy_loc loc;
	struct share_loc at; /* where it is now, if it has moved from loc.at */
	unsigned tries, hops;
	struct window *w; /* we are its user; NULL: none */
	bool alone;	  /* not from a window that others have */
	/* What it is asked of, to be told from another; and whether another was tried. */
	char remote[REMOTE_NAME_MAX + 1];
	const struct object_store *os;
	bool refused, reopened;
};

/* The item's next location. */
static bool next_loc(struct far *f, struct job *j)
{
	if (!lazy_index_find(f->ix, &j->item->digest, j->tries / LOC_TRIES, &j->loc))
		return false;
	j->at = j->loc.at;
	moved_known(f->moved, j->loc.uuid, &j->item->digest, &j->at);
	return true;
}

static void log_gone(struct far *f, const struct job *j, const struct error *err)
{
	char pack[PACK_ID_SIZE];
	bool now;

	pthread_mutex_lock(&f->lock);
	now = !f->stopped && monotonic_ms() - f->logged_ms > FAR_LOG_EVERY_MS;
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
	struct moved_bucket b = { .uuid = j->loc.uuid, .priority = OBJECT_DEMAND };
	struct error err = ERROR_INIT;
	struct far_bucket *from;
	int rc =
		j->hops++ < SHARE_MOVED_HOPS ? far_bucket_use(&f->buckets, b.uuid, &from) : -ENOENT;

	if (rc == 0) {
		b.os = from->os;
		rc = moved_ask(f->moved, &b, &j->item->digest, &j->at, &err);
		far_bucket_leave(&f->buckets, from, far_is_of_remote(rc));
	}
	if (far_is_of_remote(rc)) {
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
	int rc = far_bucket_use(&f->buckets, j->loc.uuid, &from);

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
		j->w = j->alone ? NULL : far_window_find(f, &j->at);
		if (j->w) {
			TAILQ_REMOVE(&f->windows, j->w, link);
			TAILQ_INSERT_HEAD(&f->windows, j->w, link);
			j->w->ahead = false;
		} else {
			j->w = far_window_begin(f, from, &j->at, false, j->alone, s);
		}
		if (j->w) {
			j->w->users++;
			far_window_ahead(f, from, j->w, s);
		}
		rc = j->w ? 0 : -ENOMEM;
	}
	pthread_mutex_unlock(&f->lock);
	far_bucket_leave(&f->buckets, from, false);
	j->item->result = rc;
}

/* Copy the item's frame out of a window that is ready, and check it. */
static int copy_frame(const struct job *j)
{
	const struct share_loc *at = &j->at;
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

static void end_job(struct far *f, struct job *j)
{
	struct source_item *it = j->item;

	if (it->result == 0)
		it->result = far_window_wait(f, j->w);
	if (it->result == 0)
		it->result = copy_frame(j);
	pthread_mutex_lock(&f->lock);
	if (j->w) {
		j->refused = it->result == -EIO && far_is_of_remote(j->w->rq.result);
		far_window_release(f, j->w);
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

/* Damaged, or gone from that location: whether there is something else to try. */
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
	j->tries = rc == -EBADMSG ? j->tries + 1 : (j->tries / LOC_TRIES + 1) * LOC_TRIES;
	j->alone = true;
	return next_loc(f, j);
}

static struct prefetch_chunk chunk_of(const struct job *j)
{
	return (struct prefetch_chunk){ j->loc.uuid, &j->loc.at.pack, &j->item->digest };
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
		if (next_loc(f, &jobs[i]) && !is_prefetched(f, &jobs[i]))
			begin_job(f, &jobs[i], &s);
		far_windows_submit(&s); /* at once: others may wait for it */
	}
	for (size_t i = 0; i < n; i++) {
		struct job *j = &jobs[i];

		if (!j->w)
			continue;
		end_job(f, j);
		while (try_again(f, j)) {
			begin_job(f, j, &s);
			far_windows_submit(&s);
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
	struct lazy_loc at;
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
	struct lazy_loc at;

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

	far_windows_free(f);
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
	struct lazy_loc at;

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
