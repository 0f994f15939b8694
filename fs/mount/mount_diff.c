/*
 * What a mount has changed against its base: the keys of its uppers, with what
 * the base and what the view say of each, go to fsdiff. All extents of a file
 * count as one key; a deleted inode's keys are those of the base.
 *
 * A diff goes in passes, and nobody waits for what it waits for. A pass reads a copy of the base
 * without a lock; what the view says of a key or an inode it looks up under a stripe's lock, as any
 * operation does (view_look). Files' bytes are not read in a pass (diff_data.h). A pass is
 * void, and there is another one,
 *
 *   - if files' bytes are to be read, or what is far away is to be fetched, which happens between
 *     the passes, without a lock;
 *   - if a checkpoint has exchanged the base. After BASES_MAX of these, op is held, so that
 *     checkpoints wait;
 *   - if a name that was there went before its inode was asked for. Then operations are held up: a
 *     pass with the layers locked, which takes nodes from the cache alone.
 */
#include "fs/mount/mount_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/mount/diff_data.h"
#include "store/base/wire.h"

/* Each learns something: 64 nodes that were far away, or what of some files was not known. */
#define PASSES_MAX 10000
#define BASES_MAX 8

struct pass {
	struct view *v;
	struct tree_fs base; /* held */
	struct diff_data *data;
	bool still; /* the layers are locked exclusively for all of it */
};

struct side {
	struct pass *pass;
	bool base;
};

/* ---- what a side says ---- */

static int base_get(const struct tree_fs *base, const void *key, size_t klen, struct buf *out)
{
	struct tree_value tv = { 0 };
	int r = tree_get(base->nodes, &base->root, key, klen, &tv);

	if (!r)
		r = buf_append(out, tv.data, tv.len);
	tree_value_release(&tv);
	return r;
}

/* Stripe of the key's inode held, or all. */
static int view_get_locked(struct view *v, const struct key_parts *p, const uint8_t *key,
			   size_t klen, struct buf *out)
{
	struct subkey k;
	int r;

	if (p->kind == KEY_INODE) {
		struct view_rec rec;

		r = view_rec_locked(v, p->ino, &rec);
		if (!r)
			r = rec.rec.nlink ? inode_encode(&rec.rec, out) : -ENOENT;
		view_rec_fini(&rec);
		return r;
	}
	struct view_value val;

	if (klen - 8 > sizeof(k.bytes))
		return -ENOENT;
	memcpy(k.bytes, key + 8, klen - 8);
	k.len = (uint16_t)(klen - 8);
	r = view_value_locked(v, p->ino, &k, &val);
	if (!r)
		r = buf_append(out, val.data, val.len);
	view_value_fini(&val);
	return r;
}

/* fn(arg) under the lock of an inode, again and again as its nodes come from the database. */
static int look_at(struct pass *pass, uint64_t ino, int (*fn)(void *arg), void *arg)
{
	struct view_lock l;
	unsigned looks = 0;
	int r;

	if (pass->still)
		return fn(arg);
	do {
		view_look(looks);
		view_lock(pass->v, &l, false, 1, &ino);
		r = fn(arg);
		view_unlock(pass->v, &l);
	} while (view_look_again(pass->v, &looks, r));
	return r;
}

struct getting {
	struct view *v;
	struct key_parts parts;
	const void *key;
	size_t klen;
	struct buf *out;
};

static int get_look(void *arg)
{
	struct getting *g = arg;

	buf_clear(g->out);
	return view_get_locked(g->v, &g->parts, g->key, g->klen, g->out);
}

static int side_get(void *ctx, const void *key, size_t klen, struct buf *out)
{
	const struct side *s = ctx;
	struct getting g = { .v = s->pass->v, .key = key, .klen = klen, .out = out };
	int r = key_parse(key, klen, &g.parts);

	buf_clear(out);
	if (r)
		return r;
	return s->base ? base_get(&s->pass->base, key, klen, out)
		       : look_at(s->pass, g.parts.ino, get_look, &g);
}

/* --- scanning one kind of an inode --- */

struct scan_ctx {
	struct view *v;
	uint64_t ino;
	enum key_kind kind;
	struct buf found; /* for each: struct found_head, key, value */
};

struct found_head {
	uint32_t key_len, value_len;
};

