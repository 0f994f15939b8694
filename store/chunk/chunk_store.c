/*
 * Reads ask the near source, which is the database, and then the far one, if there is one. What
 * is far is decoded and hashed before anybody sees it, and then put into the near one, by a thread
 * that nobody waits for (keep.h). That needs no guard session: nobody relies on it being there.
 *
 * A put compresses and writes outside the guard's stripe: only the test for
 * presence needs the lock, and the touch protects the digest from then on
 * (guard.c). Two threads that put the same new chunk both write it, with the
 * same bytes.
 */
#include "store/chunk/chunk_store.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/chunk/chunk_cache.h"
#include "store/chunk/chunk_store_stats.h"
#include "store/chunk/chunker.h"
#include "store/chunk/codec.h"
#include "store/chunk/dict.h"
#include "store/chunk/keep.h"
#include "store/chunk/recent.h"
#include "store/chunk/want.h"

struct chunk_store {
	struct kv *kv;	       /* borrowed: for dictionaries */
	struct source *near;   /* owned */
	struct source *far;    /* borrowed; NULL: none */
	struct keep *keep;     /* what came from far; NULL: there is no far */
	struct recent *recent; /* borrowed; NULL: nobody asks */
	struct guard *guard;   /* borrowed */
	struct space *space;   /* borrowed; NULL: no limit */
	int zstd_level;
	struct chunk_cache *cache;
	_Atomic uint64_t stored, damaged; /* relaxed: statistics */
	/* Written under dict_lock with release, read with acquire; then it stays. */
	_Atomic(struct codec_dict *) dicts[DICT_COUNT_MAX];
	pthread_mutex_t dict_lock;
};

struct chunk_store *chunk_store_new(struct kv *kv, struct guard *guard, int zstd_level,
				    size_t cache_bytes)
{
	struct chunk_store *cs = calloc(1, sizeof(*cs));

	if (!cs)
		return NULL;
	cs->kv = kv;
	cs->guard = guard;
	cs->zstd_level = zstd_level;
	pthread_mutex_init(&cs->dict_lock, NULL);
	cs->near = source_kv_new(kv);
	cs->cache = chunk_cache_new(cache_bytes);
	if (!cs->near || !cs->cache) {
		chunk_store_free(cs);
		return NULL;
	}
	return cs;
}

void chunk_store_limit(struct chunk_store *cs, struct space *sp)
{
	cs->space = sp;
}

void chunk_store_set_recent(struct chunk_store *cs, struct recent *r)
{
	cs->recent = r;
}

static void note_read(struct chunk_store *cs, const struct digest *d)
{
	if (cs->recent)
		recent_note(cs->recent, d);
}

void chunk_store_free(struct chunk_store *cs)
{
	if (!cs)
		return;
	keep_free(cs->keep);
	source_free(cs->near);
	chunk_cache_free(cs->cache);
	for (size_t i = 0; i < ARRAY_SIZE(cs->dicts); i++)
		codec_dict_free(atomic_load_explicit(&cs->dicts[i], memory_order_relaxed));
	pthread_mutex_destroy(&cs->dict_lock);
	free(cs);
}

/* What the frames of items will take in the database. */
static uint64_t frame_bytes(const struct source_item *items, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += DIGEST_SIZE + items[i].frame.len;
	return sum;
}

static int write_frames(struct chunk_store *cs, const struct source_item *items, size_t n)
{
	int r = cs->space ? space_take(cs->space, SPACE_OWN, frame_bytes(items, n)) : 0;

	if (r == 0)
		r = cs->near->ops->put_many(cs->near, SOURCE_CHUNK, items, n);
	if (r == 0)
		atomic_fetch_add_explicit(&cs->stored, n, memory_order_relaxed);
	return r;
}

static void write_kept(void *arg, const struct source_item *items, size_t n)
{
	(void)!write_frames(arg, items, n);
}

/* Without memory for `keep`, readers write. */
void chunk_store_set_far(struct chunk_store *cs, struct source *far)
{
	cs->far = far;
	if (far && !cs->keep)
		cs->keep = keep_new(write_kept, cs);
}

void chunk_store_flush_kept(struct chunk_store *cs)
{
	if (cs->keep)
		keep_flush(cs->keep);
}

static int write_new(struct chunk_store *cs, const struct digest *d, const void *raw, size_t len,
		     uint32_t *out_stored)
{
	CLEANUP(buf_fini_p) struct buf frame = BUF_INIT;
	int r = codec_encode(cs->zstd_level, raw, len, &frame);
	if (r < 0)
		return r;
	const struct source_item it = { .digest = *d, .frame = { frame.data, frame.len } };
	r = write_frames(cs, &it, 1);
	if (r == 0)
		*out_stored = (uint32_t)frame.len;
	return r;
}

