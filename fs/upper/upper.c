#include "fs/upper/upper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/wire.h"

struct upper *upper_new(const uint8_t id[UPPER_ID_SIZE], uint32_t epoch)
{
	struct upper *up = calloc(1, sizeof(*up));

	if (!up)
		return NULL;
	memcpy(up->id, id, UPPER_ID_SIZE);
	up->epoch = epoch;
	return up;
}

static void unode_free(struct unode *u)
{
	omap_clear(&u->entries);
	free((void *)u->rec.target);
	free(u);
}

void upper_free(struct upper *up)
{
	if (!up)
		return;
	for (unsigned i = 0; i < UPPER_SHARDS; i++) {
		for (size_t b = 0; b < up->shards[i].n_buckets; b++) {
			struct unode *u = up->shards[i].buckets[b], *next;

			for (; u; u = next) {
				next = u->next;
				unode_free(u);
			}
		}
		free(up->shards[i].buckets);
	}
	free(up);
}

static size_t bucket_of(const struct upper_shard *s, uint64_t ino)
{
	return (size_t)((ino * 0xff51afd7ed558ccdull) >> 20) & (s->n_buckets - 1);
}

struct unode *upper_find(struct upper *up, uint64_t ino)
{
	struct upper_shard *s = &up->shards[upper_shard(ino)];

	if (!s->n_buckets)
		return NULL;
	for (struct unode *u = s->buckets[bucket_of(s, ino)]; u; u = u->next)
		if (u->ino == ino)
			return u;
	return NULL;
}

static int shard_grow(struct upper_shard *s)
{
	struct upper_shard bigger = *s;

	bigger.n_buckets = s->n_buckets ? s->n_buckets * 2 : 8;
	bigger.buckets = calloc(bigger.n_buckets, sizeof(*bigger.buckets));
	if (!bigger.buckets)
		return -ENOMEM;
	for (size_t b = 0; b < s->n_buckets; b++) {
		struct unode *u = s->buckets[b], *next;

		for (; u; u = next) {
			size_t to = bucket_of(&bigger, u->ino);

			next = u->next;
			u->next = bigger.buckets[to];
			bigger.buckets[to] = u;
		}
	}
	free(s->buckets);
	*s = bigger;
	return 0;
}

struct unode *upper_get(struct upper *up, uint64_t ino)
{
	struct upper_shard *s = &up->shards[upper_shard(ino)];
	struct unode *u = upper_find(up, ino);

	if (u)
		return u;
	if (s->count >= s->n_buckets && shard_grow(s) && !s->n_buckets)
		return NULL;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->ino = ino;
	size_t b = bucket_of(s, ino);

	u->next = s->buckets[b];
	s->buckets[b] = u;
	s->count++;
	/* Relaxed: a statistic. */
	atomic_fetch_add_explicit(&up->n_unodes, 1, memory_order_relaxed);
	return u;
}

/* Unlink and free a unode that must leave no trace. */
void upper_remove(struct upper *up, struct unode *u)
{
	struct upper_shard *s = &up->shards[upper_shard(u->ino)];
	struct unode **link = &s->buckets[bucket_of(s, u->ino)];

	while (*link != u)
		link = &(*link)->next;
	*link = u->next;
	s->count--;
	atomic_fetch_sub_explicit(&up->n_unodes, 1, memory_order_relaxed);
	unode_free(u);
}

uint64_t unode_price(const struct unode *u)
{
	return u->has_rec || u->gone ? UPPER_INODE_PRICE + u->rec.target_len : 0;
}

uint64_t upper_entry_price(const struct omap_entry *e)
{
	return UPPER_ENTRY_PRICE + e->key_len + e->value_len;
}

/* File data that the entry holds in the staging file; *out_copied: only because of a copy. */
static uint64_t entry_data(const struct omap_entry *e, bool *out_copied)
{
	struct upper_extent x;

	*out_copied = false;
	if (e->tombstone || omap_key(e)[0] != KEY_EXTENT)
		return 0;
	upper_extent_decode(e, &x);
	*out_copied = x.copied;
	return x.kind == UPPER_DATA ? x.len : 0;
}

void upper_count_entry(struct upper *up, const struct omap_entry *e, int sign)
{
	bool copied;
	uint64_t data = entry_data(e, &copied), price = upper_entry_price(e);

	atomic_fetch_add_explicit(&up->data_bytes, sign > 0 ? data : 0 - data,
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&up->meta_bytes, sign > 0 ? price : 0 - price,
				  memory_order_relaxed);
	if (copied)
		atomic_fetch_add_explicit(&up->copy_bytes, sign > 0 ? price : 0 - price,
					  memory_order_relaxed);
}

