/*
 * A run takes what the buckets have answered (evict_ask.c) and passes over the chunks up to three
 * times. The first pass spares what was read in this period or the one before (a period lasts
 * from run to run), the second what was read in this one, the third nothing. A pass begins where
 * the last one ended, so that chunks of all digests take their turns.
 */
#include "store/lazy/evict_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/chunk/recent.h"

#define CHUNK_BYTES 8192 /* of the smallest usual frames, for the size of `recent` */
#define FILTER_BYTES ((size_t)1 << 20)
#define PASSES 3
#define PACE_STEPS 64
#define RUN_KEYS 65536 /* after this many, a new iterator */
#define LOOK_MS 1000
#define AGAIN_MIN_MS 10000
#define AGAIN_MAX_MS 600000

struct run {
	struct evictor *e;
	struct store *s;
	const struct evict_options *opt;
	struct progress *p; /* of opt */
	struct evict_answers a;
	struct kv_batch *batch;
	unsigned periods;    /* chunks that were read in so many are spared */
	uint64_t want_bytes; /* to delete */
	unsigned steps;
	struct evict_result res;
};

struct evictor *evictor_new(const struct evictor_options *opt)
{
	struct evictor *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->opt = *opt;
	e->stats.limit_bytes = opt->limit_bytes;
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->wake, NULL);
	e->recent = recent_new(opt->limit_bytes / CHUNK_BYTES);
	if (!e->recent || (!opt->no_thread && evict_ask_start(e) < 0)) {
		evictor_free(e);
		return NULL;
	}
	chunk_store_set_recent(opt->store->chunks, e->recent);
	return e;
}

void evictor_free(struct evictor *e)
{
	if (!e)
		return;
	evictor_stop(e);
	evict_answers_fini(&e->answers);
	pthread_cond_destroy(&e->wake);
	pthread_mutex_destroy(&e->lock);
	recent_free(e->recent);
	free(e);
}

/* ---- how large the store is ---- */

static uint64_t store_bytes(struct store *s, uint64_t *out_garbage)
{
	struct kv_stats st;
	uint64_t sum = 0;

	kv_stats(s->kv, &st);
	for (int f = 0; f < KV_FAMILY_COUNT; f++)
		sum += st.live_bytes[f];
	*out_garbage = MIN(st.garbage_bytes, sum);
	return sum;
}

static uint64_t low_mark(const struct evictor *e)
{
	return e->opt.limit_bytes - e->opt.limit_bytes / 8;
}

bool evictor_is_due(struct evictor *e)
{
	uint64_t garbage;

	if (monotonic_ms() < e->look_ms)
		return false;
	e->look_ms = monotonic_ms() + LOOK_MS;
	return store_bytes(e->opt.store, &garbage) > e->opt.limit_bytes && evict_ask_is_done(e);
}

/* ---- chunks ---- */

static const struct pins_held *held_of(const struct run *x, const char *uuid)
{
	for (size_t i = 0; i < x->a.n; i++)
		if (strcmp(x->a.held[i].uuid, uuid) == 0)
			return &x->a.held[i];
	return NULL;
}

/*
 * The pin that counts is that of the push whose container says where the chunk is: it lasts as long
 * as a tree here needs the chunk, for so long does the container.
 */
static bool is_clean(const struct run *x, const struct digest *d)
{
	struct lazy_loc at;

	for (unsigned i = 0; lazy_index_find(x->e->opt.index, d, i, &at); i++) {
		const struct pins_held *h = held_of(x, at.uuid);

		if (h && pins_held_has(h, &at.said_by, &at.at.pack) && pins_hold(x->e->opt.pins, h))
			return true;
	}
	return false;
}

/* The guard's lock is held during the write, as in a sweep (store/gc/gc.c). */
static int delete_chunk(struct run *x, const struct digest *d, size_t stored)
{
	int rc;

	if (!guard_sweep_lock(x->s->guard, d))
		return 0; /* somebody relies on it */
	kv_batch_clear(x->batch);
	kv_batch_del(x->s->kv, x->batch, KV_CHUNK, d->b, DIGEST_SIZE);
	rc = kv_write(x->s->kv, x->batch, KV_NO_LOG);
	guard_sweep_unlock(x->s->guard, d);
	if (rc == 0) {
		x->res.chunks++;
		x->res.bytes += stored;
	}
	return rc;
}

static int step(struct run *x)
{
	if (++x->steps % PACE_STEPS != 0)
		return 0;
	if (x->p) {
		x->p->done_items = x->res.chunks;
		x->p->done_bytes = x->res.bytes;
		progress_tick(x->p, false);
	}
	if (x->opt->pace)
		x->opt->pace(x->opt->arg);
	return progress_cancelled(x->p) ? -ECANCELED : 0;
}

