#include "store/chunk/digest_set.h"

#include <stdlib.h>
#include <string.h>

#define CAP_MIN 1024u

/* All zero: free. A digest that starts with 128 zero bits is never remembered. */
struct digest_slot {
	uint64_t hi, lo;
};

static struct digest_slot slot_from(const struct digest *d)
{
	struct digest_slot s;
	memcpy(&s.hi, d->b, sizeof(s.hi));
	memcpy(&s.lo, d->b + sizeof(s.hi), sizeof(s.lo));
	return s;
}

void digest_set_init(struct digest_set *s, size_t max_bytes)
{
	*s = (struct digest_set){ .max_bytes = max_bytes };
}

void digest_set_fini(struct digest_set *s)
{
	free(s->slots);
	s->slots = NULL;
	s->cap = s->count = 0;
}

/* The slot that holds the prefix, or the free one where it would go. */
static struct digest_slot *find(const struct digest_set *s, struct digest_slot want)
{
	for (size_t i = (size_t)want.lo;; i++) {
		struct digest_slot *slot = &s->slots[i & (s->cap - 1)];
		if ((slot->hi == want.hi && slot->lo == want.lo) || (!slot->hi && !slot->lo))
			return slot;
	}
}

static bool grow(struct digest_set *s)
{
	struct digest_set bigger = *s;
	bigger.cap = s->cap ? s->cap * 2 : CAP_MIN;
	if (bigger.cap > s->max_bytes / sizeof(struct digest_slot))
		return false;
	bigger.slots = calloc(bigger.cap, sizeof(struct digest_slot));
	if (!bigger.slots)
		return false;
	for (size_t i = 0; i < s->cap; i++) {
		if (s->slots[i].hi || s->slots[i].lo)
			*find(&bigger, s->slots[i]) = s->slots[i];
	}
	free(s->slots);
	*s = bigger;
	return true;
}

bool digest_set_has(const struct digest_set *s, const struct digest *d)
{
	struct digest_slot want = slot_from(d);
	if (!s->cap || (!want.hi && !want.lo))
		return false;
	const struct digest_slot *slot = find(s, want);
	return slot->hi || slot->lo;
}

bool digest_set_add(struct digest_set *s, const struct digest *d)
{
	struct digest_slot want = slot_from(d);
	if (digest_set_has(s, d))
		return false;
	/* Three quarters full at most: probes stay short, and a free slot ends them. */
	if (s->count >= s->cap / 4 * 3 && !grow(s)) {
		s->full = true;
		return true;
	}
	struct digest_slot *slot = find(s, want);
	*slot = want;
	s->count += want.hi || want.lo;
	return true;
}
