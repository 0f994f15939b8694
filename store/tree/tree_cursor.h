/* tree_cursor.h - a path through a tree. Private to tree*.c. */
#ifndef VARVE_TREE_CURSOR_H
#define VARVE_TREE_CURSOR_H

#include "store/tree/node_store.h"

/* One node of a path, and the entry of it that the path goes through. */
struct tree_frame {
	struct node *node; /* reference held */
	uint32_t i;	   /* may be view.count: past the last entry */
	/* First key after the node's range, lent by a node above; NULL: none. */
	const uint8_t *end;
	size_t end_len;
};

/*
 * A path from the root down. It checks what it walks over: each child is one
 * level below its parent and its keys lie in the range that the parent gives
 * it, so a walk with a cursor sees ascending keys and ends, whatever the nodes
 * hold. After a failure only tree_cursor_close is allowed.
 */
struct tree_cursor {
	struct node_store *ns;
	bool scan;	/* keep what is read out of the cache */
	unsigned depth; /* frames in use; the last is the bottom */
	struct tree_frame frame[NODE_LEVEL_MAX + 1];
};

/* The path of the root alone, at its first entry. */
MUST_CHECK int tree_cursor_open(struct tree_cursor *c, struct node_store *ns,
				const struct digest *root, bool scan);
void tree_cursor_close(struct tree_cursor *c);
static inline struct tree_frame *tree_cursor_bottom(struct tree_cursor *c)
{
	return &c->frame[c->depth - 1];
}
/* Add the child that the bottom's entry names, at its first entry. */
MUST_CHECK int tree_cursor_down(struct tree_cursor *c);
/*
 * Go to the next entry without going down: in the bottom node, else in the
 * nearest node above that has one. False (and an empty path) after the last.
 */
bool tree_cursor_skip(struct tree_cursor *c);
/*
 * Make the bottom the node of this level (not above the root's) whose range
 * holds key, or the level's first node if key is before all. The frames above
 * it hold the path.
 */
MUST_CHECK int tree_cursor_seek(struct tree_cursor *c, unsigned level, const void *key,
				size_t klen);
/* Move the bottom to its neighbour on the same level. 1, or 0 (unmoved) if there is none. */
MUST_CHECK int tree_cursor_next_node(struct tree_cursor *c);
MUST_CHECK int tree_cursor_prev_node(struct tree_cursor *c);

#endif
