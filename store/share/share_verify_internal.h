/*
 * share_verify_internal.h - a verification, for share_verify.c, which checks records, and
 * share_verify_names.c.
 */
#ifndef VARVE_SHARE_VERIFY_INTERNAL_H
#define VARVE_SHARE_VERIFY_INTERNAL_H

#include <stdio.h>

#include "store/chunk/digest_set.h"
#include "store/remote/moved.h"
#include "store/share/share_verify.h"

struct verify {
	struct remote *r;
	struct object_store *os;
	struct moved *moved;
	struct progress *p;
	share_problem_fn problem;
	void *arg;
	struct error *err;
	struct share_packs listed; /* packs that are there */
	struct share_packs lent;   /* of these: that were not listed, and a record borrows */
	struct error away;	   /* of who lends: it is asked no more; code 0: it answers */
	struct share_packs named;  /* by ready records */
	struct buf ready;	   /* struct share_id of those that were met, ascending */
	struct digest_set checked; /* locations of chunks, hashed */
	struct share_verify_result *res;
};

static inline void share_verify_tell(struct verify *v, const char *key, const char *text)
{
	v->res->damaged++;
	v->problem(v->arg, key, text);
}

/* All of it, or a part, which the alternate would have to show. */
static inline void share_verify_tell_unchecked(struct verify *v, const char *key, const char *why)
{
	char text[400];

	snprintf(text, sizeof(text), "not all of it was checked: %.350s", why);
	v->res->unchecked++;
	v->problem(v->arg, key, text);
}

/* After all records: v->ready has those that are ready. A failure as of share_verify_run. */
MUST_CHECK int share_verify_names(struct verify *v);

#endif
