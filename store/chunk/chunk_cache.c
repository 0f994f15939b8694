/*
 * Shards, each a hash table with chaining and a list in order of use under one
 * mutex, chosen by different bits of the digest. The cache holds one reference
 * to each of its chunks, and each user another. The last one frees, so a chunk
 * that is evicted while it is read lives on until then.
 *
 * A shard's lock is a leaf: nothing else is taken and nothing freed under it.
 */
#include "store/chunk/chunk_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "store/chunk/chunker.h"

#define SHARDS_MAX 8
/* Fewer shards for a small cache, so that each holds a good number of chunks. */
#define SHARD_BYTES_MIN (4 * (size_t)CHUNK_MAX)
/* Chunks are 20 to 70 KiB on average; a longer chain costs little. */
#define BYTES_PER_BUCKET (16u << 10)

struct cached {
	struct chunk chunk; /* first: struct chunk * is a struct cached * */
	_Atomic unsigned refs;
	struct digest digest;
	/* guarded by the shard's lock: */
	struct cached *chain;
	struct cached *newer, *older; /* order of use */
	uint8_t bytes[];
};

struct shard {
	pthread_mutex_t lock;
	/* guarded by lock: */
	struct cached **buckets;
	size_t bucket_mask;
	struct cached *newest, *oldest;
	size_t bytes;
	uint64_t hits, misses;
} __attribute__((aligned(64)));

struct chunk_cache {
	unsigned n_shards; /* 0: keeps nothing */
	size_t shard_bytes_max;
	struct shard shards[SHARDS_MAX];
};

static size_t cost_of(const struct cached *e)
{
	return sizeof(*e) + e->chunk.len;
}

struct chunk *chunk_new(const struct digest *d, size_t len, uint8_t **out_data)
{
	struct cached *e = malloc(sizeof(*e) + len);

	if (!e)
		return NULL;
	e->chunk = (struct chunk){ e->bytes, len };
	e->digest = *d;
	e->chain = e->newer = e->older = NULL;
	atomic_init(&e->refs, 1);
	*out_data = e->bytes;
	return &e->chunk;
}

void chunk_unref(struct chunk *c)
{
	struct cached *e = (struct cached *)c;

	/* Release: this user's accesses come before. Acquire: everybody's come before the free. */
	if (e && atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) == 1)
		free(e);
}

/* The caller knows of a live reference, so relaxed is enough. */
static void ref(struct cached *e)
{
	atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
}

static bool shard_init(struct shard *s, size_t bytes_max)
{
	size_t n = 16;

	while (n < bytes_max / BYTES_PER_BUCKET)
		n *= 2;
	s->buckets = calloc(n, sizeof(*s->buckets));
	s->bucket_mask = n - 1;
	pthread_mutex_init(&s->lock, NULL);
	return s->buckets != NULL;
}

static void shard_fini(struct shard *s)
{
	while (s->oldest) {
		struct cached *e = s->oldest;
		s->oldest = e->newer;
		chunk_unref(&e->chunk);
	}
	free(s->buckets);
	pthread_mutex_destroy(&s->lock);
}

struct chunk_cache *chunk_cache_new(size_t max_bytes)
{
	struct chunk_cache *cc = aligned_alloc(_Alignof(struct chunk_cache), sizeof(*cc));

	if (!cc)
		return NULL;
	*cc = (struct chunk_cache){ .n_shards = 0 };
	if (max_bytes == 0)
		return cc;
	size_t n_shards = MIN(max_bytes / SHARD_BYTES_MIN, (size_t)SHARDS_MAX);
	n_shards = MAX(n_shards, (size_t)1);
	cc->shard_bytes_max = max_bytes / n_shards;
	while (cc->n_shards < n_shards) {
		if (!shard_init(&cc->shards[cc->n_shards++], cc->shard_bytes_max)) {
			chunk_cache_free(cc);
			return NULL;
		}
	}
	return cc;
}

void chunk_cache_free(struct chunk_cache *cc)
{
	if (!cc)
		return;
	for (unsigned i = 0; i < cc->n_shards; i++)
		shard_fini(&cc->shards[i]);
	free(cc);
}

