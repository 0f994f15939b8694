/*
 * What a mount has changed against its base: the keys of its uppers, with what
 * the base and what the view say of each, go to fsdiff. All extents of a file
 * count as one key; a deleted inode's keys are those of the base.
 *
 * No epoch is being sealed meanwhile, so that the base stays what it is; it is
 * read without a lock. The view is read with a stripe's lock, and what fsdiff
 * makes of it runs without: it asks for more.
 */
#include "fs/mount/mount_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/wire.h"

struct side {
	struct view *v;
	bool base;
	bool still; /* the layers are locked exclusively for all of the diff */
};

static bool side_lock(const struct side *s, struct view_lock *l, uint64_t ino)
{
	if (s->base || s->still)
		return false;
	view_lock(s->v, l, false, 1, &ino);
	return true;
}

/* Stripe of the key's inode held. */
static int get_locked(const struct side *s, const struct key_parts *p, const void *key, size_t klen,
		      struct buf *out)
{
	struct subkey k;
	int r;

	if (s->base) {
		struct tree_value tv = { 0 };

		r = tree_get(s->v->base.nodes, &s->v->base.root, key, klen, &tv);
		if (!r)
			r = buf_append(out, tv.data, tv.len);
		tree_value_release(&tv);
		return r;
	}
	if (p->kind == KEY_INODE) {
		struct view_rec rec;

		r = view_rec_locked(s->v, p->ino, &rec);
		if (!r)
			r = rec.rec.nlink ? inode_encode(&rec.rec, out) : -ENOENT;
		view_rec_fini(&rec);
		return r;
	}
	struct view_value val;

	if (klen - 8 > sizeof(k.bytes))
		return -ENOENT;
	memcpy(k.bytes, (const uint8_t *)key + 8, klen - 8);
	k.len = (uint16_t)(klen - 8);
	r = view_value_locked(s->v, p->ino, &k, &val);
	if (!r)
		r = buf_append(out, val.data, val.len);
	view_value_fini(&val);
	return r;
}

static int side_get(void *ctx, const void *key, size_t klen, struct buf *out)
{
	struct side *s = ctx;
	struct key_parts p;
	struct view_lock l;
	int r = key_parse(key, klen, &p);

	buf_clear(out);
	if (r)
		return r;
	bool locked = side_lock(s, &l, p.ino);

	r = get_locked(s, &p, key, klen, out);
	if (locked)
		view_unlock(s->v, &l);
	return r;
}

/* --- scanning one kind of an inode --- */
struct scan_ctx {
	const struct side *side;
	uint64_t ino;
	struct buf found; /* for each: struct found_head, key, value */
};

struct found_head {
	uint32_t key_len, value_len;
};

static int scan_give(struct scan_ctx *c, const uint8_t *sub, size_t len, const void *val, size_t n)
{
	struct found_head h = { (uint32_t)(8 + len), (uint32_t)n };
	uint8_t ino[8];
	int r;

	wire_set64be(ino, c->ino);
	r = buf_append(&c->found, &h, sizeof(h));
	if (!r)
		r = buf_append(&c->found, ino, sizeof(ino));
	if (!r)
		r = buf_append(&c->found, sub, len);
	return r ? r : buf_append(&c->found, val, n);
}

static int scan_tell(const struct buf *found, fsdiff_scan_fn fn, void *arg)
{
	struct found_head h;
	int r = 0;

	for (size_t at = 0; at < found->len && !r; at += sizeof(h) + h.key_len + h.value_len) {
		memcpy(&h, found->data + at, sizeof(h));
		const uint8_t *key = found->data + at + sizeof(h);

		r = fn(arg, &(struct tree_span){ key, h.key_len },
		       &(struct tree_span){ key + h.key_len, h.value_len });
	}
	return r;
}

static int scan_entry(void *arg, const uint8_t *sub, size_t len, const uint8_t *val, size_t n)
{
	return scan_give(arg, sub, len, val, n);
}

#define SCAN_BLOCK (64u << 10)

struct block_ctx {
	struct view *v;
	uint8_t *block;
	uint64_t off;
};

static int fill_block(void *arg, const struct piece *p)
{
	struct block_ctx *b = arg;

	return view_read_piece(b->v, p, p->off, b->block + (p->off - b->off), p->len);
}

