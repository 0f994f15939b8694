/*
 * `work` is held while pins are made, written and confirmed, requests included: by the thread, or
 * by who evicts. `lock` is a leaf, and what others wait for.
 */
#include "store/lazy/pins.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/layout/share_pins.h"
#include "store/layout/share_record.h"

#define READS 8 /* records, side by side */
#define AGAIN_MIN_MS 5000
#define AGAIN_MAX_MS 60000

enum pin_state { PIN_UNREAD, PIN_HOLDS, PIN_GONE };

/* A push that the index has a container of. */
struct pin {
	struct share_id id;
	enum pin_state state;
	struct share_packs packs; /* PIN_HOLDS: of its record */
};

struct pinned_bucket {
	char uuid[SNAPSHOT_ID_SIZE];
	struct share_id node; /* written with both locks, read with either */
	/* guarded by work: */
	uint64_t counter;
	struct pin *v; /* ascending */
	size_t n;
	bool changed; /* since the last writing that was acknowledged */
	/* guarded by lock: */
	int64_t acked_ms; /* when the last one that was acknowledged began, boottime; 0: none */
	uint64_t epoch;	  /* how often what was held before is held no more */
	unsigned pushes;  /* under way */
	size_t n_pins;
};

struct pins {
	struct pins_options opt;
	pthread_t thread;
	bool started;
	pthread_mutex_t work;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* guarded by lock: */
	bool stopping, changed;
	struct pinned_bucket *buckets[REMOTES_MAX]; /* they stay */
	size_t n_buckets;
	struct pins_stats stats;
	/* The thread's own: */
	int64_t again_ms; /* how long to wait after a failure */
};

void pins_held_fini(struct pins_held *h)
{
	for (size_t i = 0; i < h->n; i++)
		share_packs_fini(&h->v[i].packs);
	free(h->v);
	h->v = NULL;
	h->n = 0;
}

static int by_push(const void *id, const void *held)
{
	return share_id_cmp(id, &((const struct pin_packs *)held)->push);
}

bool pins_held_has(const struct pins_held *h, const struct share_id *push,
		   const struct pack_id *pack)
{
	const struct pin_packs *p = h->n ? bsearch(push, h->v, h->n, sizeof(*h->v), by_push) : NULL;

	return p && share_packs_has(&p->packs, pack);
}

/* The pins of a bucket that hold. */
static int copy_held(const struct pinned_bucket *b, struct pins_held *h)
{
	int rc = 0;

	h->v = calloc(b->n ? b->n : 1, sizeof(*h->v));
	if (!h->v)
		return -ENOMEM;
	for (size_t i = 0; rc == 0 && i < b->n; i++)
		if (b->v[i].state == PIN_HOLDS) {
			h->v[h->n].push = b->v[i].id;
			rc = share_packs_add_all(&h->v[h->n++].packs, &b->v[i].packs);
		}
	return rc;
}

/* Found, or made. NULL: no memory, or too many. */
static struct pinned_bucket *bucket_locked(struct pins *p, const char *uuid)
{
	struct pinned_bucket *b;

	for (size_t i = 0; i < p->n_buckets; i++)
		if (strcmp(p->buckets[i]->uuid, uuid) == 0)
			return p->buckets[i];
	if (p->n_buckets == ARRAY_SIZE(p->buckets))
		return NULL;
	b = calloc(1, sizeof(*b));
	if (!b || share_id_random(&b->node) < 0) {
		free(b);
		return NULL;
	}
	snprintf(b->uuid, sizeof(b->uuid), "%s", uuid);
	p->buckets[p->n_buckets++] = b;
	return b;
}

static struct pinned_bucket *bucket_of(struct pins *p, const char *uuid)
{
	struct pinned_bucket *b;

	pthread_mutex_lock(&p->lock);
	b = bucket_locked(p, uuid);
	pthread_mutex_unlock(&p->lock);
	return b;
}

/* The i-th of those that there are now, or NULL. */
static struct pinned_bucket *bucket_at(struct pins *p, size_t i)
{
	struct pinned_bucket *b;

	pthread_mutex_lock(&p->lock);
	b = i < p->n_buckets ? p->buckets[i] : NULL;
	pthread_mutex_unlock(&p->lock);
	return b;
}

