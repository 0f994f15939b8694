/* Containers: the documented bytes, what is refused, and how far damage is noticed. */
#include "store/layout/vpk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/wire.h"

static const struct pack_id me = { { "0123456789abcde" }, 7 };
static const struct pack_id other = { { "fedcba987654321" }, 2 };

/* Bytes that do not compress, the same for the same seed; and their frame and digest. */
static void fill(uint8_t *out, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		out[i] = (uint8_t)(seed >> 56);
	}
}

static void make_frame(size_t len, uint64_t seed, struct buf *frame, struct digest *digest)
{
	uint8_t *raw = malloc(len);
	assert_non_null(raw);
	fill(raw, len, seed);
	buf_clear(frame);
	assert_int_equal(codec_encode(3, raw, len, frame), 0);
	assert_int_equal(hash_bytes(raw, len, digest), 0);
	free(raw);
}

static struct vpk_writer *new_writer(const struct pack_id *id)
{
	struct vpk_writer *w = vpk_writer_new(id);
	assert_non_null(w);
	return w;
}

/* Three frames, two nodes, two packs and four locations, two of them with one prefix. */
static void make_small(struct buf *out)
{
	CLEANUP(buf_fini_p) struct buf frame = BUF_INIT;
	CLEANUP(vpk_writer_free_p) struct vpk_writer *w = new_writer(&me);
	struct digest d;
	uint32_t own, far, offset, expected = VPK_HEADER_SIZE;

	assert_int_equal(vpk_add_pack(w, &other, &far), 0);
	assert_int_equal(vpk_add_pack(w, &me, &own), 0);
	for (uint64_t i = 0; i < 3; i++) {
		make_frame(20 + i, i, &frame, &d);
		assert_int_equal(vpk_add_frame(w, &d, frame.data, frame.len, &offset), 0);
		assert_int_equal(offset, expected);
		expected += (uint32_t)frame.len;
		assert_int_equal(vpk_add_loc(w, &d, own, offset, (uint32_t)frame.len), 0);
		assert_int_equal(vpk_add_loc(w, &d, own, offset, (uint32_t)frame.len), 0);
	}
	assert_int_equal(vpk_add_loc(w, &d, far, 1000, 50), 0);
	for (uint64_t i = 10; i < 12; i++) {
		make_frame(i, i, &frame, &d);
		assert_int_equal(vpk_add_node(w, frame.data, frame.len), 0);
	}
	size_t at_most = vpk_writer_size(w);
	assert_int_equal(vpk_writer_finish(w, out), 0);
	assert_int_equal(out->len, at_most - 3 * 20);
}

/* Make the sum right again after a change of the sections. */
static void reseal(struct buf *b)
{
	uint8_t *tail = b->data + b->len - VPK_TAIL_SIZE;
	uint32_t nodes = wire_get32(tail);
	struct digest sum;
	CLEANUP(hasher_free_p) struct hasher *h = hasher_new();
	assert_int_equal(hasher_update(h, b->data, VPK_HEADER_SIZE), 0);
	assert_int_equal(hasher_update(h, b->data + nodes, (size_t)(tail + 12 - b->data) - nodes),
			 0);
	assert_int_equal(hasher_final(h, &sum), 0);
	memcpy(tail + 12, sum.b, DIGEST_SIZE);
}

static int check_whole(const struct buf *b)
{
	struct vpk_view v;
	int r = vpk_view_whole(&v, &me, b->data, b->len, NULL);
	return r == 0 ? vpk_check_frames(&v, b->data, NULL) : r;
}

