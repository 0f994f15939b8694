/*
 * From a journal's records to the database. Of the changes of one key only the
 * last is written: an inode's record changes with every operation on it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/upper/journal_apply.h"
#include "store/base/wire.h"

/* ---- the last change of each key ---- */

struct entries {
	struct journal_entry *e;
	size_t n, cap;
};

static int add_changes(struct entries *all, const uint8_t *data, size_t len)
{
	struct journal_entry e;
	struct wire_reader r;
	int step;

	wire_reader_init(&r, data, len);
	while ((step = journal_entry_next(&r, &e)) > 0) {
		if (all->n == all->cap) {
			size_t cap = all->cap ? all->cap * 2 : 1024;
			struct journal_entry *p = realloc(all->e, cap * sizeof(*p));

			if (!p)
				return -ENOMEM;
			all->e = p;
			all->cap = cap;
		}
		all->e[all->n++] = e;
	}
	return step;
}

static int add_records(struct entries *all, const struct journal_segment *s,
		       struct journal_epoch *change)
{
	struct journal_record rec;
	size_t at = JOURNAL_HEAD;
	int r = 0, step;

	while (!r && (step = journal_record_next(s, &at, &rec)) != 0) {
		if (step < 0)
			return step;
		if (rec.kind == JOURNAL_OP)
			r = add_changes(all, rec.body, rec.len);
		else if (rec.kind == JOURNAL_EPOCH)
			*change = rec.epoch;
	}
	return r;
}

static uint64_t hash_key(const struct journal_entry *e)
{
	uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */

	for (uint32_t i = 0; i < e->klen; i++)
		h = (h ^ e->key[i]) * 0x100000001b3ull;
	return h ^ h >> 29;
}

static void put_entry(const struct journal_target *t, struct kv_batch *b,
		      const struct journal_entry *e)
{
	uint8_t key[JOURNAL_ID_SIZE + JOURNAL_KEY_MAX];

	memcpy(key, t->id, JOURNAL_ID_SIZE);
	memcpy(key + JOURNAL_ID_SIZE, e->key, e->klen);
	if (e->val)
		kv_batch_put(t->kv, b, KV_UPPER, key, JOURNAL_ID_SIZE + e->klen, e->val, e->vlen);
	else
		kv_batch_del(t->kv, b, KV_UPPER, key, JOURNAL_ID_SIZE + e->klen);
}

/* Into the batch with the last change of each key: from the end, the first that is met. */
static int put_last(const struct journal_target *t, struct kv_batch *b, const struct entries *all)
{
	size_t slots = 16;

	while (slots < 2 * all->n)
		slots *= 2;
	uint32_t *table = calloc(slots, sizeof(*table)); /* 1 + index; 0: free */

	if (!table)
		return -ENOMEM;
	for (size_t i = all->n; i-- > 0;) {
		const struct journal_entry *e = &all->e[i], *other;
		size_t at = hash_key(e) & (slots - 1);
		bool met = false;

		for (; table[at] && !met; at = (at + 1) & (slots - 1)) {
			other = &all->e[table[at] - 1];
			met = other->klen == e->klen && memcmp(other->key, e->key, e->klen) == 0;
		}
		if (met)
			continue;
		table[at] = (uint32_t)i + 1;
		if (journal_entry_epoch(e) >= t->min_epoch)
			put_entry(t, b, e);
	}
	free(table);
	return 0;
}

/* ---- how far the database is ---- */

static void applied_key(const uint8_t *id, uint8_t out[JOURNAL_ID_SIZE + 4])
{
	memcpy(out, id, JOURNAL_ID_SIZE);
	memset(out + JOURNAL_ID_SIZE, 0, 4);
}

int journal_get_applied(struct kv *kv, const uint8_t id[JOURNAL_ID_SIZE], uint64_t *out,
			struct journal_epoch *out_change)
{
	uint8_t key[JOURNAL_ID_SIZE + 4];
	struct kv_value v = { 0 };

	applied_key(id, key);
	int r = kv_get(kv, KV_UPPER, key, sizeof(key), &v);

	*out = 0;
	memset(out_change, 0, sizeof(*out_change));
	if (r == -ENOENT)
		return 0;
	if (!r)
		r = v.len >= 8 ? 0 : -EBADMSG;
	if (!r && v.len > 8)
		r = journal_epoch_get(v.data + 8, v.len - 8, out_change);
	if (!r)
		*out = wire_get64(v.data);
	kv_value_release(&v);
	return r;
}

static void put_applied(const struct journal_target *t, struct kv_batch *b, uint64_t applied,
			const struct journal_epoch *change)
{
	uint8_t key[JOURNAL_ID_SIZE + 4], value[8 + JOURNAL_EPOCH_MAX];
	size_t len = 8;

	applied_key(t->id, key);
	wire_set64(value, applied);
	if (change->begun)
		len += journal_epoch_put(change, value + 8);
	kv_batch_put(t->kv, b, KV_UPPER, key, sizeof(key), value, len);
}

int journal_put_applied(struct journal_target *t, uint64_t applied)
{
	struct kv_batch *b CLEANUP(kv_batch_free_p) = kv_batch_new();

	int r = b ? journal_requests_put(t->kv, b, t->id, t->requests) : -ENOMEM;

	if (r)
		return r;
	put_applied(t, b, applied, &t->change);
	return kv_write(t->kv, b, KV_SYNC);
}

int journal_apply(struct journal_target *t, const struct journal_segment *s, uint64_t applied)
{
	struct kv_batch *b CLEANUP(kv_batch_free_p) = kv_batch_new();
	struct journal_epoch change = t->change;
	struct entries all = { NULL, 0, 0 };
	int r = b ? add_records(&all, s, &change) : -ENOMEM;

	if (!r)
		r = put_last(t, b, &all);
	if (!r)
		r = journal_requests_put(t->kv, b, t->id, t->requests);
	if (!r) {
		put_applied(t, b, applied, &change);
		r = kv_write(t->kv, b, KV_SYNC);
	}
	if (!r)
		t->change = change;
	free(all.e);
	return r;
}

int journal_apply_changes(struct journal_target *t, const struct buf *changes)
{
	struct kv_batch *b CLEANUP(kv_batch_free_p) = kv_batch_new();
	struct entries all = { NULL, 0, 0 };
	int r = b ? add_changes(&all, changes->data, changes->len) : -ENOMEM;

	if (!r)
		r = put_last(t, b, &all);
	if (!r)
		r = journal_requests_put(t->kv, b, t->id, t->requests);
	if (!r)
		r = kv_write(t->kv, b, KV_SYNC);
	free(all.e);
	return r;
}
