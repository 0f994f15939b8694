/*
 * ingest_tree.h - the namespace of an import, in memory, and its way into a
 * tree. Private to ingest*.c.
 *
 * Importers add inodes and names in any order; ingest_tree_store numbers them
 * canonically (ingest.h) and writes the keys. Names and inodes live in an arena
 * until the tree is freed, so a thread may still work on what a later archive
 * entry replaces. About 230 bytes per entry.
 *
 * Structure (names, directories) belongs to one thread. An inode's extents,
 * xattrs, size and times may be filled by another, one at a time, until
 * ingest_tree_store.
 */
#ifndef VARVE_INGEST_TREE_H
#define VARVE_INGEST_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/import/ingest.h"
#include "store/tree/record.h"

struct ingest_name;

struct ingest_inode {
	uint64_t number; /* set by ingest_tree_store */
	uint32_t mode, uid, gid;
	uint32_t nlink; /* counted by ingest_tree_store */
	uint64_t rdev;
	uint64_t size;
	uint64_t alloc_bytes;
	struct timespec mtime;
	struct buf xattrs;	  /* ingest_inode_put_xattr */
	struct buf extents;	  /* ingest_inode_add_extent */
	struct ingest_name *name; /* the first that was given; NULL for the root */
	union {
		struct { /* directories */
			struct ingest_name **children;
			uint32_t n_children, cap_children;
		};
		const char *target; /* symlinks: size bytes, NUL-terminated */
	};
	bool gone; /* it vanished while it was read: not stored */
};

struct ingest_name {
	struct ingest_inode *dir;
	struct ingest_inode *inode;
	struct ingest_name *next_in_bucket;
	uint64_t hash;
	uint32_t index; /* in dir->children */
	uint16_t layer; /* of an OCI image, from 0 */
	bool is_dir;	/* a copy: a worker may be setting inode->mode */
	uint8_t len;
	char bytes[]; /* with a NUL */
};

struct ingest_tree;
/* indexed: for ingest_tree_lookup. The root is a directory 0755, root's, mtime 0. */
struct ingest_tree *ingest_tree_new(bool indexed);
void ingest_tree_free(struct ingest_tree *t);
DEFINE_CLEANUP(struct ingest_tree *, ingest_tree_free)
struct ingest_inode *ingest_tree_root(struct ingest_tree *t);

/*
 * Add a name to dir: of a new inode with this mode (inode NULL), or a hard link
 * to inode. name_check() accepts the name, and dir does not have it yet.
 */
MUST_CHECK int ingest_tree_add(struct ingest_tree *t, struct ingest_inode *dir, const char *name,
			       size_t len, uint32_t mode, struct ingest_inode *inode,
			       struct ingest_name **out);
/* NULL if dir has no such name. Only in an indexed tree. */
struct ingest_name *ingest_tree_lookup(struct ingest_tree *t, const struct ingest_inode *dir,
				       const char *name, size_t len);
/* Take the name, with everything below it, out of its directory. */
void ingest_tree_remove(struct ingest_tree *t, struct ingest_name *n);

MUST_CHECK int ingest_inode_set_target(struct ingest_tree *t, struct ingest_inode *i,
				       const char *target, size_t len);
/* Replaces one of the same name. -E2BIG: more than Linux can list. */
MUST_CHECK int ingest_inode_put_xattr(struct ingest_inode *i, const char *name, size_t name_len,
				      const void *value, size_t value_len);
bool ingest_inode_has_xattr(const struct ingest_inode *i, const char *name);
/* Append; offsets ascend. Also counts alloc_bytes. */
MUST_CHECK int ingest_inode_add_extent(struct ingest_inode *i, uint64_t offset,
				       const struct extent_rec *e);
/* Forget size, extents and target, before new contents. */
void ingest_inode_clear_data(struct ingest_inode *i);

/* Append the path of inode i, without a leading '/' ("." for the root). */
MUST_CHECK int ingest_inode_path(const struct ingest_inode *i, struct buf *out);
/* Memory held by names and inodes, without extents and xattrs. */
size_t ingest_tree_bytes(const struct ingest_tree *t);

/*
 * Number everything, write the keys in slices of bounded memory, and fill
 * out->root, file_count and size_bytes; new_bytes grows by the nodes stored.
 * Call it once; after it the tree can only be freed.
 */
MUST_CHECK int ingest_tree_store(struct ingest_tree *t, struct store *s, struct progress *p,
				 struct ingest_result *out, struct error *err);

#endif
