/*
 * The cache: a node is one allocation, its header and encoded bytes together,
 * with an atomic reference count. The cache holds one reference; a reader adds
 * its own under the shard's lock and from then on needs no lock, even when the
 * cache forgets the node meanwhile.
 *
 * Shards (by digest) each have a lock, a hash table and a share of the budget.
 * Replacement is a clock. Nodes are in a queue in the order in which they came;
 * the one at its head is forgotten, unless it was asked for since it was last
 * there: then it goes to the end. So an import that stores a million nodes
 * pushes out its own before those that mounts keep asking for.
 *
 * Presence is always asked of the database, never of the cache: a collection
 * may have deleted a node that the cache still has.
 */
#include "store/tree/node_store.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "store/chunk/codec.h"
#include "store/chunk/want.h"

#define SHARD_COUNT 32u /* power of two */
#define BUCKETS_MIN 64u

struct cached {
	struct node node; /* first: readers hold its address */
	atomic_uint refs;
	bool asked;		    /* since it was last at the head; guarded by the shard */
	struct cached *next_hashed; /* guarded by the shard */
	TAILQ_ENTRY(cached) queued; /* guarded by the shard */
	uint8_t bytes[];
};

struct shard {
	pthread_mutex_t lock;
	struct cached **buckets; /* guarded by lock, as all below */
	size_t bucket_count;	 /* power of two */
	size_t count;
	size_t bytes;
	uint64_t hits;
	TAILQ_HEAD(queue, cached) queue;
} __attribute__((aligned(64)));

struct node_store {
	struct source *near; /* owned: the database */
	struct source *far;  /* borrowed; NULL: none */
	struct guard *guard;
	int zstd_level;
	size_t shard_budget;
	atomic_uint_fast64_t loads; /* relaxed: a statistic */
	struct shard shards[SHARD_COUNT];
};

static size_t cost(const struct cached *c)
{
	return sizeof(*c) + c->node.view.len;
}

static struct shard *shard_of(struct node_store *ns, const struct digest *d)
{
	return &ns->shards[digest_prefix(d) % SHARD_COUNT];
}

static struct cached **bucket_of(const struct shard *s, const struct digest *d)
{
	return &s->buckets[digest_prefix(d) / SHARD_COUNT & (s->bucket_count - 1)];
}

static int shard_init(struct shard *s)
{
	s->buckets = calloc(BUCKETS_MIN, sizeof(struct cached *));
	if (!s->buckets)
		return -ENOMEM;
	s->bucket_count = BUCKETS_MIN;
	TAILQ_INIT(&s->queue);
	return -pthread_mutex_init(&s->lock, NULL);
}

static void shard_fini(struct shard *s)
{
	struct cached *c;
	while ((c = TAILQ_FIRST(&s->queue))) {
		TAILQ_REMOVE(&s->queue, c, queued);
		node_unref(&c->node);
	}
	free(s->buckets);
	pthread_mutex_destroy(&s->lock);
}

struct node_store *node_store_new(struct kv *kv, struct guard *guard, int zstd_level,
				  size_t cache_bytes)
{
	struct node_store *ns = aligned_alloc(64, sizeof(*ns));
	if (!ns)
		return NULL;
	memset(ns, 0, sizeof(*ns));
	ns->near = source_kv_new(kv);
	if (!ns->near) {
		free(ns);
		return NULL;
	}
	ns->guard = guard;
	ns->zstd_level = zstd_level;
	ns->shard_budget = cache_bytes / SHARD_COUNT;
	for (unsigned i = 0; i < SHARD_COUNT; i++) {
		if (shard_init(&ns->shards[i]) == 0)
			continue;
		free(ns->shards[i].buckets);
		while (i-- > 0)
			shard_fini(&ns->shards[i]);
		source_free(ns->near);
		free(ns);
		return NULL;
	}
	return ns;
}

void node_store_free(struct node_store *ns)
{
	if (!ns)
		return;
	for (unsigned i = 0; i < SHARD_COUNT; i++)
		shard_fini(&ns->shards[i]);
	source_free(ns->near);
	free(ns);
}

void node_store_set_far(struct node_store *ns, struct source *far)
{
	ns->far = far;
}

void node_ref(struct node *n)
{
	struct cached *c = CONTAINER_OF(n, struct cached, node);
	/* relaxed: the caller has a reference, or the shard's lock */
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
}