static void bytes_are_the_documented_ones(void **state)
{
	(void)state;
	static const uint8_t frame[] = { 0, 2, 0, 0, 0, 'h', 'i' };
	static const uint8_t expected[] = {
		'V',  'P',  'K',  '1',	0,	  0,	0,    0,    '0',  '1',	'2',  '3',
		'4',  '5',  '6',  '7',	'8',	  '9',	'a',  'b',  'c',  'd',	'e',  0,
		7,    0,    0,	  0,	[64] = 0, 2,	0,    0,    0,	  'h',	'i', /* frames */
		7,    0,    0,	  0,	0,	  2,	0,    0,    0,	  'h',	'i', /* NODES at 71
										      */
		1,    0,    0,	  0, /* LOCS at 82 */
		'f',  'e',  'd',  'c',	'b',	  'a',	'9',  '8',  '7',  '6',	'5',  '4',
		'3',  '2',  '1',  0,	2,	  0,	0,    0, /* the pack */
		0x8f, 0x43, 0x43, 0x46, 0x64,	  0x8f, 0x6b, 0x96, 0,	  0,	0,    0,
		0x40, 0,    0,	  0,	7,	  0,	0,    0, /* and the place; FOOTER at 126 */
		0x8f, 0x43, 0x43, 0x46, 0x64,	  0x8f, 0x6b, 0x96, 0xdf, 0x89, 0xdd, 0xa9,
		0x01, 0xc5, 0x17, 0x6b, 0x10,	  0xa6, 0xd8, 0x39, 0x61, 0xdd, 0x3c, 0x1a,
		0xc8, 0x8b, 0x59, 0xb2, 0xdc,	  0x32, 0x7a, 0xa4, 64,	  0,	0,    0,
		7,    0,    0,	  0,	71,	  0,	0,    0,    82,	  0,	0,    0,
		126,  0,    0,	  0, /* the tail; then the sum and "VPK1" */
	};
	CLEANUP(buf_fini_p) struct buf out = BUF_INIT;
	CLEANUP(vpk_writer_free_p) struct vpk_writer *w = new_writer(&me);
	struct digest d;
	uint32_t pack;

	assert_int_equal(hash_bytes("hi", 2, &d), 0);
	assert_true(vpk_writer_is_empty(w));
	assert_int_equal(vpk_add_frame(w, &d, frame, sizeof(frame), NULL), 0);
	assert_int_equal(vpk_add_node(w, frame, sizeof(frame)), 0);
	assert_int_equal(vpk_add_pack(w, &other, &pack), 0);
	assert_int_equal(vpk_add_loc(w, &d, pack, 64, 7), 0);
	assert_false(vpk_writer_is_empty(w));
	assert_int_equal(vpk_writer_finish(w, &out), 0);
	assert_int_equal(out.len, sizeof(expected) + 36);
	assert_memory_equal(out.data, expected, sizeof(expected));
	assert_memory_equal(out.data + out.len - 4, "VPK1", 4);
	reseal(&out);
	assert_int_equal(check_whole(&out), 0);
}

static void check_small_view(const struct vpk_view *v)
{
	CLEANUP(buf_fini_p) struct buf frame = BUF_INIT;
	struct vpk_frame f;
	struct digest d;
	struct pack_id p;
	struct vpk_loc l;
	const uint8_t *node;
	size_t pos = 0, len;
	uint32_t first;

	assert_int_equal(v->n_frames, 3);
	assert_int_equal(v->n_packs, 2);
	assert_int_equal(v->n_locs, 4);
	assert_int_equal(v->n_nodes, 2);
	for (uint64_t i = 10; i < 12; i++) {
		make_frame(i, i, &frame, &d);
		assert_true(vpk_next_node(v, &pos, &node, &len));
		assert_int_equal(len, frame.len);
		assert_memory_equal(node, frame.data, len);
	}
	assert_false(vpk_next_node(v, &pos, &node, &len));
	for (uint32_t i = 0; i < 3; i++) {
		make_frame(20 + i, i, &frame, &d);
		vpk_frame(v, i, &f);
		assert_true(digest_equal(&f.digest, &d));
		assert_int_equal(vpk_find_loc(v, &d, &first), i == 2 ? 2 : 1);
		vpk_loc(v, first + (i == 2), &l);
		vpk_pack(v, l.pack, &p);
		assert_int_equal(pack_id_cmp(&p, &me), 0);
		assert_int_equal(l.offset, f.offset);
		assert_int_equal(l.len, f.len);
		assert_memory_equal(l.prefix, d.b, sizeof(l.prefix));
	}
	memset(&d, 0xff, sizeof(d));
	assert_int_equal(vpk_find_loc(v, &d, &first), 0);
	assert_int_equal(first, 4);
	memset(&d, 0, sizeof(d));
	assert_int_equal(vpk_find_loc(v, &d, &first), 0);
}

static void what_was_written_is_read_whole_or_from_the_end(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct vpk_view v;
	struct vpk_tail t;

	make_small(&b);
	assert_int_equal(vpk_view_whole(&v, &me, b.data, b.len, NULL), 0);
	check_small_view(&v);
	assert_int_equal(vpk_check_frames(&v, b.data, NULL), 0);
	assert_int_equal(vpk_tail_parse(b.data + b.len - VPK_TAIL_SIZE, b.len, &t, NULL), 0);
	assert_int_equal(t.nodes, VPK_HEADER_SIZE + 20 + 21 + 22 + 3 * 5);
	assert_int_equal(vpk_view_init(&v, &t, &me, b.data + t.nodes, b.len - t.nodes, NULL), 0);
	check_small_view(&v);
	assert_int_equal(vpk_view_init(&v, &t, &me, b.data + t.nodes, b.len - t.nodes - 1, NULL),
			 -EBADMSG);
}

