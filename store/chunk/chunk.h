/* chunk.h - a chunk in memory. chunk_cache.c makes and counts them. */
#ifndef VARVE_CHUNK_H
#define VARVE_CHUNK_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"

/* A decoded chunk, shared and immutable, alive until chunk_unref. */
struct chunk {
	const uint8_t *data;
	size_t len;
};
void chunk_unref(struct chunk *c);
DEFINE_CLEANUP(struct chunk *, chunk_unref)

#endif
