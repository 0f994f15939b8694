/* The namespace itself: arena, index, names, inodes. ingest_emit.c writes it out. */
#include "store/import/ingest_tree.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/wire.h"
#include "store/import/ingest_tree_internal.h"

#define ARENA_BLOCK (256u << 10)
#define INDEX_MIN 1024u

struct arena_block {
	struct arena_block *next;
	uint8_t data[];
};

static void *arena_alloc(struct ingest_tree *t, size_t size)
{
	size = (size + 7) & ~(size_t)7;
	if (size > t->arena_left) {
		size_t room = MAX(size, (size_t)ARENA_BLOCK);
		struct arena_block *b = malloc(sizeof(*b) + room);

		if (!b)
			return NULL;
		b->next = t->blocks;
		t->blocks = b;
		t->arena_at = b->data;
		t->arena_left = room;
		t->arena_bytes += sizeof(*b) + room;
	}
	void *p = t->arena_at;
	t->arena_at += size;
	t->arena_left -= size;
	return memset(p, 0, size);
}

static struct ingest_inode *new_inode(struct ingest_tree *t, uint32_t mode)
{
	struct ingest_inode *i = arena_alloc(t, sizeof(*i) + sizeof(struct ingest_inode *));

	if (!i)
		return NULL;
	/* The list of all inodes, to free what they own, runs through the word after each. */
	*(struct ingest_inode **)(void *)(i + 1) = t->all;
	t->all = i;
	t->n_inodes++;
	i->mode = mode;
	return i;
}

struct ingest_tree *ingest_tree_new(bool indexed)
{
	struct ingest_tree *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	if (indexed) {
		t->buckets = calloc(INDEX_MIN, sizeof(struct ingest_name *));
		t->n_buckets = INDEX_MIN;
	}
	t->root = new_inode(t, S_IFDIR | 0755);
	if (!t->root || (indexed && !t->buckets)) {
		ingest_tree_free(t);
		return NULL;
	}
	return t;
}

void ingest_tree_free(struct ingest_tree *t)
{
	if (!t)
		return;
	for (struct ingest_inode *i = t->all; i; i = *(struct ingest_inode **)(void *)(i + 1)) {
		buf_fini(&i->xattrs);
		buf_fini(&i->extents);
		if (S_ISDIR(i->mode))
			free(i->children);
	}
	while (t->blocks) {
		struct arena_block *b = t->blocks;
		t->blocks = b->next;
		free(b);
	}
	free(t->buckets);
	free(t);
}

struct ingest_inode *ingest_tree_root(struct ingest_tree *t)
{
	return t->root;
}

size_t ingest_tree_bytes(const struct ingest_tree *t)
{
	return t->arena_bytes + t->n_buckets * sizeof(*t->buckets);
}

static size_t bucket_of(const struct ingest_tree *t, const struct ingest_inode *dir, uint64_t hash)
{
	uint64_t h = hash ^ ((uintptr_t)dir >> 3) * 0x9e3779b97f4a7c15ull;

	return (size_t)((h ^ h >> 29) & (t->n_buckets - 1));
}

static void index_insert(struct ingest_tree *t, struct ingest_name *n)
{
	size_t b = bucket_of(t, n->dir, n->hash);

	n->next_in_bucket = t->buckets[b];
	t->buckets[b] = n;
	t->n_indexed++;
}

static int index_grow(struct ingest_tree *t)
{
	struct ingest_name **old = t->buckets;
	size_t n_old = t->n_buckets;

	if (t->n_indexed < n_old)
		return 0;
	t->buckets = calloc(n_old * 2, sizeof(struct ingest_name *));
	if (!t->buckets) {
		t->buckets = old;
		return -ENOMEM;
	}
	t->n_buckets = n_old * 2;
	t->n_indexed = 0;
	for (size_t i = 0; i < n_old; i++)
		for (struct ingest_name *n = old[i], *next; n; n = next) {
			next = n->next_in_bucket;
			index_insert(t, n);
		}
	free(old);
	return 0;
}

static int reserve_child(struct ingest_inode *dir)
{
	if (dir->n_children < dir->cap_children)
		return 0;
	uint32_t cap = dir->cap_children ? dir->cap_children * 2 : 4;
	struct ingest_name **p = NULL;

	if (cap > dir->cap_children)
		p = realloc(dir->children, cap * sizeof(*p));
	if (!p)
		return -ENOMEM;
	dir->children = p;
	dir->cap_children = cap;
	return 0;
}

int ingest_tree_add(struct ingest_tree *t, struct ingest_inode *dir, const char *name, size_t len,
		    uint32_t mode, struct ingest_inode *inode, struct ingest_name **out)
{
	int r = reserve_child(dir);

	assert(len > 0 && len <= NAME_LEN_MAX);
	if (r == 0 && t->buckets)
		r = index_grow(t);
	if (r < 0)
		return r;
	struct ingest_name *n = arena_alloc(t, sizeof(*n) + len + 1);
	if (!n)
		return -ENOMEM;
	if (!inode)
		inode = new_inode(t, mode);
	if (!inode)
		return -ENOMEM;
	memcpy(n->bytes, name, len);
	n->len = (uint8_t)len;
	n->is_dir = S_ISDIR(mode);
	n->hash = name_hash(name, len);
	n->dir = dir;
	n->inode = inode;
	n->index = dir->n_children;
	dir->children[dir->n_children++] = n;
	if (!inode->name)
		inode->name = n;
	if (t->buckets)
		index_insert(t, n);
	*out = n;
	return 0;
}

