/* Open addressing with linear steps, at most three quarters full. */
#include "tools/inspect/chunk_index.h"

#include <errno.h>
#include <stdlib.h>

void chunk_index_fini(struct chunk_index *s)
{
	free(s->table);
	*s = (struct chunk_index){ 0 };
}

/* The place of d, or the empty one where it belongs. */
static struct chunk_entry *place(const struct chunk_index *s, const struct digest *d)
{
	size_t i = (size_t)digest_prefix(d); /* of a hash: spread well */

	while (s->table[i & s->mask].used && !digest_equal(&s->table[i & s->mask].digest, d))
		i++;
	return &s->table[i & s->mask];
}

static int grow(struct chunk_index *s)
{
	struct chunk_index bigger = { .mask = s->table ? s->mask * 2 + 1 : 1023,
				      .count = s->count };

	bigger.table = calloc(bigger.mask + 1, sizeof(*bigger.table));
	if (!bigger.table)
		return -ENOMEM;
	for (size_t i = 0; s->table && i <= s->mask; i++)
		if (s->table[i].used)
			*place(&bigger, &s->table[i].digest) = s->table[i];
	free(s->table);
	*s = bigger;
	return 0;
}

int chunk_index_add(struct chunk_index *s, const struct digest *d, struct chunk_entry **out)
{
	if (!s->table || s->count >= s->mask / 4 * 3) {
		int r = grow(s);
		if (r < 0)
			return r;
	}
	struct chunk_entry *e = place(s, d);
	if (out)
		*out = e;
	if (e->used)
		return 0;
	*e = (struct chunk_entry){ .digest = *d, .used = 1 };
	s->count++;
	return 1;
}

struct chunk_entry *chunk_index_find(const struct chunk_index *s, const struct digest *d)
{
	struct chunk_entry *e = s->table ? place(s, d) : NULL;

	return e && e->used ? e : NULL;
}
