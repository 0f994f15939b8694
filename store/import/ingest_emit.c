/*
 * Writes an import's namespace as a tree: number the inodes, then put the keys
 * in ascending order, a slice at a time, so that the batch stays small and each
 * slice is added at the right end of the tree. Only backrefs come out of order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/wire.h"
#include "store/import/ingest_tree_internal.h"

#define SLICE_BYTES (64u << 20)

struct emitter {
	struct store *store;
	struct progress *progress;
	struct tree_batch *batch;
	struct digest root;
	uint64_t new_bytes;
	struct buf value; /* scratch */
};

static int cmp_names(const void *a, const void *b)
{
	const struct ingest_name *x = *(struct ingest_name *const *)a;
	const struct ingest_name *y = *(struct ingest_name *const *)b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return node_key_cmp(x->bytes, x->len, y->bytes, y->len);
}

/* Drop what vanished, sort, count links, and number the children of dir. */
static void number_children(struct ingest_inode *dir, struct ingest_inode **order, size_t *n)
{
	uint32_t kept = 0;

	for (uint32_t k = 0; k < dir->n_children; k++)
		if (!dir->children[k]->inode->gone)
			dir->children[kept++] = dir->children[k];
	dir->n_children = kept;
	if (kept > 1)
		qsort(dir->children, kept, sizeof(struct ingest_name *), cmp_names);
	dir->nlink = 2;
	for (uint32_t k = 0; k < kept; k++) {
		struct ingest_inode *i = dir->children[k]->inode;

		if (i->number == 0) {
			i->number = *n + 1;
			i->name = dir->children[k];
			order[(*n)++] = i;
		}
		if (S_ISDIR(i->mode))
			dir->nlink++;
		else
			i->nlink++;
	}
}

/* All inodes in the order of their numbers, malloc'd. */
static int number_all(struct ingest_tree *t, struct ingest_inode ***out, size_t *out_n)
{
	struct ingest_inode **order = malloc(t->n_inodes * sizeof(struct ingest_inode *));
	size_t n = 1;

	if (!order)
		return -ENOMEM;
	order[0] = t->root;
	t->root->number = ROOT_INO;
	for (size_t k = 0; k < n; k++)
		if (S_ISDIR(order[k]->mode))
			number_children(order[k], order, &n);
	*out = order;
	*out_n = n;
	return 0;
}

static int put(struct emitter *e, const struct key *k, const void *val, size_t len)
{
	return tree_batch_put(e->batch, k->bytes, k->len, val, len);
}

static int flush(struct emitter *e)
{
	struct digest next;

	if (progress_cancelled(e->progress))
		return -ECANCELED;
	int r = tree_apply(e->store->nodes, &e->root, e->batch, &next, &e->new_bytes);
	if (r < 0)
		return r;
	e->root = next;
	tree_batch_clear(e->batch);
	return 0;
}

static int put_inode(struct emitter *e, const struct ingest_inode *i)
{
	bool one_link = S_ISDIR(i->mode) || i->nlink == 1;
	struct inode_rec r = { .mode = i->mode,
			       .uid = i->uid,
			       .gid = i->gid,
			       .nlink = i->nlink,
			       .rdev = i->rdev,
			       .size = S_ISDIR(i->mode) ? 0 : i->size,
			       .alloc_bytes = i->alloc_bytes,
			       .atime = i->mtime,
			       .mtime = i->mtime,
			       .ctime = i->mtime };
	struct key k;

	if (!i->name)
		r.parent = ROOT_INO;
	else if (one_link) {
		r.parent = i->name->dir->number;
		r.name_hash = i->name->hash;
	}
	if (S_ISLNK(i->mode)) {
		r.target = i->target;
		r.target_len = i->size;
	}
	buf_clear(&e->value);
	key_inode(&k, i->number);
	int err = inode_encode(&r, &e->value);
	return err < 0 ? err : put(e, &k, e->value.data, e->value.len);
}

static int put_xattrs(struct emitter *e, const struct ingest_inode *i)
{
	const uint8_t *p = i->xattrs.data, *end = p ? p + i->xattrs.len : p;
	int r = 0;

	while (p < end && r == 0) {
		size_t name_len = wire_get16(p), value_len = wire_get32(p + 2);
		struct key k;

		key_xattr(&k, i->number, (const char *)p + 6, name_len);
		r = put(e, &k, p + 6 + name_len, value_len);
		p += 6 + name_len + value_len;
	}
	return r;
}

static int put_extents(struct emitter *e, const struct ingest_inode *i)
{
	const uint8_t *p = i->extents.data, *end = p ? p + i->extents.len : p;
	int r = 0;

	while (p < end && r == 0) {
		size_t len = wire_get16(p + 8);
		struct key k;

		key_extent(&k, i->number, wire_get64(p));
		r = put(e, &k, p + 10, len);
		p += 10 + len;
		if (r == 0 && tree_batch_bytes(e->batch) > SLICE_BYTES)
			r = flush(e);
	}
	return r;
}

