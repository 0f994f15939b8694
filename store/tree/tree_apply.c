/*
 * Applying a batch works on one level of the tree after the other, leaves
 * first. The changes of a level are merged with its old entries and the result
 * is cut into nodes again; which nodes went and came are the changes of the
 * level above, until a level is left with one node.
 *
 * A level is rewritten in runs. A run starts at an old node before which
 * nothing changes, so cutting from there gives the same nodes as cutting from
 * the level's beginning (node.h). It ends where a new node would start just
 * where an unchanged old one does: from there on the old nodes are right. With
 * boundaries given by keys that is nearly always the end of the touched node;
 * if only size decides, it may take some more nodes.
 *
 * A run for a change within a node starts at that node. If the change removes
 * or resizes a node's first entry, that entry may now belong to the node
 * before: the run starts there.
 *
 * If one run covers a whole level, its nodes are all of that level, and the
 * levels above are built from them alone.
 */
#include "store/tree/tree_batch.h"
#include "store/tree/tree_cursor.h"

#include <errno.h>
#include <string.h>

struct merge {
	struct node_store *ns;
	struct tree_cursor *old; /* NULL: the level has no old entries */
	const struct tree_change *c;
	const struct tree_change *c_end;
	struct node_builder nb;
	struct buf encoded;
	struct tree_batch *gone; /* old nodes consumed: first key -> digest */
	struct tree_batch *made; /* new nodes: the same */
	uint64_t *new_bytes;
	bool whole; /* gone holds, or would hold, every old node */
};

static int flush(struct merge *m)
{
	if (m->nb.count == 0)
		return 0;
	struct node_view n = { .count = m->nb.count, .level = m->nb.level };
	buf_clear(&m->encoded);
	int r = node_builder_finish(&m->nb, &m->encoded);
	if (r < 0)
		return r;
	struct digest d;
	r = node_store_put(m->ns, m->encoded.data, m->encoded.len, &d, m->new_bytes);
	if (r < 0)
		return r;
	n.bytes = m->encoded.data;
	n.len = m->encoded.len;
	const uint8_t *key, *val;
	size_t klen, vlen;
	node_entry(&n, 0, &key, &klen, &val, &vlen);
	return tree_batch_put(m->made, key, klen, d.b, DIGEST_SIZE);
}

static int emit(struct merge *m, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	if (node_builder_splits_before(&m->nb, key, klen, vlen)) {
		int r = flush(m);
		if (r < 0)
			return r;
	}
	return node_builder_add(&m->nb, key, klen, val, vlen);
}

static int emit_change(struct merge *m)
{
	const struct tree_change *c = m->c++;
	return c->vlen == TREE_DELETED ? 0 : emit(m, c->key, c->klen, c->key + c->klen, c->vlen);
}

