/*
 * The samples are one array, oldest first, replaced as a whole by the thread
 * that adds; readers copy from it under the lock. What thinning takes away is
 * deleted from the store in the batch that writes the new sample, so the store
 * never holds more than the array.
 */
#include "snapshotd/state/stats_history.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/wire.h"
#include "store/kv/meta.h"

#define NAME_SIZE (16 + 1)
#define VERSION 1
#define SPACING_MIN_MS 50000

#define MINUTE_MS INT64_C(60000)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)

struct stats_history {
	struct store *store;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct stats_sample *list; /* guarded by lock; replaced by the adding thread alone */
	size_t n;		   /* likewise */
	bool stopping;		   /* guarded by lock */
	bool started;
	pthread_t thread;
};

/* Above an age, one sample in each period; 0: none. */
static const struct {
	int64_t age_ms, period_ms;
} tiers[] = {
	{ 3650 * DAY_MS, 0 },
	{ 90 * DAY_MS, DAY_MS },
	{ 7 * DAY_MS, HOUR_MS },
	{ DAY_MS, 15 * MINUTE_MS },
};

static bool stays(const struct stats_sample *before, const struct stats_sample *s, int64_t now_ms)
{
	for (size_t i = 0; i < ARRAY_SIZE(tiers); i++) {
		if (now_ms - s->time_ms <= tiers[i].age_ms)
			continue;
		if (!tiers[i].period_ms)
			return false;
		return !before ||
		       before->time_ms / tiers[i].period_ms != s->time_ms / tiers[i].period_ms;
	}
	return !before || s->time_ms - before->time_ms >= SPACING_MIN_MS;
}

size_t stats_history_thin(struct stats_sample *list, size_t n, int64_t now_ms)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (stays(kept ? &list[kept - 1] : NULL, &list[i], now_ms))
			list[kept++] = list[i];
	return kept;
}

/* ---- the store ---- */

static void make_name(int64_t time_ms, char out[NAME_SIZE])
{
	snprintf(out, NAME_SIZE, "%016" PRIx64, (uint64_t)time_ms);
}

static int sample_encode(const struct stats_sample *s, struct buf *out)
{
	const uint64_t values[] = { s->snapshot_count, s->logical_bytes, s->unique_bytes,
				    s->stored_bytes,   s->chunk_count,	 s->node_count };
	int rc = wire_put_u8(out, VERSION);

	for (size_t i = 0; i < ARRAY_SIZE(values) && rc == 0; i++)
		rc = wire_put_u64(out, values[i]);
	return rc;
}

static bool sample_decode(const char *name, const void *val, size_t vlen, struct stats_sample *out)
{
	char again[NAME_SIZE];
	struct wire_reader r;

	out->time_ms = (int64_t)strtoull(name, NULL, 16);
	make_name(out->time_ms, again);
	wire_reader_init(&r, val, vlen);
	if (out->time_ms < 0 || strcmp(name, again) != 0 || wire_u8(&r) != VERSION)
		return false;
	out->snapshot_count = wire_u64(&r);
	out->logical_bytes = wire_u64(&r);
	out->unique_bytes = wire_u64(&r);
	out->stored_bytes = wire_u64(&r);
	out->chunk_count = wire_u64(&r);
	out->node_count = wire_u64(&r);
	return wire_done(&r);
}

struct loading {
	struct stats_history *h;
	size_t skipped;
};

static int load_one(void *arg, const char *name, const void *value, size_t len)
{
	struct loading *l = arg;
	struct stats_history *h = l->h;

	if (h->n < STATS_HISTORY_MAX && sample_decode(name, value, len, &h->list[h->n]))
		h->n++;
	else
		l->skipped++;
	return 0;
}

/* Another version's samples are skipped, and stay. */
static int load(struct stats_history *h)
{
	struct loading l = { h, 0 };

	h->list = malloc(STATS_HISTORY_MAX * sizeof(*h->list));
	if (!h->list)
		return -ENOMEM;
	int rc = meta_each(h->store->kv, META_STATS, "", load_one, &l);

	if (l.skipped)
		log_warn("%zu samples of the store's history cannot be read", l.skipped);
	return rc;
}

/* One batch: the samples of old that next lacks go, the new one comes. Both are in order. */
static int write_changes(struct stats_history *h, const struct stats_sample *old, size_t old_n,
			 const struct stats_sample *next, size_t next_n)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	CLEANUP(buf_fini_p) struct buf value = BUF_INIT;
	char name[NAME_SIZE];
	int rc = b ? 0 : -ENOMEM;
	size_t i = 0, j = 0;

	while (rc == 0 && (i < old_n || j < next_n)) {
		if (j == next_n || (i < old_n && old[i].time_ms < next[j].time_ms)) {
			make_name(old[i++].time_ms, name);
			rc = meta_batch_del(h->store->kv, b, META_STATS, name);
		} else if (i == old_n || next[j].time_ms < old[i].time_ms) {
			make_name(next[j].time_ms, name);
			buf_clear(&value);
			rc = sample_encode(&next[j++], &value);
			if (rc == 0)
				rc = meta_batch_put(h->store->kv, b, META_STATS, name, value.data,
						    value.len);
		} else {
			i++;
			j++;
		}
	}
	return rc == 0 ? kv_write(h->store->kv, b, KV_LOG) : rc;
}