void node_unref(struct node *n)
{
	if (!n)
		return;
	struct cached *c = CONTAINER_OF(n, struct cached, node);
	/* acq_rel: everybody's reads of the node come before its end */
	if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
		free(c);
}

/* A node of uninitialised bytes, with one reference. */
static struct cached *cached_new(const struct digest *d, size_t len)
{
	struct cached *c = malloc(sizeof(*c) + len);
	if (!c)
		return NULL;
	memset(c, 0, sizeof(*c));
	c->node.digest = *d;
	atomic_init(&c->refs, 1);
	return c;
}

static void cached_unref(struct cached **c)
{
	if (*c)
		node_unref(&(*c)->node);
}

static struct cached *find_locked(struct shard *s, const struct digest *d)
{
	struct cached *c = *bucket_of(s, d);
	while (c && !digest_equal(&c->node.digest, d))
		c = c->next_hashed;
	return c;
}

static void grow_locked(struct shard *s)
{
	size_t old_count = s->bucket_count;
	struct cached **old = s->buckets;
	struct cached **grown = calloc(old_count * 2, sizeof(struct cached *));
	if (!grown)
		return; /* longer chains, no harm */
	s->buckets = grown;
	s->bucket_count = old_count * 2;
	for (size_t i = 0; i < old_count; i++) {
		struct cached *next;
		for (struct cached *c = old[i]; c; c = next) {
			next = c->next_hashed;
			struct cached **b = bucket_of(s, &c->node.digest);
			c->next_hashed = *b;
			*b = c;
		}
	}
	free(old);
}

static void forget_locked(struct shard *s, struct cached *c)
{
	struct cached **link = bucket_of(s, &c->node.digest);
	while (*link != c)
		link = &(*link)->next_hashed;
	*link = c->next_hashed;
	TAILQ_REMOVE(&s->queue, c, queued);
	s->bytes -= cost(c);
	s->count--;
	node_unref(&c->node);
}

static void shrink_locked(struct node_store *ns, struct shard *s)
{
	while (s->bytes > ns->shard_budget) {
		struct cached *c = TAILQ_FIRST(&s->queue);
		if (c->asked) {
			c->asked = false;
			TAILQ_REMOVE(&s->queue, c, queued);
			TAILQ_INSERT_TAIL(&s->queue, c, queued);
		} else {
			forget_locked(s, c);
		}
	}
}

static struct node *cache_find(struct node_store *ns, const struct digest *d)
{
	struct shard *s = shard_of(ns, d);
	pthread_mutex_lock(&s->lock);
	struct cached *c = find_locked(s, d);
	if (c) {
		c->asked = true;
		s->hits++;
		node_ref(&c->node);
	}
	pthread_mutex_unlock(&s->lock);
	return c ? &c->node : NULL;
}

/* Takes the caller's reference; returns one to the cached node of that digest. */
static struct node *cache_insert(struct node_store *ns, struct cached *c)
{
	struct shard *s = shard_of(ns, &c->node.digest);
	pthread_mutex_lock(&s->lock);
	struct cached *there = find_locked(s, &c->node.digest);
	if (there) {
		node_ref(&there->node);
	} else {
		if (s->count >= s->bucket_count)
			grow_locked(s);
		struct cached **b = bucket_of(s, &c->node.digest);
		c->next_hashed = *b;
		*b = c;
		TAILQ_INSERT_TAIL(&s->queue, c, queued);
		s->bytes += cost(c);
		s->count++;
		node_ref(&c->node);
		shrink_locked(ns, s);
	}
	pthread_mutex_unlock(&s->lock);
	if (!there)
		return &c->node;
	node_unref(&c->node);
	return &there->node;
}

/* Decode a frame into a new node. */
static int decode(const struct digest *d, const struct source_frame *frame, struct cached **out)
{
	int64_t raw_len = codec_raw_len(frame->data, frame->len);
	if (raw_len < 0 || raw_len > NODE_ENCODED_MAX)
		return -EBADMSG;
	CLEANUP(cached_unref) struct cached *c = cached_new(d, (size_t)raw_len);
	if (!c)
		return -ENOMEM;
	int r = codec_decode(frame->data, frame->len, c->bytes, (size_t)raw_len);
	if (r < 0)
		return r;
	r = node_check(c->bytes, (size_t)raw_len, &c->node.view);
	if (r < 0)
		return r;
	*out = STEAL(c);
	return 0;
}

