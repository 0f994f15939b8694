#include "store/base/near.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "store/base/macros.h"

static bool same(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

size_t near_distance(const char *a, const char *b)
{
	size_t rows[3][NEAR_MAX + 1];
	size_t *before = rows[0], *prev = rows[1], *cur = rows[2];
	size_t alen = strnlen(a, NEAR_MAX), blen = strnlen(b, NEAR_MAX);
	for (size_t j = 0; j <= blen; j++)
		prev[j] = j;
	for (size_t i = 1; i <= alen; i++) {
		cur[0] = i;
		for (size_t j = 1; j <= blen; j++) {
			size_t best = prev[j - 1] + !same(a[i - 1], b[j - 1]);
			best = MIN(best, prev[j] + 1);
			best = MIN(best, cur[j - 1] + 1);
			if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
				best = MIN(best, before[j - 2] + 1);
			cur[j] = best;
		}
		size_t *t = before;
		before = prev;
		prev = cur;
		cur = t;
	}
	return prev[blen];
}

size_t near_limit(const char *word, const char *other)
{
	size_t a = strlen(word), b = strlen(other), limit = MAX(a, b) / 3;

	return MIN(limit, (size_t)2);
}
