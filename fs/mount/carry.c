/*
 * What is carried: inodes that have no name in the sealed epoch (unlinked, or
 * made by O_TMPFILE), if the kernel still knows them or the current epoch has
 * given them a name. Pieces of the base are carried as references to its chunks.
 *
 * The current epoch may have changed such an inode meanwhile, as a layer over
 * the sealed one. The copy is merged under these changes, and from then on the
 * inode is `fresh`: it needs nothing below. A second attempt, after a failure,
 * leaves it alone.
 *
 * All of it also goes to the database: a file made by O_TMPFILE may get a name
 * at any time, and the transaction that links it writes only its record.
 */
#include "fs/mount/carry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct kept_range {
	uint64_t pos, len;
};

struct carry {
	struct upper *up;	 /* holds the copies; never written to the database */
	struct kept_range *kept; /* staged data that is carried */
	size_t n_kept, cap_kept;
	bool keep_all; /* no memory for the list */
};

struct prepare_ctx {
	struct view *v;
	struct carry *carry;
	struct kv_batch *batch;
	const char *owner;
	struct unode *to;
};

static int copy_entry(void *arg, const uint8_t *sub, size_t sub_len, const uint8_t *val, size_t len)
{
	struct prepare_ctx *p = arg;
	struct omap_entry *e = omap_entry_new(sub, sub_len, val, len, false);

	if (!e)
		return -ENOMEM;
	omap_entry_free(omap_insert(&p->to->entries, e));
	return 0;
}

static int copy_piece(void *arg, const struct piece *piece)
{
	struct prepare_ctx *p = arg;
	struct upper_extent x = { .off = piece->off, .len = piece->len, .kind = UPPER_DATA };
	uint8_t value[UPPER_EXTENT_SIZE];
	struct subkey k;
	int r = 0;

	switch (piece->kind) {
	case PIECE_HOLE:
		return 0;
	case PIECE_STAGED:
		x.pos = piece->pos;
		break;
	case PIECE_CHUNK:
		x.kind = UPPER_CHUNK;
		x.chunk_off = piece->chunk_off;
		x.digest = piece->digest;
		chunk_store_touch(p->v->base.chunks, &x.digest);
		store_pin_chunk(p->v->store, p->batch, p->owner, &x.digest);
		break;
	case PIECE_INLINE: /* a few bytes: they move to the staging file */
		r = staging_alloc(p->v->staging, x.len, &x.pos);
		if (!r)
			r = staging_write(p->v->staging, x.pos, piece->data + piece->chunk_off,
					  x.len);
		break;
	}
	if (r)
		return r;
	upper_extent_encode(&x, &k, value);
	return copy_entry(p, k.bytes, k.len, value, sizeof(value));
}

/* After a takeover nobody counts what the kernel has. */
static bool may_be_open(struct view *v, uint64_t ino)
{
	return v->others_told || live_count(v->live, ino) > 0;
}

/* Has the current epoch given the inode a name? */
static bool is_linked_again(struct view *v, uint64_t ino)
{
	struct view_lock l;

	view_lock(v, &l, false, 1, &ino);
	struct unode *u = upper_find(v->cur, ino);
	bool linked = u && u->has_rec && u->rec.nlink > 0;

	view_unlock(v, &l);
	return linked;
}

static int prepare_one(void *arg, struct unode *u)
{
	struct prepare_ctx *p = arg;
	struct view *v = p->v;
	int r;

	if (u->gone || !u->has_rec || u->rec.nlink != 0)
		return 0;
	/* In this order, because only what the kernel knows can be linked. */
	if (!may_be_open(v, u->ino) && !is_linked_again(v, u->ino))
		return 0;
	p->to = upper_get(p->carry->up, u->ino);
	if (!p->to)
		return -ENOMEM;
	p->to->rec = u->rec;
	if (u->rec.target_len) {
		char *target = malloc(u->rec.target_len);

		p->to->rec.target = target;
		if (!target)
			return -ENOMEM;
		memcpy(target, u->rec.target, u->rec.target_len);
	}
	r = view_entries_at(v, 1, u->ino, KEY_XATTR, NULL, copy_entry, p);
	if (!r && S_ISREG(u->rec.mode))
		r = view_pieces_locked(v, 1, u->ino, 0, u->rec.size, copy_piece, p);
	return r;
}

int carry_prepare(struct view *v, struct kv_batch *batch, const char *owner, struct carry **out)
{
	struct carry *c = calloc(1, sizeof(*c));
	struct prepare_ctx p = { v, c, batch, owner, NULL };
	int r;

	if (!c)
		return -ENOMEM;
	c->up = upper_new(v->cur->id, v->cur->epoch);
	r = c->up ? upper_each(v->sealed, prepare_one, &p) : -ENOMEM;
	if (r) {
		carry_free(c);
		return r;
	}
	*out = c;
	return 0;
}

