/* chunk_store_stats.h - what a chunk store has counted since it was opened. Any thread. */
#ifndef VARVE_CHUNK_STORE_STATS_H
#define VARVE_CHUNK_STORE_STATS_H

#include <stdint.h>

struct chunk_store;
struct chunk_store_stats {
	uint64_t hits, misses; /* of its cache */
	uint64_t damaged;      /* reads of chunks that were missing, or not as they had been */
};
void chunk_store_get_stats(struct chunk_store *cs, struct chunk_store_stats *out);

#endif
