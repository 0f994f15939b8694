/*
 * fsdiff.h - what changed between two filesystems, by path.
 *
 * Fed with the keys that differ (tree_diff, or a mount's upper), it tells for
 * each inode: added, removed, modified (content, or symlink target, or device
 * number, or type), meta (mode, owner, xattrs, times), renamed (same inode,
 * other place; told apart from remove and add by inode). A moved directory is
 * one change. A directory whose times, size or nlink changed only because its
 * entries did is not listed. ctime alone is no change.
 */
#ifndef VARVE_FSDIFF_H
#define VARVE_FSDIFF_H

#include "store/tree_fs.h"

enum fsdiff_change { DIFF_ADDED, DIFF_REMOVED, DIFF_MODIFIED, DIFF_META, DIFF_RENAMED };
const char *fsdiff_change_name(enum fsdiff_change c);

struct fsdiff_entry {
	enum fsdiff_change change;
	const char *path; /* no leading '/'; the new path; bytes as on disk, NUL-terminated */
	const char *from; /* DIFF_RENAMED: the old path; else NULL */
	uint32_t mode;	  /* of the new side, or the old where removed */
};
typedef int (*fsdiff_fn)(void *arg, const struct fsdiff_entry *e);

/* One side, as the diff needs it: a get by tree key. 0 or -ENOENT or a failure. */
struct fsdiff_side {
	int (*get)(void *ctx, const void *key, size_t klen,
		   struct buf *out_value); /* clears out first */
	void *ctx;
};

struct fsdiff;
struct fsdiff *fsdiff_new(const struct fsdiff_side *a, const struct fsdiff_side *b);
void fsdiff_free(struct fsdiff *d);
DEFINE_CLEANUP(struct fsdiff *, fsdiff_free)
/* A tree_diff_fn with arg = struct fsdiff *. Keys in order. */
int fsdiff_feed(void *d, const struct tree_span *key, const struct tree_span *a,
		const struct tree_span *b);
/* Entries sorted by path. Hard links: each added or removed name is an entry. */
MUST_CHECK int fsdiff_finish(struct fsdiff *d, fsdiff_fn fn, void *arg);

/* The whole of it for two trees. */
MUST_CHECK int fsdiff_trees(const struct tree_fs *a, const struct tree_fs *b, fsdiff_fn fn,
			    void *arg);
#endif
