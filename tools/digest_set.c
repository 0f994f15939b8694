/* Open addressing with linear steps, at most three quarters full. */
#include "tools/digest_set.h"

#include <errno.h>
#include <stdlib.h>

void digest_set_fini(struct digest_set *s)
{
	free(s->table);
	*s = (struct digest_set){ 0 };
}

/* The place of d, or the empty one where it belongs. */
static struct digest_entry *place(const struct digest_set *s, const struct digest *d)
{
	/* Not every key is a hash (du puts inode numbers in), so mix. */
	size_t i = (size_t)((digest_prefix(d) * 0x9e3779b97f4a7c15ull) >> 20);

	while (s->table[i & s->mask].used && !digest_equal(&s->table[i & s->mask].digest, d))
		i++;
	return &s->table[i & s->mask];
}

static int grow(struct digest_set *s)
{
	struct digest_set bigger = { .mask = s->table ? s->mask * 2 + 1 : 1023, .count = s->count };

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

int digest_set_add(struct digest_set *s, const struct digest *d, struct digest_entry **out)
{
	if (!s->table || s->count >= s->mask / 4 * 3) {
		int r = grow(s);
		if (r < 0)
			return r;
	}
	struct digest_entry *e = place(s, d);
	if (out)
		*out = e;
	if (e->used)
		return 0;
	*e = (struct digest_entry){ .digest = *d, .used = 1 };
	s->count++;
	return 1;
}

struct digest_entry *digest_set_find(const struct digest_set *s, const struct digest *d)
{
	struct digest_entry *e = s->table ? place(s, d) : NULL;

	return e && e->used ? e : NULL;
}
