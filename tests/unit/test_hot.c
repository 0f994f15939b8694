/* Hot objects: the documented bytes, segments by themselves, what is refused. */
#include "store/layout/hot.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/wire.h"

static const struct share_id nonce = { "0123456789abcde" };
static const uint8_t hi_frame[] = { 0, 2, 0, 0, 0, 'h', 'i' };

static struct hot_writer *new_writer(void)
{
	struct digest root = { { 0xff, 1 } };
	struct hot_writer *w = hot_writer_new(&root, &nonce);
	assert_non_null(w);
	return w;
}

static struct hot_item make_item(enum hot_kind kind, const void *bytes, size_t len)
{
	struct hot_item i = { .kind = kind, .bytes = bytes, .len = len };
	if (kind != HOT_LOCS)
		assert_int_equal(hash_bytes((const uint8_t *)bytes + 5, len - 5, &i.digest), 0);
	return i;
}

/* One location in one pack. */
static void make_locs(struct buf *out)
{
	struct pack_id p = { { { 7 } }, 3 };
	struct digest d = { { 8 } };
	uint32_t index;
	CLEANUP(vpk_writer_free_p) struct vpk_writer *v = vpk_writer_new(&p);
	assert_non_null(v);
	assert_int_equal(vpk_add_pack(v, &p, &index), 0);
	assert_int_equal(vpk_add_loc(v, &d, index, 64, 9), 0);
	assert_int_equal(vpk_writer_locs(v, out), 0);
	assert_int_equal(out->len, 4 + 20 + 20);
}

static void make_small(struct buf *out)
{
	CLEANUP(hot_writer_free_p) struct hot_writer *w = new_writer();
	CLEANUP(buf_fini_p) struct buf locs = BUF_INIT;
	make_locs(&locs);
	struct hot_item items[] = {
		make_item(HOT_NODE, hi_frame, sizeof(hi_frame)),
		make_item(HOT_LOCS, locs.data, locs.len),
		make_item(HOT_CHUNK, hi_frame, sizeof(hi_frame)),
	};
	for (size_t i = 0; i < ARRAY_SIZE(items); i++)
		assert_int_equal(hot_add(w, &items[i]), 0);
	assert_int_equal(hot_writer_finish(w, out), 0);
}

/* Header and all segments. */
static int check_whole(const struct buf *b)
{
	struct hot_header h;
	int r = hot_header_parse(b->data, b->len, &h, NULL);
	size_t end = 0;
	for (uint32_t i = 0; r == 0 && i < h.n; i++) {
		const struct hot_segment *s = &h.segments[i];
		end = (size_t)s->offset + s->len;
		if (end > b->len)
			return -EBADMSG;
		r = hot_segment_check(s, b->data + s->offset, s->len, NULL);
	}
	return r == 0 && end != b->len ? -EBADMSG : r;
}

static void bytes_are_the_documented_ones(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	static const uint8_t head[64] = {
		'V', 'H', 'O', '1', 0,	 0,   0,   0,	1,    0,   0,	0,
		0,   0,	  0,   0,   '0', '1', '2', '3', '4',  '5', '6', '7',
		'8', '9', 'a', 'b', 'c', 'd', 'e', 0,	0xff, 1, /* root */
	};
	static const uint8_t node[] = { 1, 0, 0, 0, 7, 0, 0, 0, 0x8f, 0x43, 0x43, 0x46 };
	struct digest sum;
	make_small(&b);
	size_t header = 64 + 36 + 32, segment = 2 * (8 + 32 + 7) + 8 + 44;
	assert_int_equal(b.len, header + segment);
	assert_memory_equal(b.data, head, sizeof(head));
	assert_int_equal(wire_get32(b.data + 64), segment);
	assert_int_equal(hash_bytes(b.data + header, segment, &sum), 0);
	assert_memory_equal(b.data + 68, sum.b, DIGEST_SIZE);
	assert_int_equal(hash_bytes(b.data, header - 32, &sum), 0);
	assert_memory_equal(b.data + header - 32, sum.b, DIGEST_SIZE);
	assert_memory_equal(b.data + header, node, sizeof(node));
	assert_memory_equal(b.data + header + 40, hi_frame, 7);
	assert_int_equal(wire_get32(b.data + header + 47), HOT_LOCS);
	assert_int_equal(wire_get32(b.data + header + 51), 44);
}

