/*
 * pull.h - take a snapshot from a bucket into the store, with all that it needs.
 *
 * Only what the store lacks is fetched. Nothing is believed: each node and chunk must hash to what
 * its parent, or the record, says. A pull that ends early leaves garbage in the store, which a
 * later pull finds and uses, or a collection removes.
 */
#ifndef VARVE_SHARE_PULL_H
#define VARVE_SHARE_PULL_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/names/snapshot.h"
#include "store/share/remote.h"
#include "store/store.h"

struct pull_result {
	struct snapshot snapshot; /* the local one: snapshot_fini */
	bool existed;		  /* it was here already */
	uint64_t chunks, nodes;	  /* that were new to the store */
	uint64_t bytes;		  /* fetched */
};

/*
 * `name`: of the local snapshot, -EEXIST if another has it; NULL: none. Waits for the network. The
 * store's database is written as by an import. -ENOENT: the remote has no such snapshot, or it was
 * deleted meanwhile; -EBADMSG: what came does not hash to what it should; -ENOSPC; -ECANCELED; the
 * remote's failures.
 */
MUST_CHECK int pull_snapshot(struct store *s, struct remote *r, const char *reference,
			     const char *name, struct progress *p, struct pull_result *out,
			     struct error *err);

#endif
