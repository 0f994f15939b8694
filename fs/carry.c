#include "fs/carry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/wire.h"

struct carry {
	struct upper *up; /* holds the copies; never written to the database */
};

struct copy_ctx {
	struct view *v;
	struct unode *to;
	struct kv_batch *batch;
	const char *owner;
};

static int copy_entry(void *arg, const uint8_t *sub, size_t sub_len, const uint8_t *val, size_t len)
{
	struct copy_ctx *c = arg;
	struct omap_entry *e = omap_entry_new(sub, sub_len, val, len, false);

	if (!e)
		return -ENOMEM;
	omap_entry_free(omap_insert(&c->to->entries, e));
	return 0;
}

static int put_extent(struct unode *u, const struct upper_extent *x)
{
	uint8_t v[UPPER_EXTENT_SIZE] = { (uint8_t)x->kind };
	struct omap_entry *e;
	struct subkey k;

	subkey_u64(&k, KEY_EXTENT, x->off);
	wire_set64(v + 1, x->len);
	wire_set64(v + 9, x->pos);
	wire_set32(v + 17, x->chunk_off);
	memcpy(v + 21, x->digest.b, DIGEST_SIZE);
	e = omap_entry_new(k.bytes, k.len, v, sizeof(v), false);
	if (!e)
		return -ENOMEM;
	omap_entry_free(omap_insert(&u->entries, e));
	return 0;
}

static int copy_piece(void *arg, const struct piece *p)
{
	struct copy_ctx *c = arg;
	struct upper_extent x = { .off = p->off, .len = p->len, .kind = UPPER_DATA };
	int r;

	switch (p->kind) {
	case PIECE_HOLE:
		return 0;
	case PIECE_STAGED:
		x.pos = p->pos;
		break;
	case PIECE_CHUNK:
		x.kind = UPPER_CHUNK;
		x.chunk_off = p->chunk_off;
		x.digest = p->digest;
		chunk_store_touch(c->v->base.chunks, &p->digest);
		store_pin_chunk(c->v->store, c->batch, c->owner, &p->digest);
		break;
	case PIECE_INLINE: /* a few bytes: they move to the staging file */
		r = staging_alloc(c->v->staging, p->len, &x.pos);
		if (!r)
			r = staging_write(c->v->staging, x.pos, p->data + p->chunk_off, p->len);
		if (r)
			return r;
		break;
	}
	return put_extent(c->to, &x);
}

struct prepare_ctx {
	struct copy_ctx copy;
	struct carry *carry;
};

static int prepare_one(void *arg, struct unode *u)
{
	struct prepare_ctx *p = arg;
	struct view *v = p->copy.v;
	char *target = NULL;
	int r;

	if (u->gone || !u->has_rec || u->rec.nlink != 0 || live_count(v->live, u->ino) == 0)
		return 0;
	struct unode *to = upper_get(p->carry->up, u->ino);

	if (!to)
		return -ENOMEM;
	to->rec = u->rec;
	to->rec.target = NULL;
	if (u->rec.target_len) {
		target = malloc(u->rec.target_len);
		if (!target)
			return -ENOMEM;
		memcpy(target, u->rec.target, u->rec.target_len);
		to->rec.target = target;
	}
	to->has_rec = to->fresh = true;
	p->copy.to = to;
	r = view_entries_at(v, 1, u->ino, KEY_XATTR, NULL, copy_entry, &p->copy);
	if (!r && S_ISREG(u->rec.mode))
		r = view_pieces_locked(v, 1, u->ino, 0, u->rec.size, copy_piece, &p->copy);
	return r;
}

int carry_prepare(struct view *v, struct kv_batch *batch, const char *owner, struct carry **out)
{
	struct carry *c = calloc(1, sizeof(*c));
	struct prepare_ctx p = { { v, NULL, batch, owner }, c };
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

void carry_free(struct carry *c)
{
	if (!c)
		return;
	upper_free(c->up);
	free(c);
}

struct apply_ctx {
	struct view *v;
	bool staged;
};

static uint64_t staged_bytes(const struct unode *u)
{
	struct upper_extent x;
	uint64_t sum = 0;

	for (struct omap_entry *e = upper_extent_seek(u, 0, &x); e;
	     e = upper_extent_next(u, &x, &x))
		sum += x.kind == UPPER_DATA ? x.len : 0;
	return sum;
}

/* Put the parts of x that u covers with nothing under it. */
static void put_uncovered(struct unode *u, struct upper_extent x)
{
	struct upper_extent over;

	while (x.len) {
		struct omap_entry *e = upper_extent_seek(u, x.off, &over);
		uint64_t skip = 0, end = x.off + x.len;

		if (e && over.off <= x.off) {
			skip = MIN(over.off + over.len, end) - x.off;
		} else {
			struct upper_extent part = x;

			part.len = (e ? MIN(over.off, end) : end) - x.off;
			/* Without memory the rest of a nameless file reads as zeros. */
			(void)!put_extent(u, &part);
			skip = part.len;
		}
		x.off += skip;
		x.len -= skip;
		x.pos += skip;
		x.chunk_off += (uint32_t)skip;
	}
}

/* u, of the current epoch, has changed the inode since: from's state goes under it. */
static void merge_under(struct unode *u, struct unode *from)
{
	for (struct omap_entry *e = omap_seek_ge(&from->entries, "", 0), *next; e; e = next) {
		next = omap_seek_gt(&from->entries, omap_key(e), e->key_len);
		if (omap_key(e)[0] == KEY_EXTENT) {
			struct upper_extent x;

			upper_extent_decode(e, &x);
			put_uncovered(u, x);
		} else if (!omap_find(&u->entries, omap_key(e), e->key_len)) {
			e = omap_remove(&from->entries, omap_key(e), e->key_len);
			omap_entry_free(omap_insert(&u->entries, e));
		}
	}
	if (!u->has_rec) {
		u->rec = from->rec;
		from->rec.target = NULL;
		u->has_rec = true;
	}
	u->fresh = true;
}

static int apply_one(void *arg, struct unode *from)
{
	struct apply_ctx *c = arg;
	struct unode *u;
	uint64_t had;

	if (live_count(c->v->live, from->ino) == 0)
		return 0;
	u = upper_get(c->v->cur, from->ino);
	if (!u || u->gone)
		return 0;
	had = staged_bytes(u);
	merge_under(u, from);
	uint64_t now = staged_bytes(u);

	atomic_fetch_add(&c->v->cur->data_bytes, now - had);
	c->staged |= now > 0;
	return 0;
}

void carry_apply(struct view *v, struct carry *c, bool *out_staged)
{
	struct apply_ctx a = { v, false };

	upper_each(c->up, apply_one, &a);
	*out_staged = a.staged;
}
