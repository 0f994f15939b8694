/*
 * node_store.h - tree nodes by digest, with the cache of decoded nodes that all
 * mounts share. Thread-safe.
 */
#ifndef VARVE_NODE_STORE_H
#define VARVE_NODE_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"
#include "store/chunk/guard.h"
#include "store/chunk/source.h"
#include "store/base/hash.h"
#include "store/kv/kv.h"
#include "store/tree/node.h"

struct node_store;
struct node_store *node_store_new(struct kv *kv, struct guard *guard, int zstd_level,
				  size_t cache_bytes);
void node_store_free(struct node_store *ns);
/*
 * Ask this source (store/chunk/source.h; borrowed) too for what the database does not have. What
 * it gives is verified, and kept in the database where there is room. Call before the first get.
 */
void node_store_set_far(struct node_store *ns, struct source *far);

/* A cached node, immutable, alive until node_unref. */
struct node {
	struct node_view view;
	struct digest digest;
};

/*
 * From the cache, the database or the far source. 0, -ENODATA (missing), -EBADMSG
 * (malformed), -EIO, -ENOMEM. Does not rehash what it reads from the database: the database's
 * checksums cover its files, node_store_verify() covers the rest. -EINPROGRESS: only the far source
 * may have it, and this thread may not wait; it is noted (store/chunk/want.h). Or it is in no
 * cache, and the thread reads such nodes later (want_later).
 */
MUST_CHECK int node_store_get(struct node_store *ns, const struct digest *d, struct node **out);
/*
 * Get all of them from the far source, into the cache and the database: each result is 0 or a
 * failure as of node_store_get. The thread may wait (store/chunk/want.h).
 */
void node_store_fetch(struct node_store *ns, struct source_item *items, size_t n);
/* As node_store_get, but what it reads does not enter the cache: for scans of whole trees. */
MUST_CHECK int node_store_peek(struct node_store *ns, const struct digest *d, struct node **out);
void node_ref(struct node *n);
void node_unref(struct node *n);
DEFINE_CLEANUP(struct node *, node_unref)

/*
 * Store an encoded node (it becomes readable at once). The caller is inside a
 * guard session. KV_NO_LOG, as for chunks. *new_bytes (may be NULL) grows by the
 * stored size if the node is new. -EBADMSG if the bytes are not a node.
 */
MUST_CHECK int node_store_put(struct node_store *ns, const void *bytes, size_t len,
			      struct digest *out, uint64_t *new_bytes);
/*
 * Nodes that another store has encoded, written some at a time. `frame` (codec.h, without a
 * dictionary) decodes to the bytes, and these hash to d: the caller has made sure of both. It is
 * borrowed until the next flush, after which the nodes are readable; the bytes are copied.
 *
 * The caller is inside a guard session. One thread. After a failure, only node_puts_fini.
 */
struct node_puts {
	struct node_store *ns;
	size_t n; /* that wait for the flush */
	struct source_item items[SOURCE_ITEMS_MAX];
	struct node *nodes[SOURCE_ITEMS_MAX];
	uint64_t stored, new_bytes; /* those that are new: how many, and their frames */
};
void node_puts_init(struct node_puts *p, struct node_store *ns);
void node_puts_fini(struct node_puts *p);
/* -EBADMSG if the bytes are not a node; failures of a flush. */
MUST_CHECK int node_puts_add(struct node_puts *p, const struct digest *d, const void *bytes,
			     size_t len, const void *frame, size_t frame_len);
MUST_CHECK int node_puts_flush(struct node_puts *p);
/*
 * Protect an existing node, but not what it refers to, from a collection. For a
 * whole tree that no record keeps, touch everything below it too.
 */
void node_store_touch(struct node_store *ns, const struct digest *d);

/* Bypass the cache and rehash what the database has: for verify. 0, -ENODATA, -EBADMSG (malformed
 * or wrong hash), ... */
MUST_CHECK int node_store_verify(struct node_store *ns, const struct digest *d, uint32_t *out_raw,
				 uint32_t *out_stored);
/* Bytes in the cache. */
size_t node_store_cached_bytes(struct node_store *ns);

struct node_store_stats {
	uint64_t hits;	/* node_store_get served from the cache */
	uint64_t loads; /* nodes read from the database */
	size_t cached_bytes;
	size_t cached_nodes;
};
/* Nodes that the calling thread has read from the database so far. */
uint64_t node_store_loads_here(void);
void node_store_stats(struct node_store *ns, struct node_store_stats *out);

#endif