/* ---- samples ---- */

int stats_history_add(struct stats_history *h, const struct stats_sample *sample)
{
	struct stats_sample *old = h->list, *next;
	size_t old_n = h->n, n = old_n;
	int rc;

	next = malloc((old_n + 1) * sizeof(*next));
	if (!next)
		return -ENOMEM;
	while (n > 0 && old[n - 1].time_ms >= sample->time_ms)
		n--;
	memcpy(next, old, n * sizeof(*next));
	next[n++] = *sample;
	n = stats_history_thin(next, n, sample->time_ms);
	if (n > STATS_HISTORY_MAX) { /* the tiers do not let it */
		memmove(next, next + n - STATS_HISTORY_MAX, STATS_HISTORY_MAX * sizeof(*next));
		n = STATS_HISTORY_MAX;
	}
	rc = write_changes(h, old, old_n, next, n);
	pthread_mutex_lock(&h->lock);
	h->list = next;
	h->n = n;
	pthread_mutex_unlock(&h->lock);
	free(old);
	return rc;
}

int stats_history_read(struct stats_history *h, int64_t since_ms, size_t max,
		       struct stats_sample **out, size_t *out_n)
{
	struct stats_sample *copy = NULL;
	size_t first = 0, n;
	int rc = 0;

	max = max < 2 ? 2 : max;
	pthread_mutex_lock(&h->lock);
	while (first < h->n && h->list[first].time_ms < since_ms)
		first++;
	n = h->n - first;
	if (n > 0 && !(copy = malloc((n < max ? n : max) * sizeof(*copy))))
		rc = -ENOMEM;
	else if (n <= max)
		memcpy(copy ? copy : (void *)"", h->list + first, n * sizeof(*copy));
	else
		for (size_t i = 0; i < max; i++)
			copy[i] = h->list[first + i * (n - 1) / (max - 1)];
	pthread_mutex_unlock(&h->lock);
	if (rc < 0)
		return rc;
	*out = copy;
	*out_n = n < max ? n : max;
	return 0;
}

/* ---- the thread ---- */

static int sample_take(struct stats_history *h, struct error *err)
{
	struct store_stats st;
	int rc = store_stats(h->store, &st, err);

	if (rc < 0)
		return rc;
	rc = stats_history_add(h, &(struct stats_sample){
					  .time_ms = clock_ms(),
					  .snapshot_count = st.snapshot_count,
					  .logical_bytes = st.logical_bytes,
					  .unique_bytes = st.unique_bytes,
					  .stored_bytes = st.stored_bytes,
					  .chunk_count = st.chunk_count,
					  .node_count = st.node_count,
				  });
	return rc < 0 ? error_set_errno(err, rc, "cannot write a sample") : 0;
}

/* False once it is to end. */
static bool wait_interval(struct stats_history *h)
{
	struct timespec until = monotonic_after_ms(STATS_INTERVAL_MS);
	bool stopping;

	pthread_mutex_lock(&h->lock);
	while (!h->stopping && pthread_cond_timedwait(&h->wake, &h->lock, &until) == 0)
		;
	stopping = h->stopping;
	pthread_mutex_unlock(&h->lock);
	return !stopping;
}

static void *sampler(void *arg)
{
	struct stats_history *h = arg;
	bool failing = false;

	do {
		struct error err = ERROR_INIT;
		bool failed = sample_take(h, &err) < 0;

		if (failed && !failing) /* once, not every minute */
			log_warn("the store's history: %s", error_text(&err));
		failing = failed;
	} while (wait_interval(h));
	return NULL;
}

int stats_history_open(struct store *s, struct stats_history **out, struct error *err)
{
	struct stats_history *h = calloc(1, sizeof(*h));
	int rc;

	if (!h)
		return error_set(err, -ENOMEM, "out of memory");
	h->store = s;
	pthread_mutex_init(&h->lock, NULL);
	cond_init_monotonic(&h->wake);
	rc = load(h);
	if (rc < 0) {
		stats_history_close(h);
		return error_set_errno(err, rc, "cannot read the store's history");
	}
	*out = h;
	return 0;
}

int stats_history_start(struct stats_history *h, struct error *err)
{
	int rc = pthread_create(&h->thread, NULL, sampler, h);

	if (rc)
		return error_set_errno(err, -rc, "cannot start the thread of the history");
	h->started = true;
	return 0;
}

void stats_history_close(struct stats_history *h)
{
	if (!h)
		return;
	if (h->started) {
		pthread_mutex_lock(&h->lock);
		h->stopping = true;
		pthread_cond_signal(&h->wake);
		pthread_mutex_unlock(&h->lock);
		pthread_join(h->thread, NULL);
	}
	pthread_cond_destroy(&h->wake);
	pthread_mutex_destroy(&h->lock);
	free(h->list);
	free(h);
}
