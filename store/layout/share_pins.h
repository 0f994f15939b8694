/*
 * share_pins.h - what an instance of the daemon says that it needs of the bucket. Pure.
 *
 * node/INSTANCE, at most SHARE_PINS_MAX bytes of JSON:
 *   {"varve": 1, "id": instance, "counter", "pins": [push, ...]}
 * pins are ids of pushes, ascending, none twice, at most SHARE_PINS_COUNT. The counter grows with
 * each writing: one that stands still is of an instance that is gone.
 *
 * A pin keeps the record snap/PUSH, also one that says "deleted", and every pack that it lists.
 *
 * Errors as in share_record.h.
 */
#ifndef VARVE_SHARE_PINS_H
#define VARVE_SHARE_PINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/layout/share_key.h"

#define SHARE_PINS_MAX (1u << 20)
#define SHARE_PINS_COUNT 20000u

struct share_pins {
	struct share_id id; /* of the instance */
	uint64_t counter;   /* 1 to SHARE_GENERATION_MAX */
	struct share_id *v; /* owned; ascending */
	size_t n;
};
void share_pins_fini(struct share_pins *p);
static inline void share_pins_fini_p(struct share_pins *p)
{
	share_pins_fini(p);
}
/* Puts v into order, each id once. */
void share_pins_sort(struct share_pins *p);
bool share_pins_has(const struct share_pins *p, const struct share_id *push);

MUST_CHECK int share_pins_encode(const struct share_pins *p, struct buf *out, struct error *err);
MUST_CHECK int share_pins_decode(const void *text, size_t len, struct share_pins *out,
				 struct error *err);

#endif
