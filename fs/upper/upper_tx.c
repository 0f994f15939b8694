/*
 * The changes of one operation.
 *
 * Staging a change does everything that can fail: it allocates the entry and adds it to what
 * will be logged. Commit logs that and then links the entries in, which cannot fail, so journal
 * and memory never differ. What a transaction replaces in memory is freed, and its staged file
 * space handed to staging_free, only after the transaction is logged.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/upper/upper.h"
#include "store/base/wire.h"

enum change_kind { CHANGE_REC, CHANGE_PUT, CHANGE_ERASE, CHANGE_DROP };

struct tx_change {
	enum change_kind kind;
	struct unode *u;
	struct omap_entry *entry; /* PUT: to link in; ERASE: only its key counts */
	struct omap_entry *old;	  /* PUT, ERASE: what it replaces; for check_room */
	struct inode_rec rec;	  /* REC: target owned */
};

#define LOG_KEY_MAX (4 + 8 + sizeof(((struct subkey *)0)->bytes))

/* The family's key without the mount's id. */
static size_t log_key(const struct upper *up, uint64_t ino, const uint8_t *sub, size_t sub_len,
		      uint8_t out[LOG_KEY_MAX])
{
	upper_put_epoch(out, up->epoch);
	wire_set64be(out + 4, ino);
	memcpy(out + 12, sub, sub_len);
	return 12 + sub_len;
}

void upper_tx_begin(struct upper_tx *tx, struct upper *up, struct journal *j,
		    struct staging *staging)
{
	memset(tx, 0, sizeof(*tx));
	tx->up = up;
	tx->journal = j;
	tx->staging = staging;
	tx->max_bytes = tx->max_inodes = tx->max_meta = UINT64_MAX;
}

static struct tx_change *add_change(struct upper_tx *tx, enum change_kind kind, struct unode *u)
{
	if (!u)
		tx->error = -ENOMEM;
	if (tx->error)
		return NULL;
	if (tx->n == tx->cap) {
		size_t cap = tx->cap ? tx->cap * 2 : 8;
		struct tx_change *p = realloc(tx->changes, cap * sizeof(*p));

		if (!p) {
			tx->error = -ENOMEM;
			return NULL;
		}
		tx->changes = p;
		tx->cap = cap;
	}
	struct tx_change *c = &tx->changes[tx->n++];

	memset(c, 0, sizeof(*c));
	c->kind = kind;
	c->u = u;
	return c;
}

/* Log what is in scratch as the value. */
static void log_put(struct upper_tx *tx, uint64_t ino, const uint8_t *sub, size_t sub_len)
{
	uint8_t key[LOG_KEY_MAX];
	size_t n = log_key(tx->up, ino, sub, sub_len, key);

	if (journal_change(&tx->op, key, n, tx->scratch.data, tx->scratch.len))
		tx->error = -ENOMEM;
}

static void log_del(struct upper_tx *tx, uint64_t ino, const uint8_t *sub, size_t sub_len)
{
	uint8_t key[LOG_KEY_MAX];
	size_t n = log_key(tx->up, ino, sub, sub_len, key);

	if (journal_change(&tx->op, key, n, NULL, 0))
		tx->error = -ENOMEM;
}

void upper_tx_rec(struct upper_tx *tx, struct unode *u, const struct inode_rec *rec)
{
	static const uint8_t sub[1] = { KEY_INODE };
	struct tx_change *c = add_change(tx, CHANGE_REC, u);
	char *target = NULL;

	if (!c)
		return;
	c->rec = *rec;
	c->rec.target = NULL;
	if (rec->target_len) {
		target = malloc(rec->target_len);
		if (!target) {
			tx->error = -ENOMEM;
			return;
		}
		memcpy(target, rec->target, rec->target_len);
		c->rec.target = target;
	}
	buf_clear(&tx->scratch);
	if (wire_put_u8(&tx->scratch, 1) || wire_put_u8(&tx->scratch, u->fresh) ||
	    inode_encode(rec, &tx->scratch)) {
		tx->error = -ENOMEM;
		return;
	}
	log_put(tx, u->ino, sub, 1);
}

void upper_tx_put(struct upper_tx *tx, struct unode *u, const struct subkey *k, const void *val,
		  size_t len)
{
	struct tx_change *c = add_change(tx, CHANGE_PUT, u);

	if (!c)
		return;
	c->entry = omap_entry_new(k->bytes, k->len, val, len, false);
	buf_clear(&tx->scratch);
	if (!c->entry || wire_put_u8(&tx->scratch, 1) || buf_append(&tx->scratch, val, len)) {
		tx->error = -ENOMEM;
		return;
	}
	log_put(tx, u->ino, k->bytes, k->len);
}

