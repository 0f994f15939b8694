#include "store/tree/tree.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "store/tree/tree_cursor.h"

enum iter_state {
	ITER_BEFORE, /* before the first entry; the cursor may be closed */
	ITER_AT,     /* at the bottom's entry */
	ITER_AFTER,  /* past the last entry */
	ITER_FAILED,
};

struct tree_iter {
	struct node_store *ns;
	struct digest root;
	enum iter_state state;
	int failure; /* of ITER_FAILED */
	struct tree_cursor c;
};

struct tree_iter *tree_iter_new(struct node_store *ns, const struct digest *root)
{
	struct tree_iter *it = calloc(1, sizeof(*it));
	if (!it)
		return NULL;
	it->ns = ns;
	it->root = *root;
	return it;
}

void tree_iter_free(struct tree_iter *it)
{
	if (!it)
		return;
	tree_cursor_close(&it->c);
	free(it);
}

static int fail(struct tree_iter *it, int r)
{
	tree_cursor_close(&it->c);
	it->state = ITER_FAILED;
	it->failure = r;
	return r;
}

static int settle(struct tree_iter *it, enum iter_state state)
{
	it->state = state;
	return state == ITER_AT;
}

/* Go to the leaf whose range holds key, starting from the current position if there is one. */
static int seek_leaf(struct tree_iter *it, const void *key, size_t klen)
{
	if (it->c.depth == 0) {
		int r = tree_cursor_open(&it->c, it->ns, &it->root, false);
		if (r < 0)
			return r;
	}
	return tree_cursor_seek(&it->c, 0, key, klen);
}

int tree_iter_seek(struct tree_iter *it, const void *key, size_t klen)
{
	int r = seek_leaf(it, key, klen);
	if (r < 0)
		return fail(it, r);
	struct tree_frame *f = tree_cursor_bottom(&it->c);
	bool equal;
	f->i = node_lower_bound(&f->node->view, key, klen, &equal);
	if (f->i < f->node->view.count)
		return settle(it, ITER_AT);
	r = tree_cursor_next_node(&it->c);
	if (r < 0)
		return fail(it, r);
	return settle(it, r ? ITER_AT : ITER_AFTER);
}

int tree_iter_seek_le(struct tree_iter *it, const void *key, size_t klen)
{
	int r = seek_leaf(it, key, klen);
	if (r < 0)
		return fail(it, r);
	struct tree_frame *f = tree_cursor_bottom(&it->c);
	bool equal;
	uint32_t i = node_lower_bound(&f->node->view, key, klen, &equal);
	if (!equal && i == 0) /* only in the first leaf: others start at or before key */
		return settle(it, ITER_BEFORE);
	f->i = equal ? i : i - 1;
	return settle(it, ITER_AT);
}

int tree_iter_seek_last(struct tree_iter *it)
{
	tree_cursor_close(&it->c);
	int r = tree_cursor_open(&it->c, it->ns, &it->root, false);
	if (r < 0)
		return fail(it, r);
	struct tree_frame *f;
	for (;;) {
		f = tree_cursor_bottom(&it->c);
		if (f->node->view.count == 0)
			return settle(it, ITER_BEFORE);
		f->i = f->node->view.count - 1;
		if (f->node->view.level == 0)
			return settle(it, ITER_AT);
		r = tree_cursor_down(&it->c);
		if (r < 0)
			return fail(it, r);
	}
}

int tree_iter_next(struct tree_iter *it)
{
	if (it->state == ITER_BEFORE)
		return tree_iter_seek(it, "", 0);
	if (it->state != ITER_AT)
		return it->state == ITER_FAILED ? it->failure : 0;
	struct tree_frame *f = tree_cursor_bottom(&it->c);
	if (++f->i < f->node->view.count)
		return 1;
	int r = tree_cursor_next_node(&it->c);
	if (r < 0)
		return fail(it, r);
	return settle(it, r ? ITER_AT : ITER_AFTER);
}

const uint8_t *tree_iter_key(const struct tree_iter *it, size_t *len)
{
	assert(it->state == ITER_AT);
	const struct tree_frame *f = &it->c.frame[it->c.depth - 1];
	const uint8_t *key, *val;
	size_t vlen;
	node_entry(&f->node->view, f->i, &key, len, &val, &vlen);
	return key;
}

const uint8_t *tree_iter_value(const struct tree_iter *it, size_t *len)
{
	assert(it->state == ITER_AT);
	const struct tree_frame *f = &it->c.frame[it->c.depth - 1];
	const uint8_t *key, *val;
	size_t klen;
	node_entry(&f->node->view, f->i, &key, &klen, &val, len);
	return val;
}

struct node *tree_iter_leaf(const struct tree_iter *it)
{
	assert(it->state == ITER_AT);
	return it->c.frame[it->c.depth - 1].node;
}
