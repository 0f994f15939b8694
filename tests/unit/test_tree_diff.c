/* Diffs at scale and at the edges; test_tree_apply.c checks random ones against a model. */
#include "tests/unit/tree_fixture.h"

struct seen {
	unsigned count;
	unsigned stop_at; /* return 7 from this call on; 0: never */
	char log[256];	  /* "key:a>b " of each */
};

static int on_diff(void *arg, const struct tree_span *key, const struct tree_span *a,
		   const struct tree_span *b)
{
	struct seen *s = arg;
	s->count++;
	size_t n = strlen(s->log);
	if (key->len < 4)
		snprintf(s->log + n, sizeof(s->log) - n, "%.*s:%.*s>%.*s ", (int)key->len,
			 (const char *)key->data, a ? (int)a->len : 1,
			 a ? (const char *)a->data : "-", b ? (int)b->len : 1,
			 b ? (const char *)b->data : "-");
	return s->stop_at && s->count >= s->stop_at ? 7 : 0;
}

/* A tree of one-letter keys, each with the letter after it as its value. */
static struct digest small_tree(struct fixture *f, const char *pairs)
{
	struct digest root;
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	assert_int_equal(tree_empty(f->ns, &root), 0);
	for (; *pairs; pairs += 2)
		assert_int_equal(tree_batch_put(b, pairs, 1, pairs + 1, 1), 0);
	assert_int_equal(tree_apply(f->ns, &root, b, &root, NULL), 0);
	return root;
}

static void diff_reports_each_difference_in_order(void **state)
{
	static const struct {
		const char *a, *b, *want;
	} cases[] = {
		{ "", "", "" },
		{ "", "a1", "a:->1 " },
		{ "a1b2", "", "a:1>- b:2>- " },
		{ "a1b2c3", "a1b2c3", "" },
		{ "a1c3", "b2", "a:1>- b:->2 c:3>- " },
		{ "a1b2c3", "a1b4c3d5", "b:2>4 d:->5 " },
		{ "b2c3", "a1b2c3", "a:->1 " },
	};
	struct fixture *f = *state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct digest a = small_tree(f, cases[i].a);
		struct digest b = small_tree(f, cases[i].b);
		struct seen s = { 0 };
		assert_int_equal(tree_diff(f->ns, &a, &b, on_diff, &s), 0);
		assert_string_equal(s.log, cases[i].want);
	}
}

static void diff_ends_when_the_callback_says_so(void **state)
{
	struct fixture *f = *state;
	struct digest a = small_tree(f, "a1b2c3");
	struct digest b = small_tree(f, "b3c4d5");
	for (unsigned stop = 1; stop <= 4; stop++) {
		struct seen s = { .stop_at = stop };
		assert_int_equal(tree_diff(f->ns, &a, &b, on_diff, &s), 7);
		assert_int_equal(s.count, stop);
	}
}

static void build(struct fixture *f, uint64_t from, uint64_t to, struct digest *root)
{
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	assert_int_equal(tree_empty(f->ns, root), 0);
	uint8_t key[17];
	for (uint64_t i = from; i < to; i++)
		assert_int_equal(tree_batch_put(b, key, fs_key(i, key), &i, 8), 0);
	assert_int_equal(tree_apply(f->ns, root, b, root, NULL), 0);
}

/* Nodes read by a diff with a cold cache; *out_seen is how many keys differed. */
static uint64_t loads_of_diff(struct fixture *f, const struct digest *a, const struct digest *b,
			      unsigned *out_seen)
{
	fixture_reopen_nodes(f, 64 << 20);
	struct seen s = { 0 };
	assert_int_equal(tree_diff(f->ns, a, b, on_diff, &s), 0);
	struct node_store_stats stats;
	node_store_stats(f->ns, &stats);
	*out_seen = s.count;
	return stats.loads;
}

static void diff_of_one_key_in_a_million_reads_two_paths(void **state)
{
	struct fixture *f = *state;
	uint64_t n = 1000000;
	struct digest base;
	build(f, 0, n, &base);
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	uint64_t r = 3;
	uint8_t key[17];
	for (int round = 0; round < 150; round++) {
		struct digest other;
		uint64_t k = rnd_below(&r, n);
		size_t klen = fs_key(k, key);
		tree_batch_clear(b);
		if (round % 3 == 0) { /* another value, a key less, a key more */
			assert_int_equal(tree_batch_put(b, key, klen, "new", 3), 0);
		} else if (round % 3 == 1) {
			assert_int_equal(tree_batch_del(b, key, klen), 0);
		} else {
			key[8] = 3;
			assert_int_equal(tree_batch_put(b, key, 9, "new", 3), 0);
		}
		assert_int_equal(tree_apply(f->ns, &base, b, &other, NULL), 0);
		unsigned seen;
		uint64_t loads = loads_of_diff(f, &base, &other, &seen);
		assert_int_equal(seen, 1);
		assert_in_range(loads, 2, 10);
		loads = loads_of_diff(f, &other, &base, &seen);
		assert_int_equal(seen, 1);
		assert_in_range(loads, 2, 10);
	}
	unsigned seen;
	assert_int_equal(loads_of_diff(f, &base, &base, &seen), 0);
}

static void diff_of_trees_of_unequal_height_skips_what_they_share(void **state)
{
	struct fixture *f = *state;
	struct digest all, head, tail, middle;
	unsigned seen;
	build(f, 0, 400000, &all);
	build(f, 0, 3000, &head);
	build(f, 397000, 400000, &tail);
	build(f, 200000, 200500, &middle);
	/* What only one has must be read, about 110 entries a leaf; what both have must not. */
	uint64_t all_leaves = loads_of_diff(f, &middle, &all, &seen);
	assert_int_equal(seen, 399500);
	uint64_t loads = loads_of_diff(f, &all, &head, &seen);
	assert_int_equal(seen, 397000);
	assert_true(loads <= all_leaves + 8);
	loads = loads_of_diff(f, &tail, &all, &seen);
	assert_int_equal(seen, 397000);
	assert_true(loads <= all_leaves + 8);

	struct digest most;
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	uint8_t key[17];
	for (uint64_t i = 0; i < 500; i++)
		assert_int_equal(tree_batch_del(b, key, fs_key(i, key)), 0);
	assert_int_equal(tree_apply(f->ns, &all, b, &most, NULL), 0);
	loads = loads_of_diff(f, &all, &most, &seen);
	assert_int_equal(seen, 500);
	assert_in_range(loads, 6, 30);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	fixture_open(f, 64 << 20);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	fixture_close(*state);
	free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(diff_reports_each_difference_in_order),
		cmocka_unit_test(diff_ends_when_the_callback_says_so),
		cmocka_unit_test(diff_of_one_key_in_a_million_reads_two_paths),
		cmocka_unit_test(diff_of_trees_of_unequal_height_skips_what_they_share),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
