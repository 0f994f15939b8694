/*
 * tree_fs.h - a tree read as a filesystem: inodes, names, data. Read-only.
 * Used by mounts (as the base), export, verify, diff and inspection.
 * Thread-safe; a struct tree_fs is a plain value that borrows the stores.
 *
 * Failures everywhere: -ENODATA (missing node or chunk), -EBADMSG (damaged),
 * -EIO, -ENOMEM; -ENOENT only for what is truly absent.
 */
#ifndef VARVE_TREE_FS_H
#define VARVE_TREE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/base/macros.h"
#include "store/chunk/chunk_store.h"
#include "store/base/hash.h"
#include "store/tree/node_store.h"
#include "store/tree/record.h"
#include "store/tree/tree.h"

struct tree_fs {
	struct node_store *nodes;
	struct chunk_store *chunks;
	struct digest root;
};

MUST_CHECK int tree_fs_super(const struct tree_fs *fs, struct super_rec *out);

/* *pin keeps out->target alive; release it with tree_value_release. */
MUST_CHECK int tree_fs_inode(const struct tree_fs *fs, uint64_t ino, struct inode_rec *out,
			     struct tree_value *pin);
/* 0 or -ENOENT. dir is not checked to be a directory. out->name is not set. */
MUST_CHECK int tree_fs_lookup(const struct tree_fs *fs, uint64_t dir, const char *name, size_t len,
			      struct dirent_rec *out);

/*
 * Call fn for each name of dir whose hash is > after (0: from the start), in
 * hash order, with that hash. Non-zero from fn ends it and is returned.
 */
typedef int (*tree_fs_dirent_fn)(void *arg, uint64_t hash, const struct dirent_rec *e);
MUST_CHECK int tree_fs_readdir(const struct tree_fs *fs, uint64_t dir, uint64_t after,
			       tree_fs_dirent_fn fn, void *arg);

/* 0 or -ENODATA if there is no such xattr (a missing node gives -EIO here). */
MUST_CHECK int tree_fs_getxattr(const struct tree_fs *fs, uint64_t ino, const char *name,
				size_t len, struct tree_value *out);
typedef int (*tree_fs_xattr_fn)(void *arg, const char *name, size_t name_len, const void *value,
				size_t value_len);
MUST_CHECK int tree_fs_listxattr(const struct tree_fs *fs, uint64_t ino, tree_fs_xattr_fn fn,
				 void *arg);

/*
 * Call fn for each extent that meets [from, to), in order. Non-zero from fn
 * ends it and is returned. Inline data lives during the call.
 */
typedef int (*tree_fs_extent_fn)(void *arg, uint64_t offset, const struct extent_rec *e);
MUST_CHECK int tree_fs_extents(const struct tree_fs *fs, uint64_t ino, uint64_t from, uint64_t to,
			       tree_fs_extent_fn fn, void *arg);

/*
 * Read file bytes [offset, offset + len) into out; holes and what lies beyond
 * the last extent are zeros. The caller bounds the range by the file's size.
 */
MUST_CHECK int tree_fs_read(const struct tree_fs *fs, uint64_t ino, uint64_t offset, void *out,
			    size_t len);

/*
 * Resolve a path from the root ("" and "/" are the root; repeated and trailing
 * slashes, "." and ".." are understood; ".." of the root is the root). Symlinks
 * on the way are followed inside the tree (at most 40, -ELOOP); the last one
 * only if follow.
 */
MUST_CHECK int tree_fs_resolve(const struct tree_fs *fs, const char *path, bool follow,
			       uint64_t *out_ino);

/*
 * Path of an inode without leading '/', "" for the root; the first link if
 * there are several. Appends to out. -ENOENT if there is no such inode.
 */
MUST_CHECK int tree_fs_path(const struct tree_fs *fs, uint64_t ino, struct buf *out);

/* Fill a struct stat (st_dev 0, st_blksize 4096). */
void inode_to_stat(uint64_t ino, const struct inode_rec *r, struct stat *out);

#endif
