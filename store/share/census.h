/*
 * census.h - which chunks of some packs are needed: by the trees of all snapshots that are in use
 * and name one of these packs, or one that was repacked into it. A part of a collection (repack.h).
 *
 * A chunk that two of the packs have is needed in both. Where a snapshot's tree cannot be read
 * because the bucket is damaged, all chunks of the packs that it names are needed.
 *
 * In memory: 60 bytes a chunk, at most CENSUS_FRAMES_MAX and one pack's more; and the metadata of
 * one snapshot.
 */
#ifndef VARVE_SHARE_CENSUS_H
#define VARVE_SHARE_CENSUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/bucket/object_store.h"
#include "store/share/collect_mark.h"

#define CENSUS_PACKS_MAX 256u
#define CENSUS_FRAMES_MAX (512u << 10)

struct census_pack {
	struct pack_id id;
	uint64_t size;	   /* bytes */
	uint64_t needed;   /* bytes that its needed chunks take in a container; 0: none is */
	uint64_t meta;	   /* bytes of its sections, if they are in use; else 0 */
	uint32_t first, n; /* its frames */
};

struct census_frame {
	struct digest digest;
	uint32_t pack; /* index */
	uint32_t offset, len;
	bool needed;
	/* repack.h: the container that it was copied to, and where; 0: none yet */
	uint32_t container, new_offset;
};

struct census {
	/* in */
	struct object_store *os;
	const struct mark *mark;
	struct progress *p;
	/* out: census_fini */
	struct buf packs;  /* struct census_pack */
	struct buf frames; /* struct census_frame: by pack, then offset */
	struct buf order;  /* uint32_t: frames by digest, after census_run */
};
void census_fini(struct census *c);

static inline size_t census_packs(const struct census *c, struct census_pack **out)
{
	*out = (struct census_pack *)c->packs.data;
	return c->packs.len / sizeof(**out);
}

static inline struct census_frame *census_frames(const struct census *c)
{
	return (struct census_frame *)c->frames.data;
}

/* The first in c->order with that digest, or the one that would follow. */
size_t census_find(const struct census *c, const struct digest *d);
/* No more packs go in. */
bool census_is_full(const struct census *c);
/* -ENOENT, -EBADMSG, -ENOTSUP: the pack is gone or damaged, and not in it; the bucket's failures.
 */
MUST_CHECK int census_add(struct census *c, const struct pack_id *id, struct error *err);
/* Once, when all packs are in. A record that cannot be read or understood is a failure. */
MUST_CHECK int census_run(struct census *c, struct error *err);

#endif
