/* chunk.h - a chunk in memory. chunk_cache.c makes and counts them. */
#ifndef VARVE_CHUNK_H
#define VARVE_CHUNK_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/hash.h"
#include "store/base/macros.h"

/* A decoded chunk, shared and immutable, alive until chunk_unref. */
struct chunk {
	const uint8_t *data;
	size_t len;
};
/* A chunk of len bytes (to be filled through *out_data), with one reference; or NULL. */
struct chunk *chunk_new(const struct digest *d, size_t len, uint8_t **out_data);
/* NULL is accepted. */
void chunk_unref(struct chunk *c);
DEFINE_CLEANUP(struct chunk *, chunk_unref)

#endif
