/* Cuts: within their bounds, the same wherever cutting starts again, and zeros are seen. */
#include "store/chunk/chunker.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

/* The input, repeated with a change, makes a segment of many chunks. */
#define SEGMENT (400u << 10)

static uint8_t segment[SEGMENT];

static bool all_zero(const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (data[i])
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = 0;

	if (size < 8)
		return 0;
	for (size_t i = 0; i < SEGMENT; i++)
		segment[i] = (uint8_t)(data[i % size] * (1 + i / size % 255));
	while (at < SEGMENT) {
		size_t left = SEGMENT - at, n = chunker_cut(segment + at, left);
		MUST(n > 0 && n <= CHUNK_MAX && n <= left);
		MUST(n >= CHUNK_MIN || n == left);
		/* The cut depends on nothing behind CHUNK_MAX bytes. */
		if (left > CHUNK_MAX)
			MUST(chunker_cut(segment + at, CHUNK_MAX) == n);
		MUST(!!chunker_is_zero(segment + at, n) == all_zero(segment + at, n));
		at += n;
	}
	return 0;
}
