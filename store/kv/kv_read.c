/*
 * Reading one value.
 *
 * Checksums. This library computes the CRC-32C of a blob byte by byte from
 * tables, which costs half of decompressing it, so reads of chunks leave it out:
 * codec frames carry a checksum, and chunk_store rehashes those that do not.
 */
#include <errno.h>
#include <string.h>

#include "store/base/wire.h"
#include "store/kv/kv_internal.h"

/* RocksDB's handle of a value, NULL if it is absent; 0 or a failure. */
static int lookup(struct kv *kv, const rocksdb_readoptions_t *opt, enum kv_family f,
		  const void *key, size_t klen, rocksdb_pinnableslice_t **out)
{
	for (int attempt = 0;; attempt++) {
		const struct kv_db *db = kv_current(kv);
		char *text = NULL;
		*out = rocksdb_get_pinned_cf(db->db, opt, db->cf[f], key, klen, &text);
		if (!text)
			return 0;
		/* The writer may have removed a file that this reader knew: look again. */
		if (kv->mode != KV_READ_ONLY || attempt > 0 || !strstr(text, "No such file"))
			return kv_failure(kv, "read", text);
		rocksdb_free(text);
		int r = kv_reopen(kv, db);
		if (r < 0)
			return r;
	}
}

int kv_get(struct kv *kv, enum kv_family f, const void *key, size_t klen, struct kv_value *out)
{
	rocksdb_pinnableslice_t *pin;
	struct chunk_key chunk_key;

	if (f == KV_CHUNK) {
		make_chunk_key(&chunk_key, BLOB_PREFIX, key, klen);
		key = chunk_key.b;
		klen = chunk_key.len;
	}
	int r = lookup(kv, f == KV_CHUNK ? kv->read_chunk : kv->read, f, key, klen, &pin);
	if (r < 0)
		return r;
	if (!pin)
		return -ENOENT;
	size_t len;
	const char *data = rocksdb_pinnableslice_value(pin, &len);
	*out = (struct kv_value){ (const uint8_t *)data, len, pin };
	return 0;
}

void kv_value_release(struct kv_value *v)
{
	if (v->pin)
		rocksdb_pinnableslice_destroy(v->pin);
	*v = (struct kv_value){ 0 };
}

/* Parse a head's value; -EBADMSG if it is not one. */
static int head_parse(const uint8_t *p, size_t len, struct kv_head *out)
{
	if (len < HEAD_LENGTH_SIZE)
		return -EBADMSG;
	*out = (struct kv_head){ .value_len = wire_get32(p) };
	out->len = MIN((size_t)out->value_len, (size_t)KV_HEAD_SIZE);
	p += HEAD_LENGTH_SIZE;
	len -= HEAD_LENGTH_SIZE;
	if (len < out->len || len > out->len + 1)
		return -EBADMSG;
	memcpy(out->bytes, p, out->len);
	out->note = len > out->len ? p[out->len] : 0;
	return 0;
}

int kv_has(struct kv *kv, enum kv_family f, const void *key, size_t klen)
{
	rocksdb_pinnableslice_t *pin;
	struct chunk_key chunk_key;

	if (f == KV_CHUNK) {
		make_chunk_key(&chunk_key, HEAD_PREFIX, key, klen);
		key = chunk_key.b;
		klen = chunk_key.len;
	}
	int r = lookup(kv, kv->read, f, key, klen, &pin);
	if (r < 0)
		return r;
	if (!pin)
		return 0;
	rocksdb_pinnableslice_destroy(pin);
	return 1;
}

int kv_get_head(struct kv *kv, const void *key, size_t klen, struct kv_head *out)
{
	struct chunk_key k;
	rocksdb_pinnableslice_t *pin;

	make_chunk_key(&k, HEAD_PREFIX, key, klen);
	int r = lookup(kv, kv->read, KV_CHUNK, k.b, k.len, &pin);
	if (r < 0)
		return r;
	if (!pin)
		return -ENOENT;
	size_t len;
	const uint8_t *p = (const uint8_t *)rocksdb_pinnableslice_value(pin, &len);
	r = head_parse(p, len, out);
	rocksdb_pinnableslice_destroy(pin);
	return r;
}