/* Data by its content, so that staged and stored bytes compare: a digest a block. */
static int scan_data(struct scan_ctx *c, uint64_t size)
{
	struct block_ctx b = { .v = c->side->v, .block = malloc(SCAN_BLOCK) };
	struct subkey k;
	int r = b.block ? 0 : -ENOMEM;

	for (; b.off < size && !r; b.off += SCAN_BLOCK) {
		size_t n = (size_t)MIN((uint64_t)SCAN_BLOCK, size - b.off);
		struct digest d;

		r = view_pieces_locked(b.v, c->side->base ? 2 : 0, c->ino, b.off, b.off + n,
				       fill_block, &b);
		if (r || chunker_is_zero(b.block, n))
			continue;
		r = hash_bytes(b.block, n, &d);
		subkey_u64(&k, KEY_EXTENT, b.off);
		if (!r)
			r = scan_give(c, k.bytes, k.len, d.b, sizeof(d.b));
	}
	free(b.block);
	return r;
}

static int side_scan(void *ctx, const void *prefix, size_t len, fsdiff_scan_fn fn, void *arg)
{
	struct scan_ctx c = { ctx, len == KEY_PREFIX_SIZE ? wire_get64be(prefix) : 0, BUF_INIT };
	enum key_kind kind = (enum key_kind)((const uint8_t *)prefix)[8];
	struct view *v = c.side->v;
	unsigned depth = c.side->base ? 2 : 0;
	struct view_rec rec = { 0 };
	struct view_lock l;
	int r = 0;
	bool locked = side_lock(c.side, &l, c.ino);

	if (kind == KEY_EXTENT) {
		r = view_rec_at(v, depth, c.ino, &rec);
		r = r ? (r == -ENOENT ? 0 : r) : scan_data(&c, rec.rec.size);
		view_rec_fini(&rec);
	} else {
		r = view_entries_at(v, depth, c.ino, kind, NULL, scan_entry, &c);
	}
	if (locked)
		view_unlock(v, &l);
	if (!r)
		r = scan_tell(&c.found, fn, arg);
	buf_fini(&c.found);
	return r;
}

/* --- which inodes, and which of their keys --- */
struct inos {
	uint64_t *list;
	size_t n, cap;
};

static int add_ino(void *arg, struct unode *u)
{
	struct inos *l = arg;

	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 256;
		uint64_t *p = realloc(l->list, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->list = p;
		l->cap = cap;
	}
	l->list[l->n++] = u->ino;
	return 0;
}