static void an_empty_container_is_one(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	CLEANUP(vpk_writer_free_p) struct vpk_writer *w = new_writer(&me);
	assert_int_equal(vpk_writer_finish(w, &b), 0);
	assert_int_equal(b.len, VPK_HEADER_SIZE + 4 + VPK_TAIL_SIZE);
	assert_int_equal(check_whole(&b), 0);
}

static void every_truncation_is_refused(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	make_small(&b);
	for (size_t len = 0; len < b.len; len++) {
		/* An allocation of its own, so that a sanitizer sees a read past it. */
		uint8_t *copy = malloc(len + 1);
		struct vpk_view v;
		assert_non_null(copy);
		memcpy(copy, b.data, len);
		assert_int_equal(vpk_view_whole(&v, &me, copy, len, NULL), -EBADMSG);
		memcpy(copy, b.data + b.len - len, len); /* its end alone */
		assert_int_equal(vpk_view_whole(&v, &me, copy, len, NULL), -EBADMSG);
		free(copy);
	}
}

static void every_flipped_bit_is_noticed(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct vpk_view v;
	struct vpk_tail t;

	make_small(&b);
	assert_int_equal(vpk_tail_parse(b.data + b.len - VPK_TAIL_SIZE, b.len, &t, NULL), 0);
	for (size_t i = 0; i < 8 * b.len; i++) {
		size_t at = i / 8;
		b.data[at] ^= (uint8_t)(1 << i % 8);
		int r = vpk_view_whole(&v, &me, b.data, b.len, NULL);
		bool in_frames = at >= VPK_HEADER_SIZE && at < t.nodes;
		assert_int_equal(r == 0, in_frames);
		if (in_frames)
			assert_int_equal(vpk_check_frames(&v, b.data, NULL), -EBADMSG);
		else
			assert_true(r == -EBADMSG || r == -ENOTSUP);
		b.data[at] ^= (uint8_t)(1 << i % 8);
	}
	assert_int_equal(check_whole(&b), 0);
}

static void a_container_in_anothers_place_is_refused(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct error err = ERROR_INIT;
	struct pack_id next = me;
	struct vpk_view v;
	struct vpk_tail t;

	next.number++;
	make_small(&b);
	assert_int_equal(vpk_view_whole(&v, &next, b.data, b.len, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "asked for"));
	/* Also by who has only its end. */
	assert_int_equal(vpk_tail_parse(b.data + b.len - VPK_TAIL_SIZE, b.len, &t, NULL), 0);
	assert_int_equal(vpk_view_init(&v, &t, &next, b.data + t.nodes, b.len - t.nodes, &err),
			 -EBADMSG);
	assert_non_null(strstr(err.msg, "asked for"));
}

static void newer_versions_are_refused_by_name(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct error err = ERROR_INIT;
	struct vpk_view v;
	struct vpk_tail t;

	make_small(&b);
	b.data[3] = '2';
	assert_int_equal(vpk_view_whole(&v, &me, b.data, b.len, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "version 2"));
	b.data[3] = '1';
	b.data[4] = 4;
	assert_int_equal(vpk_view_whole(&v, &me, b.data, b.len, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "flags 0x4"));
	b.data[b.len - 1] = '3';
	assert_int_equal(vpk_tail_parse(b.data + b.len - VPK_TAIL_SIZE, b.len, &t, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "version 3"));
}