/* ---- what is to be pinned; the caller has work ---- */

static int by_bucket(const void *a, const void *b)
{
	const struct lazy_push *x = a, *y = b;
	int order = strcmp(x->uuid, y->uuid);

	return order ? order : share_id_cmp(&x->push, &y->push);
}

static void drop_pins(struct pin *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		share_packs_fini(&v[i].packs);
	free(v);
}

/* Take over what is known of those that were pinned before. */
static void replace_pins(struct pins *p, struct pinned_bucket *b, struct pin *v, size_t n)
{
	bool same = n == b->n;
	size_t kept = 0;

	for (size_t i = 0, old = 0; i < n; i++) {
		while (old < b->n && share_id_cmp(&b->v[old].id, &v[i].id) < 0)
			old++;
		if (old < b->n && share_id_equal(&b->v[old].id, &v[i].id)) {
			v[i] = b->v[old];
			kept++;
			b->v[old].packs = (struct share_packs){ 0 };
		} else {
			same = false;
		}
	}
	pthread_mutex_lock(&p->lock);
	b->epoch += kept < b->n; /* what was held by one that goes is held no more */
	pthread_mutex_unlock(&p->lock);
	drop_pins(b->v, b->n);
	b->v = v;
	b->n = n;
	b->changed |= !same;
	pthread_mutex_lock(&p->lock);
	b->n_pins = n;
	pthread_mutex_unlock(&p->lock);
}

/* list: of this bucket, in order. */
static int make_pins(struct pins *p, struct pinned_bucket *b, const struct lazy_push *list,
		     size_t n)
{
	struct pin *v = n ? calloc(n, sizeof(*v)) : NULL;
	size_t kept = 0;

	if (n && !v)
		return -ENOMEM;
	/* Beyond what the record may hold, nothing is pinned, so nothing of it is evicted. */
	for (size_t i = 0; i < n && kept < SHARE_PINS_COUNT; i++)
		if (kept == 0 || !share_id_equal(&v[kept - 1].id, &list[i].push))
			v[kept++].id = list[i].push;
	replace_pins(p, b, v, kept);
	return 0;
}

static int renew(struct pins *p)
{
	CLEANUP(buf_fini_p) struct buf all = BUF_INIT;
	int rc = lazy_index_pushes(p->opt.index, &all);
	struct lazy_push *list = (struct lazy_push *)all.data;
	size_t n = all.len / sizeof(*list);
	struct pinned_bucket *b;

	if (rc < 0)
		return rc;
	if (n)
		qsort(list, n, sizeof(*list), by_bucket);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || strcmp(list[i - 1].uuid, list[i].uuid) != 0)
			(void)!bucket_of(p, list[i].uuid);
	for (size_t i = 0; rc == 0 && (b = bucket_at(p, i)); i++) {
		size_t from = 0, to;

		while (from < n && strcmp(list[from].uuid, b->uuid) != 0)
			from++;
		for (to = from; to < n && strcmp(list[to].uuid, b->uuid) == 0;)
			to++;
		rc = make_pins(p, b, n ? list + from : NULL, to - from);
	}
	return rc;
}

/* ---- writing; the caller has work ---- */

static int encode(struct pinned_bucket *b, struct buf *out, struct error *err)
{
	struct share_pins pins = { .id = b->node, .counter = ++b->counter, .n = b->n };
	int rc;

	pins.v = b->n ? calloc(b->n, sizeof(*pins.v)) : NULL;
	if (b->n && !pins.v)
		return -ENOMEM;
	for (size_t i = 0; i < b->n; i++)
		pins.v[i] = b->v[i].id;
	rc = share_pins_encode(&pins, out, err);
	share_pins_fini(&pins);
	return rc;
}

/* One that began at sent_ms was acknowledged. */
static void note_acked(struct pins *p, struct pinned_bucket *b, int64_t sent_ms)
{
	pthread_mutex_lock(&p->lock);
	bool lapsed = b->acked_ms && sent_ms - b->acked_ms >= p->opt.valid_ms;

	b->epoch += lapsed;
	b->acked_ms = sent_ms;
	p->stats.written++;
	pthread_mutex_unlock(&p->lock);
	b->changed = false;
	/* A collector may have taken us for dead, and removed what we had pinned. */
	for (size_t i = 0; lapsed && i < b->n; i++)
		b->v[i].state = PIN_UNREAD;
}