static struct shard *shard_of(struct chunk_cache *cc, const struct digest *d)
{
	return &cc->shards[d->b[DIGEST_SIZE - 1] % cc->n_shards];
}

static struct cached **bucket_of(struct shard *s, const struct digest *d)
{
	return &s->buckets[digest_prefix(d) & s->bucket_mask];
}

static struct cached *find_locked(struct shard *s, const struct digest *d)
{
	struct cached *e = *bucket_of(s, d);

	while (e && !digest_equal(&e->digest, d))
		e = e->chain;
	return e;
}

static void unlink_from_order_locked(struct shard *s, struct cached *e)
{
	if (e->newer)
		e->newer->older = e->older;
	else
		s->newest = e->older;
	if (e->older)
		e->older->newer = e->newer;
	else
		s->oldest = e->newer;
}

static void make_newest_locked(struct shard *s, struct cached *e)
{
	e->newer = NULL;
	e->older = s->newest;
	if (s->newest)
		s->newest->newer = e;
	else
		s->oldest = e;
	s->newest = e;
}

struct chunk *chunk_cache_get(struct chunk_cache *cc, const struct digest *d)
{
	if (cc->n_shards == 0)
		return NULL;
	struct shard *s = shard_of(cc, d);
	pthread_mutex_lock(&s->lock);
	struct cached *e = find_locked(s, d);
	if (e) {
		ref(e);
		if (s->newest != e) {
			unlink_from_order_locked(s, e);
			make_newest_locked(s, e);
		}
		s->hits++;
	} else {
		s->misses++;
	}
	pthread_mutex_unlock(&s->lock);
	return e ? &e->chunk : NULL;
}

/* Removes the oldest until `room` more bytes fit; returns them chained. */
static struct cached *evict_locked(struct shard *s, size_t room, size_t max)
{
	struct cached *evicted = NULL;

	while (s->oldest && s->bytes + room > max) {
		struct cached *e = s->oldest;
		struct cached **link = bucket_of(s, &e->digest);
		while (*link != e)
			link = &(*link)->chain;
		*link = e->chain;
		unlink_from_order_locked(s, e);
		s->bytes -= cost_of(e);
		e->chain = evicted;
		evicted = e;
	}
	return evicted;
}

static void insert_locked(struct shard *s, struct cached *e)
{
	struct cached **bucket = bucket_of(s, &e->digest);

	ref(e);
	e->chain = *bucket;
	*bucket = e;
	make_newest_locked(s, e);
	s->bytes += cost_of(e);
}

struct chunk *chunk_cache_add(struct chunk_cache *cc, struct chunk *c)
{
	struct cached *e = (struct cached *)c;
	struct cached *evicted = NULL;

	if (cc->n_shards == 0 || cost_of(e) > cc->shard_bytes_max)
		return c;
	struct shard *s = shard_of(cc, &e->digest);
	pthread_mutex_lock(&s->lock);
	struct cached *other = find_locked(s, &e->digest);
	if (other) {
		ref(other);
	} else {
		evicted = evict_locked(s, cost_of(e), cc->shard_bytes_max);
		insert_locked(s, e);
	}
	pthread_mutex_unlock(&s->lock);
	while (evicted) {
		struct cached *next = evicted->chain;
		chunk_unref(&evicted->chunk);
		evicted = next;
	}
	if (!other)
		return c;
	chunk_unref(c);
	return &other->chunk;
}

size_t chunk_cache_bytes(struct chunk_cache *cc)
{
	size_t sum = 0;

	for (unsigned i = 0; i < cc->n_shards; i++) {
		pthread_mutex_lock(&cc->shards[i].lock);
		sum += cc->shards[i].bytes;
		pthread_mutex_unlock(&cc->shards[i].lock);
	}
	return sum;
}

void chunk_cache_count(struct chunk_cache *cc, uint64_t *hits, uint64_t *misses)
{
	*hits = *misses = 0;
	for (unsigned i = 0; i < cc->n_shards; i++) {
		pthread_mutex_lock(&cc->shards[i].lock);
		*hits += cc->shards[i].hits;
		*misses += cc->shards[i].misses;
		pthread_mutex_unlock(&cc->shards[i].lock);
	}
}
