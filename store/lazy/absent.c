#include "store/lazy/absent.h"

#include <errno.h>
#include <stdlib.h>

struct absent {
	struct source source;
	struct lazy_index *ix; /* borrowed */
};

static bool knows(struct source *src, enum source_kind kind, const struct digest *d)
{
	const struct absent *a = CONTAINER_OF(src, struct absent, source);
	struct lazy_loc at;

	return kind == SOURCE_CHUNK && lazy_index_find(a->ix, d, 0, &at);
}

static void get_many(struct source *src, enum source_kind kind, struct source_item *items, size_t n)
{
	for (size_t i = 0; i < n; i++)
		items[i].result = knows(src, kind, &items[i].digest) ? -EREMOTE : -ENODATA;
}

static void has_many(struct source *src, enum source_kind kind, struct source_item *items, size_t n)
{
	for (size_t i = 0; i < n; i++)
		items[i].result = knows(src, kind, &items[i].digest);
}

static int put_many(struct source *src, enum source_kind kind, const struct source_item *items,
		    size_t n)
{
	(void)src, (void)kind, (void)items, (void)n;
	return -EROFS;
}

static void free_absent(struct source *src)
{
	free(CONTAINER_OF(src, struct absent, source));
}

struct source *absent_new(struct lazy_index *ix)
{
	static const struct source_ops ops = { .get_many = get_many,
					       .has_many = has_many,
					       .put_many = put_many,
					       .free = free_absent };
	struct absent *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->source.ops = &ops;
	a->ix = ix;
	return &a->source;
}
