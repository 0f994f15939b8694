/*
 * A diff has two steps. The feed sorts the keys that differ into facts: what
 * changed about an inode, and which names a directory lost or got. Then the
 * facts are turned into changes of places (fsdiff_inode.c), or, for trees that
 * do not descend from each other, the trees are walked (fsdiff_walk.c). Memory
 * follows the number of changes: 24 bytes per inode, 40 and the name per link,
 * 64 and the name per place.
 */
#include "store/diff/fsdiff.h"

#include <errno.h>
#include <stdlib.h>
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

struct fsdiff *fsdiff_new(const struct fsdiff_side *a, const struct fsdiff_side *b)
{
	struct fsdiff *d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->side[SIDE_A] = *a;
	d->side[SIDE_B] = *b;
	if (places_init(&d->places) != 0) {
		fsdiff_free(d);
		return NULL;
	}
	return d;
}

void fsdiff_free(struct fsdiff *d)
{
	if (!d)
		return;
	buf_fini(&d->changes);
	buf_fini(&d->links);
	buf_fini(&d->names);
	places_fini(&d->places);
	free(d->dirs[SIDE_A].v);
	free(d->dirs[SIDE_B].v);
	free(d);
}

/* ---- the feed ---- */

/* The change record of an inode: the last one, or a new one. Lives until the next call. */
static int change_of(struct fsdiff *d, uint64_t ino, struct inode_change **out)
{
	struct inode_change *last = NULL;
	if (d->changes.len)
		last = (struct inode_change *)(d->changes.data + d->changes.len) - 1;
	if (last && last->ino > ino)
		return -EINVAL;
	if (!last || last->ino != ino) {
		struct inode_change c = { .ino = ino };
		int rc = buf_append(&d->changes, &c, sizeof(c));
		if (rc != 0)
			return rc;
		last = (struct inode_change *)(d->changes.data + d->changes.len) - 1;
	}
	*out = last;
	return 0;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool is_single(const struct inode_rec *r)
{
	return S_ISDIR(r->mode) || r->nlink == 1;
}

static bool same_content(const struct inode_rec *a, const struct inode_rec *b)
{
	if (S_ISLNK(a->mode))
		return a->target_len == b->target_len &&
		       memcmp(a->target, b->target, a->target_len) == 0;
	if (S_ISCHR(a->mode) || S_ISBLK(a->mode))
		return a->rdev == b->rdev;
	return !S_ISREG(a->mode) || a->size == b->size;
}

static uint16_t record_flags(const struct inode_rec *a, const struct inode_rec *b)
{
	uint16_t flags = 0;
	if ((a->mode & S_IFMT) != (b->mode & S_IFMT))
		return CHANGE_CONTENT;
	if (!same_content(a, b))
		flags |= CHANGE_CONTENT;
	else if (S_ISREG(a->mode) && a->size == 0)
		flags |= CHANGE_EMPTY;
	if (a->mode != b->mode || a->uid != b->uid || a->gid != b->gid)
		flags |= CHANGE_META;
	if (!same_time(&a->mtime, &b->mtime))
		flags |= CHANGE_MTIME;
	if (!same_time(&a->atime, &b->atime))
		flags |= CHANGE_ATIME;
	return flags;
}

static int feed_record(struct inode_change *c, const struct tree_span *a, const struct tree_span *b)
{
	struct inode_rec rec[2];
	int rc = 0;
	c->flags |= CHANGE_RECORD;
	if (a)
		rc = inode_decode(a->data, a->len, &rec[SIDE_A]);
	if (rc == 0 && b)
		rc = inode_decode(b->data, b->len, &rec[SIDE_B]);
	if (rc != 0)
		return rc;
	if (a) {
		c->mode[SIDE_A] = rec[SIDE_A].mode;
		c->flags |= is_single(&rec[SIDE_A]) ? CHANGE_SINGLE_A : 0;
	}
	if (b) {
		c->mode[SIDE_B] = rec[SIDE_B].mode;
		c->flags |= is_single(&rec[SIDE_B]) ? CHANGE_SINGLE_B : 0;
	}
	if (a && b)
		c->flags |= record_flags(&rec[SIDE_A], &rec[SIDE_B]);
	return 0;
}

static int add_link(struct fsdiff *d, uint64_t dir, const struct dirent_rec *e, int side)
{
	struct link_change l = {
		.dir = dir,
		.ino = e->ino,
		.name = d->names.len,
		.name_len = e->name_len,
		.type = e->type,
		.side = (uint8_t)side,
	};
	int rc = buf_append(&d->names, e->name, e->name_len);
	return rc ? rc : buf_append(&d->links, &l, sizeof(l));
}

static int name_order(const struct dirent_rec *a, const struct dirent_rec *b)
{
	int c = memcmp(a->name, b->name, MIN(a->name_len, b->name_len));
	return c ? c : a->name_len - b->name_len;
}

/* Feed what the two lists of one name hash do not share. A name on both sides: a first, then b. */
static int feed_names(struct fsdiff *d, uint64_t dir, const struct tree_span *a,
		      const struct tree_span *b)
{
	struct dirent_reader ra, rb;
	struct dirent_rec ea, eb;
	dirent_reader_init(&ra, a ? a->data : NULL, a ? a->len : 0);
	dirent_reader_init(&rb, b ? b->data : NULL, b ? b->len : 0);
	int has_a = dirent_next(&ra, &ea);
	int has_b = dirent_next(&rb, &eb);
	while (has_a == 1 || has_b == 1) {
		if (has_a < 0 || has_b < 0)
			return -EBADMSG;
		int order = !has_a ? 1 : !has_b ? -1 : name_order(&ea, &eb);
		bool same = order == 0 && ea.ino == eb.ino && ea.type == eb.type;
		int rc = order <= 0 && !same ? add_link(d, dir, &ea, SIDE_A) : 0;
		if (rc == 0 && order >= 0 && !same)
			rc = add_link(d, dir, &eb, SIDE_B);
		if (rc != 0)
			return rc;
		if (order <= 0)
			has_a = dirent_next(&ra, &ea);
		if (order >= 0)
			has_b = dirent_next(&rb, &eb);
	}
	return has_a < 0 || has_b < 0 ? -EBADMSG : 0;
}

static bool same_span(const struct tree_span *a, const struct tree_span *b)
{
	return a && b && a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

int fsdiff_feed(void *arg, const struct tree_span *key, const struct tree_span *a,
		const struct tree_span *b)
{
	struct fsdiff *d = arg;
	struct inode_change *c;
	struct key_parts parts;
	int rc = key_parse(key->data, key->len, &parts);
	if (rc != 0)
		return rc;
	if (parts.ino == 0 || (!a && !b) || same_span(a, b))
		return 0;
	rc = change_of(d, parts.ino, &c);
	if (rc != 0)
		return rc;
	switch (parts.kind) {
	case KEY_INODE:
		return feed_record(c, a, b);
	case KEY_XATTR:
		c->flags |= CHANGE_XATTR;
		return 0;
	case KEY_DIRENT:
		c->flags |= CHANGE_ENTRIES;
		return feed_names(d, parts.ino, a, b);
	case KEY_EXTENT:
		c->flags |= CHANGE_EXTENTS;
		return 0;
	default: /* the names already say what backrefs say */
		return 0;
	}
}

struct inode_change *find_change(const struct fsdiff *d, uint64_t ino)
{
	struct inode_change *v = (struct inode_change *)d->changes.data;
	size_t from = 0, to = d->changes.len / sizeof(*v);
	while (from < to) {
		size_t mid = from + (to - from) / 2;
		if (v[mid].ino == ino)
			return &v[mid];
		if (v[mid].ino < ino)
			from = mid + 1;
		else
			to = mid;
	}
	return NULL;
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

static int tree_side_scan(void *ctx, const void *prefix, size_t len, fsdiff_scan_fn fn, void *arg)
{
	const struct tree_fs *fs = ctx;
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