static _Thread_local uint64_t loads_here;

static int load_near(struct node_store *ns, const struct digest *d, struct cached **out,
		     uint32_t *out_stored)
{
	CLEANUP(source_frame_release) struct source_frame frame = { 0 };
	int r = source_get(ns->near, SOURCE_NODE, d, &frame);
	if (r < 0)
		return r;
	*out_stored = (uint32_t)frame.len;
	r = decode(d, &frame, out);
	atomic_fetch_add_explicit(&ns->loads, 1, memory_order_relaxed);
	loads_here++;
	return r;
}

static int check_hash(const struct cached *c, const struct digest *d)
{
	struct digest actual;
	int r = hash_bytes(c->bytes, c->node.view.len, &actual);
	if (r < 0)
		return r;
	return digest_equal(&actual, d) ? 0 : -EBADMSG;
}

/* Decode and verify what came from afar. It is near from now on, if there is room. */
static int take_far(struct node_store *ns, const struct digest *d, const struct source_frame *frame,
		    struct cached **out)
{
	CLEANUP(cached_unref) struct cached *c = NULL;
	int r = decode(d, frame, &c);
	if (r == 0)
		r = check_hash(c, d);
	if (r < 0)
		return r;
	(void)!source_put(ns->near, SOURCE_NODE, d, frame->data, frame->len);
	*out = STEAL(c);
	return 0;
}

static int load_far(struct node_store *ns, const struct digest *d, struct cached **out)
{
	CLEANUP(source_frame_release) struct source_frame frame = { 0 };

	if (!want_may_wait())
		return want_note(SOURCE_NODE, d);
	int r = want_get_far(ns->far, SOURCE_NODE, d, &frame);
	return r < 0 ? r : take_far(ns, d, &frame, out);
}

static int load(struct node_store *ns, const struct digest *d, struct cached **out)
{
	uint32_t stored;
	int r = load_near(ns, d, out, &stored);

	return r == -ENODATA && ns->far ? load_far(ns, d, out) : r;
}

void node_store_fetch(struct node_store *ns, struct source_item *items, size_t n)
{
	for (size_t i = 0; i < n; i++)
		items[i].result = -ENODATA;
	if (!ns->far)
		return;
	assert(want_may_wait());
	ns->far->ops->get_many(ns->far, SOURCE_NODE, items, n);
	for (size_t i = 0; i < n; i++) {
		struct cached *c;

		if (items[i].result)
			continue;
		items[i].result = take_far(ns, &items[i].digest, &items[i].frame, &c);
		if (items[i].result == 0)
			node_unref(cache_insert(ns, c));
		source_frame_release(&items[i].frame);
	}
}

uint64_t node_store_loads_here(void)
{
	return loads_here;
}

int node_store_get(struct node_store *ns, const struct digest *d, struct node **out)
{
	struct node *n = cache_find(ns, d);
	if (!n) {
		struct cached *c;
		if (want_here.later)
			return want_miss(d);
		int r = load(ns, d, &c);
		if (r < 0)
			return r;
		n = cache_insert(ns, c);
	}
	*out = n;
	return 0;
}

int node_store_peek(struct node_store *ns, const struct digest *d, struct node **out)
{
	struct node *n = cache_find(ns, d);
	if (!n) {
		struct cached *c;
		int r = load(ns, d, &c);
		if (r < 0)
			return r;
		n = &c->node;
	}
	*out = n;
	return 0;
}

/* A copy of the bytes, checked to be a node. */
static int copy_node(const struct digest *d, const void *bytes, size_t len, struct cached **out)
{
	struct cached *c = cached_new(d, len);
	int r;

	if (!c)
		return -ENOMEM;
	memcpy(c->bytes, bytes, len);
	r = node_check(c->bytes, len, &c->node.view);
	if (r < 0)
		node_unref(&c->node);
	else
		*out = c;
	return r;
}

/* 1: it exists, and stays. 0: it does not. */
static int touch_and_ask(struct node_store *ns, const struct digest *d)
{
	int r;

	/* The lock is for this question: no sweep may come between touch and answer. */
	guard_touch_lock(ns->guard, d);
	r = source_has(ns->near, SOURCE_NODE, d);
	guard_touch_unlock(ns->guard, d);
	return r;
}

