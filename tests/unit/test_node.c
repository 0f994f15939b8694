#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/wire.h"
#include "store/tree/node.h"

static void add(struct node_builder *nb, const char *key, const char *val)
{
	assert_int_equal(node_builder_add(nb, key, strlen(key), val, strlen(val)), 0);
}

static void encode(const char *const *keys, size_t n, struct buf *out)
{
	struct node_builder nb;
	node_builder_init(&nb, 0);
	for (size_t i = 0; i < n; i++)
		add(&nb, keys[i], "value");
	assert_int_equal(node_builder_finish(&nb, out), 0);
	node_builder_fini(&nb);
}

static void encoding_is_the_documented_one(void **state)
{
	(void)state;
	static const uint8_t want[] = {
		'V', 'N', 'D', '1', 0,	 0, 0, 0,	       /* magic, level */
		3,   0,	  0,   0,			       /* count */
		2,   0,	  0,   0,   7,	 0, 0, 0, 12, 0, 0, 0, /* ends */
		0,   0,					       /* the empty key, no value */
		1,   0,	  'a', '1', '2',		       /* a: 12 */
		2,   0,	  'a', 'b', '3',		       /* ab: 3 */
	};
	struct node_builder nb;
	node_builder_init(&nb, 0);
	CLEANUP(buf_fini_p) struct buf out = BUF_INIT;
	assert_int_equal(node_builder_add(&nb, NULL, 0, NULL, 0), 0);
	add(&nb, "a", "12");
	add(&nb, "ab", "3");
	assert_int_equal(node_builder_finish(&nb, &out), 0);
	assert_int_equal(out.len, sizeof(want));
	assert_memory_equal(out.data, want, sizeof(want));
	assert_int_equal(nb.count, 0);
	node_builder_fini(&nb);
}

/* Another rule would give every tree another root: this must never change. */
static void boundaries_are_part_of_the_format(void **state)
{
	(void)state;
	uint64_t sum[2] = { 0, 0 };
	unsigned count[2] = { 0, 0 };
	uint8_t key[21] = { 0 };
	for (unsigned level = 0; level < 2; level++) {
		for (uint32_t i = 0; i < 100000; i++) {
			size_t klen = 4 + i % 18;
			wire_set32(key, i);
			if (!node_key_is_boundary(level, key, klen))
				continue;
			count[level]++;
			sum[level] += i;
		}
	}
	assert_int_equal(count[0], 792);
	assert_int_equal(sum[0], 41161683);
	assert_int_equal(count[1], 365);
	assert_int_equal(sum[1], 18165253);
	assert_false(node_key_is_boundary(0, NULL, 0));
}

static void boundaries_are_even_over_keys_that_differ_little(void **state)
{
	(void)state;
	static const unsigned one_in[] = { 128, 256, 256 };
	for (unsigned level = 0; level < 3; level++) {
		for (unsigned shift = 0; shift < 64; shift += 5) {
			unsigned count = 0;
			unsigned n = 1u << 18;
			uint8_t key[17] = { 1 };
			for (uint64_t i = 0; i < n; i++) {
				wire_set64be(key + 1, i << shift | i >> (64 - shift) % 64);
				count += node_key_is_boundary(level, key, sizeof(key));
			}
			unsigned want = n / one_in[level];
			assert_in_range(count, want - want / 6, want + want / 6);
		}
	}
}

static void levels_have_independent_boundaries(void **state)
{
	(void)state;
	unsigned both = 0;
	for (uint64_t i = 0; i < 1u << 20; i++)
		both += node_key_is_boundary(0, &i, 8) && node_key_is_boundary(1, &i, 8);
	assert_in_range(both, 10, 60); /* expected 32 */
}

static void entries_come_back(void **state)
{
	(void)state;
	static const char *const keys[] = { "", "a", "aa", "ab", "b", "ba" };
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	encode(keys, ARRAY_SIZE(keys), &b);
	struct node_view n;
	assert_int_equal(node_check(b.data, b.len, &n), 0);
	assert_int_equal(n.count, ARRAY_SIZE(keys));
	assert_int_equal(n.level, 0);
	for (uint32_t i = 0; i < n.count; i++) {
		const uint8_t *key, *val;
		size_t klen, vlen;
		node_entry(&n, i, &key, &klen, &val, &vlen);
		assert_int_equal(klen, strlen(keys[i]));
		assert_memory_equal(key, keys[i], klen);
		assert_int_equal(vlen, 5);
		assert_memory_equal(val, "value", 5);
	}
}