void upper_tx_del(struct upper_tx *tx, struct unode *u, const struct subkey *k, bool tombstone)
{
	struct tx_change *c = add_change(tx, tombstone ? CHANGE_PUT : CHANGE_ERASE, u);

	if (!c)
		return;
	c->entry = omap_entry_new(k->bytes, k->len, NULL, 0, true);
	buf_clear(&tx->scratch);
	if (!c->entry || wire_put_u8(&tx->scratch, 0)) {
		tx->error = -ENOMEM;
		return;
	}
	if (tombstone)
		log_put(tx, u->ino, k->bytes, k->len);
	else
		log_del(tx, u->ino, k->bytes, k->len);
}

void upper_tx_drop(struct upper_tx *tx, struct unode *u)
{
	static const uint8_t sub[1] = { KEY_INODE };
	struct tx_change *c = add_change(tx, CHANGE_DROP, u);

	if (!c)
		return;
	tx->unlimited = true;
	for (struct omap_entry *e = omap_seek_ge(&u->entries, "", 0); e;
	     e = omap_seek_gt(&u->entries, omap_key(e), e->key_len))
		log_del(tx, u->ino, omap_key(e), e->key_len);
	if (u->fresh) {
		log_del(tx, u->ino, sub, 1);
		return;
	}
	buf_clear(&tx->scratch);
	if (wire_put_u8(&tx->scratch, 0)) {
		tx->error = -ENOMEM;
		return;
	}
	log_put(tx, u->ino, sub, 1);
}

/* Is what is placed at x there only for a copy? As what has its key now, if anything has. */
static bool is_of_copy(const struct upper_tx *tx, const struct unode *u,
		       const struct upper_extent *x)
{
	const struct omap_entry *e;
	struct upper_extent was;
	struct subkey k;

	if (x->kind != UPPER_DATA || !u)
		return false;
	subkey_u64(&k, KEY_EXTENT, x->off);
	e = omap_find(&u->entries, k.bytes, k.len);
	if (!e)
		return tx->copy_budget != 0;
	upper_extent_decode(e, &was);
	return was.copied;
}

void upper_tx_place(struct upper_tx *tx, struct unode *u, const struct upper_extent *x)
{
	struct upper_extent placed = *x;
	uint8_t value[UPPER_EXTENT_SIZE];
	struct subkey k;

	placed.copied = is_of_copy(tx, u, x);
	upper_extent_encode(&placed, &k, value);
	upper_tx_put(tx, u, &k, value, sizeof(value));
}

/* The part of x from `from` on. */
static struct upper_extent extent_tail(const struct upper_extent *x, uint64_t from)
{
	struct upper_extent t = *x;
	uint64_t cut = from - x->off;

	t.off = from;
	t.len -= cut;
	if (t.kind == UPPER_DATA)
		t.pos += cut;
	if (t.kind == UPPER_CHUNK)
		t.chunk_off += (uint32_t)cut;
	return t;
}

void upper_tx_uncover(struct upper_tx *tx, struct unode *u, uint64_t from, uint64_t to)
{
	struct upper_extent x;

	for (struct omap_entry *e = u ? upper_extent_seek(u, from, &x) : NULL; e && x.off < to;
	     e = upper_extent_next(u, &x, &x)) {
		struct upper_extent whole = x;

		if (whole.off < from) {
			whole.len = from - whole.off;
			upper_tx_place(tx, u, &whole);
		} else if (whole.off != to) {
			struct subkey k;

			subkey_u64(&k, KEY_EXTENT, whole.off);
			upper_tx_del(tx, u, &k, false);
		}
		if (x.off + x.len > to) {
			struct upper_extent tail = extent_tail(&x, to);

			upper_tx_place(tx, u, &tail);
		}
	}
}

/* Does x continue prev, in the file and in the staging file? */
static bool extent_follows(const struct upper_extent *prev, const struct upper_extent *x)
{
	if (prev->off + prev->len != x->off || prev->kind != x->kind)
		return false;
	return x->kind == UPPER_HOLE || (x->kind == UPPER_DATA && prev->pos + prev->len == x->pos);
}

void upper_tx_extent(struct upper_tx *tx, struct unode *u, const struct upper_extent *x)
{
	struct upper_extent add = *x, prev;

	if (!u) {
		tx->error = -ENOMEM;
		return;
	}
	upper_tx_uncover(tx, u, x->off, x->off + x->len);
	/* A file that is written from start to end stays one extent. */
	if (x->off > 0 && upper_extent_seek(u, x->off - 1, &prev) && prev.off < x->off &&
	    extent_follows(&prev, x)) {
		add = prev;
		add.len += x->len;
	}
	upper_tx_place(tx, u, &add);
}

