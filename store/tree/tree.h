/*
 * tree.h - the immutable ordered map that holds one filesystem.
 *
 * A tree is named by its root node's digest. Its shape depends only on its
 * content (node.h): the root is the lowest level that has exactly one node; the
 * empty tree is one empty leaf. Every function may be called from any thread;
 * an iterator belongs to one thread at a time.
 * Failures: those of node_store_get, and -ENOMEM.
 */
#ifndef VARVE_TREE_H
#define VARVE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"
#include "store/base/hash.h"
#include "store/tree/node_store.h"

/* Stores the empty tree and returns its root. Inside a guard session. */
MUST_CHECK int tree_empty(struct node_store *ns, struct digest *out_root);

/* A value lent by a cached node. A zeroed struct is empty. */
struct tree_value {
	const uint8_t *data;
	size_t len;
	struct node *node; /* reference held */
};
void tree_value_release(struct tree_value *v);
static inline void tree_value_release_p(struct tree_value *v)
{
	tree_value_release(v);
}

/* 0 or -ENOENT or a failure. */
MUST_CHECK int tree_get(struct node_store *ns, const struct digest *root, const void *key,
			size_t klen, struct tree_value *out);

/* Ordered scan. */
struct tree_iter;
struct tree_iter *tree_iter_new(struct node_store *ns, const struct digest *root);
void tree_iter_free(struct tree_iter *it);
DEFINE_CLEANUP(struct tree_iter *, tree_iter_free)
/* Each returns 1 on an entry, 0 past the end (or before the start), or a failure. */
MUST_CHECK int tree_iter_seek(struct tree_iter *it, const void *key, size_t klen);    /* first >= */
MUST_CHECK int tree_iter_seek_le(struct tree_iter *it, const void *key, size_t klen); /* last <= */
MUST_CHECK int tree_iter_seek_last(struct tree_iter *it);
MUST_CHECK int tree_iter_next(struct tree_iter *it);
/* Of the current entry; pointers live until the iterator moves. */
const uint8_t *tree_iter_key(const struct tree_iter *it, size_t *len);
const uint8_t *tree_iter_value(const struct tree_iter *it, size_t *len);
/* The leaf that holds the current entry (borrowed); node_ref() it to keep pointers alive. */
struct node *tree_iter_leaf(const struct tree_iter *it);

/* A set of changes: for each key the last one counts. Keeps copies. */
struct tree_batch;
struct tree_batch *tree_batch_new(void);
void tree_batch_free(struct tree_batch *b);
DEFINE_CLEANUP(struct tree_batch *, tree_batch_free)
/* -ENOMEM, or -EINVAL if key or value is beyond the node's limits. */
MUST_CHECK int tree_batch_put(struct tree_batch *b, const void *key, size_t klen, const void *val,
			      size_t vlen);
MUST_CHECK int tree_batch_del(struct tree_batch *b, const void *key, size_t klen);
size_t tree_batch_bytes(const struct tree_batch *b); /* memory held */
size_t tree_batch_count(const struct tree_batch *b);
void tree_batch_clear(struct tree_batch *b);

/*
 * Apply the batch (sorted in place) to root; *out_root may equal root. Reads
 * and rewrites only nodes on the paths to changed keys. Deleting an absent key
 * is no error. Inside a guard session. *new_bytes (may be NULL) grows by what
 * was stored.
 */
MUST_CHECK int tree_apply(struct node_store *ns, const struct digest *root, struct tree_batch *b,
			  struct digest *out_root, uint64_t *new_bytes);

/*
 * Call fn for each key whose value differs, in key order; a is NULL if only the
 * second tree has the key, b is NULL if only the first has it. Shared nodes are
 * skipped unread. A non-zero result of fn ends the scan and is returned.
 */
struct tree_span {
	const uint8_t *data;
	size_t len;
};
typedef int (*tree_diff_fn)(void *arg, const struct tree_span *key, const struct tree_span *a,
			    const struct tree_span *b);
MUST_CHECK int tree_diff(struct node_store *ns, const struct digest *a, const struct digest *b,
			 tree_diff_fn fn, void *arg);

/*
 * Visit every node once from the root down. fn returns 1 to descend, 0 to skip
 * what is below, or a failure. For leaves the result 1 means nothing more.
 */
typedef int (*tree_visit_fn)(void *arg, const struct node *node);
MUST_CHECK int tree_visit(struct node_store *ns, const struct digest *root, tree_visit_fn fn,
			  void *arg);

#endif