static void lower_bound_finds_the_first_not_below(void **state)
{
	(void)state;
	static const char *const keys[] = { "b", "bb", "d", "f" };
	static const struct {
		const char *key;
		uint32_t want;
		bool equal;
	} cases[] = {
		{ "", 0, false },  { "a", 0, false },	{ "b", 0, true },  { "ba", 1, false },
		{ "bb", 1, true }, { "bba", 2, false }, { "c", 2, false }, { "d", 2, true },
		{ "f", 3, true },  { "fa", 4, false },	{ "z", 4, false },
	};
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	encode(keys, ARRAY_SIZE(keys), &b);
	struct node_view n;
	assert_int_equal(node_check(b.data, b.len, &n), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		bool equal;
		assert_int_equal(node_lower_bound(&n, cases[i].key, strlen(cases[i].key), &equal),
				 cases[i].want);
		assert_int_equal(equal, cases[i].equal);
	}
	CLEANUP(buf_fini_p) struct buf empty = BUF_INIT;
	encode(NULL, 0, &empty);
	bool equal = true;
	assert_int_equal(node_check(empty.data, empty.len, &n), 0);
	assert_int_equal(node_lower_bound(&n, "k", 1, &equal), 0);
	assert_false(equal);
}

static void keys_order_bytewise_shorter_first(void **state)
{
	(void)state;
	assert_true(node_key_cmp("a", 1, "b", 1) < 0);
	assert_true(node_key_cmp("\x80", 1, "\x7f", 1) > 0);
	assert_true(node_key_cmp("a", 1, "a\0", 2) < 0);
	assert_true(node_key_cmp("ab", 2, "a", 1) > 0);
	assert_int_equal(node_key_cmp(NULL, 0, "", 0), 0);
	assert_true(node_key_cmp(NULL, 0, "x", 1) < 0);
}

static void builder_splits_where_the_node_would_be_too_large(void **state)
{
	(void)state;
	static const uint8_t zeros[NODE_VALUE_MAX];
	struct node_builder nb;
	node_builder_init(&nb, 0);
	assert_false(node_builder_splits_before(&nb, "a", 1, NODE_VALUE_MAX));
	add(&nb, "a", "");
	/* header 12, two ends 8, two key lengths 4, keys 2 */
	assert_false(node_builder_splits_before(&nb, "b", 1, NODE_MAX_BYTES - 26));
	assert_true(node_builder_splits_before(&nb, "b", 1, NODE_MAX_BYTES - 25));
	assert_int_equal(node_builder_add(&nb, "b", 1, zeros, NODE_MAX_BYTES - 26), 0);
	assert_true(node_builder_splits_before(&nb, "c", 1, 0));
	CLEANUP(buf_fini_p) struct buf out = BUF_INIT;
	assert_int_equal(node_builder_finish(&nb, &out), 0);
	assert_int_equal(out.len, NODE_MAX_BYTES);
	struct node_view n;
	assert_int_equal(node_check(out.data, out.len, &n), 0);
	node_builder_fini(&nb);
}

static void one_entry_may_be_larger_than_a_node(void **state)
{
	(void)state;
	static const uint8_t zeros[NODE_VALUE_MAX];
	struct node_builder nb;
	node_builder_init(&nb, 0);
	CLEANUP(buf_fini_p) struct buf out = BUF_INIT;
	assert_int_equal(node_builder_add(&nb, zeros, NODE_KEY_MAX, zeros, NODE_VALUE_MAX), 0);
	assert_true(node_builder_splits_before(&nb, "z", 1, 0));
	assert_int_equal(node_builder_finish(&nb, &out), 0);
	assert_int_equal(out.len, NODE_ENCODED_MAX);
	struct node_view n;
	assert_int_equal(node_check(out.data, out.len, &n), 0);
	node_builder_fini(&nb);
}

static void builder_splits_at_a_boundary_key_of_a_full_enough_node(void **state)
{
	(void)state;
	uint64_t boundary = 0;
	while (!node_key_is_boundary(0, &boundary, 8))
		boundary++;
	struct node_builder nb;
	node_builder_init(&nb, 0);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(node_builder_splits_before(&nb, &boundary, 8, 10),
				 i >= NODE_MIN_ENTRIES);
		add(&nb, "k", "v");
	}
	node_builder_fini(&nb);
}

