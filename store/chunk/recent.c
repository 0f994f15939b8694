#include "store/chunk/recent.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BITS 4 /* that a chunk sets, of about 10 for each: 1 % in error */
#define BITS_PER_CHUNK 10
#define WORDS_MIN ((size_t)1 << 10)
#define WORDS_MAX ((size_t)1 << 20) /* 8 MiB each: 6.7 million chunks */

struct recent {
	size_t n_words;		 /* of each filter: a power of two */
	_Atomic unsigned newer;	 /* 0 or 1 */
	_Atomic uint64_t *words; /* of both */
};

struct recent *recent_new(size_t chunks)
{
	struct recent *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->n_words = WORDS_MIN;
	while (r->n_words < WORDS_MAX && r->n_words * 64 / BITS_PER_CHUNK < chunks)
		r->n_words *= 2;
	r->words = calloc(2 * r->n_words, sizeof(*r->words));
	if (!r->words) {
		free(r);
		return NULL;
	}
	return r;
}

void recent_free(struct recent *r)
{
	if (!r)
		return;
	free(r->words);
	free(r);
}

/* A digest is random: its parts choose the bits. */
static uint64_t bit_of(const struct recent *r, const struct digest *d, unsigned i)
{
	uint32_t part;

	memcpy(&part, d->b + i * sizeof(part), sizeof(part));
	return part & (r->n_words * 64 - 1);
}

void recent_note(struct recent *r, const struct digest *d)
{
	unsigned newer = atomic_load_explicit(&r->newer, memory_order_relaxed);
	_Atomic uint64_t *words = r->words + newer * r->n_words;

	for (unsigned i = 0; i < BITS; i++) {
		uint64_t at = bit_of(r, d, i), bit = 1ull << at % 64;

		if (!(atomic_load_explicit(&words[at / 64], memory_order_relaxed) & bit))
			atomic_fetch_or_explicit(&words[at / 64], bit, memory_order_relaxed);
	}
}

static bool filter_has(const struct recent *r, unsigned which, const struct digest *d)
{
	const _Atomic uint64_t *words = r->words + which * r->n_words;

	for (unsigned i = 0; i < BITS; i++) {
		uint64_t at = bit_of(r, d, i);

		if (!(atomic_load_explicit(&words[at / 64], memory_order_relaxed) >> at % 64 & 1))
			return false;
	}
	return true;
}

bool recent_has(const struct recent *r, const struct digest *d, unsigned periods)
{
	unsigned newer = atomic_load_explicit(&r->newer, memory_order_relaxed);

	return (periods >= 1 && filter_has(r, newer, d)) ||
	       (periods >= 2 && filter_has(r, !newer, d));
}

void recent_turn(struct recent *r)
{
	unsigned older = !atomic_load_explicit(&r->newer, memory_order_relaxed);

	for (size_t i = 0; i < r->n_words; i++)
		atomic_store_explicit(&r->words[older * r->n_words + i], 0, memory_order_relaxed);
	atomic_store_explicit(&r->newer, older, memory_order_relaxed);
}
