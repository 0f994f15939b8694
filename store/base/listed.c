#include "store/base/listed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int listed_add(struct buf *list, int64_t order, const char *id)
{
	struct listed l = { .order = order };

	if (strlen(id) >= sizeof(l.id))
		return -ENAMETOOLONG;
	strcpy(l.id, id);
	return buf_append(list, &l, sizeof(l));
}

static int compare(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;

	if (x->order != y->order)
		return x->order < y->order ? -1 : 1;
	return strcmp(x->id, y->id);
}

const struct listed *listed_sort(struct buf *list, size_t *out_n)
{
	*out_n = list->len / sizeof(struct listed);
	if (*out_n)
		qsort(list->data, *out_n, sizeof(struct listed), compare);
	return (const struct listed *)list->data;
}
