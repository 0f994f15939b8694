/*
 * The diff by inode: an inode number means the same file on both sides, as it
 * does where one side comes from the other, since numbers are never reused.
 *
 * Each name that went or came belongs to a place. If an inode lost one name and
 * got another, that is a rename, which uses up both. Of the rest, a name that
 * went and one that came at the same place are a file that was replaced: the
 * two are compared. Then come the inodes that changed where they are.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/diff/fsdiff_internal.h"

static struct link_change *link_at(const struct fsdiff *d, size_t i)
{
	return (struct link_change *)d->links.data + i;
}

static size_t link_count(const struct fsdiff *d)
{
	return d->links.len / sizeof(struct link_change);
}

static struct place *place_at(const struct fsdiff *d, uint32_t i)
{
	return &d->places.v[i];
}

static bool same_type(const struct inode_change *c)
{
	return c->mode[SIDE_A] && c->mode[SIDE_B] &&
	       (c->mode[SIDE_A] & S_IFMT) == (c->mode[SIDE_B] & S_IFMT);
}

static int load_mode(struct fsdiff *d, int side, uint64_t ino, uint32_t *out)
{
	CLEANUP(buf_fini_p) struct buf pin = BUF_INIT;
	const struct inode_change *c = find_change(d, ino);
	struct inode_rec r;
	if (c && c->mode[side]) {
		*out = c->mode[side];
		return 0;
	}
	int rc = side_inode(d, side, ino, &r, &pin);
	if (rc == 0)
		*out = r.mode;
	return rc == -ENOENT ? -EBADMSG : rc;
}

/* ---- links in order of their inodes ---- */

static int by_inode_then_side(const void *x, const void *y)
{
	const struct link_change *a = x, *b = y;
	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return a->side - b->side;
}

/* One past the links of the same inode as link i. */
static size_t group_end(const struct fsdiff *d, size_t i)
{
	size_t end = i + 1;
	while (end < link_count(d) && link_at(d, end)->ino == link_at(d, i)->ino)
		end++;
	return end;
}

/* The change of the inode of links [i, end), if it lost one name and got one; else NULL. */
static const struct inode_change *moved(const struct fsdiff *d, size_t i, size_t end)
{
	if (end - i != 2 || link_at(d, i)->side == link_at(d, i + 1)->side)
		return NULL;
	const struct inode_change *c = find_change(d, link_at(d, i)->ino);
	if (!c || !same_type(c) || !(c->flags & CHANGE_SINGLE_A) || !(c->flags & CHANGE_SINGLE_B))
		return NULL;
	return c;
}

/* ---- do inode numbers mean the same on both sides? ---- */

struct sameness {
	struct fsdiff *d;
	int names;
};
#define NAMES_TO_TRY 16

/* Non-zero ends the scan: 1 if the name is also on the other side. */
static int name_is_shared(void *arg, const struct tree_span *key, const struct tree_span *value)
{
	struct sameness *s = arg;
	const struct fsdiff_side *b = &s->d->side[SIDE_B];
	CLEANUP(buf_fini_p) struct buf other = BUF_INIT;
	int rc = b->get(b->ctx, key->data, key->len, &other);
	if (rc == 0 && other.len == value->len && memcmp(other.data, value->data, other.len) == 0)
		return 1;
	if (rc != 0 && rc != -ENOENT)
		return rc;
	return ++s->names < NAMES_TO_TRY ? 0 : -ECANCELED;
}

/* A directory: they have a name with its inode in common, or were both empty. */
static int dir_looks_same(struct fsdiff *d, const struct inode_change *c)
{
	const struct fsdiff_side *a = &d->side[SIDE_A];
	struct sameness s = { .d = d };
	struct key k;
	key_kind_start(&k, c->ino, KEY_DIRENT);
	int rc = a->scan(a->ctx, k.bytes, k.len, name_is_shared, &s);
	if (rc == 0)
		return s.names == 0 && !(c->flags & (CHANGE_ENTRIES | CHANGE_MTIME));
	return rc == -ECANCELED ? 0 : rc;
}

/*
 * Does the inode look like the same file on both sides? 1, 0, or a failure.
 * Times say little: in a reproducible image all are the same.
 */
static int looks_same(struct fsdiff *d, const struct inode_change *c)
{
	if (!same_type(c) || c->flags & (CHANGE_CONTENT | CHANGE_EXTENTS))
		return 0;
	if (S_ISDIR(c->mode[SIDE_A]))
		return dir_looks_same(d, c);
	return !(c->flags & CHANGE_EMPTY && c->flags & CHANGE_MTIME);
}

