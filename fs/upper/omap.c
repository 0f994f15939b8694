#include "fs/upper/omap.h"

#include <stdlib.h>
#include <string.h>

static int key_cmp(const struct omap_entry *e, const void *key, size_t klen)
{
	int c = memcmp(e->bytes, key, MIN((size_t)e->key_len, klen));

	if (c)
		return c;
	return (e->key_len > klen) - (e->key_len < klen);
}

static uint32_t next_priority(void)
{
	static _Thread_local uint32_t state = 0x9e3779b9;

	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state;
}

struct omap_entry *omap_entry_new(const void *key, size_t klen, const void *val, size_t vlen,
				  bool tombstone)
{
	struct omap_entry *e = malloc(sizeof(*e) + klen + vlen);

	if (!e)
		return NULL;
	e->left = e->right = NULL;
	e->priority = next_priority();
	e->key_len = (uint16_t)klen;
	e->value_len = (uint32_t)vlen;
	e->tombstone = tombstone;
	e->leaves = false;
	memcpy(e->bytes, key, klen);
	if (vlen)
		memcpy(e->bytes + klen, val, vlen);
	return e;
}

void omap_entry_free(struct omap_entry *e)
{
	free(e);
}

struct omap_entry *omap_find(const struct omap *m, const void *key, size_t klen)
{
	struct omap_entry *e = m->root;

	while (e) {
		int c = key_cmp(e, key, klen);

		if (!c)
			return e;
		e = c > 0 ? e->left : e->right;
	}
	return NULL;
}

/* The smallest entry for which cmp(entry, key) >= min. */
static struct omap_entry *seek_up(const struct omap *m, const void *key, size_t klen, int min)
{
	struct omap_entry *e = m->root, *best = NULL;

	while (e) {
		int c = key_cmp(e, key, klen);

		if (c > 0 || (c == 0 && min == 0)) {
			best = e;
			e = e->left;
		} else {
			e = e->right;
		}
	}
	return best;
}

struct omap_entry *omap_seek_ge(const struct omap *m, const void *key, size_t klen)
{
	return seek_up(m, key, klen, 0);
}

struct omap_entry *omap_seek_gt(const struct omap *m, const void *key, size_t klen)
{
	return seek_up(m, key, klen, 1);
}

struct omap_entry *omap_seek_le(const struct omap *m, const void *key, size_t klen)
{
	struct omap_entry *e = m->root, *best = NULL;

	while (e) {
		int c = key_cmp(e, key, klen);

		if (c <= 0) {
			best = e;
			e = e->right;
		} else {
			e = e->left;
		}
	}
	return best;
}

/* Split t into keys below `key` and above it; an equal one goes to *equal. */
static void split(struct omap_entry *t, const void *key, size_t klen, struct omap_entry **low,
		  struct omap_entry **equal, struct omap_entry **high)
{
	while (t) {
		int c = key_cmp(t, key, klen);

		if (c == 0) {
			*low = t->left;
			*high = t->right;
			*equal = t;
			return;
		}
		if (c < 0) {
			*low = t;
			low = &t->right;
			t = t->right;
		} else {
			*high = t;
			high = &t->left;
			t = t->left;
		}
	}
	*low = *high = NULL;
}

static struct omap_entry *merge(struct omap_entry *a, struct omap_entry *b)
{
	struct omap_entry *root = NULL, **link = &root;

	while (a && b) {
		if (a->priority > b->priority) {
			*link = a;
			link = &a->right;
			a = a->right;
		} else {
			*link = b;
			link = &b->left;
			b = b->left;
		}
	}
	*link = a ? a : b;
	return root;
}

struct omap_entry *omap_insert(struct omap *m, struct omap_entry *e)
{
	struct omap_entry **link = &m->root, *equal = NULL;

	/* If the key exists already, take its place in the tree. */
	struct omap_entry *old = omap_find(m, e->bytes, e->key_len);

	if (old) {
		while (*link != old)
			link = key_cmp(*link, e->bytes, e->key_len) > 0 ? &(*link)->left
									: &(*link)->right;
		e->left = old->left;
		e->right = old->right;
		e->priority = old->priority;
		*link = e;
		old->left = old->right = NULL;
		return old;
	}
	while (*link && (*link)->priority >= e->priority)
		link = key_cmp(*link, e->bytes, e->key_len) > 0 ? &(*link)->left : &(*link)->right;
	split(*link, e->bytes, e->key_len, &e->left, &equal, &e->right);
	*link = e;
	m->count++;
	return NULL;
}

struct omap_entry *omap_remove(struct omap *m, const void *key, size_t klen)
{
	struct omap_entry **link = &m->root;

	while (*link) {
		int c = key_cmp(*link, key, klen);

		if (c == 0) {
			struct omap_entry *e = *link;

			*link = merge(e->left, e->right);
			e->left = e->right = NULL;
			m->count--;
			return e;
		}
		link = c > 0 ? &(*link)->left : &(*link)->right;
	}
	return NULL;
}

void omap_clear(struct omap *m)
{
	struct omap_entry *e = m->root;

	/* Rotate left children up until there is none: no recursion, no stack. */
	while (e) {
		if (e->left) {
			struct omap_entry *l = e->left;

			e->left = l->right;
			l->right = e;
			e = l;
		} else {
			struct omap_entry *next = e->right;

			free(e);
			e = next;
		}
	}
	m->root = NULL;
	m->count = 0;
}
