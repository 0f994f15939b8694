/*
 * repair.h - for a push that repairs: which packs of a snapshot in the bucket are lost or damaged,
 * and a new snapshot there in the place of one that needs them.
 */
#ifndef VARVE_SHARE_REPAIR_H
#define VARVE_SHARE_REPAIR_H

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/layout/share_packs.h"
#include "store/layout/share_record.h"
#include "store/remote/remote.h"

/*
 * Adds to *bad those packs of the record that are not there, or of which a byte is not as its
 * digest says. Reads all of them. -ECANCELED; a bucket that does not answer.
 */
MUST_CHECK int repair_find_bad(struct remote *r, const struct share_record *rec, struct progress *p,
			       struct share_packs *bad, struct error *err);
/*
 * How many chunks of the record are where its metadata says that they are, by the footers: *out of
 * them are not. *out_unreadable: the metadata itself is not whole. It lies in packs, which
 * repair_find_bad looks at, or in objects of its own, if these were rewritten. What is damaged
 * otherwise is for repair_find_bad. A bucket that does not answer.
 */
MUST_CHECK int repair_find_misled(struct remote *r, const struct share_record *rec, size_t *out,
				  bool *out_unreadable, struct error *err);
/* Let all names that stand for the old record stand for the new one, then delete the old. */
MUST_CHECK int repair_replace(struct remote *r, const struct share_record *old,
			      const struct share_record *rec, struct error *err);

#endif
