/*
 * lazy_index.h - where the chunks of snapshots that are only partly here can be fetched: the
 * metadata of these snapshots' containers, kept in files of the store.
 *
 * Layout: STORE/remote/UUID/PUSH-N is the end of that container, from NODES on, byte for byte
 * (vpk.h); UUID is the bucket's. A file is written whole, synced, before the record of a snapshot
 * that needs it. It is checked when it is opened, and mapped.
 *
 * A container is needed while a tree of this store refers to a chunk that it locates. A collection
 * finds that out: it marks the chunks, and drops the containers that have none of them. One that
 * locates no chunk at all stays while another of its bucket does: its push pins what the tree has
 * from its ancestors (pins.h).
 *
 * Thread-safe. Lookups read memory, or wait for the disk; never for the network.
 */
#ifndef VARVE_SHARE_LAZY_INDEX_H
#define VARVE_SHARE_LAZY_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/names/snapshot.h"
#include "store/remote/share_meta.h"

struct lazy_index;
/*
 * Of the store whose directory is dir_fd (borrowed). A file that is damaged is left out, with a
 * line in the log. -ENOMEM, -EIO and others.
 */
MUST_CHECK int lazy_index_open(int dir_fd, struct lazy_index **out, struct error *err);
void lazy_index_free(struct lazy_index *ix);
DEFINE_CLEANUP(struct lazy_index *, lazy_index_free)

/*
 * From before lazy_index_add until the record that needs what was added is written: no collection
 * drops anything that runs at any moment between the two.
 */
void lazy_index_hold(struct lazy_index *ix);
void lazy_index_release(struct lazy_index *ix);

/* Permanent when it returns. What is there already stays. The caller holds. */
MUST_CHECK int lazy_index_add(struct lazy_index *ix, const char *uuid,
			      const struct share_meta *meta, struct error *err);

struct lazy_loc {
	char uuid[SNAPSHOT_ID_SIZE];
	struct share_id said_by; /* the push whose container says so */
	struct share_loc at;
};
/*
 * The i-th location (from 0) of a chunk with such a digest, as share_meta_find; false if there are
 * no more.
 */
bool lazy_index_find(struct lazy_index *ix, const struct digest *d, unsigned i,
		     struct lazy_loc *out);
/*
 * Where chunks of a pack begin and end, as far as anything here says: the first beginning at or
 * after *from, and the last end at or before *to. Each stays as it is where there is none.
 */
void lazy_index_edges(struct lazy_index *ix, const char *uuid, const struct pack_id *pack,
		      uint32_t *from, uint32_t *to);
/* Whether it has that container of that bucket. */
bool lazy_index_has(struct lazy_index *ix, const char *uuid, const struct pack_id *id);
/* How many containers of a bucket there are; NULL: of all. */
size_t lazy_index_count(struct lazy_index *ix, const char *uuid);

/* Whether it has a container of that push. */
bool lazy_index_has_push(struct lazy_index *ix, const char *uuid, const struct share_id *push);
/*
 * Append a struct lazy_push for each container, some more than once: what must stay in the buckets.
 * -ENOMEM.
 */
struct lazy_push {
	char uuid[SNAPSHOT_ID_SIZE];
	struct share_id push;
};
MUST_CHECK int lazy_index_pushes(struct lazy_index *ix, struct buf *out);
/* Call fn when containers came or went, from the thread that does it, with no lock. Set once. */
void lazy_index_on_change(struct lazy_index *ix, void (*fn)(void *arg), void *arg);

/*
 * A collection: begin, mark each chunk that some tree refers to, and at the end of a mark that was
 * complete, drop the containers that were not marked. One at a time.
 */
void lazy_index_mark_begin(struct lazy_index *ix);
void lazy_index_mark(struct lazy_index *ix, const struct digest *chunk);
void lazy_index_mark_end(struct lazy_index *ix);

#endif