/* The sum says only that nobody damaged it. What a broken writer wrote is refused all the same. */
static void broken_structure_is_refused_under_a_right_sum(void **state)
{
	(void)state;
	struct vpk_tail t;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	make_small(&b);
	assert_int_equal(vpk_tail_parse(b.data + b.len - VPK_TAIL_SIZE, b.len, &t, NULL), 0);
	uint32_t locs = t.locs + 4 + 2 * 20; /* the first location */
	const struct {
		uint32_t at, value;
	} cases[] = {
		{ t.nodes, 14 },	       /* a node's length reaches into the next */
		{ t.nodes, 0xffffffff },       /* and far beyond */
		{ t.nodes, 0 },		       /* no frame */
		{ t.nodes + 5, 0 },	       /* a node of no bytes */
		{ t.locs, 7 },		       /* packs that are not there */
		{ t.locs, 0xffffffff },	       /* */
		{ t.locs, (1u << 30) + 1 },    /* whose size overflows to that of one */
		{ t.locs + 4 + 16, 1u << 20 }, /* a pack's number beyond all */
		{ locs + 8, 2 },	       /* a pack beyond the table */
		{ locs + 12, 63 },	       /* in the header */
		{ locs + 12, 0xfffffff0 },     /* beyond any container; the end overflows */
		{ locs + 16, 0 },	       /* no bytes */
		{ locs + 16, VPK_CHUNK_FRAME_MAX + 1 },
		{ locs, 0xffffffff },		/* order */
		{ t.footer + 32, 65 },		/* a gap */
		{ t.footer + 36, 26 },		/* an overlap */
		{ t.footer + 36, 0xffffffc0 },	/* the end overflows */
		{ t.footer + 2 * 40 + 36, 26 }, /* a gap before NODES */
		{ t.size - 48, t.nodes + 1 },
		{ t.size - 48, 63 },
		{ t.size - 48, t.locs + 1 },
		{ t.size - 44, t.locs - 1 },
		{ t.size - 44, t.footer - 3 },
		{ t.size - 40, t.footer + 1 },
		{ t.size - 40, t.footer + 40 },
		{ t.size - 40, t.size },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(buf_fini_p) struct buf bad = BUF_INIT;
		assert_int_equal(buf_append(&bad, b.data, b.len), 0);
		wire_set32(bad.data + cases[i].at, cases[i].value);
		if (cases[i].at != t.size - 48)
			reseal(&bad);
		struct vpk_view v;
		int r = vpk_view_whole(&v, &me, bad.data, bad.len, NULL);
		if (r != -EBADMSG)
			fail_msg("case %zu: %d", i, r);
	}
	/* The same location twice. */
	memcpy(b.data + locs + 20, b.data + locs, 20);
	reseal(&b);
	assert_int_equal(check_whole(&b), -EBADMSG);
}

static void a_place_in_the_container_itself_is_within_its_frames(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct vpk_tail t;
	make_small(&b);
	assert_int_equal(vpk_tail_parse(b.data + b.len - VPK_TAIL_SIZE, b.len, &t, NULL), 0);
	for (uint32_t at = t.locs + 44; at < t.footer; at += 20)
		if (wire_get32(b.data + at + 8) == 1)
			wire_set32(b.data + at + 12, t.nodes);
	reseal(&b);
	assert_int_equal(check_whole(&b), -EBADMSG);

	CLEANUP(vpk_writer_free_p) struct vpk_writer *w = new_writer(&me);
	struct digest d = { { 1 } };
	uint32_t own;
	assert_int_equal(vpk_add_pack(w, &me, &own), 0);
	assert_int_equal(vpk_add_loc(w, &d, own, 64, 10), 0);
	assert_int_equal(vpk_writer_finish(w, &b), -EINVAL);
}

static void the_writer_takes_only_what_readers_take(void **state)
{
	(void)state;
	static const struct pack_id none = { { { 0 } }, 1 };
	struct pack_id far = { { { 1 } }, PACK_NUMBER_MAX + 1 };
	/* Single segment, dictionary 7: which no reader has. */
	static const uint8_t with_dict[] = { 2, 1, 0, 0, 0, 0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 1, 0 };
	static const uint8_t empty[] = { 0, 0, 0, 0, 0 }, odd[] = { 0, 3, 0, 0, 0, 1 };
	CLEANUP(vpk_writer_free_p) struct vpk_writer *w = new_writer(&me);
	CLEANUP(buf_fini_p) struct buf large = BUF_INIT;
	struct digest d = { { 1 } };
	uint32_t pack;

	assert_null(vpk_writer_new(&none));
	assert_null(vpk_writer_new(&far));
	assert_int_equal(vpk_add_pack(w, &far, &pack), -EINVAL);
	assert_int_equal(vpk_add_frame(w, &d, with_dict, sizeof(with_dict), NULL), -EINVAL);
	assert_int_equal(vpk_add_node(w, with_dict, sizeof(with_dict)), -EINVAL);
	assert_int_equal(vpk_add_frame(w, &d, empty, sizeof(empty), NULL), -EINVAL);
	assert_int_equal(vpk_add_frame(w, &d, odd, sizeof(odd), NULL), -EINVAL);
	assert_int_equal(vpk_add_frame(w, &d, odd, 0, NULL), -EINVAL);
	make_frame(NODE_ENCODED_MAX + 1, 1, &large, &d);
	assert_int_equal(vpk_add_node(w, large.data, large.len), -EINVAL);
	make_frame(CHUNK_MAX + 1, 1, &large, &d);
	assert_int_equal(vpk_add_frame(w, &d, large.data, large.len, NULL), -EINVAL);
	assert_int_equal(vpk_add_loc(w, &d, 0, 64, 10), -EINVAL); /* no pack yet */
	assert_int_equal(vpk_add_pack(w, &other, &pack), 0);
	assert_int_equal(vpk_add_loc(w, &d, pack, 63, 10), -EINVAL);
	assert_int_equal(vpk_add_loc(w, &d, pack, 64, 5), -EINVAL);
	assert_int_equal(vpk_add_loc(w, &d, pack, VPK_SIZE_MAX - VPK_TAIL_SIZE - 9, 10), -EINVAL);
	assert_int_equal(vpk_add_loc(w, &d, pack, UINT32_MAX, UINT32_MAX), -EINVAL);
	assert_int_equal(vpk_add_loc(w, &d, pack, VPK_SIZE_MAX - VPK_TAIL_SIZE - 10, 10), 0);
}

