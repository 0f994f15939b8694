/*
 * A batch copies keys and values into blocks that never move and keeps an array
 * of changes that point into them. Most batches come in key order (a checkpoint
 * reads the upper in order, an import numbers inodes as it goes). The batch
 * notices that, and then sorting costs nothing.
 */
#include "store/tree/tree_batch.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Blocks begin small, for most batches are, and each is twice as large as the one before. */
#define BLOCK_MIN (4u << 10)
#define BLOCK_MAX (256u << 10)

struct block {
	struct block *next;
	size_t used;
	size_t size;
	uint8_t data[];
};

struct tree_batch {
	struct block *blocks; /* the first is being filled */
	size_t block_bytes;
	struct tree_change *changes;
	size_t count;
	size_t cap;
	bool sorted; /* keys ascend strictly */
};

struct tree_batch *tree_batch_new(void)
{
	struct tree_batch *b = calloc(1, sizeof(*b));
	if (b)
		b->sorted = true;
	return b;
}

static void free_blocks(struct block *k)
{
	while (k) {
		struct block *next = k->next;
		free(k);
		k = next;
	}
}

void tree_batch_free(struct tree_batch *b)
{
	if (!b)
		return;
	free_blocks(b->blocks);
	free(b->changes);
	free(b);
}

void tree_batch_clear(struct tree_batch *b)
{
	if (b->blocks) {
		free_blocks(STEAL(b->blocks->next));
		b->blocks->used = 0;
		b->block_bytes = b->blocks->size;
	}
	b->count = 0;
	b->sorted = true;
}

size_t tree_batch_bytes(const struct tree_batch *b)
{
	return b->block_bytes + b->cap * sizeof(struct tree_change);
}

size_t tree_batch_count(const struct tree_batch *b)
{
	return b->count;
}

const struct tree_change *tree_batch_begin(const struct tree_batch *b)
{
	assert(b->sorted);
	return b->changes;
}

const struct tree_change *tree_batch_end(const struct tree_batch *b)
{
	return b->count ? b->changes + b->count : b->changes; /* NULL + 0 is undefined */
}

static uint8_t *reserve_bytes(struct tree_batch *b, size_t len)
{
	if (!b->blocks || b->blocks->size - b->blocks->used < len) {
		/* Only one key and value of many KiB can leave much of a block unused. */
		size_t size = b->blocks ? MIN(b->blocks->size * 2, (size_t)BLOCK_MAX) : BLOCK_MIN;
		size = MAX(size, len);
		struct block *k = malloc(sizeof(*k) + size);
		if (!k)
			return NULL;
		*k = (struct block){ .next = b->blocks, .size = size };
		b->blocks = k;
		b->block_bytes += size;
	}
	uint8_t *p = b->blocks->data + b->blocks->used;
	b->blocks->used += len;
	return p;
}

static int reserve_change(struct tree_batch *b)
{
	if (b->count < b->cap)
		return 0;
	size_t cap = b->cap ? b->cap * 2 : 64;
	struct tree_change *grown = reallocarray(b->changes, cap, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	b->changes = grown;
	b->cap = cap;
	return 0;
}

static void set_prefix(struct tree_change *c)
{
	uint8_t padded[16] = { 0 };
	if (c->klen > 0)
		memcpy(padded, c->key, MIN(c->klen, sizeof(padded)));
	uint64_t words[2];
	memcpy(words, padded, sizeof(words));
	c->prefix[0] = be64toh(words[0]);
	c->prefix[1] = be64toh(words[1]);
}

static int change_cmp(const struct tree_change *a, const struct tree_change *b)
{
	for (int i = 0; i < 2; i++) {
		if (a->prefix[i] != b->prefix[i])
			return a->prefix[i] < b->prefix[i] ? -1 : 1;
	}
	return node_key_cmp(a->key, a->klen, b->key, b->klen);
}

static int add(struct tree_batch *b, const void *key, size_t klen, const void *val, uint32_t vlen)
{
	int r = reserve_change(b);
	if (r < 0)
		return r;
	size_t val_bytes = vlen == TREE_DELETED ? 0 : vlen;
	uint8_t *p = reserve_bytes(b, klen + val_bytes);
	if (!p)
		return -ENOMEM;
	if (klen > 0)
		memcpy(p, key, klen);
	if (val_bytes > 0)
		memcpy(p + klen, val, val_bytes);
	struct tree_change *c = &b->changes[b->count];
	*c = (struct tree_change){ .key = p, .klen = (uint32_t)klen, .vlen = vlen };
	set_prefix(c);
	if (b->count > 0 && change_cmp(c - 1, c) >= 0)
		b->sorted = false;
	b->count++;
	return 0;
}

int tree_batch_put(struct tree_batch *b, const void *key, size_t klen, const void *val, size_t vlen)
{
	if (klen > NODE_KEY_MAX || vlen > NODE_VALUE_MAX)
		return -EINVAL;
	return add(b, key, klen, val, (uint32_t)vlen);
}

int tree_batch_del(struct tree_batch *b, const void *key, size_t klen)
{
	if (klen > NODE_KEY_MAX)
		return -EINVAL;
	return add(b, key, klen, NULL, TREE_DELETED);
}

/* Stable merge sort; tmp has room for the lower half. */
static void sort(struct tree_change *c, size_t n, struct tree_change *tmp)
{
	if (n < 2)
		return;
	size_t half = n / 2;
	sort(c, half, tmp);
	sort(c + half, n - half, tmp);
	if (change_cmp(&c[half - 1], &c[half]) <= 0)
		return;
	memcpy(tmp, c, half * sizeof(*c));
	size_t out = 0;
	for (size_t i = 0, j = half; i < half;) {
		if (j < n && change_cmp(&c[j], &tmp[i]) < 0)
			c[out++] = c[j++];
		else
			c[out++] = tmp[i++];
	}
}

int tree_batch_sort(struct tree_batch *b)
{
	if (b->sorted)
		return 0;
	struct tree_change *tmp = reallocarray(NULL, b->count / 2, sizeof(*tmp));
	if (!tmp)
		return -ENOMEM;
	sort(b->changes, b->count, tmp);
	free(tmp);
	size_t kept = 0;
	for (size_t i = 0; i < b->count; i++) {
		if (i + 1 < b->count && change_cmp(&b->changes[i], &b->changes[i + 1]) == 0)
			continue; /* a later one counts */
		b->changes[kept++] = b->changes[i];
	}
	b->count = kept;
	b->sorted = true;
	return 0;
}
