#include "store/chunk/dict.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/buf.h"
#include "store/base/wire.h"
#include "store/base/hash.h"
#include "store/kv/meta.h"

#define COPIES 2
#define VERSION 1
#define HEADER_SIZE (1 + 8 + DIGEST_SIZE)

struct dict_name {
	char text[16];
};

static struct dict_name make_name(uint32_t id, int copy)
{
	struct dict_name n;

	snprintf(n.text, sizeof(n.text), "%08" PRIx32 "/%d", id, copy);
	return n;
}

/* The bytes of a dictionary, lent by v, and the number of chunks when it was made. */
static int value_parse(const struct kv_value *v, uint64_t *out_chunks, const uint8_t **out,
		       size_t *out_len)
{
	struct digest actual;

	if (v->len <= HEADER_SIZE || v->data[0] != VERSION)
		return -EBADMSG;
	int r = hash_bytes(v->data + HEADER_SIZE, v->len - HEADER_SIZE, &actual);
	if (r < 0)
		return r;
	if (memcmp(actual.b, v->data + 1 + 8, DIGEST_SIZE) != 0)
		return -EBADMSG;
	*out_chunks = wire_get64(v->data + 1);
	*out = v->data + HEADER_SIZE;
	*out_len = v->len - HEADER_SIZE;
	return 0;
}

static int load_copy(struct kv *kv, uint32_t id, int copy, int level, uint64_t *out_chunks,
		     struct codec_dict **out)
{
	CLEANUP(kv_value_release) struct kv_value v = { 0 };
	CLEANUP(codec_dict_free_p) struct codec_dict *d = NULL;
	struct dict_name name = make_name(id, copy);
	const uint8_t *bytes;
	size_t len;
	int r = meta_get(kv, META_DICT, name.text, &v);

	if (r == 0)
		r = value_parse(&v, out_chunks, &bytes, &len);
	if (r == 0)
		r = codec_dict_new(bytes, len, level, &d);
	if (r < 0)
		return r;
	if (codec_dict_id(d) != id)
		return -EBADMSG;
	*out = STEAL(d);
	return 0;
}

int dict_load(struct kv *kv, uint32_t id, int level, uint64_t *out_chunks, struct codec_dict **out)
{
	uint64_t chunks;
	int r = -ENOENT;

	if (!out_chunks)
		out_chunks = &chunks;
	for (int copy = 0; copy < COPIES; copy++) {
		int this = load_copy(kv, id, copy, level, out_chunks, out);
		if (this == 0)
			return 0;
		r = r == -ENOENT ? this : r; /* the first failure that says more */
	}
	return r;
}

int dict_save(struct kv *kv, uint32_t id, uint64_t chunks, const struct buf *dict)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	CLEANUP(buf_fini_p) struct buf value = BUF_INIT;
	uint8_t header[HEADER_SIZE] = { VERSION };
	struct digest digest;
	int r = b ? hash_bytes(dict->data, dict->len, &digest) : -ENOMEM;

	if (r < 0)
		return r;
	wire_set64(header + 1, chunks);
	memcpy(header + 1 + 8, digest.b, DIGEST_SIZE);
	r = buf_append(&value, header, sizeof(header));
	if (r == 0)
		r = buf_append(&value, dict->data, dict->len);
	if (r < 0)
		return r;
	for (int copy = 0; r == 0 && copy < COPIES; copy++)
		r = meta_batch_put(kv, b, META_DICT, make_name(id, copy).text, value.data,
				   value.len);
	return r < 0 ? r : kv_write(kv, b, KV_SYNC);
}