/* Free the ranges of staged data that `old` held and no extent of u names now. */
static void free_uncovered(struct upper_tx *tx, struct unode *u, const struct omap_entry *old)
{
	struct upper_extent x, now;

	if (old->tombstone || omap_key(old)[0] != KEY_EXTENT)
		return;
	upper_extent_decode(old, &x);
	if (x.kind != UPPER_DATA)
		return;
	uint64_t at = x.off, end = x.off + x.len;
	struct omap_entry *e = upper_extent_seek(u, at, &now);

	while (at < end) {
		bool same = e && now.off <= at && now.kind == UPPER_DATA &&
			    now.pos + (at - now.off) == x.pos + (at - x.off);
		uint64_t upto = !e ? end : now.off > at ? now.off : now.off + now.len;

		upto = MIN(upto, end);
		if (!same)
			staging_free(tx->staging, x.pos + (at - x.off), upto - at);
		at = upto;
		if (e && now.off + now.len <= at)
			e = upper_extent_next(u, &now, &now);
	}
}

/* Change meta_bytes by the difference between the inode's old price and its new one. */
static void count_unode(struct upper_tx *tx, uint64_t was, uint64_t is)
{
	if (was != is)
		atomic_fetch_add_explicit(&tx->up->meta_bytes, is - was, memory_order_relaxed);
}

static void apply_drop(struct upper_tx *tx, struct unode *u)
{
	struct upper_extent x;

	for (struct omap_entry *e = omap_seek_ge(&u->entries, "", 0); e;
	     e = omap_seek_gt(&u->entries, omap_key(e), e->key_len))
		upper_count_entry(tx->up, e, -1);
	for (struct omap_entry *e = upper_extent_seek(u, 0, &x); e;
	     e = upper_extent_next(u, &x, &x))
		if (x.kind == UPPER_DATA)
			staging_free(tx->staging, x.pos, x.len);
	if (u->counted)
		atomic_fetch_sub_explicit(&tx->up->new_inodes, 1, memory_order_relaxed);
	u->counted = false;
	if (u->fresh) {
		count_unode(tx, unode_price(u), 0);
		upper_remove(tx->up, u);
		return;
	}
	const uint64_t was = unode_price(u);

	omap_clear(&u->entries);
	free((void *)u->rec.target);
	memset(&u->rec, 0, sizeof(u->rec));
	u->has_rec = false;
	u->gone = true;
	count_unode(tx, was, unode_price(u));
}

static void apply_rec(struct unode *u, const struct inode_rec *rec)
{
	free((void *)u->rec.target);
	u->rec = *rec;
	u->has_rec = true;
	u->gone = false;
}

static void apply(struct upper_tx *tx, struct tx_change *c)
{
	struct unode *u = c->u;
	const uint64_t was = unode_price(u);

	switch (c->kind) {
	case CHANGE_REC:
		apply_rec(u, &c->rec);
		upper_count_new(tx->up, u);
		count_unode(tx, was, unode_price(u));
		break;
	case CHANGE_PUT:
		upper_count_entry(tx->up, c->entry, 1);
		c->entry = omap_insert(&u->entries, c->entry); /* keep the old one for a moment */
		if (c->entry)
			upper_count_entry(tx->up, c->entry, -1);
		break;
	case CHANGE_ERASE: {
		struct omap_entry *old =
			omap_remove(&u->entries, omap_key(c->entry), c->entry->key_len);

		omap_entry_free(c->entry);
		c->entry = old;
		if (old)
			upper_count_entry(tx->up, old, -1);
		break;
	}
	case CHANGE_DROP:
		apply_drop(tx, u);
		break;
	}
}

struct growth {
	int64_t bytes, meta; /* of them all, and of metadata alone */
	uint64_t inodes;
};

static void add_entry(struct growth *g, const struct omap_entry *e, int sign)
{
	g->bytes += sign * (int64_t)upper_entry_bytes(e);
	g->meta += sign * (int64_t)upper_entry_price(e);
}

/* Add what a change would add; what it replaces is subtracted once, and marked. */
static void add_growth(struct growth *g, struct tx_change *c)
{
	if (c->kind == CHANGE_DROP) /* unlimited */
		return;
	if (c->kind == CHANGE_REC) {
		int64_t n = (int64_t)(UPPER_INODE_PRICE + c->rec.target_len - unode_price(c->u));

		g->bytes += n;
		g->meta += n;
		g->inodes += c->u->fresh && !c->u->counted;
		return;
	}
	if (c->kind == CHANGE_PUT)
		add_entry(g, c->entry, 1);
	c->old = omap_find(&c->u->entries, omap_key(c->entry), c->entry->key_len);
	if (c->old && !c->old->leaves) {
		c->old->leaves = true;
		add_entry(g, c->old, -1);
	}
}

