/*
 * The diff by path, for sides whose inode numbers have nothing to do with each
 * other: directories at the same path are read together, in the order of their
 * names' hashes, and what is at the same path is compared. Still, an inode
 * number that the feed did not mention is the same file on both sides.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "store/diff/fsdiff_internal.h"

/* Directories at one place; 0 for a side that has none there. */
struct pair {
	uint64_t ino[2];
	uint32_t place;
};

struct walk {
	struct fsdiff *d;
	struct buf todo; /* struct pair: a stack */
};

/* One name of a directory in memory. */
struct entry {
	uint64_t hash, ino;
	size_t name; /* offset in names */
	uint8_t name_len, type;
};

struct listing {
	struct buf entries, names;
};

static void listing_fini(struct listing *l)
{
	buf_fini(&l->entries);
	buf_fini(&l->names);
}

static int collect_list(void *arg, const struct tree_span *key, const struct tree_span *value)
{
	struct listing *l = arg;
	struct dirent_reader reader;
	struct key_parts parts;
	struct dirent_rec e;
	int rc = key_parse(key->data, key->len, &parts);
	if (rc != 0)
		return rc;
	dirent_reader_init(&reader, value->data, value->len);
	while ((rc = dirent_next(&reader, &e)) == 1) {
		struct entry entry = { key_sub_u64(&parts), e.ino, l->names.len, e.name_len,
				       e.type };
		rc = buf_append(&l->names, e.name, e.name_len);
		if (rc == 0)
			rc = buf_append(&l->entries, &entry, sizeof(entry));
		if (rc != 0)
			return rc;
	}
	return rc;
}

static int list(struct fsdiff *d, int side, uint64_t dir, struct listing *out)
{
	const struct fsdiff_side *s = &d->side[side];
	struct key k;
	if (!dir)
		return 0;
	key_kind_start(&k, dir, KEY_DIRENT);
	return s->scan(s->ctx, k.bytes, k.len, collect_list, out);
}

static const struct entry *entry_at(const struct listing *l, size_t i)
{
	return i < l->entries.len / sizeof(struct entry) ? (struct entry *)l->entries.data + i
							 : NULL;
}

static const char *entry_name(const struct listing *l, const struct entry *e)
{
	return (const char *)l->names.data + e->name;
}

/* Order of hash, then name; NULL comes last. */
static int entry_order(const struct listing *la, const struct entry *a, const struct listing *lb,
		       const struct entry *b)
{
	if (!a || !b)
		return a ? -1 : 1;
	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	int c = memcmp(entry_name(la, a), entry_name(lb, b), MIN(a->name_len, b->name_len));
	return c ? c : a->name_len - b->name_len;
}

static int push_pair(struct walk *w, const struct entry *a, const struct entry *b, uint32_t place)
{
	struct pair p = { .place = place };
	if (a && a->type == DT_DIR)
		p.ino[SIDE_A] = a->ino;
	if (b && b->type == DT_DIR)
		p.ino[SIDE_B] = b->ino;
	if (!p.ino[SIDE_A] && !p.ino[SIDE_B])
		return 0;
	return buf_append(&w->todo, &p, sizeof(p));
}

/* A name of one side only. */
static int settle_lone(struct walk *w, int side, const struct entry *e, uint32_t place)
{
	CLEANUP(buf_fini_p) struct buf pin = BUF_INIT;
	struct place *p = &w->d->places.v[place];
	struct inode_rec r;
	int rc = side_inode(w->d, side, e->ino, &r, &pin);
	if (rc != 0)
		return rc == -ENOENT ? -EBADMSG : rc;
	p->changes |= side == SIDE_A ? PLACE_REMOVED : PLACE_ADDED;
	p->mode = r.mode;
	return 0;
}

static int compare_at(struct fsdiff *d, uint64_t x, uint64_t y, bool dir_times, uint32_t place)
{
	uint8_t changes;
	uint32_t mode;
	if (x == y && !find_change(d, x))
		return 0;
	int rc = compare_inodes(d, x, y, dir_times, &changes, &mode);
	if (rc != 0)
		return rc;
	d->places.v[place].changes |= changes;
	d->places.v[place].mode = mode;
	return 0;
}

/*
 * One name, on side a or b or both. *entries_differ: then the directory's times
 * changed because of it.
 */
static int settle_name(struct walk *w, const struct entry *a, const struct entry *b,
		       const char *name, uint32_t dir, bool *entries_differ)
{
	struct fsdiff *d = w->d;
	const struct entry *e = a ? a : b;
	uint32_t place;
	int rc = place_get(&d->places, dir, name, e->name_len, &place);
	if (rc != 0)
		return rc;
	if (!a || !b)
		rc = settle_lone(w, a ? SIDE_A : SIDE_B, e, place);
	else if (a->type != DT_DIR || b->type != DT_DIR)
		rc = compare_at(d, a->ino, b->ino, false, place);
	if (rc != 0)
		return rc;
	*entries_differ |= d->places.v[place].changes != 0;
	return push_pair(w, a, b, place);
}

static int walk_names(struct walk *w, const struct pair *p, const struct listing *la,
		      const struct listing *lb, bool *entries_differ)
{
	size_t i = 0, j = 0;
	const struct entry *a = entry_at(la, 0), *b = entry_at(lb, 0);
	while (a || b) {
		int order = entry_order(la, a, lb, b);
		const char *name = order <= 0 ? entry_name(la, a) : entry_name(lb, b);
		int rc = settle_name(w, order <= 0 ? a : NULL, order >= 0 ? b : NULL, name,
				     p->place, entries_differ);
		if (rc != 0)
			return rc;
		if (order <= 0)
			a = entry_at(la, ++i);
		if (order >= 0)
			b = entry_at(lb, ++j);
	}
	return 0;
}

static int walk_pair(struct walk *w, const struct pair *p)
{
	CLEANUP(listing_fini) struct listing la = { BUF_INIT, BUF_INIT };
	CLEANUP(listing_fini) struct listing lb = { BUF_INIT, BUF_INIT };
	bool entries_differ = false;
	int rc = list(w->d, SIDE_A, p->ino[SIDE_A], &la);
	if (rc == 0)
		rc = list(w->d, SIDE_B, p->ino[SIDE_B], &lb);
	/* A directory met twice: the tree is damaged, and the walk would have no end. */
	for (int side = SIDE_A; rc == 0 && side <= SIDE_B; side++) {
		if (p->ino[side])
			rc = dir_map_add(&w->d->dirs[side], p->ino[side], p->place);
	}
	if (rc == 0)
		rc = walk_names(w, p, &la, &lb, &entries_differ);
	if (rc == 0 && p->ino[SIDE_A] && p->ino[SIDE_B])
		rc = compare_at(w->d, p->ino[SIDE_A], p->ino[SIDE_B], !entries_differ, p->place);
	return rc == -EEXIST ? -EBADMSG : rc;
}

int fsdiff_by_path(struct fsdiff *d)
{
	struct walk w = { .d = d };
	struct pair p = { { ROOT_INO, ROOT_INO }, PLACE_ROOT };
	int rc = buf_append(&w.todo, &p, sizeof(p));
	while (rc == 0 && w.todo.len) {
		w.todo.len -= sizeof(p);
		memcpy(&p, w.todo.data + w.todo.len, sizeof(p));
		rc = walk_pair(&w, &p);
	}
	buf_fini(&w.todo);
	return rc;
}
