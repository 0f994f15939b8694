/*
 * share_round.h - intents of pushes and rounds of collections: what the two say to each other.
 * Pure.
 *
 * push/PUSH, at most SHARE_INTENT_MAX bytes of JSON:
 *   {"varve": 1, "id", "nonce", "epoch", "node": instance, "startedAtMs"}
 * gc/GEN, at most SHARE_ROUND_MAX:
 *   {"varve": 1, "epoch": generation, "prev": nonce or null, "nonce", "node": instance,
 *    "condemned": packs, "repacked": packs}         packs as in share_packs.h
 * gc/GEN.done:
 *   {"varve": 1, "epoch", "nonce", "node"}
 *
 * Errors as in share_record.h.
 */
#ifndef VARVE_SHARE_ROUND_H
#define VARVE_SHARE_ROUND_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/layout/share_key.h"
#include "store/layout/share_packs.h"

#define SHARE_INTENT_MAX 4096u
#define SHARE_ROUND_MAX (4u << 20) /* some 80,000 ranges; the next round takes what is over */

struct share_intent {
	struct share_id id, nonce, node;
	uint64_t epoch;
	int64_t started_at_ms; /* by the pusher's clock: for people, not for decisions */
};
MUST_CHECK int share_intent_encode(const struct share_intent *in, struct buf *out,
				   struct error *err);
MUST_CHECK int share_intent_decode(const void *text, size_t len, struct share_intent *out,
				   struct error *err);

struct share_round {
	uint64_t epoch;	      /* its generation, from 1 */
	struct share_id prev; /* nonce of the round before; none for the first */
	struct share_id nonce, node;
	struct share_packs condemned; /* deleted unless somebody names them yet */
	struct share_packs repacked;  /* live parts are copied, then deleted */
};
void share_round_fini(struct share_round *r);
static inline void share_round_fini_p(struct share_round *r)
{
	share_round_fini(r);
}
/* -EFBIG also if the lists pass SHARE_ROUND_MAX. */
MUST_CHECK int share_round_encode(const struct share_round *r, struct buf *out, struct error *err);
MUST_CHECK int share_round_decode(const void *text, size_t len, struct share_round *out,
				  struct error *err);

struct share_round_done {
	uint64_t epoch;
	struct share_id nonce, node;
};
MUST_CHECK int share_round_done_encode(const struct share_round_done *d, struct buf *out,
				       struct error *err);
MUST_CHECK int share_round_done_decode(const void *text, size_t len, struct share_round_done *out,
				       struct error *err);

#endif
