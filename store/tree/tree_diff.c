/*
 * Two cursors walk in key order, each at an entry of any level: a key and value
 * in a leaf, or a whole subtree above. If both are at the same subtree, both
 * pass it unread. Otherwise the one whose entry comes first, or is higher, goes
 * down. So the cursors meet again at the start of whatever the trees share,
 * even if heights or boundaries before it differ.
 */
#include "store/tree/tree.h"

#include <errno.h>

#include "store/tree/tree_cursor.h"

struct side {
	struct tree_cursor c;
	bool at_end;
	unsigned level; /* of the entry: 0 is a key and value */
	struct tree_span key;
	struct tree_span val;
};

static void look(struct side *s)
{
	if (s->at_end)
		return;
	const struct tree_frame *f = tree_cursor_bottom(&s->c);
	s->level = f->node->view.level;
	node_entry(&f->node->view, f->i, &s->key.data, &s->key.len, &s->val.data, &s->val.len);
}

static int side_open(struct side *s, struct node_store *ns, const struct digest *root)
{
	int r = tree_cursor_open(&s->c, ns, root, false);
	if (r < 0)
		return r;
	s->at_end = tree_cursor_bottom(&s->c)->node->view.count == 0;
	look(s);
	return 0;
}

static void pass(struct side *s)
{
	s->at_end = !tree_cursor_skip(&s->c);
	look(s);
}

static int descend(struct side *s)
{
	int r = tree_cursor_down(&s->c);
	if (r == 0)
		look(s);
	return r;
}

static bool same_value(const struct side *a, const struct side *b)
{
	return a->val.len == b->val.len &&
	       (a->val.len == 0 || memcmp(a->val.data, b->val.data, a->val.len) == 0);
}

/* The other tree does not have this entry as it is: go into it, or report it. */
static int step_one(struct side *s, bool is_first, tree_diff_fn fn, void *arg)
{
	if (s->level > 0)
		return descend(s);
	int r = fn(arg, &s->key, is_first ? &s->val : NULL, is_first ? NULL : &s->val);
	if (r == 0)
		pass(s);
	return r;
}

/* Both stand at the same key. */
static int step_both(struct side *a, struct side *b, tree_diff_fn fn, void *arg)
{
	int r = 0;
	if (a->level == b->level && same_value(a, b)) {
		pass(a);
		pass(b);
		return 0;
	}
	unsigned level_a = a->level;
	unsigned level_b = b->level;
	if (level_a == 0 && level_b == 0) {
		r = fn(arg, &a->key, &a->val, &b->val);
		if (r != 0)
			return r;
		pass(a);
		pass(b);
		return 0;
	}
	if (level_a >= level_b)
		r = descend(a);
	if (r == 0 && level_b >= level_a)
		r = descend(b);
	return r;
}

static int walk(struct side *a, struct side *b, tree_diff_fn fn, void *arg)
{
	while (!a->at_end || !b->at_end) {
		int order = a->at_end	? 1
			    : b->at_end ? -1
					: node_key_cmp(a->key.data, a->key.len, b->key.data,
						       b->key.len);
		int r = order < 0   ? step_one(a, true, fn, arg)
			: order > 0 ? step_one(b, false, fn, arg)
				    : step_both(a, b, fn, arg);
		if (r != 0)
			return r;
	}
	return 0;
}

int tree_diff(struct node_store *ns, const struct digest *a, const struct digest *b,
	      tree_diff_fn fn, void *arg)
{
	if (digest_equal(a, b))
		return 0;
	struct side sa = { .at_end = false };
	struct side sb = { .at_end = false };
	int r = side_open(&sa, ns, a);
	if (r == 0)
		r = side_open(&sb, ns, b);
	if (r == 0)
		r = walk(&sa, &sb, fn, arg);
	tree_cursor_close(&sa.c);
	tree_cursor_close(&sb.c);
	return r;
}
