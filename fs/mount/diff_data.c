#include "fs/mount/diff_data.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/base/wire.h"

#define BLOCK (64u << 10)

enum question { DIFFERS, SUM_BASE, SUM_VIEW };

struct answer {
	uint64_t ino; /* 0: free */
	enum question question;
	bool known, differs;
	struct digest sum;
};

struct diff_data {
	struct view *v;
	struct tree_fs base;
	struct answer *table; /* open addressing; size is a power of two, or 0 */
	size_t size, n, n_unknown;
	uint8_t is[BLOCK], was[BLOCK];
};

struct diff_data *diff_data_new(struct view *v)
{
	struct diff_data *x = calloc(1, sizeof(*x));

	if (x)
		x->v = v;
	return x;
}

void diff_data_free(struct diff_data *x)
{
	if (!x)
		return;
	free(x->table);
	free(x);
}

void diff_data_begin(struct diff_data *x, const struct tree_fs *base)
{
	if (x->table && !digest_equal(&base->root, &x->base.root)) {
		memset(x->table, 0, x->size * sizeof(*x->table));
		x->n = x->n_unknown = 0;
	}
	x->base = *base;
}

bool diff_data_wants(const struct diff_data *x)
{
	return x->n_unknown > 0;
}

/* ---- the table ---- */

static struct answer *slot(struct answer *table, size_t size, uint64_t ino, enum question q)
{
	size_t i = (size_t)(((ino << 2 | q) * 0x9e3779b97f4a7c15ull) >> 20);

	while (table[i & (size - 1)].ino &&
	       (table[i & (size - 1)].ino != ino || table[i & (size - 1)].question != q))
		i++;
	return &table[i & (size - 1)];
}

static int grow(struct diff_data *x)
{
	size_t size = x->size ? 2 * x->size : 64;
	struct answer *table = calloc(size, sizeof(*table));

	if (!table)
		return -ENOMEM;
	for (size_t i = 0; i < x->size; i++)
		if (x->table[i].ino)
			*slot(table, size, x->table[i].ino, x->table[i].question) = x->table[i];
	free(x->table);
	x->table = table;
	x->size = size;
	return 0;
}

/* What is known, or is to be. */
static int ask(struct diff_data *x, uint64_t ino, enum question q, const struct answer **out)
{
	int r = 2 * x->n >= x->size ? grow(x) : 0;

	if (r)
		return r;
	struct answer *a = slot(x->table, x->size, ino, q);

	if (!a->ino) {
		*a = (struct answer){ .ino = ino, .question = q };
		x->n++;
		x->n_unknown++;
	}
	*out = a;
	return 0;
}

int diff_data_differs(struct diff_data *x, uint64_t ino)
{
	const struct answer *a;
	int r = ask(x, ino, DIFFERS, &a);

	return r ? r : a->differs;
}

int diff_data_sum(struct diff_data *x, bool base, uint64_t ino, struct digest *out)
{
	const struct answer *a;
	int r = ask(x, ino, base ? SUM_BASE : SUM_VIEW, &a);

	if (!r)
		*out = a->sum;
	return r;
}

/* ---- reading ---- */

static int view_size(struct diff_data *x, uint64_t ino, uint64_t *out)
{
	struct view_attr a;
	int r;

	do
		r = view_getattr(x->v, ino, &a);
	while (r == -EINPROGRESS && (r = store_fetch_wanted(x->v->store)) == 0);
	if (!r)
		*out = S_ISREG(a.rec.mode) ? a.rec.size : 0;
	return r;
}

static int base_size(struct diff_data *x, uint64_t ino, uint64_t *out)
{
	struct tree_value pin = { 0 };
	struct inode_rec rec;
	int r = tree_fs_inode(&x->base, ino, &rec, &pin);

	if (!r)
		*out = S_ISREG(rec.mode) ? rec.size : 0;
	tree_value_release(&pin);
	return r;
}

