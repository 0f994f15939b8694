/*
 * Hot objects: whatever the bytes, a segment that passes the check can be walked, and written again
 * its items are the same. The input is a segment; its header is made around it, or it is a header.
 */
#include "store/layout/hot.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

static void write_again(const uint8_t *data, size_t size)
{
	static const struct share_id nonce = { { 1 } };
	CLEANUP(buf_fini_p) struct buf out = BUF_INIT;
	struct digest root = { { 2 } };
	struct hot_writer *w = hot_writer_new(&root, &nonce);
	struct hot_header h;
	struct hot_item item;
	size_t pos = 0, n = 0;

	MUST(w);
	for (; hot_next(data, size, &pos, &item); n++) {
		struct vpk_view v;
		MUST(hot_add(w, &item) == 0);
		if (item.kind == HOT_LOCS)
			MUST(vpk_view_locs(&v, item.bytes, item.len) == 0);
		else
			(void)vpk_chunk_check(item.bytes, item.len, &item.digest, NULL);
	}
	MUST(pos == size);
	if (n > 0) {
		MUST(hot_writer_finish(w, &out) == 0);
		MUST(hot_header_parse(out.data, out.len, &h, NULL) == 0);
		MUST(h.n == 1 && h.segments[0].len == size);
		MUST(memcmp(out.data + h.segments[0].offset, data, size) == 0);
	}
	hot_writer_free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hot_segment s = { .len = (uint32_t)size };
	struct hot_header h;

	if (hot_header_parse(data, size, &h, NULL) == 0) {
		uint64_t end = h.segments[0].offset;
		MUST(h.n > 0 && h.n <= HOT_SEGMENTS_MAX);
		for (uint32_t i = 0; i < h.n; i++) {
			MUST(h.segments[i].offset == end);
			end += h.segments[i].len;
		}
		MUST(end <= HOT_SIZE_MAX);
	}
	MUST(hash_bytes(data, size, &s.sum) == 0);
	if (hot_segment_check(&s, data, size, NULL) == 0)
		write_again(data, size);
	return 0;
}
