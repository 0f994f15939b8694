/*
 * push.h - put a snapshot into a bucket: what is new goes into containers (vpk.h), and then one
 * record that names it.
 *
 * The record is created once; until then nobody sees anything, and what a push that ended early has
 * left there is garbage for a collection of the bucket. README.md tells the protocol between pushes
 * and collections.
 */
#ifndef VARVE_SHARE_PUSH_H
#define VARVE_SHARE_PUSH_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/remote/remote.h"
#include "store/share/hooks.h"
#include "store/store.h"

struct push_options {
	const char *name; /* in the bucket; NULL: none */
	bool only_new;	  /* -EEXIST if the name stands for another snapshot there */
	/*
	 * If the snapshot is there already: read all of its packs, and where some are lost or
	 * damaged, or its metadata says wrong locations of chunks, push it anew without relying on
	 * these, in the place of the one that is there.
	 */
	bool repair;
	/* Bytes of files that others may have pushed, too, before it looks for them; 0: HOOKS_FROM.
	 */
	uint64_t hooks_from;
};

struct push_result {
	struct share_id id;	       /* of the snapshot in the bucket */
	bool existed;		       /* it was there already; at most the name is new */
	uint64_t chunks, nodes, packs; /* new ones that were uploaded */
	uint64_t bytes;		       /* of these packs */
	uint64_t damaged; /* repair: packs lost or damaged, chunks said to be elsewhere */
};

/*
 * Waits for the network and takes as long as that does; memory stays below about 256 MiB. The
 * snapshot is a name or id of `s`, and stays readable meanwhile. -ENOENT; -EINVAL if it has no tree
 * yet; -EROFS; -EPERM: a permanent bucket, in which the name stands for another one, or what is to
 * be repaired would be replaced; -EREMOTEIO: chunks cannot be read here, or where they were fetched
 * from; -EAGAIN: others keep ending it; -ECANCELED; the remote's failures.
 */
MUST_CHECK int push_snapshot(struct store *s, struct remote *r, const char *snapshot,
			     const struct push_options *opt, struct progress *p,
			     struct push_result *out, struct error *err);

#endif
