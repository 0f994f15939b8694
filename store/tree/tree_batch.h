/* tree_batch.h - a batch of changes (tree.h) as tree_apply reads it: sorted. Private to tree*.c. */
#ifndef VARVE_TREE_BATCH_H
#define VARVE_TREE_BATCH_H

#include "store/tree/tree.h"

#define TREE_DELETED UINT32_MAX

/* One change. Its value follows its key in memory. */
struct tree_change {
	uint64_t prefix[2]; /* the key's first 16 bytes, zero-padded, as numbers that sort alike */
	const uint8_t *key;
	uint32_t vlen; /* or TREE_DELETED */
	uint32_t klen;
};

/* Sort by key, and keep the last change of each key. */
MUST_CHECK int tree_batch_sort(struct tree_batch *b);
/* The changes of a sorted batch, and their end. */
const struct tree_change *tree_batch_begin(const struct tree_batch *b);
const struct tree_change *tree_batch_end(const struct tree_batch *b);

#endif
