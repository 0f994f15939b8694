/*
 * skipped.h - what could not be pushed (sharer.h), and when it is tried again: after a minute, and
 * twice as long each time, up to an hour. One thread's own.
 */
#ifndef VARVE_SNAPSHOTD_SKIPPED_H
#define VARVE_SNAPSHOTD_SKIPPED_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/names/snapshot.h"

/* A snapshot that is to be pushed. */
struct share_item {
	int64_t created_at_ms;
	char local[SNAPSHOT_ID_SIZE];
	char key[DIGEST_HEX_SIZE]; /* as the image of this; "": for its name */
};

/* A zeroed one is empty. */
struct skipped {
	unsigned first_ms; /* 0: a minute */
	struct buf v;	   /* private */
};
void skipped_fini(struct skipped *s);

/* Try it later. Of more than some thousands, the one that would be next gives way. -ENOMEM. */
MUST_CHECK int skipped_add(struct skipped *s, const struct share_item *it);
/* Whether it has failed and was not forgotten since. */
bool skipped_has(struct skipped *s, const struct share_item *it);
/* ... and its time has not come. */
bool skipped_waits(struct skipped *s, const struct share_item *it);
/* Forget it: it is done. */
void skipped_drop(struct skipped *s, const struct share_item *it);
/* Forget those of which nobody has asked since the last time: they need not be pushed any more. */
void skipped_sweep(struct skipped *s);

#endif