uint64_t upper_entry_bytes(const struct omap_entry *e)
{
	bool copied;

	return entry_data(e, &copied) + upper_entry_price(e);
}

uint64_t upper_bytes(struct upper *up)
{
	return up ? atomic_load_explicit(&up->data_bytes, memory_order_relaxed) +
			       atomic_load_explicit(&up->meta_bytes, memory_order_relaxed)
		  : 0;
}

int upper_each(struct upper *up, int (*fn)(void *arg, struct unode *u), void *arg)
{
	for (unsigned i = 0; i < UPPER_SHARDS; i++)
		for (size_t b = 0; b < up->shards[i].n_buckets; b++)
			for (struct unode *u = up->shards[i].buckets[b]; u; u = u->next) {
				int r = fn(arg, u);

				if (r)
					return r;
			}
	return 0;
}

void subkey_u64(struct subkey *k, enum key_kind kind, uint64_t v)
{
	k->bytes[0] = (uint8_t)kind;
	wire_set64be(k->bytes + 1, v);
	k->len = 9;
}

void subkey_xattr(struct subkey *k, const char *name, size_t len)
{
	k->bytes[0] = KEY_XATTR;
	memcpy(k->bytes + 1, name, len);
	k->len = (uint16_t)(1 + len);
}

void subkey_backref(struct subkey *k, uint64_t parent, uint64_t hash)
{
	k->bytes[0] = KEY_BACKREF;
	wire_set64be(k->bytes + 1, parent);
	wire_set64be(k->bytes + 9, hash);
	k->len = 17;
}

void upper_extent_decode(const struct omap_entry *e, struct upper_extent *out)
{
	const uint8_t *v = omap_value(e);

	out->off = wire_get64be(omap_key(e) + 1);
	out->kind = (enum upper_extent_kind)v[0];
	out->len = wire_get64(v + 1);
	out->pos = wire_get64(v + 9);
	out->chunk_off = wire_get32(v + 17);
	out->copied = out->kind == UPPER_DATA && out->chunk_off != 0;
	if (out->kind != UPPER_CHUNK)
		out->chunk_off = 0;
	memcpy(out->digest.b, v + 21, DIGEST_SIZE);
}

void upper_extent_encode(const struct upper_extent *x, struct subkey *k,
			 uint8_t value[UPPER_EXTENT_SIZE])
{
	subkey_u64(k, KEY_EXTENT, x->off);
	memset(value, 0, UPPER_EXTENT_SIZE);
	value[0] = (uint8_t)x->kind;
	wire_set64(value + 1, x->len);
	if (x->kind == UPPER_DATA) {
		wire_set64(value + 9, x->pos);
		wire_set32(value + 17, x->copied);
	}
	if (x->kind == UPPER_CHUNK) {
		wire_set32(value + 17, x->chunk_off);
		memcpy(value + 21, x->digest.b, DIGEST_SIZE);
	}
}

static struct omap_entry *extent_entry(struct omap_entry *e, struct upper_extent *out)
{
	if (!e || omap_key(e)[0] != KEY_EXTENT)
		return NULL;
	upper_extent_decode(e, out);
	return e;
}

struct omap_entry *upper_extent_seek(const struct unode *u, uint64_t off, struct upper_extent *out)
{
	struct subkey k;
	struct omap_entry *e;

	subkey_u64(&k, KEY_EXTENT, off);
	e = extent_entry(omap_seek_le(&u->entries, k.bytes, k.len), out);
	if (e && out->off + out->len > off)
		return e;
	return extent_entry(omap_seek_gt(&u->entries, k.bytes, k.len), out);
}

struct omap_entry *upper_extent_next(const struct unode *u, const struct upper_extent *prev,
				     struct upper_extent *out)
{
	struct subkey k;

	subkey_u64(&k, KEY_EXTENT, prev->off);
	return extent_entry(omap_seek_gt(&u->entries, k.bytes, k.len), out);
}

void upper_count_new(struct upper *up, struct unode *u)
{
	if (!u->fresh || u->counted)
		return;
	u->counted = true;
	atomic_fetch_add_explicit(&up->new_inodes, 1, memory_order_relaxed);
}

void upper_put_epoch(uint8_t *out, uint32_t epoch)
{
	for (int i = 0; i < 4; i++)
		out[i] = (uint8_t)(epoch >> (24 - 8 * i));
}
