#include "store/tree/tree.h"

#include <errno.h>
#include <string.h>

#include "store/tree/tree_cursor.h"

int tree_empty(struct node_store *ns, struct digest *out_root)
{
	struct node_builder nb;
	node_builder_init(&nb, 0);
	CLEANUP(buf_fini_p) struct buf encoded = BUF_INIT;
	int r = node_builder_finish(&nb, &encoded);
	if (r == 0)
		r = node_store_put(ns, encoded.data, encoded.len, out_root, NULL);
	node_builder_fini(&nb);
	return r;
}

void tree_value_release(struct tree_value *v)
{
	node_unref(v->node);
	*v = (struct tree_value){ 0 };
}

/* The child of n that would hold key: 0, -ENOENT, or a failure. */
static int get_child(struct node_store *ns, const struct node *n, const void *key, size_t klen,
		     struct node **out)
{
	bool equal;
	uint32_t i = node_lower_bound(&n->view, key, klen, &equal);
	if (!equal && i-- == 0)
		return -ENOENT;
	const uint8_t *k, *v;
	size_t kl, vl;
	node_entry(&n->view, i, &k, &kl, &v, &vl);
	struct digest d;
	memcpy(d.b, v, DIGEST_SIZE);
	CLEANUP(node_unref_p) struct node *child = NULL;
	int r = node_store_get(ns, &d, &child);
	if (r < 0)
		return r;
	if (child->view.level + 1 != n->view.level || child->view.count == 0)
		return -EBADMSG;
	const uint8_t *first;
	size_t first_len;
	node_entry(&child->view, 0, &first, &first_len, &v, &vl);
	if (node_key_cmp(first, first_len, k, kl) != 0)
		return -EBADMSG;
	*out = STEAL(child);
	return 0;
}

int tree_get(struct node_store *ns, const struct digest *root, const void *key, size_t klen,
	     struct tree_value *out)
{
	CLEANUP(node_unref_p) struct node *n = NULL;
	int r = node_store_get(ns, root, &n);
	if (r < 0)
		return r;
	while (n->view.level > 0) {
		struct node *child;
		r = get_child(ns, n, key, klen, &child);
		if (r < 0)
			return r;
		node_unref(n);
		n = child;
	}
	bool equal;
	uint32_t i = node_lower_bound(&n->view, key, klen, &equal);
	if (!equal)
		return -ENOENT;
	const uint8_t *k;
	size_t kl;
	node_entry(&n->view, i, &k, &kl, &out->data, &out->len);
	out->node = STEAL(n);
	return 0;
}

int tree_visit(struct node_store *ns, const struct digest *root, tree_visit_fn fn, void *arg)
{
	CLEANUP(tree_cursor_close) struct tree_cursor c;
	int r = tree_cursor_open(&c, ns, root, true);
	while (r == 0) {
		/* The bottom has just been reached for the first time. */
		const struct node *n = tree_cursor_bottom(&c)->node;
		r = fn(arg, n);
		if (r < 0)
			return r;
		if (r == 0 || n->view.level == 0) {
			tree_cursor_bottom(&c)->i = n->view.count;
			if (!tree_cursor_skip(&c))
				return 0;
		}
		r = tree_cursor_down(&c);
	}
	return r;
}