/* An encoded node with one field changed. */
static void expect_refused(const struct buf *good, size_t at, uint32_t value, size_t width)
{
	uint8_t *bytes = malloc(good->len);
	memcpy(bytes, good->data, good->len);
	for (size_t i = 0; i < width; i++)
		bytes[at + i] = (uint8_t)(value >> (8 * i));
	struct node_view n;
	if (node_check(bytes, good->len, &n) != -EBADMSG)
		fail_msg("accepted %u at %zu", value, at);
	free(bytes);
}

static void check_refuses_malformed_nodes(void **state)
{
	(void)state;
	static const char *const keys[] = { "aa", "bb", "cc" };
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	encode(keys, 3, &b);
	size_t first = NODE_HEADER_SIZE + 12; /* entries of 2 + 2 + 5 bytes */
	expect_refused(&b, 0, 'X', 1);
	expect_refused(&b, 3, '2', 1);
	expect_refused(&b, 4, 1, 1); /* inner, but values are no digests */
	expect_refused(&b, 4, NODE_LEVEL_MAX + 1, 1);
	expect_refused(&b, 5, 1, 1);
	expect_refused(&b, 8, 2, 4);
	expect_refused(&b, 8, 4, 4);
	expect_refused(&b, 8, 0, 4);
	expect_refused(&b, 8, UINT32_MAX, 4);
	expect_refused(&b, 12, 1, 4);
	expect_refused(&b, 12, 0, 4);
	expect_refused(&b, 12, UINT32_MAX, 4);
	expect_refused(&b, 16, 8, 4);
	expect_refused(&b, 20, 26, 4);
	expect_refused(&b, 20, 28, 4);
	expect_refused(&b, first, 8, 2);
	expect_refused(&b, first, 0xffff, 2);
	expect_refused(&b, first + 2, 'c', 1);		   /* keys descend */
	expect_refused(&b, first + 11, 'a' | 'a' << 8, 2); /* a key twice */
}

static void check_accepts_no_prefix(void **state)
{
	(void)state;
	static const char *const keys[] = { "aa", "bb", "cc" };
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	encode(keys, 3, &b);
	struct node_view n;
	for (size_t len = 0; len < b.len; len++) {
		uint8_t *exact = malloc(len ? len : 1); /* so that a sanitizer sees overruns */
		memcpy(exact, b.data, len);
		assert_int_equal(node_check(exact, len, &n), -EBADMSG);
		free(exact);
	}
	assert_int_equal(buf_append(&b, "", 1), 0);
	assert_int_equal(node_check(b.data, b.len, &n), -EBADMSG);
}

static void check_refuses_an_inner_node_without_children(void **state)
{
	(void)state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	encode(NULL, 0, &b);
	expect_refused(&b, 4, 1, 1);
}

static void check_refuses_a_large_node_of_several_entries(void **state)
{
	(void)state;
	static const uint8_t zeros[NODE_VALUE_MAX];
	struct node_builder nb;
	node_builder_init(&nb, 0);
	CLEANUP(buf_fini_p) struct buf out = BUF_INIT;
	add(&nb, "a", "");
	assert_int_equal(node_builder_add(&nb, "b", 1, zeros, NODE_MAX_BYTES), 0);
	assert_int_equal(node_builder_finish(&nb, &out), 0);
	struct node_view n;
	assert_int_equal(node_check(out.data, out.len, &n), -EBADMSG);
	node_builder_fini(&nb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encoding_is_the_documented_one),
		cmocka_unit_test(boundaries_are_part_of_the_format),
		cmocka_unit_test(boundaries_are_even_over_keys_that_differ_little),
		cmocka_unit_test(levels_have_independent_boundaries),
		cmocka_unit_test(entries_come_back),
		cmocka_unit_test(lower_bound_finds_the_first_not_below),
		cmocka_unit_test(keys_order_bytewise_shorter_first),
		cmocka_unit_test(builder_splits_where_the_node_would_be_too_large),
		cmocka_unit_test(one_entry_may_be_larger_than_a_node),
		cmocka_unit_test(builder_splits_at_a_boundary_key_of_a_full_enough_node),
		cmocka_unit_test(check_refuses_malformed_nodes),
		cmocka_unit_test(check_accepts_no_prefix),
		cmocka_unit_test(check_refuses_an_inner_node_without_children),
		cmocka_unit_test(check_refuses_a_large_node_of_several_entries),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
