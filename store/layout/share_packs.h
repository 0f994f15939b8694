/*
 * share_packs.h - sets of packs, as ranges of what each push wrote. Pure.
 *
 * As JSON: [["PUSH", "0-14"], ["PUSH", "3"], ...], ascending by push, then number; no two overlap
 * or touch, so equal sets have equal text.
 */
#ifndef VARVE_SHARE_PACKS_H
#define VARVE_SHARE_PACKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/macros.h"
#include "store/layout/share_key.h"

struct share_range {
	struct share_id push;
	uint32_t first, last; /* numbers; first <= last <= PACK_NUMBER_MAX */
};
/* Ordered as the JSON. A zeroed one is empty. */
struct share_packs {
	struct share_range *v; /* owned */
	size_t n, cap;
};
void share_packs_fini(struct share_packs *p);
static inline void share_packs_fini_p(struct share_packs *p)
{
	share_packs_fini(p);
}

/* What is there already is no error. -EINVAL: no such pack can be; -ENOMEM. */
MUST_CHECK int share_packs_add(struct share_packs *p, const struct pack_id *pack);
MUST_CHECK int share_packs_add_range(struct share_packs *p, const struct share_range *r);
MUST_CHECK int share_packs_add_all(struct share_packs *p, const struct share_packs *others);
bool share_packs_has(const struct share_packs *p, const struct pack_id *pack);
/* One pack is in both. */
bool share_packs_meet(const struct share_packs *a, const struct share_packs *b);
uint64_t share_packs_count(const struct share_packs *p);
/* Pack by pack, ascending: start with a zeroed cursor; false at the end. */
struct share_packs_cursor {
	size_t range;
	uint32_t done; /* of that range */
};
bool share_packs_next(const struct share_packs *p, struct share_packs_cursor *c,
		      struct pack_id *out);

/* A new reference, or NULL without memory. */
json_t *share_packs_to_json(const struct share_packs *p);
/* -EBADMSG, -ENOMEM. */
MUST_CHECK int share_packs_from_json(const json_t *j, struct share_packs *out);

#endif
