/*
 * share_walk.h - the tree of a snapshot, walked through its metadata (share_meta.h).
 *
 * The metadata has every node after its parents. So one pass over it finds the tree: a node belongs
 * to it if a node before it, or the record, has named it; what nobody names is of an ancestor.
 */
#ifndef VARVE_SHARE_WALK_H
#define VARVE_SHARE_WALK_H

#include "store/base/progress.h"
#include "store/remote/share_meta.h"

struct share_walk {
	/* in */
	const struct share_meta *meta;
	struct digest root;
	size_t memory;	    /* bytes of each of two sets of nodes */
	struct progress *p; /* may be NULL: asked whether to go on */
	/* A chunk that the tree refers to; of one that it has often, each time. */
	share_chunk_fn chunk;
	/* A node of the tree, once, after its chunks; may be NULL. */
	share_node_fn node;
	void *arg;
	/* out */
	size_t nodes; /* of the tree, that were there */
	size_t lacks; /* that were named, and are not in the metadata */
};
/*
 * A non-zero result of chunk or node ends it and is returned. -EBADMSG: a node is damaged; -EFBIG:
 * the tree is too large for `memory`; -ECANCELED. That nodes are lacking is no failure.
 */
MUST_CHECK int share_walk_run(struct share_walk *w, struct error *err);

#endif