/* Judge inode y of side b, whose name belongs to another inode on side a, and count it. */
static int judge_replaced(struct fsdiff *d, uint64_t y, size_t tally[2])
{
	const struct inode_change *c = find_change(d, y);
	int rc = 1; /* a new number for a new file, or exactly the old file */
	if (c && (!(c->flags & CHANGE_RECORD) || c->mode[SIDE_A]))
		rc = looks_same(d, c);
	if (rc >= 0)
		tally[rc]++;
	return rc < 0 ? rc : 0;
}

/*
 * Where the trees are of one line, inodes that appear at another place look the
 * same as before, or are new. Where both were numbered from 1, one file more
 * shifts the numbers of all that follow, and most of them look different.
 */
int fsdiff_is_related(struct fsdiff *d)
{
	size_t n = link_count(d);
	size_t tally[2] = { 0, 0 };
	int rc = 0;
	for (size_t i = 0; rc == 0 && i + 1 < n; i++) {
		const struct link_change *a = link_at(d, i), *b = a + 1;
		/* The feed puts what one name lost and got side by side. */
		if (a->side == SIDE_A && b->side == SIDE_B && a->dir == b->dir &&
		    a->name_len == b->name_len &&
		    memcmp(d->names.data + a->name, d->names.data + b->name, a->name_len) == 0)
			rc = judge_replaced(d, b->ino, tally);
	}
	if (rc == 0 && n)
		qsort(d->links.data, n, sizeof(struct link_change), by_inode_then_side);
	for (size_t i = 0, end; rc == 0 && i < n; i = end) {
		end = group_end(d, i);
		const struct inode_change *c = moved(d, i, end);
		if (!c)
			continue;
		rc = looks_same(d, c);
		if (rc >= 0)
			tally[rc]++;
		rc = MIN(rc, 0);
	}
	return rc < 0 ? rc : tally[0] <= tally[1];
}

/* ---- names that went and came ---- */

static int place_links(struct fsdiff *d)
{
	for (size_t i = 0; i < link_count(d); i++) {
		struct link_change *l = link_at(d, i);
		const char *name = (const char *)d->names.data + l->name;
		uint32_t dir;
		int rc = dir_place(d, l->side, l->dir, &dir);
		if (rc == 0)
			rc = place_get(&d->places, dir, name, l->name_len, &l->place);
		if (rc != 0)
			return rc;
		struct place *p = place_at(d, l->place);
		if (l->side == SIDE_A)
			p->ino_a = l->ino;
		else
			p->ino_b = l->ino;
	}
	return 0;
}

static void take_renames(struct fsdiff *d)
{
	for (size_t i = 0, end; i < link_count(d); i = end) {
		end = group_end(d, i);
		const struct inode_change *c = moved(d, i, end);
		if (!c)
			continue;
		uint32_t from = link_at(d, i)->place, to = link_at(d, i + 1)->place;
		place_at(d, from)->ino_a = 0;
		place_at(d, to)->ino_b = 0;
		if (from == to) /* its directory was replaced by another one */
			continue;
		place_at(d, to)->from = from;
		place_at(d, to)->changes |= PLACE_RENAMED;
		place_at(d, to)->mode = c->mode[SIDE_B];
	}
}

static int settle_place(struct fsdiff *d, uint32_t i)
{
	struct place *p = place_at(d, i);
	uint8_t changes = 0;
	uint32_t mode = p->mode;
	int rc = 0;
	if (p->ino_a && p->ino_b) {
		rc = compare_inodes(d, p->ino_a, p->ino_b, false, &changes, &mode);
	} else if (p->ino_b) {
		changes = PLACE_ADDED;
		rc = load_mode(d, SIDE_B, p->ino_b, &mode);
	} else if (p->ino_a && !(p->changes & PLACE_RENAMED)) {
		changes = PLACE_REMOVED;
		rc = load_mode(d, SIDE_A, p->ino_a, &mode);
	}
	if (rc != 0)
		return rc;
	p->changes |= changes;
	p->mode = mode;
	return 0;
}

/* ---- inodes that changed where they are ---- */

/* PLACE_MODIFIED, PLACE_META or 0 for an inode that is on both sides with one type. */
static uint8_t own_changes(const struct inode_change *c, uint32_t mode)
{
	if (c->flags & CHANGE_CONTENT || (c->flags & CHANGE_EXTENTS && S_ISREG(mode)))
		return PLACE_MODIFIED;
	if (c->flags & (CHANGE_META | CHANGE_XATTR | CHANGE_ATIME))
		return PLACE_META;
	if (c->flags & CHANGE_MTIME && !(S_ISDIR(mode) && c->flags & CHANGE_ENTRIES))
		return PLACE_META;
	return 0;
}