static int put_backref(struct emitter *e, const struct ingest_name *n)
{
	struct key k;

	key_backref(&k, n->inode->number, n->dir->number, n->hash);
	return put(e, &k, n->bytes, n->len);
}

/*
 * Two links of one inode in one directory whose names have the same hash would
 * share a backref key. Only an attacker finds such names: refuse.
 */
static bool backrefs_collide(const struct ingest_inode *dir, uint32_t first, uint32_t end)
{
	for (uint32_t a = first; a < end; a++)
		for (uint32_t b = a + 1; b < end; b++)
			if (dir->children[a]->inode == dir->children[b]->inode)
				return true;
	return false;
}

/* Put one list of names that share a hash, from children[first]; sets *end past it. */
static int put_dirent_list(struct emitter *e, const struct ingest_inode *dir, uint32_t first,
			   uint32_t *end)
{
	uint64_t hash = dir->children[first]->hash;
	struct buf list CLEANUP(buf_fini_p) = BUF_INIT;
	struct key k;
	uint32_t c;
	int r = 0;

	buf_clear(&e->value);
	for (c = first; c < dir->n_children && dir->children[c]->hash == hash && r == 0; c++) {
		const struct ingest_name *n = dir->children[c];
		struct dirent_rec d = { .ino = n->inode->number,
					.type = mode_to_dtype(n->inode->mode),
					.name_len = n->len,
					.name = n->bytes };

		buf_clear(&list);
		r = dirent_list_put(e->value.data, e->value.len, &d, &list);
		struct buf swap = list;
		list = e->value;
		e->value = swap;
		if (r == 0 && !S_ISDIR(n->inode->mode) && n->inode->nlink > 1)
			r = put_backref(e, n);
	}
	*end = c;
	if (r == 0 && backrefs_collide(dir, first, c))
		r = -EINVAL;
	key_dirent(&k, dir->number, hash);
	return r < 0 ? r : put(e, &k, e->value.data, e->value.len);
}

static int put_dirents(struct emitter *e, const struct ingest_inode *dir)
{
	int r = 0;

	for (uint32_t c = 0; c < dir->n_children && r == 0;) {
		r = put_dirent_list(e, dir, c, &c);
		if (r == 0 && tree_batch_bytes(e->batch) > SLICE_BYTES)
			r = flush(e);
	}
	return r;
}

static int put_super(struct emitter *e, struct ingest_inode **order, size_t n,
		     struct ingest_result *out)
{
	struct super_rec super = { .next_ino = n + 1, .inode_count = n };
	struct key k;

	for (size_t i = 0; i < n; i++)
		if (S_ISREG(order[i]->mode)) {
			if (super.data_bytes + order[i]->size < super.data_bytes)
				return -EFBIG;
			super.data_bytes += order[i]->size;
		}
	out->file_count = n;
	out->size_bytes = super.data_bytes;
	key_super(&k);
	int r = super_encode(&super, &e->value);
	return r < 0 ? r : put(e, &k, e->value.data, e->value.len);
}

static int put_all(struct emitter *e, struct ingest_inode **order, size_t n)
{
	int r = 0;

	for (size_t k = 0; k < n && r == 0; k++) {
		const struct ingest_inode *i = order[k];

		r = put_inode(e, i);
		if (r == 0)
			r = put_xattrs(e, i);
		if (r == 0 && S_ISDIR(i->mode))
			r = put_dirents(e, i);
		if (r == 0)
			r = put_extents(e, i);
		if (r == 0 && tree_batch_bytes(e->batch) > SLICE_BYTES)
			r = flush(e);
	}
	return r < 0 ? r : flush(e);
}

int ingest_tree_store(struct ingest_tree *t, struct store *s, struct progress *p,
		      struct ingest_result *out, struct error *err)
{
	struct emitter e = { .store = s, .progress = p, .batch = tree_batch_new() };
	struct ingest_inode **order = NULL;
	size_t n = 0;
	int r = e.batch ? tree_empty(s->nodes, &e.root) : -ENOMEM;

	if (r == 0)
		r = number_all(t, &order, &n);
	if (r == 0)
		r = put_super(&e, order, n, out);
	if (r == 0)
		r = put_all(&e, order, n);
	if (r == 0) {
		out->root = e.root;
		out->new_bytes += e.new_bytes;
	}
	free(order);
	buf_fini(&e.value);
	tree_batch_free(e.batch);
	return r < 0 ? error_set_errno(err, r, "cannot store the tree") : 0;
}
