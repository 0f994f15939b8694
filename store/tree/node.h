/*
 * node.h - the encoding of one tree node, and where nodes end. Pure.
 *
 * Format of an encoded node, version 1 (little-endian), which is also its
 * form in memory: decoding only checks it.
 *   u32 magic      "VND1"
 *   u8  level      0 leaf; above: values are child references
 *   u8  zero[3]
 *   u32 count
 *   u32 end[count]     end offset of each entry within `entries`
 *   entries:  u16 klen, key, value    (value fills up to end)
 * Keys are unique and ascend bytewise. The value of an inner entry is the
 * child's digest (32 bytes); its key is the child's first key.
 *
 * Boundaries: the entries of one level, in order, fill one node after another.
 * An entry starts a new node if adding it would make the node larger than
 * NODE_MAX_BYTES, or if the node has NODE_MIN_ENTRIES already and
 * node_key_is_boundary(level, key) says so. So the entries alone determine the
 * nodes, and two sequences of entries that agree from a node's start on have the
 * same nodes from there on. The minimum keeps a tree whose keys were chosen to
 * be boundaries on every level from growing without narrowing.
 */
#ifndef VARVE_NODE_H
#define VARVE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/macros.h"
#include "store/base/hash.h"

#define NODE_MAX_BYTES (32u << 10) /* of encoded form; one entry alone may be larger */
#define NODE_KEY_MAX 1024u
#define NODE_VALUE_MAX (72u << 10) /* an xattr of 64 KiB with its name */
#define NODE_LEVEL_MAX 16
#define NODE_MIN_ENTRIES 4u /* except in a level's last node, and in nodes of large entries */
#define NODE_HEADER_SIZE 12u
/* The largest encoded node: one entry of the largest key and value. */
#define NODE_ENCODED_MAX (NODE_HEADER_SIZE + 4 + 2 + NODE_KEY_MAX + NODE_VALUE_MAX)

/* A checked view of an encoded node; borrows the bytes. */
struct node_view {
	const uint8_t *bytes;
	size_t len;
	uint32_t count;
	uint8_t level;
};

/* Check everything; -EBADMSG. Never reads outside bytes[0..len). */
MUST_CHECK int node_check(const void *bytes, size_t len, struct node_view *out);

/* Entry i < count. */
void node_entry(const struct node_view *n, uint32_t i, const uint8_t **key, size_t *klen,
		const uint8_t **val, size_t *vlen);
/* Index of the first entry with key >= the given one (count if none). */
uint32_t node_lower_bound(const struct node_view *n, const void *key, size_t klen, bool *equal);

/* True for 1 in 128 keys of a leaf and 1 in 256 of an inner node. Part of the format. */
bool node_key_is_boundary(unsigned level, const void *key, size_t klen);

/* Bytewise order, shorter first. */
int node_key_cmp(const void *a, size_t alen, const void *b, size_t blen);

/* Collects entries in order and encodes them. */
struct node_builder {
	struct buf ends;
	struct buf entries;
	uint32_t count;
	uint8_t level;
};
void node_builder_init(struct node_builder *nb, unsigned level);
void node_builder_fini(struct node_builder *nb);
/* Would this entry start a new node? False while the builder is empty. */
bool node_builder_splits_before(const struct node_builder *nb, const void *key, size_t klen,
				size_t vlen);
MUST_CHECK int node_builder_add(struct node_builder *nb, const void *key, size_t klen,
				const void *val, size_t vlen);
/* Append the encoded node to out and empty the builder. */
MUST_CHECK int node_builder_finish(struct node_builder *nb, struct buf *out);

#endif
