/*
 * A run: learn where pushed snapshots lie; have the pins confirmed; then pass over the chunks up to
 * three times. The first pass spares what was read in this period or the one before (a period lasts
 * from run to run), the second what was read in this one, the third nothing. A pass begins where
 * the last one ended, so that chunks of all digests take their turns.
 */
#include "store/lazy/evict.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/chunk/recent.h"
#include "store/remote/share_ids.h"
#include "store/remote/share_meta.h"

#define CHUNK_BYTES 8192 /* of the smallest usual frames, for the size of `recent` */
#define FILTER_BYTES ((size_t)1 << 20)
#define PASSES 3
#define PACE_STEPS 64
#define RUN_KEYS 65536 /* after this many, a new iterator */
#define LOOK_MS 1000
#define AGAIN_MIN_MS 10000
#define AGAIN_MAX_MS 600000

struct evictor {
	struct evictor_options opt;
	struct recent *recent;
	/* Of the one thread: */
	struct digest next; /* where the next pass begins */
	int64_t look_ms;    /* not before, monotonic */
	int64_t again_ms;   /* how long to wait after a run that was not enough */
	pthread_mutex_t lock;
	struct evictor_stats stats; /* guarded by lock */
};

struct run {
	struct evictor *e;
	struct store *s;
	const struct evict_options *opt;
	struct progress *p; /* of opt */
	struct pins_held held[REMOTES_MAX];
	size_t n_held;
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
	e->recent = recent_new(opt->limit_bytes / CHUNK_BYTES);
	if (!e->recent) {
		free(e);
		return NULL;
	}
	pthread_mutex_init(&e->lock, NULL);
	chunk_store_set_recent(opt->store->chunks, e->recent);
	return e;
}

void evictor_free(struct evictor *e)
{
	if (!e)
		return;
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
	return store_bytes(e->opt.store, &garbage) > e->opt.limit_bytes;
}

/* ---- what was pushed ---- */

/* Pairs of one bucket. */
struct pair {
	char local[SNAPSHOT_ID_SIZE];
	struct share_id remote;
};

static int note_pair(void *arg, const char *local, const struct share_id *remote)
{
	struct pair p = { .remote = *remote };

	snprintf(p.local, sizeof(p.local), "%s", local);
	return buf_append(arg, &p, sizeof(p));
}

/* The snapshot's tree is held, so a collection keeps what is added. */
static int add_places(struct evictor *e, struct remote *r, const struct share_record *rec,
		      struct error *err)
{
	struct share_meta meta;
	int rc = share_meta_fetch(remote_objects(r), OBJECT_BACKGROUND, rec, &meta, err);

	if (rc < 0)
		return rc;
	lazy_index_hold(e->opt.index);
	rc = store_need_format(e->opt.store, STORE_FORMAT_FAR, err);
	if (rc == 0)
		rc = lazy_index_add(e->opt.index, remote_uuid(r), &meta, err);
	lazy_index_release(e->opt.index);
	share_meta_fini(&meta);
	return rc;
}

/* Learn where a snapshot lies that was pushed. */
static int learn(struct evictor *e, struct remote *r, const struct pair *p, struct error *err)
{
	struct share_record rec;
	struct store_hold hold;
	struct snapshot s;
	int rc;

	if (lazy_index_has_push(e->opt.index, remote_uuid(r), &p->remote))
		return 0;
	rc = store_hold_snapshot(e->opt.store, p->local, &s, &hold, NULL);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	rc = remote_read_record(r, &p->remote, &rec, err);
	if (rc == 0) {
		if (rec.state == SHARE_READY)
			rc = add_places(e, r, &rec, err);
		else
			rc = share_ids_drop(e->opt.store->kv, remote_uuid(r), p->local, &p->remote);
		share_record_fini(&rec);
	}
	store_release(e->opt.store, &hold);
	snapshot_fini(&s);
	return rc == -ENOENT ? 0 : rc;
}

/* Of one snapshot alone: its record or a container is damaged, or of a newer version. */
static bool is_of_snapshot(int rc)
{
	return rc == -EBADMSG || rc == -ENOTSUP || rc == -EINVAL || rc == -EFBIG;
}

/* What cannot be learned stays here. */
static void learn_all(struct run *x, const char *uuid)
{
	CLEANUP(buf_fini_p) struct buf pairs = BUF_INIT;
	struct evictor *e = x->e;
	struct error err = ERROR_INIT;
	struct remote *r;
	int rc = share_ids_each(x->s->kv, uuid, note_pair, &pairs);

	if (rc < 0 || pairs.len == 0 || remotes_get_uuid(e->opt.remotes, uuid, &r, &err) < 0)
		return;
	rc = remote_writable(r, &err);
	for (size_t i = 0; rc == 0 && i < pairs.len / sizeof(struct pair); i++) {
		const struct pair *p = (const struct pair *)pairs.data + i;

		rc = learn(e, r, p, &err);
		if (is_of_snapshot(rc)) {
			log_warn("snapshot %s is not evicted: %s", p->local, error_text(&err));
			rc = 0;
		}
		if (rc == 0 && progress_cancelled(x->p))
			rc = -ECANCELED;
	}
	if (rc < 0 && rc != -ECANCELED && rc != -EROFS)
		log_debug("what was pushed stays here: %s", error_text(&err));
	remotes_release(e->opt.remotes, r);
}

/* ---- buckets ---- */

struct uuids {
	size_t n;
	char v[REMOTES_MAX][SNAPSHOT_ID_SIZE];
};

static int note_bucket(void *arg, const char *name, const char *bucket,
		       const struct object_counts *counts)
{
	struct uuids *u = arg;

	(void)name, (void)counts;
	for (size_t i = 0; i < u->n; i++)
		if (strcmp(u->v[i], bucket) == 0)
			return 0;
	if (*bucket && u->n < REMOTES_MAX)
		snprintf(u->v[u->n++], SNAPSHOT_ID_SIZE, "%s", bucket);
	return 0;
}

/* What is held of each bucket that can be asked. */
static int hold_all(struct run *x)
{
	struct uuids u = { .n = 0 };
	int rc = remotes_each_seen(x->e->opt.remotes, note_bucket, &u);

	for (size_t i = 0; i < u.n && rc == 0; i++) {
		struct error err = ERROR_INIT;

		learn_all(x, u.v[i]);
		rc = progress_cancelled(x->p) ? -ECANCELED : 0;
		if (rc < 0)
			break;
		int failed = pins_confirm(x->e->opt.pins, u.v[i], &x->held[x->n_held], &err);

		if (failed == 0)
			x->n_held++;
		else if (failed != -EROFS)
			log_warn("nothing is evicted that is only in a bucket: %s",
				 error_text(&err));
	}
	return rc;
}

static const struct pins_held *held_of(const struct run *x, const char *uuid)
{
	for (size_t i = 0; i < x->n_held; i++)
		if (strcmp(x->held[i].uuid, uuid) == 0)
			return &x->held[i];
	return NULL;
}

/* ---- chunks ---- */

/*
 * The pin that counts is that of the push whose container says where the chunk is: it lasts as long
 * as a tree here needs the chunk, for so long does the container.
 */
static bool is_clean(const struct run *x, const struct digest *d)
{
	struct lazy_place at;

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
		rc = hold_all(x);
		if (rc == 0 && x->n_held)
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
	for (size_t i = 0; i < x->n_held; i++)
		pins_held_fini(&x->held[i]);
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