/* Emit the changes whose key is below the given one; end NULL: all. */
static int emit_changes_below(struct merge *m, const uint8_t *end, size_t end_len)
{
	while (m->c < m->c_end && (!end || node_key_cmp(m->c->key, m->c->klen, end, end_len) < 0)) {
		int r = emit_change(m);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool change_is_at(const struct merge *m, const uint8_t *key, size_t klen)
{
	return m->c < m->c_end && node_key_cmp(m->c->key, m->c->klen, key, klen) == 0;
}

/* Consume the cursor's bottom node together with the changes in its range. */
static int merge_node(struct merge *m)
{
	const struct tree_frame *f = tree_cursor_bottom(m->old);
	const uint8_t *key, *val;
	size_t klen, vlen;
	int r = 0;
	for (uint32_t i = 0; i < f->node->view.count; i++) {
		node_entry(&f->node->view, i, &key, &klen, &val, &vlen);
		if (i == 0)
			r = tree_batch_put(m->gone, key, klen, f->node->digest.b, DIGEST_SIZE);
		if (r == 0)
			r = emit_changes_below(m, key, klen);
		if (r == 0)
			r = change_is_at(m, key, klen) ? emit_change(m)
						       : emit(m, key, klen, val, vlen);
		if (r < 0)
			return r;
	}
	return emit_changes_below(m, f->end, f->end_len);
}

/* Put the cursor on the node at which the run for the next change starts. */
static int seek_run(struct merge *m)
{
	const struct tree_change *c = m->c;
	int r = tree_cursor_seek(m->old, m->nb.level, c->key, c->klen);
	if (r < 0)
		return r;
	const struct node_view *n = &tree_cursor_bottom(m->old)->node->view;
	if (n->count == 0)
		return 0;
	const uint8_t *key, *val;
	size_t klen, vlen;
	node_entry(n, 0, &key, &klen, &val, &vlen);
	if (node_key_cmp(c->key, c->klen, key, klen) == 0 && c->vlen != vlen)
		r = tree_cursor_prev_node(m->old);
	return r < 0 ? r : 0;
}

static bool is_leftmost(const struct tree_cursor *c)
{
	for (unsigned i = 0; i + 1 < c->depth; i++) {
		if (c->frame[i].i > 0)
			return false;
	}
	return true;
}

/*
 * After a node was consumed: go to the next one that the run must consume (1),
 * or find that the run ends here (0). The node after may stay unread when its
 * key alone says that it starts a node.
 */
static int continue_run(struct merge *m)
{
	const struct tree_frame *f = tree_cursor_bottom(m->old);
	if (!f->end)
		return 0;
	if (!change_is_at(m, f->end, f->end_len) &&
	    (m->nb.count == 0 || node_builder_splits_before(&m->nb, f->end, f->end_len, 0))) {
		m->whole = false;
		return 0;
	}
	int r = tree_cursor_next_node(m->old);
	if (r <= 0)
		return r;
	const uint8_t *key, *val;
	size_t klen, vlen;
	node_entry(&tree_cursor_bottom(m->old)->node->view, 0, &key, &klen, &val, &vlen);
	if (!change_is_at(m, key, klen) && node_builder_splits_before(&m->nb, key, klen, vlen)) {
		m->whole = false;
		return 0;
	}
	return 1;
}

static int merge_run(struct merge *m)
{
	int r = seek_run(m);
	if (r < 0)
		return r;
	if (!is_leftmost(m->old))
		m->whole = false;
	do {
		r = merge_node(m);
		if (r == 0)
			r = continue_run(m);
	} while (r > 0);
	return r;
}

/*
 * Merge all changes of a level. *out_only is set, and the last node not stored,
 * when the level turns out to be one node with one child: the root is below.
 */
static int merge_level(struct merge *m, struct digest *out_only, bool *out_has_only)
{
	int r = 0;
	m->whole = true;
	*out_has_only = false;
	if (!m->old)
		r = emit_changes_below(m, NULL, 0);
	while (m->old && r == 0 && m->c < m->c_end) {
		r = merge_run(m);
		if (r == 0 && m->c < m->c_end)
			r = flush(m);
	}
	if (r < 0)
		return r;
	if (m->whole && m->nb.level > 0 && m->nb.count == 1 && tree_batch_count(m->made) == 0) {
		const uint8_t *end = m->nb.entries.data + m->nb.entries.len;
		memcpy(out_only->b, end - DIGEST_SIZE, DIGEST_SIZE);
		*out_has_only = true;
		return 0;
	}
	return flush(m);
}

/* The changes of the level above that turn the nodes gone into the nodes made. */
static int diff_nodes(const struct tree_batch *gone, const struct tree_batch *made,
		      struct tree_batch *out)
{
	const struct tree_change *g = tree_batch_begin(gone);
	const struct tree_change *g_end = tree_batch_end(gone);
	const struct tree_change *n = tree_batch_begin(made);
	const struct tree_change *n_end = tree_batch_end(made);
	while (g < g_end || n < n_end) {
		int order = g == g_end	 ? 1
			    : n == n_end ? -1
					 : node_key_cmp(g->key, g->klen, n->key, n->klen);
		int r = 0;
		if (order < 0)
			r = tree_batch_del(out, g->key, g->klen);
		else if (order > 0 || memcmp(g->key + g->klen, n->key + n->klen, DIGEST_SIZE) != 0)
			r = tree_batch_put(out, n->key, n->klen, n->key + n->klen, DIGEST_SIZE);
		if (r < 0)
			return r;
		if (order <= 0)
			g++;
		if (order >= 0)
			n++;
	}
	return 0;
}

/* Down from a root with a single child to the lowest level with one node. */
static int collapse(struct node_store *ns, struct digest *root)
{
	CLEANUP(tree_cursor_close) struct tree_cursor c = { .depth = 0 };
	int r = tree_cursor_open(&c, ns, root, false);
	while (r == 0) {
		const struct tree_frame *f = tree_cursor_bottom(&c);
		if (f->node->view.level == 0 || f->node->view.count > 1) {
			*root = f->node->digest;
			return 0;
		}
		r = tree_cursor_down(&c);
	}
	return r;
}

struct apply {
	struct node_store *ns;
	struct tree_cursor old;
	bool old_done; /* from here on the levels are built from scratch */
	const struct digest *old_root;
	struct tree_batch *up; /* changes of the next level; NULL for the leaves */
	uint64_t *new_bytes;
};

/* The level consists of the nodes made alone: 1 when *out_root is the result. */
static int end_of_whole(struct apply *a, unsigned level, const struct tree_batch *made,
			struct digest *out_root)
{
	const struct tree_change *first = tree_batch_begin(made);
	a->old_done = true;
	if (tree_batch_count(made) > 1)
		return 0;
	if (tree_batch_count(made) == 1) {
		memcpy(out_root->b, first->key + first->klen, DIGEST_SIZE);
		return 1;
	}
	if (level > 0)
		return -EBADMSG; /* its children have not all gone */
	int r = tree_empty(a->ns, out_root);
	return r < 0 ? r : 1;
}

/* One level: 1 when *out_root is the result, 0 to go on with a->up. */
static int apply_to_level(struct apply *a, unsigned level, const struct tree_batch *changes,
			  struct digest *out_root)
{
	CLEANUP(tree_batch_free_p) struct tree_batch *gone = tree_batch_new();
	CLEANUP(tree_batch_free_p) struct tree_batch *made = tree_batch_new();
	CLEANUP(tree_batch_free_p) struct tree_batch *up = tree_batch_new();
	if (!gone || !made || !up)
		return -ENOMEM;
	struct merge m = {
		.ns = a->ns,
		.old = a->old_done ? NULL : &a->old,
		.c = tree_batch_begin(changes),
		.c_end = tree_batch_end(changes),
		.gone = gone,
		.made = made,
		.new_bytes = a->new_bytes,
	};
	node_builder_init(&m.nb, level);
	bool has_only;
	int r = merge_level(&m, out_root, &has_only);
	node_builder_fini(&m.nb);
	buf_fini(&m.encoded);
	if (r < 0 || has_only)
		return r < 0 ? r : 1;
	if (m.whole) {
		r = end_of_whole(a, level, made, out_root);
		if (r != 0)
			return r;
		tree_batch_clear(gone);
	}
	r = diff_nodes(gone, made, up);
	if (r < 0)
		return r;
	if (tree_batch_count(up) == 0) {
		*out_root = *a->old_root;
		return 1;
	}
	tree_batch_free(a->up);
	a->up = STEAL(up);
	return 0;
}

int tree_apply(struct node_store *ns, const struct digest *root, struct tree_batch *b,
	       struct digest *out_root, uint64_t *new_bytes)
{
	if (tree_batch_count(b) == 0) {
		*out_root = *root;
		return 0;
	}
	int r = tree_batch_sort(b);
	if (r < 0)
		return r;
	struct apply a = { .ns = ns, .old_root = root, .new_bytes = new_bytes };
	struct digest result;
	r = tree_cursor_open(&a.old, ns, root, false);
	for (unsigned level = 0; r == 0; level++) {
		if (level > NODE_LEVEL_MAX)
			r = -EOVERFLOW; /* 4^16 leaves */
		else
			r = apply_to_level(&a, level, level ? a.up : b, &result);
	}
	tree_cursor_close(&a.old);
	tree_batch_free(a.up);
	if (r < 0)
		return r;
	r = collapse(ns, &result);
	if (r == 0)
		*out_root = result;
	return r;
}
