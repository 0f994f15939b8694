/*
 * An upper's records as the database may have them: entries of a key's length and a value's, the
 * key from the inode's number on, and the value. What loads has extents in order that do not
 * overlap, and its counts are those of what it has.
 */
#include <string.h>

#include "fs/upper/upper.h"
#include "store/base/wire.h"
#include "tests/fuzz/fuzz.h"

static void put_records(struct kv *kv, const uint8_t id[UPPER_ID_SIZE], const uint8_t *data,
			size_t size)
{
	struct kv_batch *b = kv_batch_new();
	uint8_t key[UPPER_ID_SIZE + 4 + UINT8_MAX];

	MUST(b);
	memcpy(key, id, UPPER_ID_SIZE);
	upper_put_epoch(key + UPPER_ID_SIZE, 1);
	while (size >= 2) {
		size_t klen = MIN((size_t)data[0], size - 2);
		size_t vlen = MIN((size_t)data[1], size - 2 - klen);

		memcpy(key + UPPER_ID_SIZE + 4, data + 2, klen);
		kv_batch_put(kv, b, KV_UPPER, key, UPPER_ID_SIZE + 4 + klen, data + 2 + klen, vlen);
		data += 2 + klen + vlen;
		size -= 2 + klen + vlen;
	}
	MUST(kv_write(kv, b, KV_LOG) == 0);
	kv_batch_free(b);
}

static int check_extents(void *arg, struct unode *u)
{
	struct upper_extent x;
	uint64_t end = 0;

	(void)arg;
	for (struct omap_entry *e = upper_extent_seek(u, 0, &x); e;
	     e = upper_extent_next(u, &x, &x)) {
		MUST(x.off >= end && x.len > 0);
		end = x.off + x.len;
		MUST(end > x.off && end <= INT64_MAX);
	}
	return 0;
}

static int drop(void *arg, struct unode *u)
{
	struct upper *up = arg;

	for (struct omap_entry *e = omap_seek_ge(&u->entries, "", 0); e;
	     e = omap_seek_gt(&u->entries, omap_key(e), e->key_len))
		upper_count_entry(up, e, -1);
	if (u->has_rec || u->gone)
		atomic_fetch_sub(&up->meta_bytes, unode_price(u));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint64_t number;
	struct kv *kv = fuzz_store()->kv;
	struct error err = ERROR_INIT;
	uint8_t id[UPPER_ID_SIZE] = { 0 };

	wire_set64(id, ++number); /* none sees the records of those before */
	put_records(kv, id, data, size);

	struct upper *up = upper_new(id, 1);

	MUST(up);
	if (upper_load(up, kv, &err) == 0) {
		MUST(upper_each(up, check_extents, NULL) == 0);
		MUST(upper_each(up, drop, up) == 0);
		MUST(upper_bytes(up) == 0);
	} else {
		MUST(error_text(&err)[0]);
	}
	upper_free(up);
	return 0;
}
