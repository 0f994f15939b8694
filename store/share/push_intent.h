/*
 * push_intent.h - the protocol between a push and the collections of the bucket (collect.h). What a
 * push uploads between the two calls is its own matter.
 *
 * A collection (a round, numbered by the register "gc") says which packs it will delete before it
 * does. A push
 *
 *  1. reads the newest round, E, creates its intent push/P with E in it, and reads the newest round
 *     again: if that is not E, it begins anew. So a round after E sees the intent.
 *  2. takes as present only what the tree of a snapshot has whose record is ready *now*, in packs
 *     that this lists and no round which is under way has condemned or repacks. What else lies in
 *     such a pack, or is said to by old metadata, may go with any round that rewrites the pack.
 *  3. uploads, then creates the record snap/P. A collector that waits for this push in vain creates
 *     that very key to say "aborted"; so one of the two wins, whatever gets lost or comes late.
 *
 * The record is created with the date of a reply that showed the intent: a push that slept so long
 * that its intent was removed and its key freed meanwhile is refused by the service.
 */
#ifndef VARVE_SHARE_PUSH_INTENT_H
#define VARVE_SHARE_PUSH_INTENT_H

#include <stdbool.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/layout/share_packs.h"
#include "store/layout/share_record.h"
#include "store/layout/share_round.h"
#include "store/remote/remote.h"

struct push_intent {
	struct remote *r;     /* in: borrowed */
	struct share_id node; /* in: an instance whose counter moves meanwhile; or none */
	struct share_intent intent;
	struct share_packs gone; /* packs that a round under way may delete */
	bool stays;		 /* the record may still appear */
};

/* Step 1. -EAGAIN: end it and begin with a new one; failures of the bucket. */
MUST_CHECK int push_intent_declare(struct push_intent *i, struct error *err);
/*
 * The last step: rec has the intent's id, nonce and epoch. 0: the record is there, and ours.
 * -EAGAIN: a collector gave the push up. -ETIMEDOUT: it may be there.
 */
MUST_CHECK int push_intent_decide(struct push_intent *i, const struct share_record *rec,
				  struct error *err);
/* Delete the intent, unless the record may still appear; free. Also of a zeroed one. */
void push_intent_end(struct push_intent *i);

#endif
