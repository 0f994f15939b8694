/*
 * pull_content.h - the part of a pull that moves bytes: stores the nodes and chunks of a tree that
 * the store lacks.
 */
#ifndef VARVE_SHARE_PULL_CONTENT_H
#define VARVE_SHARE_PULL_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/bucket/object_store.h"
#include "store/remote/share_meta.h"
#include "store/store.h"

struct pull_content {
	/* in */
	struct store *s; /* the caller is inside a guard session */
	struct object_store *os;
	struct digest root;
	const struct share_meta *meta;
	bool lazy; /* only nodes; what they refer to must be in meta */
	struct progress *p;
	/* out */
	uint64_t chunks, nodes, bytes; /* stored, stored, fetched */
};

/* Failures as of pull_snapshot. */
MUST_CHECK int pull_content_run(struct pull_content *c, struct error *err);

#endif