static int cmp_ino(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Keys of one inode, as a buffer of (u16 length, bytes). */
static int add_key(struct buf *keys, const uint8_t *sub, size_t len)
{
	int r = wire_put_u16(keys, (uint16_t)len);

	return r ? r : buf_append(keys, sub, len);
}

static int add_upper_keys(struct buf *keys, struct unode *u)
{
	int r = 0;

	for (struct omap_entry *e = omap_seek_ge(&u->entries, "", 0); e && !r;
	     e = omap_seek_gt(&u->entries, omap_key(e), e->key_len))
		if (omap_key(e)[0] != KEY_EXTENT)
			r = add_key(keys, omap_key(e), e->key_len);
	return r;
}

static int add_base_keys(struct view *v, struct buf *keys, uint64_t ino)
{
	struct tree_iter *it CLEANUP(tree_iter_free_p) =
		tree_iter_new(v->base.nodes, &v->base.root);
	struct key from;
	int r;

	if (!it)
		return -ENOMEM;
	key_inode(&from, ino);
	for (r = tree_iter_seek(it, from.bytes, from.len); r == 1; r = tree_iter_next(it)) {
		size_t len;
		const uint8_t *key = tree_iter_key(it, &len);

		if (len < 9 || wire_get64be(key) != ino)
			return 0;
		if (key[8] != KEY_EXTENT && key[8] != KEY_INODE) {
			r = add_key(keys, key + 8, len - 8);
			if (r)
				return r;
		}
	}
	return r;
}

static int cmp_key(const void *a, const void *b)
{
	const uint8_t *x = *(const uint8_t *const *)a, *y = *(const uint8_t *const *)b;

	return node_key_cmp(x + 2, wire_get16(x), y + 2, wire_get16(y));
}

static int feed_key(struct fsdiff *d, struct side *sides, uint64_t ino, const uint8_t *sub,
		    size_t sub_len)
{
	struct buf a CLEANUP(buf_fini_p) = BUF_INIT, b CLEANUP(buf_fini_p) = BUF_INIT;
	uint8_t key[8 + sizeof(((struct subkey *)0)->bytes)];
	struct key_parts p;
	int ra, rb;

	wire_set64be(key, ino);
	memcpy(key + 8, sub, sub_len);
	if (key_parse(key, 8 + sub_len, &p))
		return -EBADMSG;
	ra = get_locked(&sides[0], &p, key, 8 + sub_len, &a);
	rb = get_locked(&sides[1], &p, key, 8 + sub_len, &b);
	if ((ra && ra != -ENOENT) || (rb && rb != -ENOENT))
		return ra && ra != -ENOENT ? ra : rb;
	if ((ra && rb) ||
	    (!ra && !rb && a.len == b.len && (!a.len || !memcmp(a.data, b.data, a.len))))
		return 0;
	struct tree_span k = { key, 8 + sub_len }, sa = { a.data, a.len }, sb = { b.data, b.len };

	return fsdiff_feed(d, &k, ra ? NULL : &sa, rb ? NULL : &sb);
}

/* Bytes of a file differ: one key stands for all. */
static int feed_data(struct fsdiff *d, uint64_t ino)
{
	static const uint8_t was[1] = { 0 }, is[1] = { 1 };
	struct tree_span k, a = { was, 1 }, b = { is, 1 };
	struct key key;

	key_extent(&key, ino, 0);
	k = (struct tree_span){ key.bytes, key.len };
	return fsdiff_feed(d, &k, &a, &b);
}

static int feed_keys(struct fsdiff *d, struct side *sides, uint64_t ino, struct buf *keys,
		     bool data)
{
	static const uint8_t inode_key[1] = { KEY_INODE };
	size_t n = 0, cap = 16;
	const uint8_t **list = malloc(cap * sizeof(*list));
	int r = list ? feed_key(d, sides, ino, inode_key, 1) : -ENOMEM;

	for (size_t at = 0; at < keys->len && !r; at += 2u + wire_get16(keys->data + at)) {
		if (n == cap) {
			const uint8_t **p = realloc(list, 2 * cap * sizeof(*list));

			if (!p) {
				r = -ENOMEM;
				break;
			}
			list = p;
			cap *= 2;
		}
		list[n++] = keys->data + at;
	}
	if (!r)
		qsort(list, n, sizeof(*list), cmp_key);
	for (size_t i = 0; i < n && !r; i++) {
		bool is_backref = list[i][2] > KEY_EXTENT;

		if (data && is_backref) {
			r = feed_data(d, ino);
			data = false;
		}
		if (!r && (i == 0 || cmp_key(&list[i - 1], &list[i]) != 0))
			r = feed_key(d, sides, ino, list[i] + 2, wire_get16(list[i]));
	}
	if (data && !r)
		r = feed_data(d, ino);
	free(list);
	return r;
}

/* Do the bytes of [from, to) differ from the base's? 1, 0, or a failure. Stripe held. */
static int range_differs(struct view *v, uint64_t ino, uint64_t from, uint64_t to)
{
	struct block_ctx is = { v, malloc(SCAN_BLOCK), from },
			 was = { v, malloc(SCAN_BLOCK), from };
	int r = is.block && was.block ? 0 : -ENOMEM;

	for (; from < to && !r; from += SCAN_BLOCK) {
		size_t n = (size_t)MIN((uint64_t)SCAN_BLOCK, to - from);

		is.off = was.off = from;
		r = view_pieces_locked(v, 0, ino, from, from + n, fill_block, &is);
		if (!r)
			r = view_pieces_locked(v, 2, ino, from, from + n, fill_block, &was);
		if (!r)
			r = memcmp(is.block, was.block, n) != 0;
	}
	free(is.block);
	free(was.block);
	return r;
}

/* Something was written: is it other than what the base has? 1, 0, or a failure. */
static int data_differs(struct view *v, uint64_t ino, const struct inode_rec *is)
{
	struct upper *layers[2] = { v->cur, v->sealed };
	struct view_rec was;
	struct upper_extent x;
	int r = view_rec_at(v, 2, ino, &was);

	if (!r && was.rec.size != is->size)
		r = -ENOENT;
	view_rec_fini(&was);
	if (r)
		return r == -ENOENT ? 1 : r;
	for (int i = 0; i < 2 && !r; i++) {
		struct unode *u = layers[i] ? upper_find(layers[i], ino) : NULL;

		for (struct omap_entry *e = u ? upper_extent_seek(u, 0, &x) : NULL; e && !r;
		     e = upper_extent_next(u, &x, &x))
			r = range_differs(v, ino, x.off, MIN(x.off + x.len, is->size));
		if (u && u->fresh)
			break;
	}
	return r;
}

static int feed_inode(struct fsdiff *d, struct side *sides, uint64_t ino)
{
	struct view *v = sides[0].v;
	struct buf keys CLEANUP(buf_fini_p) = BUF_INIT;
	struct view_rec is = { 0 };
	struct view_lock l;
	bool data = false, locked = side_lock(&sides[1], &l, ino);
	int r;
	struct upper *layers[2] = { v->cur, v->sealed };

	r = view_rec_locked(v, ino, &is);
	if (r == -ENOENT || (!r && is.rec.nlink == 0)) {
		r = add_base_keys(v, &keys, ino);
	} else {
		for (int i = 0; i < 2 && !r; i++) {
			struct unode *u = layers[i] ? upper_find(layers[i], ino) : NULL;
			struct upper_extent x;

			if (!u)
				continue;
			data |= upper_extent_seek(u, 0, &x) != NULL;
			r = add_upper_keys(&keys, u);
			if (u->fresh)
				break;
		}
	}
	if (!r && data) {
		r = data_differs(v, ino, &is.rec);
		data = r == 1;
		r = MIN(r, 0);
	}
	if (!r)
		r = feed_keys(d, sides, ino, &keys, data);
	view_rec_fini(&is);
	if (locked)
		view_unlock(v, &l);
	return r;
}

/* *out is settled, and of the caller. */
static int compare(struct view *v, bool still, struct fsdiff **out)
{
	struct side sides[2] = { { v, true, still }, { v, false, still } };
	struct fsdiff_side a = { side_get, &sides[0], side_scan };
	struct fsdiff_side b = { side_get, &sides[1], side_scan };
	struct fsdiff *d CLEANUP(fsdiff_free_p) = fsdiff_new(&a, &b);
	struct inos l = { NULL, 0, 0 };
	int r = d ? 0 : -ENOMEM;

	/* Exclusive, so that the tables stand still while they are read. */
	if (!still)
		pthread_rwlock_wrlock(&v->layers);
	if (!r)
		r = upper_each(v->cur, add_ino, &l);
	if (!r && v->sealed)
		r = upper_each(v->sealed, add_ino, &l);
	if (!still)
		pthread_rwlock_unlock(&v->layers);
	if (l.n)
		qsort(l.list, l.n, sizeof(*l.list), cmp_ino);
	for (size_t i = 0; i < l.n && !r; i++)
		if (i == 0 || l.list[i] != l.list[i - 1])
			r = feed_inode(d, sides, l.list[i]);
	free(l.list);
	if (!r)
		r = fsdiff_settle(d);
	if (!r)
		*out = STEAL(d);
	return r;
}

/* *out is settled, and of the caller. -EINPROGRESS: what it wants is to be fetched. */
static int compare_once(struct view *v, struct fsdiff **out)
{
	int r = compare(v, false, out);

	/* A name that was there went before its inode was asked for: hold operations up. */
	if (r == -EBADMSG) {
		want_hold();
		pthread_rwlock_wrlock(&v->layers);
		r = compare(v, true, out);
		pthread_rwlock_unlock(&v->layers);
		want_let_go();
	}
	return r;
}

int mount_diff(struct mount *m, fsdiff_fn fn, void *arg, struct error *err)
{
	struct fsdiff *d CLEANUP(fsdiff_free_p) = NULL;
	struct view *v = &m->view;
	int r;

	pthread_mutex_lock(&m->op);
	mount_join_seal(m);
	mount_flush(m, SESSION_DRAIN_MS);
	want_begin(NULL, 0);
	do
		r = compare_once(v, &d);
	while (r == -EINPROGRESS && (r = store_fetch_wanted(m->store)) == 0);
	pthread_mutex_unlock(&m->op);
	if (!r)
		r = fsdiff_tell(d, fn, arg); /* which may take its time */
	return r ? error_prefix(err, r, "cannot compare the mount with its base") : 0;
}