static int scan_entry(void *arg, const uint8_t *sub, size_t len, const uint8_t *val, size_t n)
{
	struct scan_ctx *c = arg;
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

static int scan_look(void *arg)
{
	struct scan_ctx *c = arg;

	buf_clear(&c->found);
	return view_entries_locked(c->v, c->ino, c->kind, NULL, scan_entry, c);
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

/* Data by its content, so that staged and stored bytes compare. */
static int scan_data(const struct side *s, uint64_t ino, fsdiff_scan_fn fn, void *arg)
{
	struct digest sum;
	struct key key;
	int r = diff_data_sum(s->pass->data, s->base, ino, &sum);

	key_extent(&key, ino, 0);
	return r ? r
		 : fn(arg, &(struct tree_span){ key.bytes, key.len },
		      &(struct tree_span){ sum.b, sizeof(sum.b) });
}

static int side_scan(void *ctx, const void *prefix, size_t len, fsdiff_scan_fn fn, void *arg)
{
	const struct side *s = ctx;
	struct scan_ctx c = { .v = s->pass->v,
			      .ino = len == KEY_PREFIX_SIZE ? wire_get64be(prefix) : 0,
			      .kind = (enum key_kind)((const uint8_t *)prefix)[8] };
	int r;

	if (c.kind == KEY_EXTENT)
		return scan_data(s, c.ino, fn, arg);
	if (s->base)
		return fsdiff_scan_tree(&s->pass->base, prefix, len, fn, arg);
	r = look_at(s->pass, c.ino, scan_look, &c);
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

/* A key of an inode, and what the view says of it; both in the bytes beside. */
struct said {
	size_t key, value, value_len;
	uint16_t key_len;
	bool there;
};

struct inode_look {
	struct view *v;
	uint64_t ino;
	bool removed, data;
	struct buf said; /* struct said; of two with a key the first counts */
	struct buf bytes;
	struct buf record; /* of the inode, unless removed */
};

static int say(struct inode_look *x, const uint8_t *sub, size_t len, const struct omap_entry *e)
{
	struct said k = { .key = x->bytes.len, .key_len = (uint16_t)len };
	int r = buf_append(&x->bytes, sub, len);

	k.value = x->bytes.len;
	k.there = e && !e->tombstone;
	k.value_len = k.there ? e->value_len : 0;
	if (!r && k.there)
		r = buf_append(&x->bytes, omap_value(e), k.value_len);
	return r ? r : buf_append(&x->said, &k, sizeof(k));
}

static int say_upper(struct inode_look *x, struct unode *u)
{
	struct upper_extent extent;
	int r = 0;

	x->data |= upper_extent_seek(u, 0, &extent) != NULL;
	for (struct omap_entry *e = omap_seek_ge(&u->entries, "", 0); e && !r;
	     e = omap_seek_gt(&u->entries, omap_key(e), e->key_len))
		if (omap_key(e)[0] != KEY_EXTENT)
			r = say(x, omap_key(e), e->key_len, e);
	return r;
}

/* Stripe held, or all. */
static int inode_look(void *arg)
{
	struct inode_look *x = arg;
	struct upper *layers[2] = { x->v->cur, x->v->sealed };
	struct view_rec is;
	int r = view_rec_locked(x->v, x->ino, &is);

	buf_clear(&x->said);
	buf_clear(&x->bytes);
	buf_clear(&x->record);
	x->data = false;
	x->removed = r == -ENOENT || (!r && is.rec.nlink == 0);
	if (!r && !x->removed)
		r = inode_encode(&is.rec, &x->record);
	view_rec_fini(&is);
	for (int i = 0; i < 2 && !r && !x->removed; i++) {
		struct unode *u = layers[i] ? upper_find(layers[i], x->ino) : NULL;

		if (u)
			r = say_upper(x, u);
		if (u && u->fresh)
			break;
	}
	return x->removed ? 0 : r;
}

static int say_base(struct inode_look *x, const struct tree_fs *base)
{
	struct tree_iter *it CLEANUP(tree_iter_free_p) = tree_iter_new(base->nodes, &base->root);
	struct key from;
	int r;

	if (!it)
		return -ENOMEM;
	key_inode(&from, x->ino);
	for (r = tree_iter_seek(it, from.bytes, from.len); r == 1; r = tree_iter_next(it)) {
		size_t len;
		const uint8_t *key = tree_iter_key(it, &len);

		if (len < 9 || wire_get64be(key) != x->ino)
			return 0;
		if (key[8] != KEY_EXTENT && key[8] != KEY_INODE)
			r = say(x, key + 8, len - 8, NULL);
		if (r < 0)
			return r;
	}
	return r;
}

/* Of equal keys the first that was said comes first. */
static int cmp_said(const void *a, const void *b, void *arg)
{
	const struct said *x = a, *y = b;
	const uint8_t *bytes = arg;
	int c = node_key_cmp(bytes + x->key, x->key_len, bytes + y->key, y->key_len);

	return c ? c : x->key < y->key ? -1 : x->key > y->key;
}

/* ---- what goes to fsdiff ---- */

/* is: NULL: the view does not have the key. */
static int feed_key(struct fsdiff *d, struct side *base, uint64_t ino, const struct tree_span *sub,
		    const struct tree_span *is)
{
	struct buf was CLEANUP(buf_fini_p) = BUF_INIT;
	uint8_t key[8 + sizeof(((struct subkey *)0)->bytes)];
	struct tree_span k = { key, 8 + sub->len };

	wire_set64be(key, ino);
	memcpy(key + 8, sub->data, sub->len);
	int r = side_get(base, key, k.len, &was);

	if (r && r != -ENOENT)
		return r;
	struct tree_span w = { was.data, was.len };

	return r && !is ? 0 : fsdiff_feed(d, &k, r ? NULL : &w, is);
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

static int feed_said(struct fsdiff *d, struct side *base, struct inode_look *x, bool data)
{
	struct said *list = (struct said *)(void *)x->said.data;
	const size_t n = x->said.len / sizeof(*list);
	const uint8_t *bytes = x->bytes.data;
	int r = 0;

	if (n)
		qsort_r(list, n, sizeof(*list), cmp_said, x->bytes.data);
	for (size_t i = 0; i < n && !r; i++) {
		const struct said *k = &list[i];
		struct tree_span sub = { bytes + k->key, k->key_len };
		struct tree_span is = { bytes + k->value, k->value_len };

		if (data && sub.data[0] > KEY_EXTENT) {
			r = feed_data(d, x->ino);
			data = false;
		}
		if (!r && (i == 0 ||
			   node_key_cmp(bytes + k[-1].key, k[-1].key_len, sub.data, sub.len) != 0))
			r = feed_key(d, base, x->ino, &sub, k->there ? &is : NULL);
	}
	return data && !r ? feed_data(d, x->ino) : r;
}

static int feed_inode(struct fsdiff *d, struct side *sides, uint64_t ino)
{
	static const uint8_t inode_key[1] = { KEY_INODE };
	const struct tree_span sub = { inode_key, sizeof(inode_key) };
	struct pass *pass = sides[0].pass;
	struct inode_look x = { .v = pass->v, .ino = ino };
	int r = look_at(pass, ino, inode_look, &x), differs = 0;

	if (!r && x.removed)
		r = say_base(&x, &pass->base);
	if (!r && x.data)
		r = differs = diff_data_differs(pass->data, ino);
	if (r >= 0) {
		struct tree_span is = { x.record.data, x.record.len };

		r = feed_key(d, &sides[0], ino, &sub, x.removed ? NULL : &is);
	}
	if (!r)
		r = feed_said(d, &sides[0], &x, differs == 1);
	buf_fini(&x.said);
	buf_fini(&x.bytes);
	buf_fini(&x.record);
	return r;
}

/* ---- passes ---- */

static int list_changed(struct pass *pass, struct inos *l)
{
	struct view *v = pass->v;
	int r;

	/* Exclusive, so that the tables stand still while they are read. */
	if (!pass->still)
		pthread_rwlock_wrlock(&v->layers);
	r = upper_each(v->cur, add_ino, l);
	if (!r && v->sealed)
		r = upper_each(v->sealed, add_ino, l);
	if (!pass->still)
		pthread_rwlock_unlock(&v->layers);
	if (l->n)
		qsort(l->list, l->n, sizeof(*l->list), cmp_ino);
	return r;
}

/* *out is settled, and of the caller. -EAGAIN: bytes are to be read. -EINPROGRESS. */
static int compare(struct pass *pass, struct fsdiff **out)
{
	struct side sides[2] = { { pass, true }, { pass, false } };
	struct fsdiff_side a = { side_get, &sides[0], side_scan };
	struct fsdiff_side b = { side_get, &sides[1], side_scan };
	struct fsdiff *d CLEANUP(fsdiff_free_p) = fsdiff_new(&a, &b);
	struct inos l = { NULL, 0, 0 };
	bool waits = false;
	int r = d ? list_changed(pass, &l) : -ENOMEM;

	for (size_t i = 0; i < l.n && !r; i++) {
		if (i == 0 || l.list[i] != l.list[i - 1])
			r = feed_inode(d, sides, l.list[i]);
		/* What is far away is fetched together. */
		if (r == -EINPROGRESS && !pass->still && want_count() < WANTS_MAX) {
			waits = true;
			r = 0;
		}
	}
	free(l.list);
	if (!r && waits)
		r = -EINPROGRESS;
	if (!r)
		r = fsdiff_settle(d);
	if ((!r || r == -EBADMSG) && diff_data_wants(pass->data))
		r = -EAGAIN;
	if (!r)
		*out = STEAL(d);
	return r;
}

/* A name that was there went before its inode was asked for: hold operations up. */
static int compare_still(struct pass *pass, struct fsdiff **out)
{
	unsigned looks = 0;
	int r;

	pass->still = true;
	do {
		want_hold();
		pthread_rwlock_wrlock(&pass->v->layers);
		view_look(looks);
		r = compare(pass, out);
		pthread_rwlock_unlock(&pass->v->layers);
		want_let_go();
	} while (view_look_again(pass->v, &looks, r));
	pass->still = false;
	return r;
}

static struct tree_fs base_of(struct view *v)
{
	pthread_rwlock_rdlock(&v->layers);
	struct tree_fs base = v->base;

	pthread_rwlock_unlock(&v->layers);
	return base;
}

/* -ESTALE: the base is another one by now. -EAGAIN, -EINPROGRESS. */
static int compare_once(struct pass *pass, struct fsdiff **out)
{
	int r;

	want_begin(NULL, 0);
	want_hold(); /* what is far away is fetched between the passes */
	r = compare(pass, out);
	want_let_go();
	if (r == -EBADMSG) {
		want_begin(NULL, 0);
		r = compare_still(pass, out);
	}
	struct tree_fs now = base_of(pass->v);

	if (digest_equal(&now.root, &pass->base.root))
		return r;
	if (!r) {
		fsdiff_free(*out);
		*out = NULL;
	}
	return -ESTALE;
}

/* Passes until one is whole; op is held or not. -ESTALE. -EBUSY: there is no end to it. */
static int compare_base(struct pass *pass, struct fsdiff **out)
{
	int r;
	unsigned n = 0;

	do {
		r = n++ < PASSES_MAX ? compare_once(pass, out) : -EBUSY;
		if (r == -EINPROGRESS)
			r = store_fetch_wanted(pass->v->store) ?: -EAGAIN;
		else if (r == -EAGAIN)
			r = diff_data_work(pass->data) ?: -EAGAIN;
	} while (r == -EAGAIN);
	return r;
}

/* The base of the view, which is held as long as it is compared with. */
static int hold_and_compare(struct mount *m, struct diff_data *data, struct fsdiff **out)
{
	struct pass pass = { .v = &m->view, .base = base_of(&m->view), .data = data };
	struct store_hold hold;
	int r = -ESTALE;

	store_hold(m->store, &pass.base.root, &hold);
	struct tree_fs now = base_of(&m->view);

	if (digest_equal(&now.root, &pass.base.root)) { /* so it was held in time */
		diff_data_begin(data, &pass.base);
		r = compare_base(&pass, out);
	}
	store_release(m->store, &hold);
	return r;
}

static void flush(struct mount *m)
{
	pthread_mutex_lock(&m->op);
	mount_flush(m, SESSION_DRAIN_MS);
	pthread_mutex_unlock(&m->op);
}

int mount_diff(struct mount *m, fsdiff_fn fn, void *arg, struct error *err)
{
	struct fsdiff *d CLEANUP(fsdiff_free_p) = NULL;
	struct diff_data *data CLEANUP(diff_data_free_p) = diff_data_new(&m->view);
	int r = data ? -ESTALE : -ENOMEM;

	if (data)
		flush(m);
	for (int i = 0; i < BASES_MAX && r == -ESTALE; i++) {
		mount_join_seal(m);
		r = hold_and_compare(m, data, &d);
	}
	if (r == -ESTALE) {
		pthread_mutex_lock(&m->op);
		mount_join_seal(m);
		r = hold_and_compare(m, data, &d);
		pthread_mutex_unlock(&m->op);
	}
	if (!r)
		r = fsdiff_tell(d, fn, arg); /* which may take its time */
	return r ? error_prefix(err, r, "cannot compare the mount with its base") : 0;
}