static int look_at(struct run *x, const struct digest *d, size_t stored)
{
	if (recent_has(x->e->recent, d, x->periods) || !is_clean(x, d))
		return 0;
	x->res.clean++;
	return delete_chunk(x, d, stored);
}

/*
 * Up to RUN_KEYS chunks from *at, which moves on. 1: there is more before `end` (NULL: the last
 * digest); 0: not, or enough was deleted.
 */
static int some_chunks(struct run *x, struct digest *at, const struct digest *end)
{
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new_heads(x->s->kv, KV_CHUNK);
	int rc = 0;

	if (!it)
		return -ENOMEM;
	kv_iter_seek(it, at->b, DIGEST_SIZE);
	for (unsigned n = 0; rc == 0 && kv_iter_valid(it); kv_iter_next(it), n++) {
		size_t len;
		const uint8_t *key = kv_iter_key(it, &len);

		if (len != DIGEST_SIZE)
			continue;
		memcpy(at->b, key, DIGEST_SIZE);
		if ((end && memcmp(at->b, end->b, DIGEST_SIZE) >= 0) ||
		    x->res.bytes >= x->want_bytes)
			return 0;
		if (n == RUN_KEYS)
			return 1;
		rc = look_at(x, at, kv_iter_value_len(it));
		if (rc == 0)
			rc = step(x);
	}
	return rc < 0 ? rc : kv_iter_status(it);
}

/* From where the last pass ended, round to there. */
static int pass(struct run *x)
{
	const struct digest start = x->e->next;
	struct digest at = start;
	int rc;

	while ((rc = some_chunks(x, &at, NULL)) == 1)
		;
	if (rc == 0 && x->res.bytes < x->want_bytes) {
		at = (struct digest){ 0 };
		while ((rc = some_chunks(x, &at, &start)) == 1)
			;
	}
	x->e->next = at;
	return rc;
}

static int evict(struct run *x, struct error *err)
{
	int rc = guard_collect_begin(x->s->guard, FILTER_BYTES);

	if (rc < 0)
		return rc == -ENOMEM ? rc
				     : error_set(err, -EBUSY,
						 "garbage is being collected, or what began before "
						 "the last collection still writes");
	guard_collect_wait(x->s->guard);
	for (unsigned i = 0; i < PASSES && rc == 0 && x->res.bytes < x->want_bytes; i++) {
		x->periods = PASSES - 1 - i;
		rc = pass(x);
	}
	guard_collect_end(x->s->guard);
	return rc;
}

/* ---- the whole ---- */

static void note_run(struct evictor *e, const struct evict_result *res)
{
	e->again_ms = res->enough ? 0 : MIN(MAX(2 * e->again_ms, AGAIN_MIN_MS), AGAIN_MAX_MS);
	e->look_ms = monotonic_ms() + MAX(e->again_ms, LOOK_MS);
	pthread_mutex_lock(&e->lock);
	e->stats.runs++;
	e->stats.chunks += res->chunks;
	e->stats.bytes += res->bytes;
	pthread_mutex_unlock(&e->lock);
}

static int run(struct run *x, struct error *err)
{
	uint64_t garbage, bytes = store_bytes(x->s, &garbage), low = low_mark(x->e);
	int rc = 0;

	if (bytes - garbage > low) {
		x->want_bytes = bytes - garbage - low;
		if (x->p)
			x->p->phase = "evicting";
		evict_ask_take(x->e, &x->a);
		if (x->a.n)
			rc = evict(x, err);
		recent_turn(x->e->recent);
	}
	x->res.enough = x->res.bytes >= x->want_bytes;
	/* What was deleted before a failure is given back, too. */
	if ((x->res.bytes || garbage > bytes / 8) && rc != -ECANCELED) {
		int failed = kv_compact_content(x->s->kv);

		rc = rc ? rc : failed;
	}
	return rc;
}

int evictor_run(struct evictor *e, const struct evict_options *opt, struct evict_result *out,
		struct error *err)
{
	struct run *x = calloc(1, sizeof(*x));
	int rc;

	if (!x)
		return -ENOMEM;
	*out = (struct evict_result){ 0 };
	x->e = e;
	x->s = e->opt.store;
	x->opt = opt;
	x->p = opt->p;
	x->batch = kv_batch_new();
	rc = x->batch ? run(x, err) : -ENOMEM;
	note_run(e, &x->res);
	*out = x->res;
	evict_answers_fini(&x->a);
	kv_batch_free(x->batch);
	free(x);
	return rc < 0 && err && !err->msg[0] ? error_set_errno(err, rc, "evict chunks") : rc;
}

void evictor_get_stats(struct evictor *e, struct evictor_stats *out)
{
	pthread_mutex_lock(&e->lock);
	*out = e->stats;
	pthread_mutex_unlock(&e->lock);
}