static int put(struct pins *p, struct pinned_bucket *b, struct remote *r, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	int64_t sent_ms = boottime_ms();
	int rc = encode(b, &text, err);

	if (rc < 0)
		return rc;
	share_key_of_id(SHARE_KEY_NODE, &b->node, key);
	struct object_request rq = { .op = OBJECT_PUT,
				     .priority = OBJECT_CONTROL,
				     .key = key,
				     .body = text.data,
				     .len = text.len,
				     .timeout_ms = PINS_REQUEST_MS };
	object_run(remote_objects(r), &rq, 1);
	rc = rq.result;
	if (rc < 0)
		error_set(err, rc, "%s: %s", key, error_text(&rq.err));
	object_request_fini(&rq);
	if (rc == 0) {
		note_acked(p, b, sent_ms);
	} else {
		struct share_id node;

		b->counter = 0;
		if (share_id_random(&node) < 0)
			log_warn("no random bytes for the id of an instance");
		pthread_mutex_lock(&p->lock);
		b->node = node;
		pthread_mutex_unlock(&p->lock);
	}
	return rc;
}

static int write_pins(struct pins *p, struct pinned_bucket *b, struct error *err)
{
	struct remote *r;
	int rc = remotes_get_uuid(p->opt.remotes, b->uuid, &r, err);

	if (rc < 0)
		return rc;
	rc = remote_writable(r, err);
	if (rc == 0)
		rc = put(p, b, r, err);
	remotes_release(p->opt.remotes, r);
	if (rc < 0 && rc != -EROFS) {
		pthread_mutex_lock(&p->lock);
		p->stats.failed++;
		pthread_mutex_unlock(&p->lock);
	}
	return rc;
}

/* ---- confirming; the caller has work ---- */

/*
 * What a pin holds of a record: its packs; of one that borrows, those of the push itself alone, as
 * any other may be in the alternate, where no pin holds it for this host, and which may be away
 * when it is needed.
 */
static int held_packs(struct share_record *rec, struct share_packs *out)
{
	int rc = 0;

	if (!rec->alternate.bucket[0]) {
		*out = rec->packs;
		rec->packs = (struct share_packs){ 0 };
		return 0;
	}
	for (size_t i = 0; i < rec->packs.n && rc == 0; i++)
		if (share_id_equal(&rec->packs.v[i].push, &rec->id))
			rc = share_packs_add_range(out, &rec->packs.v[i]);
	return rc;
}

/* What a record says of its pin. 0, or a failure of the bucket. */
static int take_record(struct pin *pin, const struct object_request *rq, struct error *err)
{
	struct share_record rec;
	int rc = rq->result;

	if (rc < 0 && rc != -ENOENT)
		return error_set(err, rc, "%s: %s", rq->key, error_text(&rq->err));
	if (rc == 0)
		rc = share_record_decode(rq->data.data, rq->data.len, &rec, NULL);
	if (rc == -ENOMEM)
		return rc;
	pin->state = PIN_GONE;
	if (rc < 0)
		return 0;
	if (rec.state == SHARE_READY) {
		share_packs_fini(&pin->packs);
		pin->packs = (struct share_packs){ 0 };
		rc = held_packs(&rec, &pin->packs);
		pin->state = rc == 0 ? PIN_HOLDS : PIN_UNREAD;
	}
	share_record_fini(&rec);
	return rc;
}

static int read_some(struct object_store *os, struct pin *const pins[], size_t n, struct error *err)
{
	char keys[READS][SHARE_KEY_SIZE];
	struct object_request rq[READS];
	int rc = 0;

	for (size_t i = 0; i < n; i++) {
		share_key_of_id(SHARE_KEY_SNAP, &pins[i]->id, keys[i]);
		rq[i] = (struct object_request){ .op = OBJECT_GET,
						 .priority = OBJECT_CONTROL,
						 .key = keys[i],
						 .max_len = SHARE_RECORD_MAX,
						 .timeout_ms = PINS_REQUEST_MS };
	}
	object_run(os, rq, n);
	for (size_t i = 0; i < n; i++) {
		if (rc == 0)
			rc = take_record(pins[i], &rq[i], err);
		object_request_fini(&rq[i]);
	}
	return rc;
}

