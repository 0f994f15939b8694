/*
 * pull.h - take a snapshot from a bucket into the store, with all that it needs; or lazily, with
 * its tree alone.
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
#include "store/remote/lazy_index.h"
#include "store/remote/remote.h"
#include "store/remote/remotes.h"
#include "store/store.h"

#define PULL_SOURCE "remote" /* struct snapshot, source */

struct pull_options {
	/* Of the local snapshot. NULL: none; then it goes when it was not used for 30 days. */
	const char *name;
	bool same_name; /* the name that the reference is; none if that is an id */
	/*
	 * If the name belongs to a snapshot that this bucket has too, it moves to this one; the
	 * former stays, unnamed.
	 */
	bool move_name;
	/* What the reference stands for, where the caller has looked that up; or NULL. Borrowed. */
	const struct share_record *record;
	/* Of what was pulled lazily; NULL: nothing was, nor is. */
	struct lazy_index *index;
	struct prefetch *prefetch; /* told of lazy pulls; or NULL */
	/*
	 * Leave the chunks in the bucket, and note in the index where they are: the store's far
	 * source (far.h) fetches them when they are read. Without it, a snapshot that was pulled
	 * lazily before is completed.
	 */
	bool lazy;
};

struct pull_result {
	struct snapshot snapshot; /* the local one: snapshot_fini */
	bool existed;		  /* it was here already */
	uint64_t chunks, nodes;	  /* that were new to the store */
	uint64_t bytes;		  /* fetched */
};

/*
 * Waits for the network. The store's database is written as by an import. -EEXIST: the name belongs
 * to another snapshot, which is looked at before anything is fetched; -ENOENT: the remote has no
 * such snapshot, or it was deleted meanwhile; -EBADMSG: what came does not hash to what it should;
 * -ENOSPC; -ECANCELED; the remote's failures.
 */
MUST_CHECK int pull_snapshot(struct store *s, struct remote *r, const char *reference,
			     const struct pull_options *opt, struct progress *p,
			     struct pull_result *out, struct error *err);

/*
 * A snapshot by what a person types: name or id of one of this store, or REMOTE:REFERENCE, which is
 * pulled first, without a name; lazily, if the remotes have an index. rs NULL: there are no
 * remotes. snapshot_fini(out).
 */
MUST_CHECK int pull_find(struct store *s, struct remotes *rs, const char *text, struct progress *p,
			 struct snapshot *out, struct error *err);

#endif
