/* From the far source into the database and the caches. */
#include <errno.h>
#include <string.h>

#include "store/store.h"

void store_set_far(struct store *s, struct source *far)
{
	s->far = far;
	chunk_store_set_far(s->chunks, far);
	node_store_set_far(s->nodes, far);
}

void store_stop_far(struct store *s)
{
	if (s->far && s->far->ops->stop)
		s->far->ops->stop(s->far);
}

void store_where_far(struct store *s, const struct digest *chunk, char *out, size_t size)
{
	*out = '\0';
	if (s->far && s->far->ops->where)
		s->far->ops->where(s->far, SOURCE_CHUNK, chunk, out, size);
}

/* Ask for the wants of one kind, each digest once, and note the results. */
static void fetch_kind(struct store *s, enum source_kind kind, struct want *wants, size_t n)
{
	struct source_item items[WANTS_MAX];
	size_t item_of[WANTS_MAX], n_items = 0;

	for (size_t i = 0; i < n; i++) {
		size_t at = 0;

		while (at < n_items && !digest_equal(&items[at].digest, &wants[i].digest))
			at++;
		item_of[i] = at;
		if (wants[i].kind == kind && at == n_items)
			items[n_items++] = (struct source_item){ .digest = wants[i].digest };
	}
	if (n_items && kind == SOURCE_CHUNK)
		chunk_store_fetch(s->chunks, items, n_items);
	else if (n_items)
		node_store_fetch(s->nodes, items, n_items);
	for (size_t i = 0; i < n; i++)
		if (wants[i].kind == kind)
			wants[i].result = items[item_of[i]].result;
}

void store_fetch(struct store *s, struct want *wants, size_t n)
{
	for (size_t at = 0; at < n; at += WANTS_MAX) {
		size_t some = MIN(n - at, (size_t)WANTS_MAX);

		fetch_kind(s, SOURCE_CHUNK, wants + at, some);
		fetch_kind(s, SOURCE_NODE, wants + at, some);
	}
}

int store_fetch_wanted(struct store *s)
{
	struct want wants[WANTS_MAX];
	size_t n = want_count();

	assert(want_may_wait());
	memcpy(wants, want_here.list, n * sizeof(*wants));
	store_fetch(s, wants, n);
	want_begin(NULL, 0);
	for (size_t i = 0; i < n; i++)
		if (wants[i].result)
			return wants[i].result;
	return n ? 0 : -EIO;
}