static int read_records(struct pinned_bucket *b, struct object_store *os, struct error *err)
{
	struct pin *some[READS];
	size_t n = 0;
	int rc = 0;

	for (size_t i = 0; i < b->n && rc == 0; i++) {
		if (b->v[i].state == PIN_UNREAD)
			some[n++] = &b->v[i];
		if (n == READS || (n && i + 1 == b->n)) {
			rc = read_some(os, some, n, err);
			n = 0;
		}
	}
	return rc;
}

static int confirm(struct pins *p, struct pinned_bucket *b, struct error *err)
{
	struct remote *r;
	int rc = 0;

	pthread_mutex_lock(&p->lock);
	bool old = !b->acked_ms || boottime_ms() - b->acked_ms >= p->opt.valid_ms / 2;
	pthread_mutex_unlock(&p->lock);
	if (b->changed || old)
		rc = write_pins(p, b, err);
	if (rc == 0)
		rc = remotes_get_uuid(p->opt.remotes, b->uuid, &r, err);
	if (rc < 0)
		return rc;
	rc = read_records(b, remote_objects(r), err);
	remotes_release(p->opt.remotes, r);
	return rc;
}

int pins_confirm(struct pins *p, const char *uuid, struct pins_held *out, struct error *err)
{
	struct pins_held h = { .epoch = 0 };
	struct pinned_bucket *b;
	int rc;

	snprintf(h.uuid, sizeof(h.uuid), "%s", uuid);
	pthread_mutex_lock(&p->work);
	rc = renew(p);
	b = bucket_of(p, uuid);
	if (rc == 0 && !b)
		rc = error_set(err, -ENOMEM, "too many buckets");
	if (rc == 0 && b->n)
		rc = confirm(p, b, err);
	if (rc == 0)
		rc = copy_held(b, &h);
	if (rc == 0) {
		pthread_mutex_lock(&p->lock);
		h.epoch = b->epoch;
		pthread_mutex_unlock(&p->lock);
	}
	pthread_mutex_unlock(&p->work);
	if (rc < 0)
		pins_held_fini(&h);
	else
		*out = h;
	return rc;
}

bool pins_hold(struct pins *p, const struct pins_held *h)
{
	const struct pinned_bucket *b;
	bool holds;

	pthread_mutex_lock(&p->lock);
	b = bucket_locked(p, h->uuid);
	holds = b && b->acked_ms && b->epoch == h->epoch &&
		boottime_ms() - b->acked_ms < p->opt.valid_ms;
	pthread_mutex_unlock(&p->lock);
	return holds;
}

/* ---- the thread ---- */

/* Whether it is time to write, by what the bucket has acknowledged. */
static bool is_due(struct pins *p, const struct pinned_bucket *b)
{
	pthread_mutex_lock(&p->lock);
	int64_t every = b->pushes ? PINS_PUSHING_MS : PINS_EVERY_MS;
	/* A second early: the next look is a whole period from now. */
	bool due = b->pushes > 0 || b->n
			   ? !b->acked_ms || boottime_ms() - b->acked_ms >= every - 1000
			   : false;
	pthread_mutex_unlock(&p->lock);
	return due || (b->changed && (b->n || b->acked_ms));
}

static bool is_stopping(struct pins *p)
{
	pthread_mutex_lock(&p->lock);
	bool stopping = p->stopping;
	pthread_mutex_unlock(&p->lock);
	return stopping;
}

/* Whether all was written that had to be. */
static bool write_due(struct pins *p)
{
	struct pinned_bucket *b;
	bool all = true;

	pthread_mutex_lock(&p->work);
	all = renew(p) == 0;
	for (size_t i = 0; !is_stopping(p) && (b = bucket_at(p, i)); i++) {
		struct error err = ERROR_INIT;
		int rc = is_due(p, b) ? write_pins(p, b, &err) : 0;

		if (rc < 0 && rc != -EROFS) {
			if (all && p->again_ms == 0 && rc != -ECANCELED)
				log_warn("a bucket does not know what this host needs of it: %s",
					 error_text(&err));
			all = false;
		}
	}
	pthread_mutex_unlock(&p->work);
	return all;
}