static int write_frame(struct node_store *ns, const struct digest *d, const void *frame, size_t len,
		       uint64_t *new_bytes)
{
	int r = source_put(ns->near, SOURCE_NODE, d, frame, len);

	if (r == 0 && new_bytes)
		*new_bytes += len;
	return r;
}

static int write_node(struct node_store *ns, const struct cached *c, uint64_t *new_bytes)
{
	CLEANUP(buf_fini_p) struct buf frame = BUF_INIT;
	int r = codec_encode(ns->zstd_level, c->bytes, c->node.view.len, &frame);

	return r < 0 ? r : write_frame(ns, &c->node.digest, frame.data, frame.len, new_bytes);
}

int node_store_put(struct node_store *ns, const void *bytes, size_t len, struct digest *out,
		   uint64_t *new_bytes)
{
	CLEANUP(cached_unref) struct cached *c = NULL;
	struct digest d;
	int r = hash_bytes(bytes, len, &d);

	if (r == 0)
		r = copy_node(&d, bytes, len, &c);
	if (r == 0)
		r = touch_and_ask(ns, &d);
	if (r == 0)
		r = write_node(ns, c, new_bytes);
	if (r < 0)
		return r;
	node_unref(cache_insert(ns, STEAL(c)));
	*out = d;
	return 0;
}

void node_puts_init(struct node_puts *p, struct node_store *ns)
{
	*p = (struct node_puts){ .ns = ns };
}

void node_puts_fini(struct node_puts *p)
{
	for (size_t i = 0; i < p->n; i++)
		node_unref(p->nodes[i]);
	p->n = 0;
}

int node_puts_flush(struct node_puts *p)
{
	struct source *near = p->ns->near;
	int r = p->n ? near->ops->put_many(near, SOURCE_NODE, p->items, p->n) : 0;

	if (r < 0)
		return r;
	for (size_t i = 0; i < p->n; i++) {
		p->new_bytes += p->items[i].frame.len;
		node_unref(cache_insert(p->ns, CONTAINER_OF(p->nodes[i], struct cached, node)));
	}
	p->stored += p->n;
	p->n = 0;
	return 0;
}

int node_puts_add(struct node_puts *p, const struct digest *d, const void *bytes, size_t len,
		  const void *frame, size_t frame_len)
{
	CLEANUP(cached_unref) struct cached *c = NULL;
	int r = copy_node(d, bytes, len, &c);

	if (r == 0)
		r = touch_and_ask(p->ns, d);
	if (r < 0)
		return r;
	if (r == 1) {
		node_unref(cache_insert(p->ns, STEAL(c)));
		return 0;
	}
	p->items[p->n] =
		(struct source_item){ .digest = *d, .frame = { .data = frame, .len = frame_len } };
	p->nodes[p->n++] = &STEAL(c)->node;
	return p->n == ARRAY_SIZE(p->nodes) ? node_puts_flush(p) : 0;
}

void node_store_touch(struct node_store *ns, const struct digest *d)
{
	guard_touch_lock(ns->guard, d);
	guard_touch_unlock(ns->guard, d);
}

int node_store_verify(struct node_store *ns, const struct digest *d, uint32_t *out_raw,
		      uint32_t *out_stored)
{
	CLEANUP(cached_unref) struct cached *c = NULL;
	uint32_t stored;
	int r = load_near(ns, d, &c, &stored);
	if (r == 0)
		r = check_hash(c, d);
	if (r < 0)
		return r;
	*out_raw = (uint32_t)c->node.view.len;
	*out_stored = stored;
	return 0;
}

void node_store_stats(struct node_store *ns, struct node_store_stats *out)
{
	*out = (struct node_store_stats){
		.loads = atomic_load_explicit(&ns->loads, memory_order_relaxed),
	};
	for (unsigned i = 0; i < SHARD_COUNT; i++) {
		struct shard *s = &ns->shards[i];
		pthread_mutex_lock(&s->lock);
		out->hits += s->hits;
		out->cached_bytes += s->bytes;
		out->cached_nodes += s->count;
		pthread_mutex_unlock(&s->lock);
	}
}

size_t node_store_cached_bytes(struct node_store *ns)
{
	struct node_store_stats stats;
	node_store_stats(ns, &stats);
	return stats.cached_bytes;
}
