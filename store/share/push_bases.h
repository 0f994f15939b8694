/*
 * push_bases.h - the part of a push that finds what is there already: by the snapshots, its
 * *bases*, that the bucket has, or its alternate, and that the new one may share content with. What
 * of these counts as there: push_intent.h.
 */
#ifndef VARVE_SHARE_PUSH_BASES_H
#define VARVE_SHARE_PUSH_BASES_H

#include <stdbool.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/chunk/digest_set.h"
#include "store/remote/loc_map.h"
#include "store/remote/remote.h"
#include "store/remote/share_meta.h"
#include "store/share/hooks.h"
#include "store/store.h"

#define BASES_MAX 4u

struct base {
	struct share_record rec;
	struct share_meta meta;
	bool is_other; /* it is in the alternate */
};

struct push_bases {
	/* in; borrowed */
	struct store *s;
	struct remote *r;
	const struct snapshot *snap;
	struct progress *p;
	const struct share_packs *gone; /* what a round under way may delete */
	/* What it takes the place of, and packs of that which are of no use; else NULL. */
	const struct share_record *old;
	const struct share_packs *bad;
	bool misled; /* what is there says wrong locations, or lacks nodes; may be set here, too */
	/* out: push_bases_fini */
	struct base bases[BASES_MAX]; /* the first is the nearest ancestor, if is_child */
	unsigned n_bases;
	bool is_child;
	struct loc_map present;	     /* chunks that need no upload */
	struct share_packs borrowed; /* those of bases that may be in the alternate */
	struct digest_set known;     /* nodes of the first base, if it is a delta's */
};

/* By what this host knows. Failures of the bucket; -EBADMSG: a base's nodes are damaged. */
MUST_CHECK int push_bases_learn(struct push_bases *x, struct error *err);
/*
 * Add snapshots of other hosts that share much with what is to be uploaded, as the hooks say: first
 * the one that has most of `unknown`, then the one that has most of the rest.
 */
MUST_CHECK int push_bases_learn_hooked(struct push_bases *x, const struct hook_sample *unknown,
				       struct error *err);
/*
 * Whether to write only what the first base lacks. Otherwise its nodes are written anew, with all
 * locations, so that a reader needs few containers, and these are not mostly outdated.
 */
bool push_bases_is_delta(const struct push_bases *x);
void push_bases_fini(struct push_bases *x); /* also of a zeroed one */

#endif