static void items_come_back_in_order(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	static const enum hot_kind kinds[] = { HOT_NODE, HOT_LOCS, HOT_CHUNK };
	struct hot_header h;
	struct hot_item item;
	struct vpk_view v;
	struct vpk_loc l;
	size_t pos = 0;

	make_small(&b);
	assert_int_equal(hot_header_parse(b.data, b.len, &h, NULL), 0);
	assert_true(share_id_equal(&h.nonce, &nonce));
	assert_int_equal(h.root.b[0], 0xff);
	assert_int_equal(h.n, 1);
	const uint8_t *s = b.data + h.segments[0].offset;
	assert_int_equal(hot_segment_check(&h.segments[0], s, h.segments[0].len, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		assert_true(hot_next(s, h.segments[0].len, &pos, &item));
		assert_int_equal(item.kind, kinds[i]);
		if (item.kind != HOT_LOCS) {
			assert_int_equal(vpk_chunk_check(item.bytes, item.len, &item.digest, NULL),
					 0);
			continue;
		}
		assert_int_equal(vpk_view_locs(&v, item.bytes, item.len), 0);
		assert_int_equal(v.n_locs, 1);
		vpk_loc(&v, 0, &l);
		assert_int_equal(l.len, 9);
	}
	assert_false(hot_next(s, h.segments[0].len, &pos, &item));
}

static void every_flipped_bit_and_truncation_is_noticed(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct hot_header h;
	make_small(&b);
	assert_int_equal(check_whole(&b), 0);
	for (size_t i = 0; i < 8 * b.len; i++) {
		b.data[i / 8] ^= (uint8_t)(1 << i % 8);
		int r = check_whole(&b);
		assert_true(r == -EBADMSG || (r == -ENOTSUP && i / 8 >= 3 && i / 8 < 8));
		b.data[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	for (size_t len = 0; len < 64 + 36 + 32; len++) {
		uint8_t *copy = malloc(len + 1);
		assert_non_null(copy);
		memcpy(copy, b.data, len);
		assert_int_equal(hot_header_parse(copy, len, &h, NULL), -EBADMSG);
		free(copy);
	}
	assert_int_equal(hot_header_parse(b.data, b.len, &h, NULL), 0);
	assert_int_equal(hot_segment_check(&h.segments[0], b.data + h.segments[0].offset,
					   h.segments[0].len - 1, NULL),
			 -EBADMSG);
}

static void newer_versions_are_refused_by_name(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct error err = ERROR_INIT;
	struct hot_header h;
	make_small(&b);
	b.data[3] = '2';
	assert_int_equal(hot_header_parse(b.data, b.len, &h, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "version 2"));
	b.data[3] = '1';
	b.data[7] = 1;
	assert_int_equal(hot_header_parse(b.data, b.len, &h, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "flags 0x1000000"));
}

/* Make the sums right again after a change. */
static void reseal(struct buf *b)
{
	struct digest sum;
	assert_int_equal(hash_bytes(b->data + 132, b->len - 132, &sum), 0);
	memcpy(b->data + 68, sum.b, DIGEST_SIZE);
	assert_int_equal(hash_bytes(b->data, 100, &sum), 0);
	memcpy(b->data + 100, sum.b, DIGEST_SIZE);
}

static void broken_structure_is_refused_under_right_sums(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	make_small(&b);
	const struct {
		uint32_t at, value;
	} cases[] = {
		{ 8, 0 },	   /* no segment */
		{ 8, 2 },	   /* more than there are */
		{ 8, 0xffffffff }, /* */
		{ 12, 1 },	   /* not zero */
		{ 64, 0 },	   /* an empty segment */
		{ 64, HOT_SEGMENT_MAX },
		{ 64, 0xffffffff },
		{ 132, 0 }, /* no kind */
		{ 132, 4 },
		{ 136, 8 }, /* an item that reaches into the next */
		{ 136, 0xffffffff },
		{ 132 + 40, 2 }, /* a frame with a dictionary, or of a wrong length */
		{ 132 + 41, 3 },
		{ 132 + 47 + 8, 3 }, /* locations with packs that are not there */
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(buf_fini_p) struct buf bad = BUF_INIT;
		assert_int_equal(buf_append(&bad, b.data, b.len), 0);
		wire_set32(bad.data + cases[i].at, cases[i].value);
		reseal(&bad);
		if (check_whole(&bad) != -EBADMSG)
			fail_msg("case %zu: %d", i, check_whole(&bad));
	}
	reseal(&b);
	assert_int_equal(check_whole(&b), 0);
}

/* Frames that do not compress, so that segments fill up. */
static void segments_are_read_by_ranges_of_1_mib(void **state)
{
	(void)state;
	CLEANUP(hot_writer_free_p) struct hot_writer *w = new_writer();
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct hot_header h;
	uint8_t *frame = calloc(1, 5 + CHUNK_MAX);
	unsigned added = 0, seen = 0;
	int r;

	assert_non_null(frame);
	wire_set32(frame + 1, CHUNK_MAX);
	struct hot_item item = make_item(HOT_CHUNK, frame, 5 + CHUNK_MAX);
	while ((r = hot_add(w, &item)) == 0)
		added++;
	assert_int_equal(r, -EFBIG);
	assert_in_range(added, 90, 32 * 4); /* 3 of 256 KiB and more a segment */
	assert_int_equal(hot_writer_finish(w, &b), 0);
	assert_true(b.len <= HOT_SIZE_MAX);
	assert_int_equal(check_whole(&b), 0);
	assert_int_equal(hot_header_parse(b.data, HOT_HEADER_MAX, &h, NULL), 0);
	assert_true(h.segments[0].offset + h.segments[0].len <= HOT_SEGMENT_MAX);
	for (uint32_t i = 0; i < h.n; i++) {
		size_t pos = 0;
		assert_true(h.segments[i].len <= HOT_SEGMENT_MAX);
		while (hot_next(b.data + h.segments[i].offset, h.segments[i].len, &pos, &item))
			seen++;
	}
	assert_int_equal(seen, added);
	free(frame);
}

static void a_header_promises_no_more_than_the_limit(void **state)
{
	(void)state;
	uint8_t b[HOT_HEADER_MAX] = { 'V', 'H', 'O', '1', [16] = 1 };
	struct hot_header h;
	for (uint32_t n = 31; n < 34; n++) {
		size_t summed = 64 + 36 * n;
		struct digest sum;
		wire_set32(b + 8, n);
		for (uint32_t i = 0; i < n; i++)
			wire_set32(b + 64 + (size_t)36 * i, i ? HOT_SEGMENT_MAX : 1);
		assert_int_equal(hash_bytes(b, summed, &sum), 0);
		memcpy(b + summed, sum.b, DIGEST_SIZE);
		/* 1 MiB is left for the first one and the header. */
		assert_int_equal(hot_header_parse(b, sizeof(b), &h, NULL), n > 32 ? -EBADMSG : 0);
		memset(b + summed, 0, DIGEST_SIZE);
	}
}

static void the_writer_takes_only_what_readers_take(void **state)
{
	(void)state;
	static const uint8_t with_dict[] = { 2, 1, 0, 0, 0, 0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 1, 0 };
	CLEANUP(hot_writer_free_p) struct hot_writer *w = new_writer();
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct hot_item item = make_item(HOT_CHUNK, with_dict, sizeof(with_dict));
	assert_int_equal(hot_add(w, &item), -EINVAL);
	item = make_item(HOT_NODE, hi_frame, sizeof(hi_frame) - 1);
	assert_int_equal(hot_add(w, &item), -EINVAL);
	item = make_item(HOT_LOCS, hi_frame, sizeof(hi_frame));
	assert_int_equal(hot_add(w, &item), -EINVAL);
	item = make_item((enum hot_kind)9, hi_frame, sizeof(hi_frame));
	assert_int_equal(hot_add(w, &item), -EINVAL);
	assert_int_equal(hot_writer_finish(w, &b), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_the_documented_ones),
		cmocka_unit_test(items_come_back_in_order),
		cmocka_unit_test(every_flipped_bit_and_truncation_is_noticed),
		cmocka_unit_test(newer_versions_are_refused_by_name),
		cmocka_unit_test(broken_structure_is_refused_under_right_sums),
		cmocka_unit_test(segments_are_read_by_ranges_of_1_mib),
		cmocka_unit_test(a_header_promises_no_more_than_the_limit),
		cmocka_unit_test(the_writer_takes_only_what_readers_take),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
