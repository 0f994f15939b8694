/* The links of an inode: where its names are. */
#include "fs/view/view_internal.h"

#include <errno.h>
#include <string.h>

int links_name_of(struct view *v, uint64_t dir, uint64_t hash, uint64_t ino, struct buf *out)
{
	struct view_value list;
	struct dirent_reader rd;
	struct dirent_rec e;
	struct subkey k;
	int r;

	subkey_u64(&k, KEY_DIRENT, hash);
	r = view_value_locked(v, dir, &k, &list);
	if (r)
		return r;
	dirent_reader_init(&rd, list.data, list.len);
	r = -ENOENT;
	while (dirent_next(&rd, &e) == 1) {
		if (e.ino == ino) {
			r = buf_append(out, e.name, e.name_len);
			break;
		}
	}
	view_value_fini(&list);
	return r;
}

/*
 * An inode with one link says in its record where it is; one with several has a
 * backref for each. These two functions keep it that way. rec->nlink is the
 * count before the change.
 */
int links_add(struct view *v, struct upper_tx *tx, struct unode *u, struct inode_rec *rec,
	      uint64_t dir, const char *name, size_t len)
{
	struct subkey k;
	uint64_t hash = name_hash(name, len);

	if (rec->nlink == 0) {
		rec->parent = dir;
		rec->name_hash = hash;
		rec->nlink = 1;
		return 0;
	}
	if (rec->nlink == 1) {
		struct buf first CLEANUP(buf_fini_p) = BUF_INIT;
		int r = links_name_of(v, rec->parent, rec->name_hash, u->ino, &first);

		if (r)
			return r == -ENOENT ? -EIO : r;
		subkey_backref(&k, rec->parent, rec->name_hash);
		upper_tx_put(tx, u, &k, first.data, first.len);
		rec->parent = rec->name_hash = 0;
	}
	subkey_backref(&k, dir, hash);
	upper_tx_put(tx, u, &k, name, len);
	rec->nlink++;
	return 0;
}

static int backref_del(struct view *v, struct upper_tx *tx, struct unode *u, const struct subkey *k)
{
	int below = view_below_has_locked(v, u->ino, k);

	if (below < 0)
		return below;
	upper_tx_del(tx, u, k, below);
	return 0;
}

struct other_link {
	const struct subkey *not_this;
	struct subkey found;
};

static int find_other(void *arg, const uint8_t *sub, size_t len, const uint8_t *val, size_t val_len)
{
	struct other_link *o = arg;

	(void)val;
	(void)val_len;
	if (len != 17 || (len == o->not_this->len && !memcmp(sub, o->not_this->bytes, len)))
		return 0;
	memcpy(o->found.bytes, sub, len);
	o->found.len = (uint16_t)len;
	return 1;
}

int links_del(struct view *v, struct upper_tx *tx, struct unode *u, struct inode_rec *rec,
	      uint64_t dir, const char *name, size_t len)
{
	struct subkey k;
	int r;

	if (rec->nlink <= 1) {
		rec->nlink = 0;
		return 0;
	}
	subkey_backref(&k, dir, name_hash(name, len));
	r = backref_del(v, tx, u, &k);
	if (r)
		return r;
	if (--rec->nlink == 1) {
		struct other_link o = { .not_this = &k };

		r = view_entries_locked(v, u->ino, KEY_BACKREF, NULL, find_other, &o);
		if (r != 1)
			return r < 0 ? r : -EIO;
		rec->parent = wire_get64be(o.found.bytes + 1);
		rec->name_hash = wire_get64be(o.found.bytes + 9);
		r = backref_del(v, tx, u, &o.found);
	}
	return r;
}
