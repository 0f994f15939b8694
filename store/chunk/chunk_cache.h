/*
 * chunk_cache.h - decoded chunks by digest, least recently used first out.
 * Private to chunk_store. Thread-safe.
 */
#ifndef VARVE_CHUNK_CACHE_H
#define VARVE_CHUNK_CACHE_H

#include "store/chunk/chunk.h"
#include "store/base/hash.h"

struct chunk_cache;
/* NULL when out of memory. max_bytes 0: a cache that keeps nothing. */
struct chunk_cache *chunk_cache_new(size_t max_bytes);
void chunk_cache_free(struct chunk_cache *cc);

/* A new reference to d's chunk, or NULL. */
struct chunk *chunk_cache_get(struct chunk_cache *cc, const struct digest *d);
/*
 * Add c, unless the cache has its digest already. Takes the caller's reference
 * and returns one to the chunk that the cache has now (or to c if it is too
 * large).
 */
struct chunk *chunk_cache_add(struct chunk_cache *cc, struct chunk *c);
size_t chunk_cache_bytes(struct chunk_cache *cc);
/* How often chunk_cache_get had one, and had none, so far. */
void chunk_cache_count(struct chunk_cache *cc, uint64_t *hits, uint64_t *misses);

#endif
