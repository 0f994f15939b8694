#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/wire.h"
#include "store/kv/kv_internal.h"

struct kv_iter {
	struct kv *kv;
	rocksdb_iterator_t *it;
	enum kv_family family;
	bool heads;
	rocksdb_readoptions_t *own; /* of a range: borrows `end` */
	uint8_t *end;
};

static struct kv_iter *new_iter(struct kv *kv, enum kv_family f, bool heads)
{
	struct kv_iter *it = calloc(1, sizeof(*it));
	const struct kv_db *db = kv_current(kv);

	if (!it)
		return NULL;
	rocksdb_readoptions_t *opt = kv->read;
	if (f == KV_CHUNK)
		opt = heads ? kv->read_heads : kv->read_scan;
	else if (heads)
		opt = kv->read_scan;
	it->kv = kv;
	it->family = f;
	it->heads = heads;
	it->it = rocksdb_create_iterator_cf(db->db, opt, db->cf[f]);
	return it;
}

struct kv_iter *kv_iter_new(struct kv *kv, enum kv_family f)
{
	return new_iter(kv, f, false);
}

struct kv_iter *kv_iter_new_heads(struct kv *kv, enum kv_family f)
{
	return new_iter(kv, f, true);
}

struct kv_iter *kv_iter_new_range(struct kv *kv, enum kv_family f, const void *from,
				  size_t from_len, const void *to, size_t to_len)
{
	struct kv_iter *it = calloc(1, sizeof(*it));
	const struct kv_db *db = kv_current(kv);

	assert(f != KV_CHUNK);
	if (!it || !(it->end = malloc(to_len + 1))) {
		free(it);
		return NULL;
	}
	memcpy(it->end, to, to_len);
	it->kv = kv;
	it->family = f;
	it->own = rocksdb_readoptions_create();
	rocksdb_readoptions_set_iterate_upper_bound(it->own, (const char *)it->end, to_len);
	it->it = rocksdb_create_iterator_cf(db->db, it->own, db->cf[f]);
	kv_iter_seek(it, from, from_len);
	return it;
}

void kv_iter_free(struct kv_iter *it)
{
	if (!it)
		return;
	rocksdb_iter_destroy(it->it);
	if (it->own)
		rocksdb_readoptions_destroy(it->own);
	free(it->end);
	free(it);
}

void kv_iter_seek(struct kv_iter *it, const void *key, size_t klen)
{
	struct chunk_key k;

	if (it->family == KV_CHUNK) {
		make_chunk_key(&k, it->heads ? HEAD_PREFIX : BLOB_PREFIX, key, klen);
		key = k.b;
		klen = k.len;
	}
	rocksdb_iter_seek(it->it, klen ? key : "", klen);
}

bool kv_iter_valid(const struct kv_iter *it)
{
	return rocksdb_iter_valid(it->it);
}

void kv_iter_next(struct kv_iter *it)
{
	rocksdb_iter_next(it->it);
}

const uint8_t *kv_iter_key(const struct kv_iter *it, size_t *len)
{
	const uint8_t *key = (const uint8_t *)rocksdb_iter_key(it->it, len);

	if (it->family == KV_CHUNK) {
		(*len)--;
		key++;
	}
	return key;
}

const uint8_t *kv_iter_value(const struct kv_iter *it, size_t *len)
{
	const uint8_t *value = (const uint8_t *)rocksdb_iter_value(it->it, len);

	if (!it->heads)
		return value;
	if (it->family == KV_CHUNK) {
		size_t skip = MIN(*len, (size_t)HEAD_LENGTH_SIZE);
		size_t value_len = skip == HEAD_LENGTH_SIZE ? wire_get32(value) : 0;
		value += skip;
		*len = MIN(*len - skip, value_len); /* a note may follow */
	}
	*len = MIN(*len, (size_t)KV_HEAD_SIZE);
	return value;
}

size_t kv_iter_value_len(const struct kv_iter *it)
{
	size_t len;
	const char *value = rocksdb_iter_value(it->it, &len);

	if (it->heads && it->family == KV_CHUNK)
		return len < HEAD_LENGTH_SIZE ? 0 : wire_get32((const uint8_t *)value);
	return len;
}

int kv_iter_status(const struct kv_iter *it)
{
	char *text = NULL;

	rocksdb_iter_get_error(it->it, &text);
	return text ? kv_failure(it->kv, "iterate", text) : 0;
}
