/*
 * fsdiff.h - what changed between two filesystems, by path.
 *
 * It is fed the keys that differ (tree_diff, or a mount's upper) and tells for
 * each inode: added, removed, modified (content, or symlink target, or device
 * number, or type), meta (mode, owner, xattrs, times), renamed (same inode,
 * other place; the inode tells it from a remove and an add). A moved directory
 * is one change. A directory whose times, size or nlink changed only because
 * its entries did is not listed. ctime alone is no change.
 *
 * The list reads as: do all the renames at once, then the rest. A file that was
 * replaced by another one at the same path (as editors save) is compared with
 * it: modified, meta or nothing. A renamed file that also changed is two
 * entries. A change of an inode with several names is listed at each of them.
 *
 * If neither of two trees comes from the other, their inodes are numbered
 * independently, which would look like thousands of renames. fsdiff_trees
 * notices this and compares such trees by path alone, without renames.
 */
#ifndef VARVE_FSDIFF_H
#define VARVE_FSDIFF_H

#include "store/store.h"
#include "store/tree/tree_fs.h"

/*
 * The longest path that is listed, in bytes: the kernel accepts none longer. Deeper
 * trees can still be made, and the total length of their paths grows with the
 * square of their depth. What lies deeper is listed as DIFF_OMITTED, once for each
 * directory whose names are left out; what was renamed from there is DIFF_ADDED.
 */
#define FSDIFF_PATH_MAX 4095

enum fsdiff_change {
	DIFF_ADDED,
	DIFF_REMOVED,
	DIFF_MODIFIED,
	DIFF_META,
	DIFF_RENAMED,
	DIFF_OMITTED,
};
const char *fsdiff_change_name(enum fsdiff_change c);

struct fsdiff_entry {
	enum fsdiff_change change;
	const char *path; /* no leading '/'; the new path; bytes as on disk, NUL-terminated.
			     The root itself is "/"; DIFF_OMITTED: the directory, with a '/' */
	const char *from; /* DIFF_RENAMED: the old path; else NULL */
	uint32_t mode;	  /* of the new side, or the old if removed; DIFF_OMITTED: 0 */
	uint64_t count;	  /* DIFF_OMITTED: changes below path; else 0 */
};
typedef int (*fsdiff_fn)(void *arg, const struct fsdiff_entry *e);

/*
 * What the diff needs of one side. get: the value of a tree key; 0, -ENOENT or
 * a failure. scan: call fn for each key that starts with prefix (9 bytes: inode
 * and kind), in order; non-zero from fn ends it and is returned.
 */
typedef int (*fsdiff_scan_fn)(void *arg, const struct tree_span *key,
			      const struct tree_span *value);
struct fsdiff_side {
	int (*get)(void *ctx, const void *key, size_t klen,
		   struct buf *out_value); /* clears out first */
	void *ctx;
	int (*scan)(void *ctx, const void *prefix, size_t len, fsdiff_scan_fn fn, void *arg);
};

/* scan of a side that is a tree. */
MUST_CHECK int fsdiff_scan_tree(const struct tree_fs *fs, const void *prefix, size_t len,
				fsdiff_scan_fn fn, void *arg);

struct fsdiff;
/* Copies the sides; what their ctx points to lives until fsdiff_settle has returned. */
struct fsdiff *fsdiff_new(const struct fsdiff_side *a, const struct fsdiff_side *b);
void fsdiff_free(struct fsdiff *d);
DEFINE_CLEANUP(struct fsdiff *, fsdiff_free)
/* A tree_diff_fn with arg = struct fsdiff *. Keys come in order; equal ones are ignored. */
int fsdiff_feed(void *d, const struct tree_span *key, const struct tree_span *a,
		const struct tree_span *b);
/* After the last key: work the entries out. The sides are not used after that. */
MUST_CHECK int fsdiff_settle(struct fsdiff *d);
/*
 * Entries sorted by path (bytewise). Hard links: each added or removed name is
 * an entry. Non-zero from fn ends it and is returned.
 */
MUST_CHECK int fsdiff_tell(const struct fsdiff *d, fsdiff_fn fn, void *arg);

/* All of the above, for two trees. */
MUST_CHECK int fsdiff_trees(const struct tree_fs *a, const struct tree_fs *b, fsdiff_fn fn,
			    void *arg);

/* How two trees are related. The diff guesses only if this is FSDIFF_UNKNOWN. */
enum fsdiff_relation {
	FSDIFF_UNKNOWN,
	FSDIFF_ONE_LINE, /* one comes from the other: an inode number is the same file */
	FSDIFF_APART,	 /* numbered independently: two imports */
};
MUST_CHECK int fsdiff_trees_related(const struct tree_fs *a, const struct tree_fs *b,
				    enum fsdiff_relation relation, fsdiff_fn fn, void *arg);

/*
 * The same for two snapshots: their history says how they are related, and gc
 * keeps their trees meanwhile. -ENOENT if one has been deleted; -EINVAL if one
 * has no tree.
 */
MUST_CHECK int fsdiff_snapshots(struct store *s, const char *a, const char *b, fsdiff_fn fn,
				void *arg, struct error *err);
#endif