/* The place of the only name of an inode on side b. */
static int single_place(struct fsdiff *d, uint64_t ino, const struct inode_rec *r, uint32_t *out)
{
	const struct fsdiff_side *b = &d->side[SIDE_B];
	CLEANUP(buf_fini_p) struct buf list = BUF_INIT;
	struct dirent_reader reader;
	struct dirent_rec e;
	uint32_t dir;
	struct key k;
	key_dirent(&k, r->parent, r->name_hash);
	int rc = dir_place(d, SIDE_B, r->parent, &dir);
	if (rc == 0)
		rc = b->get(b->ctx, k.bytes, k.len, &list);
	if (rc != 0)
		return rc == -ENOENT ? -EBADMSG : rc;
	dirent_reader_init(&reader, list.data, list.len);
	while ((rc = dirent_next(&reader, &e)) == 1) {
		if (e.ino == ino)
			return place_get(&d->places, dir, e.name, e.name_len, out);
	}
	return -EBADMSG;
}

static void note_changes(struct fsdiff *d, uint32_t place, uint8_t changes, uint32_t mode)
{
	struct place *p = place_at(d, place);
	if (p->changes & PLACE_ADDED)
		return;
	p->changes |= p->changes & PLACE_MODIFIED ? 0 : changes;
	p->mode = mode;
}

/* Notes the changes of an inode with several names at each of them. */
struct linked {
	struct fsdiff *d;
	uint8_t changes;
	uint32_t mode;
};

static int visit_backref(void *arg, const struct tree_span *key, const struct tree_span *value)
{
	const struct linked *l = arg;
	struct key_parts parts;
	uint32_t dir, place;
	int rc = key_parse(key->data, key->len, &parts);
	if (rc == 0 && name_check((const char *)value->data, value->len) != 0)
		rc = -EBADMSG;
	if (rc == 0)
		rc = dir_place(l->d, SIDE_B, key_sub_u64(&parts), &dir);
	if (rc == 0)
		rc = place_get(&l->d->places, dir, (const char *)value->data, value->len, &place);
	if (rc == 0)
		note_changes(l->d, place, l->changes, l->mode);
	return rc;
}

static int note_linked(struct fsdiff *d, uint64_t ino, uint8_t changes, uint32_t mode)
{
	const struct fsdiff_side *b = &d->side[SIDE_B];
	struct linked l = { d, changes, mode };
	struct key k;
	key_kind_start(&k, ino, KEY_BACKREF);
	return b->scan(b->ctx, k.bytes, k.len, visit_backref, &l);
}

static int settle_inode(struct fsdiff *d, const struct inode_change *c)
{
	const uint16_t own = CHANGE_CONTENT | CHANGE_EXTENTS | CHANGE_META | CHANGE_XATTR |
			     CHANGE_MTIME | CHANGE_ATIME;
	CLEANUP(buf_fini_p) struct buf pin = BUF_INIT;
	struct inode_rec r;
	uint32_t place;
	if (!(c->flags & own) || (c->flags & CHANGE_RECORD && !same_type(c)))
		return 0;
	int rc = side_inode(d, SIDE_B, c->ino, &r, &pin);
	if (rc != 0)
		return rc == -ENOENT ? -EBADMSG : rc;
	uint8_t changes = own_changes(c, r.mode);
	if (!changes)
		return 0;
	if (!S_ISDIR(r.mode) && r.nlink != 1)
		return note_linked(d, c->ino, changes, r.mode);
	if (S_ISDIR(r.mode))
		rc = dir_place(d, SIDE_B, c->ino, &place);
	else
		rc = single_place(d, c->ino, &r, &place);
	if (rc == 0)
		note_changes(d, place, changes, r.mode);
	return rc;
}

int fsdiff_by_inode(struct fsdiff *d)
{
	int rc = place_links(d);
	if (rc != 0)
		return rc;
	if (link_count(d))
		qsort(d->links.data, link_count(d), sizeof(struct link_change), by_inode_then_side);
	take_renames(d);
	for (uint32_t i = 1; rc == 0 && i < d->places.count; i++)
		rc = settle_place(d, i);
	const struct inode_change *changes = (const struct inode_change *)d->changes.data;
	size_t n = d->changes.len / sizeof(*changes);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = settle_inode(d, &changes[i]);
	return rc;
}
