/*
 * share_claim.h - who builds what others need too: an entry of the register build/KEY. Pure.
 *
 *   {"varve": 1, "generation", "prev": nonce or null, "nonce", "holder": id,
 *    "state": "held", "free" or "failed", "beatMs", "error"}
 *
 * "held": the holder works, and appends the next generation about every beatMs milliseconds.
 * "free": nobody does. "failed": what the holder did cannot succeed, here or elsewhere, for the
 * reason in "error" (else absent). Decoders behave as those of share_record.h.
 */
#ifndef VARVE_SHARE_CLAIM_H
#define VARVE_SHARE_CLAIM_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/layout/share_key.h"

#define SHARE_CLAIM_MAX 8192u /* bytes of an entry */
#define SHARE_BEAT_MIN_MS 10u
#define SHARE_BEAT_MAX_MS 600000u

enum share_claim_state {
	SHARE_HELD,
	SHARE_FREE,
	SHARE_FAILED,
};

struct share_claim {
	uint64_t generation;  /* 1 to SHARE_GENERATION_MAX */
	struct share_id prev; /* nonce of the generation before; none for the first */
	struct share_id nonce, holder;
	enum share_claim_state state;
	unsigned beat_ms; /* SHARE_BEAT_MIN_MS to SHARE_BEAT_MAX_MS */
	char error[512];
};

/* Appends. -EINVAL: breaks a rule above; -ENOMEM. */
MUST_CHECK int share_claim_encode(const struct share_claim *c, struct buf *out, struct error *err);
MUST_CHECK int share_claim_decode(const void *text, size_t len, struct share_claim *out,
				  struct error *err);

#endif
