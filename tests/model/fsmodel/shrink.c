/*
 * shrink.c - make a failing sequence short: leave out halves, quarters, ...
 * single operations for as long as the sides still differ.
 */
#include "tests/model/fsmodel/model.h"

#include <stdlib.h>
#include <string.h>

#define REPLAYS_MAX 600

void shrink_ops(struct op *ops, bool *skip, size_t n, replay_fn replay, void *arg)
{
	size_t at = n;
	unsigned replays = 0;
	bool *try = calloc(n, sizeof(*try));

	if (!try)
		return;
	for (size_t chunk = (n + 1) / 2; chunk && replays < REPLAYS_MAX; chunk /= 2) {
		for (size_t from = 0; from < n && replays < REPLAYS_MAX; from += chunk) {
			memcpy(try, skip, n * sizeof(*try));
			bool any = false;
			for (size_t i = from; i < MIN(from + chunk, n); i++) {
				any |= !try[i];
				try[i] = true;
			}
			if (!any)
				continue;
			replays++;
			if (replay(arg, ops, try, n, &at) != 1)
				continue;
			/* What comes after the difference is not needed either. */
			for (size_t i = at + 1; i < n; i++)
				try[i] = true;
			memcpy(skip, try, n * sizeof(*skip));
		}
	}
	free(try);
}
