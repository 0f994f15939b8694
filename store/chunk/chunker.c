/*
 * The gear hash of a position is the sum of gear[byte] << distance over the 64
 * bytes before it: older bytes have been shifted out. Its high bits depend on
 * most of that window, so the masks take those. A cut is where they are zero.
 *
 * With a target of 2^16 bytes, normalisation level 2 asks for 18 zero bits up
 * to the target and 14 after it, which gathers the lengths around the target.
 *
 * The loop takes two bytes a step: h = (h << 2) + (g0 << 1) + g1, where all but
 * one addition stays off the chain of dependent instructions. The hash after
 * the first of the two is not computed but its double is, so the masks leave
 * the top bit free and are shifted by one for that test.
 */
#include "store/chunk/chunker.h"

#include <string.h>

#include "store/base/macros.h"
#include "store/chunk/chunker_gear.h"

#define WINDOW 64
#define MASK_OF_BITS(n) (((1ull << (n)) - 1) << (63 - (n)))
#define MASK_STRICT MASK_OF_BITS(18)
#define MASK_LOOSE MASK_OF_BITS(14)

/* Length of the chunk that a cut in d[from..to) ends, or 0; *hash is that at `from`. */
static inline size_t scan(const uint8_t *d, size_t from, size_t to, uint64_t mask, uint64_t *hash)
{
	uint64_t h = *hash;
	size_t i = from;

	for (; i + 2 <= to; i += 2) {
		uint64_t g0 = chunker_gear[d[i]] << 1;
		uint64_t g1 = chunker_gear[d[i + 1]];
		uint64_t doubled = (h << 2) + g0; /* twice the hash after d[i] */
		h = (h << 2) + (g0 + g1);
		if (!(doubled & (mask << 1)))
			return i + 1;
		if (!(h & mask))
			return i + 2;
	}
	if (i < to) {
		h = (h << 1) + chunker_gear[d[i]];
		if (!(h & mask))
			return i + 1;
	}
	*hash = h;
	return 0;
}

size_t chunker_cut(const uint8_t *data, size_t len)
{
	if (len <= CHUNK_MIN)
		return len;
	size_t end = MIN(len, (size_t)CHUNK_MAX);
	size_t target = MIN(end, (size_t)CHUNK_AVG);
	uint64_t hash = 0;
	for (size_t i = CHUNK_MIN - WINDOW; i < CHUNK_MIN; i++)
		hash = (hash << 1) + chunker_gear[data[i]];
	size_t cut = scan(data, CHUNK_MIN, target, MASK_STRICT, &hash);
	if (!cut)
		cut = scan(data, target, end, MASK_LOOSE, &hash);
	return cut ? cut : end;
}

int chunker_is_zero(const uint8_t *data, size_t len)
{
	static const uint8_t zeros[16];

	if (len <= sizeof(zeros))
		return memcmp(data, zeros, len) == 0;
	/* All bytes equal the one 16 before them, and the first 16 are zero. */
	return memcmp(data, zeros, sizeof(zeros)) == 0 &&
	       memcmp(data, data + sizeof(zeros), len - sizeof(zeros)) == 0;
}
