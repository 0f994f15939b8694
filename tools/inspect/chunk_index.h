/* chunk_index.h - chunks by digest, each with two numbers. */
#ifndef VARVE_TOOLS_CHUNK_INDEX_H
#define VARVE_TOOLS_CHUNK_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"
#include "store/base/hash.h"

struct chunk_entry {
	struct digest digest;
	uint32_t value, size; /* the user's; 0 at first */
	uint32_t used;	      /* private: 0 for an empty place */
};

/* A zeroed struct is empty. */
struct chunk_index {
	struct chunk_entry *table;
	size_t mask; /* places - 1 */
	size_t count;
};
void chunk_index_fini(struct chunk_index *s);

/*
 * 1 where d was not there and is now, 0 where it was, -ENOMEM. *out (may be
 * NULL): its entry, until the next addition.
 */
MUST_CHECK int chunk_index_add(struct chunk_index *s, const struct digest *d,
			       struct chunk_entry **out);
/* NULL where it is not there. */
struct chunk_entry *chunk_index_find(const struct chunk_index *s, const struct digest *d);

#endif