/* 1: it exists, and stays. 0: it does not. */
static int find(struct chunk_store *cs, const void *raw, size_t len, struct digest *out)
{
	assert(len >= 1 && len <= CHUNK_MAX);
	int r = hash_bytes(raw, len, out);
	if (r < 0)
		return r;
	guard_touch_lock(cs->guard, out);
	r = source_has(cs->near, SOURCE_CHUNK, out);
	guard_touch_unlock(cs->guard, out);
	return r;
}

int chunk_store_put(struct chunk_store *cs, const void *raw, size_t len,
		    struct chunk_put_result *out)
{
	struct chunk_put_result res = { .stored_bytes = 0 };
	int r = find(cs, raw, len, &res.digest);

	if (r == 0)
		r = write_new(cs, &res.digest, raw, len, &res.stored_bytes);
	if (r < 0)
		return r;
	*out = res;
	return 0;
}

/* --- batches --- */

#define BATCH_BYTES (256u << 10)

struct chunk_batch {
	struct chunk_store *cs;
	struct buf frames; /* of all items, back to back */
	size_t n;
	struct source_item items[SOURCE_ITEMS_MAX]; /* frame.data is set when they are written */
};

struct chunk_batch *chunk_batch_new(struct chunk_store *cs)
{
	struct chunk_batch *b = calloc(1, sizeof(*b));

	if (b)
		b->cs = cs;
	return b;
}

void chunk_batch_free(struct chunk_batch *b)
{
	if (!b)
		return;
	buf_fini(&b->frames);
	free(b);
}

int chunk_batch_write(struct chunk_batch *b)
{
	size_t at = 0;

	for (size_t i = 0; i < b->n; at += b->items[i++].frame.len)
		b->items[i].frame.data = b->frames.data + at;
	int r = b->n ? write_frames(b->cs, b->items, b->n) : 0;

	buf_clear(&b->frames);
	b->n = 0;
	return r;
}

static bool batch_has(const struct chunk_batch *b, const struct digest *d)
{
	for (size_t i = 0; i < b->n; i++)
		if (digest_equal(&b->items[i].digest, d))
			return true;
	return false;
}

static int batch_add(struct chunk_batch *b, const struct digest *d, const void *raw, size_t len,
		     uint32_t *out_stored)
{
	size_t at = b->frames.len;
	int r = codec_encode(b->cs->zstd_level, raw, len, &b->frames);

	if (r < 0) {
		b->frames.len = at;
		return r;
	}
	*out_stored = (uint32_t)(b->frames.len - at);
	b->items[b->n++] = (struct source_item){ .digest = *d, .frame.len = b->frames.len - at };
	if (b->n == SOURCE_ITEMS_MAX || b->frames.len >= BATCH_BYTES)
		r = chunk_batch_write(b);
	return r;
}

int chunk_batch_put(struct chunk_batch *b, const void *raw, size_t len,
		    struct chunk_put_result *out)
{
	struct chunk_put_result res = { .stored_bytes = 0 };
	int r = find(b->cs, raw, len, &res.digest);

	if (r == 0 && !batch_has(b, &res.digest))
		r = batch_add(b, &res.digest, raw, len, &res.stored_bytes);
	if (r < 0)
		return r;
	*out = res;
	return 0;
}

void chunk_store_touch(struct chunk_store *cs, const struct digest *d)
{
	guard_touch_lock(cs->guard, d);
	guard_touch_unlock(cs->guard, d);
}

/* A frame, and where it is from. */
struct found {
	struct source_frame frame;
	bool far;
};

static void found_fini(struct found *f)
{
	source_frame_release(&f->frame);
}

static int find_frame(struct chunk_store *cs, const struct digest *d, struct found *out)
{
	int r = source_get(cs->near, SOURCE_CHUNK, d, &out->frame);

	if (r != -ENODATA || !cs->far)
		return r;
	if (cs->keep && keep_get(cs->keep, d, &out->frame))
		return 0;
	out->far = true;
	if (!want_may_wait()) {
		r = cs->far->ops->get_ready
			    ? cs->far->ops->get_ready(cs->far, SOURCE_CHUNK, d, &out->frame)
			    : -ENODATA;
		return r == 0 ? 0 : want_note(SOURCE_CHUNK, d);
	}
	return want_get_far(cs->far, SOURCE_CHUNK, d, &out->frame);
}

/* What came from afar is near soon, if there is room. Takes the frame, but not its chunk. */
static void keep_near(struct chunk_store *cs, const struct digest *d, struct found *f)
{
	const struct source_item it = { .digest = *d, .frame = f->frame };

	if (!f->far || codec_frame_dict(f->frame.data, f->frame.len))
		return;
	if ((!cs->keep || !keep_add(cs->keep, d, &f->frame)) && want_may_wait())
		(void)!write_frames(cs, &it, 1);
}