static struct growth growth_of(struct upper_tx *tx)
{
	struct growth g = { 0 };

	for (size_t i = 0; i < tx->n; i++)
		add_growth(&g, &tx->changes[i]);
	for (size_t i = 0; i < tx->n; i++)
		if (tx->changes[i].old)
			tx->changes[i].old->leaves = false;
	return g;
}

static bool goes_beyond(uint64_t has, int64_t add, uint64_t max)
{
	return add > 0 && has + (uint64_t)add > max;
}

static int check_copy_budget(struct upper_tx *tx)
{
	const struct growth g = growth_of(tx);
	struct upper *up = tx->up;
	const uint64_t has = atomic_load(&up->copy_bytes);

	/* In this order: who sees the number has its start. */
	if (atomic_load(&up->copy_number) != tx->copy_number) {
		atomic_store(&up->copy_start, has);
		atomic_store(&up->copy_number, tx->copy_number);
	}
	const uint64_t start = MIN(has, atomic_load(&up->copy_start));

	return goes_beyond(has - start, g.meta, tx->copy_budget) ||
			       goes_beyond(has, g.meta, UPPER_COPIES * tx->copy_budget)
		       ? -EDQUOT
		       : 0;
}

/* Others may commit between this check and the journal's write: then a little more is used. */
static int check_room(struct upper_tx *tx)
{
	struct upper *up = tx->up;

	if (tx->unlimited)
		return 0;
	if (tx->copy_budget)
		return check_copy_budget(tx);
	const bool full = tx->space && space_take(tx->space, SPACE_GROWTH, 0);

	if (!full && tx->max_bytes == UINT64_MAX && tx->max_inodes == UINT64_MAX &&
	    atomic_load_explicit(&up->meta_bytes, memory_order_relaxed) < tx->max_meta / 2)
		return 0;
	const struct growth g = growth_of(tx);

	if (!(full && g.bytes > 0) && !goes_beyond(upper_bytes(up), g.bytes, tx->max_bytes) &&
	    !goes_beyond(atomic_load_explicit(&up->meta_bytes, memory_order_relaxed), g.meta,
			 tx->max_meta) &&
	    !goes_beyond(atomic_load_explicit(&up->new_inodes, memory_order_relaxed),
			 (int64_t)g.inodes, tx->max_inodes))
		return 0;
	if (tx->refused)
		atomic_fetch_add_explicit(tx->refused, 1, memory_order_relaxed);
	return full && g.bytes > 0 ? -ENOSPC : -EDQUOT;
}

int upper_tx_commit(struct upper_tx *tx)
{
	int r = tx->error;

	if (r || !tx->n)
		return r;
	r = check_room(tx);
	if (r)
		return r;
	r = journal_append(tx->journal, &tx->op, tx->made_ino);
	if (r)
		return r;
	want_changed(tx->repeatable);
	atomic_store_explicit(&tx->up->changed, true, memory_order_relaxed);
	for (size_t i = 0; i < tx->n; i++)
		apply(tx, &tx->changes[i]);
	/* Entries that were replaced: what they held may be dead now. */
	for (size_t i = 0; i < tx->n; i++) {
		struct tx_change *c = &tx->changes[i];

		if ((c->kind == CHANGE_PUT || c->kind == CHANGE_ERASE) && c->entry) {
			free_uncovered(tx, c->u, c->entry);
			omap_entry_free(c->entry);
		}
	}
	tx->n = 0;
	return 0;
}

void upper_tx_end(struct upper_tx *tx)
{
	for (size_t i = 0; i < tx->n; i++) {
		omap_entry_free(tx->changes[i].entry);
		free((void *)tx->changes[i].rec.target);
	}
	free(tx->changes);
	buf_fini(&tx->scratch);
	buf_fini(&tx->op);
	memset(tx, 0, sizeof(*tx));
}

void upper_delete_range(struct kv *kv, struct kv_batch *b, const uint8_t id[UPPER_ID_SIZE],
			uint32_t epoch, bool all_epochs)
{
	uint8_t from[UPPER_ID_SIZE + 4], to[UPPER_ID_SIZE + 4];

	memcpy(from, id, UPPER_ID_SIZE);
	memcpy(to, id, UPPER_ID_SIZE);
	upper_put_epoch(from + UPPER_ID_SIZE, all_epochs ? 0 : epoch);
	upper_put_epoch(to + UPPER_ID_SIZE, all_epochs ? UINT32_MAX : epoch + 1);
	kv_batch_del_range(kv, b, KV_UPPER, from, sizeof(from), to, sizeof(to));
}