/* The time of the next look; the caller has lock. */
static int64_t next_ms_locked(const struct pins *p, bool all)
{
	int64_t ms = PINS_EVERY_MS;

	for (size_t i = 0; i < p->n_buckets; i++)
		if (p->buckets[i]->pushes)
			ms = PINS_PUSHING_MS;
	return all ? ms : MIN(ms, p->again_ms);
}

static void *worker(void *arg)
{
	struct pins *p = arg;
	bool all;

	pthread_setname_np(pthread_self(), "varve-pins");
	pthread_mutex_lock(&p->lock);
	while (!p->stopping) {
		p->changed = false;
		pthread_mutex_unlock(&p->lock);
		all = write_due(p);
		p->again_ms = all ? 0 : MIN(MAX(2 * p->again_ms, AGAIN_MIN_MS), AGAIN_MAX_MS);
		pthread_mutex_lock(&p->lock);
		struct timespec until = monotonic_after_ms(next_ms_locked(p, all));

		while (!p->stopping && !p->changed &&
		       pthread_cond_timedwait(&p->wake, &p->lock, &until) == 0)
			;
		/* What changes together is written together. */
		until = monotonic_after_ms(p->opt.settle_ms);
		while (!p->stopping && p->changed &&
		       pthread_cond_timedwait(&p->wake, &p->lock, &until) == 0)
			;
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void note_change(void *arg)
{
	struct pins *p = arg;

	pthread_mutex_lock(&p->lock);
	p->changed = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

int pins_push_begin(struct pins *p, const char *uuid, struct share_id *out_node)
{
	struct pinned_bucket *b;

	if (!p)
		return share_id_random(out_node);
	b = bucket_of(p, uuid);
	if (!b)
		return -ENOMEM;
	pthread_mutex_lock(&p->lock);
	*out_node = b->node;
	b->pushes++;
	p->changed = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

void pins_push_end(struct pins *p, const char *uuid)
{
	struct pinned_bucket *b = p ? bucket_of(p, uuid) : NULL;

	if (!b)
		return;
	pthread_mutex_lock(&p->lock);
	b->pushes--;
	pthread_mutex_unlock(&p->lock);
}

int pins_open(const struct pins_options *opt, struct pins **out, struct error *err)
{
	struct pins *p = calloc(1, sizeof(*p));
	int rc = 0;

	if (!p)
		return error_set(err, -ENOMEM, "out of memory");
	p->opt = *opt;
	p->opt.settle_ms = opt->settle_ms ?: PINS_SETTLE_MS;
	p->opt.valid_ms = opt->valid_ms ?: PINS_VALID_MS;
	pthread_mutex_init(&p->work, NULL);
	pthread_mutex_init(&p->lock, NULL);
	cond_init_monotonic(&p->wake);
	if (!opt->no_thread) {
		lazy_index_on_change(opt->index, note_change, p);
		rc = pthread_create(&p->thread, NULL, worker, p);
		p->started = rc == 0;
	}
	if (rc) {
		pins_close(p);
		return error_set_errno(err, -rc, "cannot start the thread that writes pins");
	}
	*out = p;
	return 0;
}

void pins_close(struct pins *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
	if (p->started)
		pthread_join(p->thread, NULL);
	if (!p->opt.no_thread)
		lazy_index_on_change(p->opt.index, NULL, NULL);
	for (size_t i = 0; i < p->n_buckets; i++) {
		drop_pins(p->buckets[i]->v, p->buckets[i]->n);
		free(p->buckets[i]);
	}
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	pthread_mutex_destroy(&p->work);
	free(p);
}

void pins_get_stats(struct pins *p, struct pins_stats *out)
{
	const int64_t now = boottime_ms();

	pthread_mutex_lock(&p->lock);
	*out = p->stats;
	for (size_t i = 0; i < p->n_buckets; i++) {
		const struct pinned_bucket *b = p->buckets[i];

		out->pins += b->n_pins;
		out->outdated +=
			b->n_pins && (!b->acked_ms || now - b->acked_ms >= p->opt.valid_ms);
	}
	pthread_mutex_unlock(&p->lock);
}