static void a_full_container_takes_no_more_and_is_good(void **state)
{
	(void)state;
	CLEANUP(vpk_writer_free_p) struct vpk_writer *w = new_writer(&me);
	CLEANUP(buf_fini_p) struct buf frame = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf out = BUF_INIT;
	struct vpk_view v;
	struct digest d;
	uint32_t n = 0, pack;
	int r;

	make_frame(CHUNK_MAX, 1, &frame, &d);
	assert_int_equal(vpk_add_pack(w, &other, &pack), 0);
	while ((r = vpk_add_frame(w, &d, frame.data, frame.len, NULL)) == 0)
		n++;
	assert_int_equal(r, -EFBIG);
	assert_int_equal(n, VPK_SIZE_MAX / (frame.len + 40));
	for (uint32_t i = 0; (r = vpk_add_loc(w, &d, pack, 64 + i, 10)) == 0; i++)
		;
	assert_int_equal(r, -EFBIG);
	assert_int_equal(vpk_add_pack(w, &other, &pack), 0); /* known */
	assert_int_equal(vpk_add_pack(w, &me, &pack), -EFBIG);
	assert_int_equal(vpk_add_node(w, frame.data, 20), -EINVAL);
	assert_int_equal(vpk_writer_finish(w, &out), 0);
	assert_in_range(out.len, VPK_SIZE_MAX - 20, VPK_SIZE_MAX);
	assert_int_equal(vpk_view_whole(&v, &me, out.data, out.len, NULL), 0);
	assert_int_equal(v.n_frames, n);
}

static void a_pack_has_one_index(void **state)
{
	(void)state;
	CLEANUP(vpk_writer_free_p) struct vpk_writer *w = new_writer(&me);
	for (int turn = 0; turn < 2; turn++) {
		for (uint32_t i = 0; i < 1000; i++) {
			struct pack_id p = { { { 9, (uint8_t)(i % 7) } }, i / 7 };
			uint32_t index;
			assert_int_equal(vpk_add_pack(w, &p, &index), 0);
			assert_int_equal(index, i);
		}
	}
}

static void a_chunk_is_what_its_digest_says(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf frame = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf raw = BUF_INIT;
	struct digest d;

	make_frame(100, 5, &frame, &d);
	assert_int_equal(buf_append_str(&raw, "before"), 0);
	assert_int_equal(vpk_chunk_check(frame.data, frame.len, &d, &raw), 0);
	assert_int_equal(raw.len, 106);
	assert_int_equal(vpk_chunk_check(frame.data, frame.len, &d, NULL), 0);
	assert_int_equal(vpk_chunk_check(frame.data, frame.len - 1, &d, &raw), -EBADMSG);
	d.b[31] ^= 1;
	assert_int_equal(vpk_chunk_check(frame.data, frame.len, &d, &raw), -EBADMSG);
	assert_int_equal(raw.len, 106);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_the_documented_ones),
		cmocka_unit_test(what_was_written_is_read_whole_or_from_the_end),
		cmocka_unit_test(an_empty_container_is_one),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(every_flipped_bit_is_noticed),
		cmocka_unit_test(a_container_in_anothers_place_is_refused),
		cmocka_unit_test(newer_versions_are_refused_by_name),
		cmocka_unit_test(broken_structure_is_refused_under_a_right_sum),
		cmocka_unit_test(a_place_in_the_container_itself_is_within_its_frames),
		cmocka_unit_test(the_writer_takes_only_what_readers_take),
		cmocka_unit_test(a_full_container_takes_no_more_and_is_good),
		cmocka_unit_test(a_pack_has_one_index),
		cmocka_unit_test(a_chunk_is_what_its_digest_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
