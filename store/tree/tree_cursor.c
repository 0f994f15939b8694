#include "store/tree/tree_cursor.h"

#include <assert.h>
#include <errno.h>

static int load(struct tree_cursor *c, const struct digest *d, struct node **out)
{
	return c->scan ? node_store_peek(c->ns, d, out) : node_store_get(c->ns, d, out);
}

static void pop(struct tree_cursor *c)
{
	c->depth--;
	node_unref(STEAL(c->frame[c->depth].node));
}

int tree_cursor_open(struct tree_cursor *c, struct node_store *ns, const struct digest *root,
		     bool scan)
{
	c->ns = ns;
	c->scan = scan;
	c->depth = 0;
	struct node *n;
	int r = load(c, root, &n);
	if (r < 0)
		return r;
	c->frame[0] = (struct tree_frame){ .node = n };
	c->depth = 1;
	return 0;
}

void tree_cursor_close(struct tree_cursor *c)
{
	while (c->depth > 0)
		pop(c);
}

/* Does child belong below entry `key`, with all its keys before end? */
static bool fits(const struct node *child, const struct node *parent, const uint8_t *key,
		 size_t klen, const uint8_t *end, size_t end_len)
{
	if (child->view.level + 1 != parent->view.level || child->view.count == 0)
		return false;
	const uint8_t *k, *v;
	size_t kl, vl;
	node_entry(&child->view, 0, &k, &kl, &v, &vl);
	if (node_key_cmp(k, kl, key, klen) != 0)
		return false;
	node_entry(&child->view, child->view.count - 1, &k, &kl, &v, &vl);
	return !end || node_key_cmp(k, kl, end, end_len) < 0;
}

int tree_cursor_down(struct tree_cursor *c)
{
	const struct tree_frame *f = tree_cursor_bottom(c);
	const struct node_view *view = &f->node->view;
	assert(view->level > 0 && f->i < view->count);
	const uint8_t *key, *val, *end = f->end;
	size_t klen, vlen, end_len = f->end_len;
	if (f->i + 1 < view->count)
		node_entry(view, f->i + 1, &end, &end_len, &val, &vlen);
	node_entry(view, f->i, &key, &klen, &val, &vlen);
	struct digest d;
	memcpy(d.b, val, DIGEST_SIZE);
	CLEANUP(node_unref_p) struct node *child = NULL;
	int r = load(c, &d, &child);
	if (r < 0)
		return r;
	if (c->depth > NODE_LEVEL_MAX || !fits(child, f->node, key, klen, end, end_len))
		return -EBADMSG;
	c->frame[c->depth++] = (struct tree_frame){
		.node = STEAL(child),
		.end = end,
		.end_len = end_len,
	};
	return 0;
}

bool tree_cursor_skip(struct tree_cursor *c)
{
	while (c->depth > 0) {
		struct tree_frame *f = tree_cursor_bottom(c);
		if (f->i < f->node->view.count && ++f->i < f->node->view.count)
			return true;
		pop(c);
	}
	return false;
}

static bool range_holds(const struct tree_frame *f, const void *key, size_t klen)
{
	const uint8_t *k, *v;
	size_t kl, vl;
	node_entry(&f->node->view, 0, &k, &kl, &v, &vl);
	return node_key_cmp(k, kl, key, klen) <= 0 &&
	       (!f->end || node_key_cmp(key, klen, f->end, f->end_len) < 0);
}

int tree_cursor_seek(struct tree_cursor *c, unsigned level, const void *key, size_t klen)
{
	while (c->depth > 1 && (tree_cursor_bottom(c)->node->view.level < level ||
				!range_holds(tree_cursor_bottom(c), key, klen)))
		pop(c);
	struct tree_frame *f;
	while ((f = tree_cursor_bottom(c))->node->view.level > level) {
		bool equal;
		f->i = node_lower_bound(&f->node->view, key, klen, &equal);
		if (!equal && f->i > 0)
			f->i--;
		int r = tree_cursor_down(c);
		if (r < 0)
			return r;
	}
	return 0;
}

static int down_to(struct tree_cursor *c, unsigned level, bool last)
{
	while (tree_cursor_bottom(c)->node->view.level > level) {
		int r = tree_cursor_down(c);
		if (r < 0)
			return r;
		if (last)
			tree_cursor_bottom(c)->i = tree_cursor_bottom(c)->node->view.count - 1;
	}
	return 1;
}

int tree_cursor_next_node(struct tree_cursor *c)
{
	unsigned level = tree_cursor_bottom(c)->node->view.level;
	if (!tree_cursor_bottom(c)->end)
		return 0;
	pop(c);
	if (!tree_cursor_skip(c))
		return -EBADMSG; /* cannot be: an end comes from an entry to the right */
	return down_to(c, level, false);
}

int tree_cursor_prev_node(struct tree_cursor *c)
{
	unsigned level = tree_cursor_bottom(c)->node->view.level;
	unsigned up = c->depth - 1;
	while (up > 0 && c->frame[up - 1].i == 0)
		up--;
	if (up == 0)
		return 0;
	while (c->depth > up)
		pop(c);
	tree_cursor_bottom(c)->i--;
	return down_to(c, level, true);
}
