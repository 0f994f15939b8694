/*
 * ingest_tree_internal.h - the insides of struct ingest_tree, for ingest_tree.c and ingest_emit.c
 * only.
 */
#ifndef VARVE_INGEST_TREE_INTERNAL_H
#define VARVE_INGEST_TREE_INTERNAL_H

#include "store/import/ingest_tree.h"

/* What listxattr(2) can return: XATTR_LIST_MAX of Linux. */
#define INGEST_XATTR_NAMES_MAX 65536u

struct arena_block;

struct ingest_tree {
	struct ingest_inode *root;
	struct ingest_inode *all; /* every inode ever made, the replaced ones too */
	size_t n_inodes;

	struct ingest_name **buckets; /* by directory and name hash; NULL: no index */
	size_t n_buckets, n_indexed;  /* n_buckets is a power of two */

	struct arena_block *blocks;
	uint8_t *arena_at;
	size_t arena_left, arena_bytes;
};

#endif
