/*
 * What is pinned in each bucket, its writing there, and the records that confirm it. The caller of
 * the latter has `work`, but for pins_confirm, which takes it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/layout/share_pins.h"
#include "store/layout/share_record.h"
#include "store/lazy/pins_internal.h"

#define READS 8 /* records, side by side */

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

/* Found, or made. NULL: no memory, or too many. */
struct pinned_bucket *pins_bucket_locked(struct pins *p, const char *uuid)
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

struct pinned_bucket *pins_bucket(struct pins *p, const char *uuid)
{
	struct pinned_bucket *b;

	pthread_mutex_lock(&p->lock);
	b = pins_bucket_locked(p, uuid);
	pthread_mutex_unlock(&p->lock);
	return b;
}

/* The i-th of those that there are now, or NULL. */
struct pinned_bucket *pins_bucket_at(struct pins *p, size_t i)
{
	struct pinned_bucket *b;

	pthread_mutex_lock(&p->lock);
	b = i < p->n_buckets ? p->buckets[i] : NULL;
	pthread_mutex_unlock(&p->lock);
	return b;
}

/* ---- what is to be pinned ---- */

static int by_bucket(const void *a, const void *b)
{
	const struct lazy_push *x = a, *y = b;
	int order = strcmp(x->uuid, y->uuid);

	return order ? order : share_id_cmp(&x->push, &y->push);
}

void pins_drop(struct pin *v, size_t n)
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
	pins_drop(b->v, b->n);
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

int pins_renew(struct pins *p)
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
			(void)!pins_bucket(p, list[i].uuid);
	for (size_t i = 0; rc == 0 && (b = pins_bucket_at(p, i)); i++) {
		size_t from = 0, to;

		while (from < n && strcmp(list[from].uuid, b->uuid) != 0)
			from++;
		for (to = from; to < n && strcmp(list[to].uuid, b->uuid) == 0;)
			to++;
		rc = make_pins(p, b, n ? list + from : NULL, to - from);
	}
	return rc;
}

/* ---- writing ---- */

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

int pins_write(struct pins *p, struct pinned_bucket *b, struct error *err)
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

/* ---- confirming ---- */

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
		rc = pins_write(p, b, err);
	if (rc == 0)
		rc = remotes_get_uuid(p->opt.remotes, b->uuid, &r, err);
	if (rc < 0)
		return rc;
	rc = read_records(b, remote_objects(r), err);
	remotes_release(p->opt.remotes, r);
	return rc;
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

int pins_confirm(struct pins *p, const char *uuid, struct pins_held *out, struct error *err)
{
	struct pins_held h = { .epoch = 0 };
	struct pinned_bucket *b;
	int rc;

	snprintf(h.uuid, sizeof(h.uuid), "%s", uuid);
	pthread_mutex_lock(&p->work);
	rc = pins_renew(p);
	b = pins_bucket(p, uuid);
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
