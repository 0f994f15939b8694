/*
 * A diff has two steps. The feed (fsdiff_feed.c) sorts the keys that differ into
 * facts: what changed about an inode, and which names a directory lost or got.
 * Then the facts are turned into changes of places (fsdiff_inode.c), or, for
 * trees that do not descend from each other, the trees are walked
 * (fsdiff_walk.c). Memory follows the number of changes: 24 bytes per inode, 40
 * and the name per link, 64 and the name per place.
 */
#include "store/diff/fsdiff.h"

#include <errno.h>
#include <string.h>

#include "store/diff/fsdiff_internal.h"

const char *fsdiff_change_name(enum fsdiff_change c)
{
	static const char *const names[] = {
		[DIFF_ADDED] = "added", [DIFF_REMOVED] = "removed", [DIFF_MODIFIED] = "modified",
		[DIFF_META] = "meta",	[DIFF_RENAMED] = "renamed", [DIFF_OMITTED] = "omitted",
	};
	return names[c];
}

int fsdiff_settle(struct fsdiff *d)
{
	return fsdiff_by_inode(d);
}

int fsdiff_tell(const struct fsdiff *d, fsdiff_fn fn, void *arg)
{
	return places_emit(&d->places, fn, arg);
}

/* ---- two trees ---- */

static int tree_side_get(void *ctx, const void *key, size_t klen, struct buf *out)
{
	const struct tree_fs *fs = ctx;
	CLEANUP(tree_value_release_p) struct tree_value v = { 0 };
	buf_clear(out);
	int rc = tree_get(fs->nodes, &fs->root, key, klen, &v);
	return rc ? rc : buf_append(out, v.data, v.len);
}

int fsdiff_scan_tree(const struct tree_fs *fs, const void *prefix, size_t len, fsdiff_scan_fn fn,
		     void *arg)
{
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(fs->nodes, &fs->root);
	if (!it)
		return -ENOMEM;
	int rc = tree_iter_seek(it, prefix, len);
	while (rc == 1) {
		struct tree_span key, value;
		key.data = tree_iter_key(it, &key.len);
		value.data = tree_iter_value(it, &value.len);
		if (key.len < len || memcmp(key.data, prefix, len) != 0)
			return 0;
		rc = fn(arg, &key, &value);
		if (rc != 0)
			return rc;
		rc = tree_iter_next(it);
	}
	return rc;
}

static int tree_side_scan(void *ctx, const void *prefix, size_t len, fsdiff_scan_fn fn, void *arg)
{
	return fsdiff_scan_tree(ctx, prefix, len, fn, arg);
}

int fsdiff_trees_related(const struct tree_fs *a, const struct tree_fs *b,
			 enum fsdiff_relation relation, fsdiff_fn fn, void *arg)
{
	struct tree_fs fs[2] = { *a, *b };
	struct fsdiff_side side_a = { tree_side_get, &fs[SIDE_A], tree_side_scan };
	struct fsdiff_side side_b = { tree_side_get, &fs[SIDE_B], tree_side_scan };
	CLEANUP(fsdiff_free_p) struct fsdiff *d = fsdiff_new(&side_a, &side_b);
	if (!d)
		return -ENOMEM;
	int by_inode = relation == FSDIFF_ONE_LINE;
	int rc = tree_diff(a->nodes, &a->root, &b->root, fsdiff_feed, d);
	if (rc == 0 && relation == FSDIFF_UNKNOWN)
		rc = by_inode = fsdiff_is_related(d);
	if (rc < 0)
		return rc;
	rc = by_inode ? fsdiff_by_inode(d) : fsdiff_by_path(d);
	return rc ? rc : places_emit(&d->places, fn, arg);
}

int fsdiff_trees(const struct tree_fs *a, const struct tree_fs *b, fsdiff_fn fn, void *arg)
{
	return fsdiff_trees_related(a, b, FSDIFF_UNKNOWN, fn, arg);
}

/* ---- two snapshots ---- */

static bool history_has(const struct snapshot *list, size_t n, const char *id)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(list[i].id, id) == 0)
			return true;
	}
	return false;
}

static enum fsdiff_relation relation_of(const struct snapshot *a, size_t na,
					const struct snapshot *b, size_t nb)
{
	if (history_has(a, na, b[0].id) || history_has(b, nb, a[0].id))
		return FSDIFF_ONE_LINE;
	/* Forks of one snapshot, or lines whose beginning has been deleted. */
	if (strcmp(a[na - 1].id, b[nb - 1].id) == 0 || a[na - 1].parent[0] || b[nb - 1].parent[0])
		return FSDIFF_UNKNOWN;
	return FSDIFF_APART;
}

static int find_relation(struct store *s, const char *a, const char *b, enum fsdiff_relation *out,
			 struct error *err)
{
	struct snapshot *line_a = NULL, *line_b = NULL;
	size_t na = 0, nb = 0;
	int rc = snapshots_history(s->snapshots, a, &line_a, &na, err);
	if (rc == 0)
		rc = snapshots_history(s->snapshots, b, &line_b, &nb, err);
	if (rc == 0)
		*out = relation_of(line_a, na, line_b, nb);
	snapshots_list_free(line_a, na);
	snapshots_list_free(line_b, nb);
	return rc;
}

static int diff_held(struct store *s, const struct snapshot *a, const struct snapshot *b,
		     fsdiff_fn fn, void *arg, struct error *err)
{
	struct tree_fs fs_a = store_tree(s, &a->root), fs_b = store_tree(s, &b->root);
	enum fsdiff_relation relation = FSDIFF_UNKNOWN;
	int rc = find_relation(s, a->id, b->id, &relation, err);
	if (rc != 0)
		return rc;
	rc = fsdiff_trees_related(&fs_a, &fs_b, relation, fn, arg);
	return rc ? error_set_errno(err, rc, "cannot compare the snapshots") : 0;
}

int fsdiff_snapshots(struct store *s, const char *a, const char *b, fsdiff_fn fn, void *arg,
		     struct error *err)
{
	struct snapshot snap_a, snap_b;
	struct store_hold hold_a, hold_b;
	int rc = store_hold_snapshot(s, a, &snap_a, &hold_a, err);
	if (rc != 0)
		return rc;
	rc = store_hold_snapshot(s, b, &snap_b, &hold_b, err);
	if (rc == 0) {
		rc = diff_held(s, &snap_a, &snap_b, fn, arg, err);
		store_release(s, &hold_b);
		snapshot_fini(&snap_b);
	}
	store_release(s, &hold_a);
	snapshot_fini(&snap_a);
	return rc;
}
