/*
 * loc_map.h - where chunks are in the bucket: a table by digest, in memory, 32 bytes a chunk and
 * as much room again. It keeps the first 128 bits of each digest, as store/chunk/digest_set.h does,
 * and for the same reason.
 */
#ifndef VARVE_SHARE_LOC_MAP_H
#define VARVE_SHARE_LOC_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/layout/share_key.h"
#include "store/remote/share_meta.h"

struct loc_map {
	struct loc_slot *slots;
	size_t cap, count; /* cap: a power of two, or 0 */
	struct pack_id *packs;
	size_t n_packs, packs_cap;
	size_t last_pack; /* index of the pack that was added last */
};
void loc_map_fini(struct loc_map *m); /* of a zeroed one, too */

/* The first location that is said of a chunk stays. 0 or -ENOMEM. */
MUST_CHECK int loc_map_add(struct loc_map *m, const struct digest *d, const struct share_loc *p);
bool loc_map_get(const struct loc_map *m, const struct digest *d, struct share_loc *out);

#endif
