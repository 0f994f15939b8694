/*
 * publish.h - what a store shows to the other hosts by itself: its named snapshots, and the images
 * that it has built. What is already there is noted in the store (share_ids.h), so that each is
 * published once, and again where the name or the image has changed.
 */
#ifndef VARVE_SHARE_PUBLISH_H
#define VARVE_SHARE_PUBLISH_H

#include <stdbool.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/names/snapshot.h"
#include "store/share/push.h"

/*
 * Whether that is still to be done for a snapshot: one that is ready and has a name, which the
 * bucket `uuid` has not been told. What was pulled is left as it is. -EIO.
 */
MUST_CHECK int publish_wants(struct store *s, const char *uuid, const struct snapshot *snap);
/* The same for the image of a key. */
MUST_CHECK int publish_wants_image(struct store *s, const char *uuid, const char *key,
				   const char *local);

/*
 * Push a snapshot, and let its name stand for it, unless that stands for one that was not deleted
 * and of which this store knows nothing, or for any other in a permanent bucket: then *out_taken,
 * and it is pushed without a name. As push_snapshot.
 */
MUST_CHECK int publish_snapshot(struct store *s, struct remote *r, const char *local,
				struct progress *p, struct push_result *out, bool *out_taken,
				struct error *err);

struct publish_image {
	const char *key;   /* 64 hex digits */
	const char *local; /* the snapshot's id */
	bool replace;	   /* another image of the key, always */
	struct progress *progress;
};
/*
 * Push a snapshot and make it the image of a key. 1: the key has another image that is ready,
 * *out_won (share_record_fini); what was pushed is deleted again. In a permanent bucket the first
 * image stays the key's, and all that was pushed stays.
 */
MUST_CHECK int publish_image(struct store *s, struct remote *r, const struct publish_image *i,
			     struct push_result *out, struct share_record *out_won,
			     struct error *err);

/* Forget what was noted of snapshots that are gone. */
MUST_CHECK int publish_sweep(struct store *s, const char *uuid);

#endif