/* n bytes; zeros beyond the end of the file, which may have been cut meanwhile. */
static int read_view(struct diff_data *x, uint64_t ino, uint64_t off, uint8_t *out, size_t n)
{
	int64_t r;

	do
		r = view_read(x->v, ino, off, out, n);
	while (r == -EINPROGRESS && (r = store_fetch_wanted(x->v->store)) == 0);
	if (r < 0)
		return (int)r;
	memset(out + r, 0, n - (size_t)r);
	return 0;
}

static int sum_file(struct diff_data *x, struct answer *a)
{
	struct hasher *h CLEANUP(hasher_free_p) = hasher_new();
	const bool base = a->question == SUM_BASE;
	uint64_t size;
	uint8_t where[8];
	int r = !h ? -ENOMEM : base ? base_size(x, a->ino, &size) : view_size(x, a->ino, &size);

	for (uint64_t off = 0; !r && off < size; off += BLOCK) {
		size_t n = (size_t)MIN((uint64_t)BLOCK, size - off);

		r = base ? tree_fs_read(&x->base, a->ino, off, x->is, n)
			 : read_view(x, a->ino, off, x->is, n);
		if (r || chunker_is_zero(x->is, n))
			continue;
		wire_set64(where, off);
		r = hasher_update(h, where, sizeof(where));
		if (!r)
			r = hasher_update(h, x->is, n);
	}
	return r ? r : hasher_final(h, &a->sum);
}

struct range {
	uint64_t from, to;
};

/* Where the layers over the base have something of the file. */
static int list_written(struct diff_data *x, uint64_t ino, struct buf *out)
{
	struct view *v = x->v;
	struct view_lock l;
	int r = 0;

	view_lock(v, &l, false, 1, &ino);
	struct upper *layers[2] = { v->cur, v->sealed };

	for (int i = 0; i < 2 && !r; i++) {
		struct unode *u = layers[i] ? upper_find(layers[i], ino) : NULL;
		struct upper_extent e;

		for (struct omap_entry *o = u ? upper_extent_seek(u, 0, &e) : NULL; o && !r;
		     o = upper_extent_next(u, &e, &e))
			r = buf_append(out, &(struct range){ e.off, e.off + e.len },
				       sizeof(struct range));
		if (u && u->fresh)
			break;
	}
	view_unlock(v, &l);
	return r;
}

/* 1, 0, or a failure. */
static int range_differs(struct diff_data *x, uint64_t ino, const struct range *range)
{
	int r = 0;

	for (uint64_t off = range->from; off < range->to && !r; off += BLOCK) {
		size_t n = (size_t)MIN((uint64_t)BLOCK, range->to - off);

		r = read_view(x, ino, off, x->is, n);
		if (!r)
			r = tree_fs_read(&x->base, ino, off, x->was, n);
		if (!r)
			r = memcmp(x->is, x->was, n) != 0;
	}
	return r;
}

static int compare_file(struct diff_data *x, struct answer *a)
{
	struct buf list CLEANUP(buf_fini_p) = BUF_INIT;
	uint64_t size = 0, was = 0;
	int r = view_size(x, a->ino, &size);

	if (!r)
		r = base_size(x, a->ino, &was);
	if (!r && size == was)
		r = list_written(x, a->ino, &list);
	for (size_t at = 0; at < list.len && !r; at += sizeof(struct range)) {
		struct range range;

		memcpy(&range, list.data + at, sizeof(range));
		range.to = MIN(range.to, size);
		r = range_differs(x, a->ino, &range);
	}
	a->differs = r == 1 || (!r && size != was);
	return MIN(r, 0);
}

int diff_data_work(struct diff_data *x)
{
	int r = 0;

	for (size_t i = 0; i < x->size && x->n_unknown && !r; i++) {
		struct answer *a = &x->table[i];

		if (!a->ino || a->known)
			continue;
		r = a->question == DIFFERS ? compare_file(x, a) : sum_file(x, a);
		if (r == -ENOENT) { /* it is not there, or has gone: then it is not as it was */
			a->differs = true;
			r = 0;
		}
		if (!r) {
			a->known = true;
			x->n_unknown--;
		}
	}
	return r;
}