/* Length of the chunk in a frame, checked against the limits. */
static int64_t checked_len(const struct source_frame *frame)
{
	int64_t len = codec_raw_len(frame->data, frame->len);

	return len < 1 || len > (int64_t)CHUNK_MAX ? -EBADMSG : len;
}

static int check_hash(const void *data, size_t len, const struct digest *d)
{
	struct digest actual;
	int r = hash_bytes(data, len, &actual);
	if (r < 0)
		return r;
	return digest_equal(&actual, d) ? 0 : -EBADMSG;
}

/* Load the dictionary, unless another thread has done so. */
static int load_dict(struct chunk_store *cs, uint32_t id, struct codec_dict **out)
{
	_Atomic(struct codec_dict *) *slot = &cs->dicts[id - DICT_FIRST_ID];
	int r = 0;

	pthread_mutex_lock(&cs->dict_lock); /* held during I/O: all waiters want the same */
	struct codec_dict *d = atomic_load_explicit(slot, memory_order_relaxed);
	if (!d)
		r = dict_load(cs->kv, id, 0, NULL, &d);
	if (r == 0)
		atomic_store_explicit(slot, d, memory_order_release);
	pthread_mutex_unlock(&cs->dict_lock);
	if (r == 0)
		*out = d;
	return r == -ENOENT ? -EBADMSG : r;
}

int chunk_store_decode(struct chunk_store *cs, const void *frame, size_t len, void *out,
		       size_t out_len)
{
	uint32_t id = codec_frame_dict(frame, len);
	struct codec_dict *d = NULL;

	if (id == 0)
		return codec_decode(frame, len, out, out_len);
	if (id - DICT_FIRST_ID >= DICT_COUNT_MAX)
		return -EBADMSG;
	d = atomic_load_explicit(&cs->dicts[id - DICT_FIRST_ID], memory_order_acquire);
	int r = d ? 0 : load_dict(cs, id, &d);
	return r < 0 ? r : codec_decode_dict(frame, len, d, out, out_len);
}

/* Decode d's frame and check the bytes, one way or the other. */
static int decode_checked(struct chunk_store *cs, const struct digest *d, const struct found *f,
			  void *out, size_t len)
{
	if (f->frame.chunk) {
		memcpy(out, f->frame.chunk->data, len);
		return 0;
	}
	int r = chunk_store_decode(cs, f->frame.data, f->frame.len, out, len);

	if (r == 0 && (f->far || !codec_has_checksum(f->frame.data, f->frame.len)))
		r = check_hash(out, len, d);
	return r;
}

/* Decode d's frame; the chunk has one reference and is not in the cache. */
static int decode_new(struct chunk_store *cs, const struct digest *d, struct found *f,
		      struct chunk **out)
{
	CLEANUP(chunk_unref_p) struct chunk *c = NULL;
	uint8_t *data;
	int64_t len = checked_len(&f->frame);
	if (len < 0)
		return (int)len;
	if (f->frame.chunk) {
		*out = STEAL(f->frame.chunk);
		return 0;
	}
	c = chunk_new(d, (size_t)len, &data);
	if (!c)
		return -ENOMEM;
	int r = decode_checked(cs, d, f, data, (size_t)len);
	if (r == 0)
		*out = STEAL(c);
	return r;
}

/* Read and decode d's chunk, as decode_new. */
static int load(struct chunk_store *cs, const struct digest *d, struct chunk **out)
{
	CLEANUP(found_fini) struct found f = { 0 };
	int r = find_frame(cs, d, &f);

	if (r == 0)
		r = decode_new(cs, d, &f, out);
	if (r == 0)
		keep_near(cs, d, &f);
	return r;
}

/* Reads that found a chunk missing or not as it was. */
static int count_damage(struct chunk_store *cs, int r)
{
	if (r == -EBADMSG || r == -ENODATA)
		atomic_fetch_add_explicit(&cs->damaged, 1, memory_order_relaxed);
	return r;
}

int chunk_store_get(struct chunk_store *cs, const struct digest *d, struct chunk **out)
{
	struct chunk *c = chunk_cache_get(cs->cache, d);

	note_read(cs, d);
	if (!c) {
		int r = load(cs, d, &c);
		if (r < 0)
			return count_damage(cs, r);
		c = chunk_cache_add(cs->cache, c);
	}
	*out = c;
	return 0;
}

