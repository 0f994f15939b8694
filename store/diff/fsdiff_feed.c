/* The feed: a diff's state, and how the keys that differ become facts about inodes and names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/diff/fsdiff_internal.h"

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