bool carry_is_needed(const struct carry *c)
{
	return atomic_load(&c->up->n_unodes) > 0;
}

void carry_free(struct carry *c)
{
	if (!c)
		return;
	upper_free(c->up);
	free(c->kept);
	free(c);
}

/* Stage the parts of x that u says nothing about. */
static void put_uncovered(struct upper_tx *tx, struct unode *u, struct upper_extent x)
{
	struct upper_extent over;

	while (x.len) {
		struct omap_entry *e = upper_extent_seek(u, x.off, &over);
		uint64_t skip = 0, end = x.off + x.len;

		if (e && over.off <= x.off) {
			skip = MIN(over.off + over.len, end) - x.off;
		} else {
			struct upper_extent part = x;

			part.len = skip = (e ? MIN(over.off, end) : end) - x.off;
			upper_tx_place(tx, u, &part);
		}
		x.off += skip;
		x.len -= skip;
		x.pos += skip;
		x.chunk_off += (uint32_t)skip;
	}
}

static void put_under(struct upper_tx *tx, struct unode *u, const struct unode *from)
{
	for (struct omap_entry *e = omap_seek_ge(&from->entries, "", 0); e;
	     e = omap_seek_gt(&from->entries, omap_key(e), e->key_len)) {
		if (omap_key(e)[0] == KEY_EXTENT) {
			struct upper_extent x;

			upper_extent_decode(e, &x);
			put_uncovered(tx, u, x);
		} else if (!omap_find(&u->entries, omap_key(e), e->key_len)) {
			struct subkey k = { .len = e->key_len };

			memcpy(k.bytes, omap_key(e), k.len);
			upper_tx_put(tx, u, &k, omap_value(e), e->value_len);
		}
	}
	upper_tx_rec(tx, u, u->has_rec ? &u->rec : &from->rec);
}

static int merge_under(struct view *v, struct unode *u, const struct unode *from)
{
	struct upper_tx tx;
	int r;

	view_tx_begin(v, &tx);
	tx.unlimited = true;
	u->fresh = true; /* the record says it */
	put_under(&tx, u, from);
	r = upper_tx_commit(&tx);
	u->fresh = r == 0;
	upper_tx_end(&tx);
	return r;
}

/* Keep the inode's staged data from being punched. */
static void keep(struct carry *c, const struct unode *u)
{
	struct upper_extent x;

	for (struct omap_entry *e = upper_extent_seek(u, 0, &x); e && !c->keep_all;
	     e = upper_extent_next(u, &x, &x)) {
		if (x.kind != UPPER_DATA)
			continue;
		if (c->n_kept == c->cap_kept) {
			size_t cap = c->cap_kept ? c->cap_kept * 2 : 16;
			struct kept_range *p = realloc(c->kept, cap * sizeof(*p));

			c->keep_all = !p;
			if (!p)
				return;
			c->kept = p;
			c->cap_kept = cap;
		}
		c->kept[c->n_kept++] = (struct kept_range){ x.pos, x.len };
	}
}

struct apply_ctx {
	struct view *v;
	struct carry *carry;
};

static int apply_one(void *arg, struct unode *from)
{
	struct apply_ctx *a = arg;
	struct view *v = a->v;
	struct unode *u = upper_find(v->cur, from->ino);
	int r = 0;

	if (!may_be_open(v, from->ino) && !(u && u->has_rec && u->rec.nlink > 0))
		return 0;
	if (u && u->gone)
		return 0;
	if (!u)
		u = upper_get(v->cur, from->ino);
	if (!u)
		return -ENOMEM;
	if (!u->fresh)
		r = merge_under(v, u, from);
	if (!r)
		keep(a->carry, u);
	return r;
}

static int by_pos(const void *a, const void *b)
{
	const struct kept_range *x = a, *y = b;

	return x->pos < y->pos ? -1 : x->pos > y->pos;
}

int carry_apply(struct view *v, struct carry *c)
{
	struct apply_ctx a = { v, c };
	bool changed = atomic_load(&v->cur->changed);
	int r;

	c->n_kept = 0;
	r = upper_each(c->up, apply_one, &a);
	if (c->n_kept)
		qsort(c->kept, c->n_kept, sizeof(*c->kept), by_pos);
	/* Carried inodes alone are no reason for a checkpoint. */
	atomic_store(&v->cur->changed, changed);
	return r;
}

void carry_punch_rest(const struct carry *c, struct staging *st, uint64_t end)
{
	uint64_t at = 0;

	for (size_t i = 0; i < c->n_kept && !c->keep_all && c->kept[i].pos < end; i++) {
		staging_punch(st, at, c->kept[i].pos);
		at = MAX(at, c->kept[i].pos + c->kept[i].len);
	}
	if (!c->keep_all)
		staging_punch(st, at, end);
}
