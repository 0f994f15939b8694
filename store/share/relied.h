/*
 * relied.h - where the metadata of a snapshot says that chunks are, before a push relies on it:
 * what the footers of the containers do not confirm counts for nothing.
 *
 * A reader hashes what it gets, so a wrong location harms only who names it: a snapshot that relies
 * on one cannot be read. Footers say whole digests, and cost a request or two a container.
 */
#ifndef VARVE_SHARE_RELIED_H
#define VARVE_SHARE_RELIED_H

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/bucket/object_store.h"
#include "store/remote/loc_map.h"

/* Places that are to be confirmed; zeroed: none. 60 bytes each. */
struct relied {
	struct buf v;
};
MUST_CHECK int relied_add(struct relied *r, const struct digest *d, const struct share_loc *at);
void relied_fini(struct relied *r);

/*
 * Add what is confirmed to *present (NULL: nowhere), and leave nothing. *out_denied: how many are
 * not. A container that is damaged or gone, and was not repacked, confirms nothing. -ENOMEM, and
 * failures of the bucket.
 */
MUST_CHECK int relied_check(struct relied *r, struct object_store *os, struct loc_map *present,
			    size_t *out_denied, struct error *err);

#endif