void chunk_store_fetch(struct chunk_store *cs, struct source_item *items, size_t n)
{
	for (size_t i = 0; i < n; i++)
		items[i].result = -ENODATA;
	if (!cs->far)
		return;
	assert(want_may_wait());
	for (size_t i = 0; i < n; i++)
		note_read(cs, &items[i].digest);
	cs->far->ops->get_many(cs->far, SOURCE_CHUNK, items, n);
	for (size_t i = 0; i < n; i++) {
		struct chunk *c;
		struct found f = { items[i].frame, true };

		if (items[i].result)
			continue;
		items[i].result = decode_new(cs, &items[i].digest, &f, &c);
		if (items[i].result == 0) {
			chunk_unref(chunk_cache_add(cs->cache, c));
			keep_near(cs, &items[i].digest, &f);
		}
		found_fini(&f);
		items[i].frame = (struct source_frame){ 0 };
	}
}

int chunk_store_read(struct chunk_store *cs, const struct digest *d, void *out, size_t len)
{
	CLEANUP(chunk_unref_p) struct chunk *c = chunk_cache_get(cs->cache, d);
	CLEANUP(found_fini) struct found f = { 0 };

	note_read(cs, d);
	if (c && c->len == len)
		memcpy(out, c->data, len);
	if (c)
		return c->len == len ? 0 : -EBADMSG;
	int r = find_frame(cs, d, &f);
	if (r < 0)
		return count_damage(cs, r);
	int64_t actual = checked_len(&f.frame);
	if (actual < 0)
		return count_damage(cs, (int)actual);
	r = (size_t)actual == len ? decode_checked(cs, d, &f, out, len) : -EBADMSG;
	if (r == 0)
		keep_near(cs, d, &f);
	return count_damage(cs, r);
}

int chunk_store_frame(struct chunk_store *cs, const struct digest *d, struct buf *out)
{
	CLEANUP(found_fini) struct found f = { 0 };
	CLEANUP(chunk_unref_p) struct chunk *c = NULL;
	int r = find_frame(cs, d, &f);

	if (r == 0)
		r = decode_new(cs, d, &f, &c);
	if (r < 0)
		return r;
	if (codec_frame_dict(f.frame.data, f.frame.len) == 0)
		r = buf_append(out, f.frame.data, f.frame.len);
	else
		r = codec_encode(cs->zstd_level, c->data, c->len, out);
	keep_near(cs, d, &f);
	return r;
}

int chunk_store_put_frame(struct chunk_store *cs, const struct digest *d, const void *frame,
			  size_t len, uint32_t *out_stored)
{
	const struct source_item it = { .digest = *d, .frame = { .data = frame, .len = len } };
	CLEANUP(buf_fini_p) struct buf raw = BUF_INIT;
	struct digest actual;
	int64_t raw_len = checked_len(&it.frame);
	int r = raw_len < 0 || codec_frame_dict(frame, len) ? -EBADMSG : 0;

	if (r == 0)
		r = buf_reserve(&raw, (size_t)raw_len);
	if (r == 0)
		r = codec_decode(frame, len, raw.data, (size_t)raw_len);
	if (r == 0)
		r = find(cs, raw.data, (size_t)raw_len, &actual);
	if (r < 0)
		return r;
	if (!digest_equal(&actual, d))
		return -EBADMSG;
	*out_stored = r == 1 ? 0 : (uint32_t)len;
	return r == 1 ? 0 : write_frames(cs, &it, 1);
}

struct chunk *chunk_store_cached(struct chunk_store *cs, const struct digest *d)
{
	note_read(cs, d);
	return chunk_cache_get(cs->cache, d);
}

int chunk_store_verify(struct chunk_store *cs, const struct digest *d, uint32_t *out_raw,
		       uint32_t *out_stored)
{
	CLEANUP(chunk_unref_p) struct chunk *c = NULL;
	CLEANUP(found_fini) struct found f = { 0 };
	int r = source_get(cs->near, SOURCE_CHUNK, d, &f.frame);
	if (r == 0)
		r = decode_new(cs, d, &f, &c);
	if (r == 0)
		r = check_hash(c->data, c->len, d);
	if (r < 0)
		return r;
	*out_raw = (uint32_t)c->len;
	*out_stored = (uint32_t)f.frame.len;
	return 0;
}

int chunk_store_has(struct chunk_store *cs, const struct digest *d)
{
	return source_has(cs->near, SOURCE_CHUNK, d);
}

uint64_t chunk_store_stored(const struct chunk_store *cs)
{
	return atomic_load_explicit(&cs->stored, memory_order_relaxed);
}

size_t chunk_store_cached_bytes(struct chunk_store *cs)
{
	return chunk_cache_bytes(cs->cache);
}

void chunk_store_get_stats(struct chunk_store *cs, struct chunk_store_stats *out)
{
	chunk_cache_count(cs->cache, &out->hits, &out->misses);
	out->damaged = atomic_load_explicit(&cs->damaged, memory_order_relaxed);
}
