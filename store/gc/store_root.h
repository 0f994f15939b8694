/* store_root.h - the trees and chunks that must be kept: what gc and verify start from. */
#ifndef VARVE_STORE_ROOT_H
#define VARVE_STORE_ROOT_H

#include "store/base/buf.h"
#include "store/store.h"

enum root_kind { ROOT_SNAPSHOT, ROOT_PIN, ROOT_HOLD };

struct store_root {
	enum root_kind kind;
	struct digest root;
	char id[SNAPSHOT_ID_SIZE];	    /* ROOT_SNAPSHOT */
	char label[SNAPSHOT_NAME_MAX + 32]; /* name, else id; "pin OWNER"; for messages */
	bool expired;			    /* ROOT_SNAPSHOT: its time is up */
};

/*
 * Append every root to out (struct store_root), snapshots first, then pins,
 * then holds: store.h says why in this order.
 */
MUST_CHECK int store_roots(struct store *s, struct buf *out, struct error *err);

/* Call fn for every pinned chunk; non-zero ends it and is returned. */
typedef int (*store_chunk_fn)(void *arg, const struct digest *chunk);
MUST_CHECK int store_pinned_chunks(struct store *s, store_chunk_fn fn, void *arg,
				   struct error *err);

#endif