struct ingest_name *ingest_tree_lookup(struct ingest_tree *t, const struct ingest_inode *dir,
				       const char *name, size_t len)
{
	uint64_t hash = name_hash(name, len);

	for (struct ingest_name *n = t->buckets[bucket_of(t, dir, hash)]; n; n = n->next_in_bucket)
		if (n->dir == dir && n->hash == hash && n->len == len &&
		    memcmp(n->bytes, name, len) == 0)
			return n;
	return NULL;
}

void ingest_tree_remove(struct ingest_tree *t, struct ingest_name *n)
{
	struct ingest_inode *dir = n->dir;

	if (t->buckets) {
		struct ingest_name **p = &t->buckets[bucket_of(t, dir, n->hash)];

		while (*p != n)
			p = &(*p)->next_in_bucket;
		*p = n->next_in_bucket;
		t->n_indexed--;
	}
	/* What is below it stays in the index, but nothing leads there. */
	dir->children[n->index] = dir->children[--dir->n_children];
	dir->children[n->index]->index = n->index;
}

int ingest_inode_set_target(struct ingest_tree *t, struct ingest_inode *i, const char *target,
			    size_t len)
{
	char *copy = arena_alloc(t, len + 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, target, len);
	i->target = copy;
	i->size = len;
	return 0;
}

/* xattrs: u16 name length, u32 value length, name, value; each name once. */
static size_t xattr_entry_size(const uint8_t *p)
{
	return 6u + wire_get16(p) + wire_get32(p + 2);
}

static uint8_t *find_xattr(const struct ingest_inode *i, const char *name, size_t name_len,
			   size_t *names_bytes)
{
	uint8_t *p = i->xattrs.data, *end = p ? p + i->xattrs.len : p, *found = NULL;

	for (; p < end; p += xattr_entry_size(p)) {
		*names_bytes += wire_get16(p) + 1u;
		if (wire_get16(p) == name_len && memcmp(p + 6, name, name_len) == 0)
			found = p;
	}
	return found;
}

bool ingest_inode_has_xattr(const struct ingest_inode *i, const char *name)
{
	size_t names = 0;

	return find_xattr(i, name, strlen(name), &names) != NULL;
}

int ingest_inode_put_xattr(struct ingest_inode *i, const char *name, size_t name_len,
			   const void *value, size_t value_len)
{
	size_t names = 0;
	uint8_t *old = find_xattr(i, name, name_len, &names);
	int r;

	if (name_len == 0 || name_len > XATTR_NAME_MAX || value_len > XATTR_VALUE_MAX ||
	    names + name_len + 1 > INGEST_XATTR_NAMES_MAX)
		return -E2BIG;
	if (old) {
		size_t size = xattr_entry_size(old), at = (size_t)(old - i->xattrs.data);

		memmove(old, old + size, i->xattrs.len - at - size);
		i->xattrs.len -= size;
	}
	r = buf_reserve(&i->xattrs, 6 + name_len + value_len);
	if (r == 0)
		r = wire_put_u16(&i->xattrs, (uint16_t)name_len);
	if (r == 0)
		r = wire_put_u32(&i->xattrs, (uint32_t)value_len);
	if (r == 0)
		r = buf_append(&i->xattrs, name, name_len);
	if (r == 0)
		r = buf_append(&i->xattrs, value, value_len);
	return r;
}

/* extents: u64 offset, u16 length of the encoded record, record. */
int ingest_inode_add_extent(struct ingest_inode *i, uint64_t offset, const struct extent_rec *e)
{
	size_t at = i->extents.len;
	int r = wire_put_u64(&i->extents, offset);

	if (r == 0)
		r = wire_put_u16(&i->extents, 0);
	if (r == 0)
		r = extent_encode(e, &i->extents);
	if (r < 0) {
		i->extents.len = at;
		return r;
	}
	size_t len = i->extents.len - at - 10;
	i->extents.data[at + 8] = (uint8_t)len;
	i->extents.data[at + 9] = (uint8_t)(len >> 8);
	i->alloc_bytes += e->len;
	return 0;
}

void ingest_inode_clear_data(struct ingest_inode *i)
{
	buf_clear(&i->extents);
	i->size = i->alloc_bytes = 0;
}

int ingest_inode_path(const struct ingest_inode *i, struct buf *out)
{
	size_t depth = 0;
	int r = 0;

	if (!i->name)
		return buf_append_str(out, ".");
	for (const struct ingest_name *n = i->name; n; n = n->dir->name)
		depth++;
	const struct ingest_name **chain = malloc(depth * sizeof(const struct ingest_name *));
	if (!chain)
		return -ENOMEM;
	size_t k = depth;
	for (const struct ingest_name *n = i->name; n; n = n->dir->name)
		chain[--k] = n;
	for (k = 0; k < depth && r == 0; k++) {
		r = k ? buf_append(out, "/", 1) : 0;
		if (r == 0)
			r = buf_append(out, chain[k]->bytes, chain[k]->len);
	}
	free(chain);
	return r;
}
