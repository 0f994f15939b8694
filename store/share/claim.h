/*
 * claim.h - one worker among all hosts: a register (register.h) whose newest entry says who works
 * at something, such as the build of a key. What the entries are: share_claim.h.
 *
 * While the holder lives, it appends an entry about every beat. Who waits looks at the number of
 * the newest one, and takes over when that has not changed for CLAIM_PATIENCE beats of the
 * waiter's own clock. So a dead holder stops nobody for good. A holder that only seemed dead finds
 * that out at its next beat; until then two may work. A claim saves work: whatever two of them
 * make must be right without it.
 */
#ifndef VARVE_SHARE_CLAIM_TAKE_H
#define VARVE_SHARE_CLAIM_TAKE_H

#include <stdbool.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/bucket/object_store.h"
#include "store/layout/share_claim.h"

#define CLAIM_BEAT_MS 10000u
#define CLAIM_PATIENCE 6u /* beats */

struct claim_options {
	unsigned beat_ms;	      /* of ours; 0: CLAIM_BEAT_MS */
	void (*waiting)(void *arg);   /* another holds it: called once; or NULL */
	bool (*cancelled)(void *arg); /* polled: give up; or NULL */
	void *arg;		      /* of both */
};

struct claim;
/*
 * Take the claim `path`, such as "build/KEY", and keep it with a thread of its own; waits while
 * another holds it. os is borrowed until claim_end.
 * 1: another held it and has ended: look whether what is wanted is there, else call again.
 * -ECHILD: another held it meanwhile and has failed, with its reason. -ECANCELED. Failures of the
 * bucket: nobody knows who works. -EBADMSG, -ENOTSUP: the newest entry is damaged or newer.
 */
MUST_CHECK int claim_take(struct object_store *os, const char *path, const struct claim_options *o,
			  struct claim **out, struct error *err);
/* Whether another host has taken it over, as of the last beat. */
bool claim_is_lost(const struct claim *c);
/*
 * End it and say so, as well as the bucket lets us. failure: why nobody else need try, or NULL.
 * NULL is accepted.
 */
void claim_end(struct claim *c, const char *failure);

#endif
