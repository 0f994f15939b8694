/* Lookups, scans and visits; damaged trees; a tree of a million entries. */
#include "tests/unit/tree_fixture.h"

#include <pthread.h>

#include "store/chunk/codec.h"

#define COUNT 20000u

struct tree_test {
	struct fixture f;
	struct digest root;
};

/* Keys are fs_key() of the even numbers, the value is the number. */
static void build(struct fixture *f, uint64_t count, struct digest *root)
{
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	assert_int_equal(tree_empty(f->ns, root), 0);
	uint8_t key[17];
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(tree_batch_put(b, key, fs_key(2 * i, key), &i, sizeof(i)), 0);
	assert_int_equal(tree_apply(f->ns, root, b, root, NULL), 0);
}

static int setup(void **state)
{
	struct tree_test *t = calloc(1, sizeof(*t));
	fixture_open(&t->f, 16 << 20);
	build(&t->f, COUNT, &t->root);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct tree_test *t = *state;
	fixture_close(&t->f);
	free(t);
	return 0;
}

static void expect_at(const struct tree_iter *it, uint64_t i)
{
	uint8_t want[17];
	size_t want_len = fs_key(2 * i, want);
	size_t klen, vlen;
	const uint8_t *key = tree_iter_key(it, &klen);
	assert_int_equal(node_key_cmp(key, klen, want, want_len), 0);
	const uint8_t *val = tree_iter_value(it, &vlen);
	assert_int_equal(vlen, sizeof(i));
	assert_memory_equal(val, &i, sizeof(i));
}

static void empty_tree_has_no_entry(void **state)
{
	struct tree_test *t = *state;
	struct digest root;
	assert_int_equal(tree_empty(t->f.ns, &root), 0);
	struct tree_value v = { 0 };
	assert_int_equal(tree_get(t->f.ns, &root, "k", 1, &v), -ENOENT);
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(t->f.ns, &root);
	assert_int_equal(tree_iter_next(it), 0);
	assert_int_equal(tree_iter_seek(it, "", 0), 0);
	assert_int_equal(tree_iter_seek_le(it, "k", 1), 0);
	assert_int_equal(tree_iter_seek_last(it), 0);
	assert_int_equal(tree_iter_next(it), 0);
}

static void get_finds_what_is_there_and_nothing_else(void **state)
{
	struct tree_test *t = *state;
	uint8_t key[17];
	for (uint64_t i = 0; i < 2 * COUNT + 10; i++) {
		struct tree_value v = { 0 };
		int r = tree_get(t->f.ns, &t->root, key, fs_key(i, key), &v);
		if (i % 2 || i >= 2 * COUNT) {
			assert_int_equal(r, -ENOENT);
			continue;
		}
		uint64_t want = i / 2;
		assert_int_equal(r, 0);
		assert_int_equal(v.len, 8);
		assert_memory_equal(v.data, &want, 8);
		tree_value_release(&v);
		tree_value_release(&v); /* harmless */
	}
}

static void iterator_passes_every_entry_in_order(void **state)
{
	struct tree_test *t = *state;
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(t->f.ns, &t->root);
	for (uint64_t i = 0; i < COUNT; i++) {
		assert_int_equal(tree_iter_next(it), 1);
		expect_at(it, i);
	}
	assert_int_equal(tree_iter_next(it), 0);
	assert_int_equal(tree_iter_next(it), 0);
	uint8_t key[17];
	assert_int_equal(tree_iter_seek(it, key, fs_key(8, key)), 1);
	expect_at(it, 4);
}

/* Sequence numbers and keys sort alike but for the sub-keys within an inode. */
static uint64_t first_at_or_after(uint64_t n)
{
	uint8_t key[17], other[17];
	size_t klen = fs_key(n, key);
	uint64_t i = MIN(n / 2 > 4 ? n / 2 - 4 : 0, (uint64_t)COUNT - 1);
	for (; i < COUNT; i++) {
		size_t len = fs_key(2 * i, other);
		if (node_key_cmp(other, len, key, klen) >= 0)
			break;
	}
	return i;
}

static void seek_finds_neighbours_from_anywhere(void **state)
{
	struct tree_test *t = *state;
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(t->f.ns, &t->root);
	uint64_t r = 42;
	for (int round = 0; round < 30000; round++) {
		uint64_t n = rnd_below(&r, 2 * COUNT + 20);
		uint64_t at = first_at_or_after(n);
		uint8_t key[17];
		size_t klen = fs_key(n, key);
		int found = tree_iter_seek(it, key, klen);
		assert_int_equal(found, at < COUNT);
		if (found)
			expect_at(it, at);
		if (rnd_below(&r, 2) && found) {
			assert_int_equal(tree_iter_next(it), at + 1 < COUNT);
			if (at + 1 < COUNT)
				expect_at(it, at + 1);
		}
		bool equal = n % 2 == 0 && n < 2 * COUNT;
		assert_int_equal(tree_iter_seek_le(it, key, klen), equal || at > 0);
		expect_at(it, equal ? at : at - 1);
	}
}

static void seek_beyond_the_edges(void **state)
{
	struct tree_test *t = *state;
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(t->f.ns, &t->root);
	assert_int_equal(tree_iter_seek_le(it, "", 0), 0);
	assert_int_equal(tree_iter_next(it), 1);
	expect_at(it, 0);
	assert_int_equal(tree_iter_seek(it, "\xff", 1), 0);
	assert_int_equal(tree_iter_next(it), 0);
	assert_int_equal(tree_iter_seek_le(it, "\xff", 1), 1);
	expect_at(it, COUNT - 1);
	assert_int_equal(tree_iter_seek_last(it), 1);
	expect_at(it, COUNT - 1);
	assert_int_equal(tree_iter_next(it), 0);
	assert_int_equal(tree_iter_seek(it, NULL, 0), 1);
	expect_at(it, 0);
}

static void a_referenced_leaf_outlives_iterator_and_cache(void **state)
{
	struct tree_test *t = *state;
	struct tree_iter *it = tree_iter_new(t->f.ns, &t->root);
	assert_int_equal(tree_iter_seek_last(it), 1);
	size_t len;
	const uint8_t *val = tree_iter_value(it, &len);
	struct node *leaf = tree_iter_leaf(it);
	node_ref(leaf);
	tree_iter_free(it);
	fixture_reopen_nodes(&t->f, 16 << 20);
	uint64_t want = COUNT - 1;
	assert_memory_equal(val, &want, 8);
	node_unref(leaf);
}

struct visit_count {
	uint64_t leaves, inner, entries;
	unsigned max_level;
	int stop_level;
};

static int on_visit(void *arg, const struct node *n)
{
	struct visit_count *c = arg;
	if (n->view.level > 0)
		c->inner++;
	else
		c->leaves++, c->entries += n->view.count;
	if (n->view.level > c->max_level)
		c->max_level = n->view.level;
	return (int)n->view.level != c->stop_level;
}

static int on_visit_fail(void *arg, const struct node *n)
{
	(void)arg;
	return n->view.level == 0 ? -ECANCELED : 1;
}

static void visit_sees_every_node_once(void **state)
{
	struct tree_test *t = *state;
	struct visit_count all = { .stop_level = -1 };
	assert_int_equal(tree_visit(t->f.ns, &t->root, on_visit, &all), 0);
	assert_int_equal(all.entries, COUNT);
	assert_in_range(all.leaves, COUNT / 200, COUNT / 60);
	assert_in_range(all.max_level, 1, 3);
	struct visit_count top = { .stop_level = (int)all.max_level };
	assert_int_equal(tree_visit(t->f.ns, &t->root, on_visit, &top), 0);
	assert_int_equal(top.inner, 1);
	assert_int_equal(top.leaves, 0);
	assert_int_equal(tree_visit(t->f.ns, &t->root, on_visit_fail, NULL), -ECANCELED);
}

/* ---- damaged and hostile trees ---- */

/* Write bytes as the node of any digest, as a damaged database would hold them. */
static void plant(struct fixture *f, const struct digest *d, const struct buf *raw)
{
	CLEANUP(buf_fini_p) struct buf frame = BUF_INIT;
	assert_int_equal(codec_encode(1, raw->data, raw->len, &frame), 0);
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	kv_batch_put(f->kv, b, KV_NODE, d->b, DIGEST_SIZE, frame.data, frame.len);
	assert_int_equal(kv_write(f->kv, b, KV_NO_LOG), 0);
}

static struct digest named(uint8_t name)
{
	struct digest d;
	memset(d.b, name, sizeof(d.b));
	return d;
}

struct planted {
	uint8_t name;
	uint8_t level;
	const char *keys;     /* one letter each */
	const uint8_t *names; /* of children; NULL for a leaf */
};

static void plant_node(struct fixture *f, const struct planted *p)
{
	CLEANUP(buf_fini_p) struct buf raw = BUF_INIT;
	struct node_builder nb;
	node_builder_init(&nb, p->level);
	for (size_t i = 0; p->keys[i]; i++) {
		struct digest child = named(p->names ? p->names[i] : 0);
		assert_int_equal(
			node_builder_add(&nb, p->keys + i, 1, child.b, p->level ? DIGEST_SIZE : 3),
			0);
	}
	assert_int_equal(node_builder_finish(&nb, &raw), 0);
	struct digest d = named(p->name);
	plant(f, &d, &raw);
	node_builder_fini(&nb);
}

static int ignore_diff(void *arg, const struct tree_span *key, const struct tree_span *a,
		       const struct tree_span *b)
{
	(void)arg;
	(void)key;
	(void)a;
	(void)b;
	return 0;
}

/* Each way to read or change the tree of this name, all over it. */
static void expect_everything_refuses(struct fixture *f, uint8_t name, int want)
{
	struct digest root = named(name);
	struct digest empty, out;
	assert_int_equal(tree_empty(f->ns, &empty), 0);
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(f->ns, &root);
	int r;
	while ((r = tree_iter_next(it)) == 1)
		;
	assert_int_equal(r, want);
	assert_int_equal(tree_iter_next(it), want);
	struct visit_count c = { .stop_level = -1 };
	assert_int_equal(tree_visit(f->ns, &root, on_visit, &c), want);
	assert_int_equal(tree_diff(f->ns, &root, &empty, ignore_diff, NULL), want);
	assert_int_equal(tree_diff(f->ns, &empty, &root, ignore_diff, NULL), want);
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	for (const char *k = "abcdefghijklmnopqrstuvwxyz"; *k; k++)
		assert_int_equal(tree_batch_put(b, k, 1, "v", 1), 0);
	assert_int_equal(tree_apply(f->ns, &root, b, &out, NULL), want);
}

static void hostile_trees_are_refused(void **state)
{
	struct tree_test *t = *state;
	struct fixture *f = &t->f;
	const uint8_t two[] = { 1, 2 };
	const uint8_t itself[] = { 1, 11 };
	const uint8_t twice[] = { 1, 1 };
	const uint8_t gone[] = { 1, 99 };
	const struct planted good[] = {
		{ 1, 0, "abc", NULL },
		{ 2, 0, "mno", NULL },
		{ 3, 0, "", NULL },
		{ 10, 1, "am", two },
	};
	/* the child's level, first key, last key; a cycle; one child twice; a missing child */
	const uint8_t empty_child[] = { 1, 3 };
	const uint8_t nested[] = { 10, 1 };
	const struct planted bad[] = {
		{ 11, 1, "am", itself }, { 12, 1, "al", two }, { 13, 1, "ab", two },
		{ 14, 1, "ab", twice },	 { 15, 2, "am", two }, { 16, 1, "am", empty_child },
		{ 17, 2, "ab", nested },
	};
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		plant_node(f, &good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		plant_node(f, &bad[i]);
		expect_everything_refuses(f, bad[i].name, -EBADMSG);
	}
	plant_node(f, &(struct planted){ 18, 1, "am", gone });
	expect_everything_refuses(f, 18, -ENODATA);
	expect_everything_refuses(f, 98, -ENODATA);
	struct digest root = named(15);
	struct tree_value v = { 0 };
	assert_int_equal(tree_get(f->ns, &root, "b", 1, &v), -EBADMSG);
	root = named(12);
	assert_int_equal(tree_get(f->ns, &root, "n", 1, &v), -EBADMSG);
	root = named(18);
	assert_int_equal(tree_get(f->ns, &root, "n", 1, &v), -ENODATA);
}

static void a_root_overlapping_below_its_last_child_is_refused(void **state)
{
	struct tree_test *t = *state;
	struct fixture *f = &t->f;
	/* Below 22 keys may go up to q; its last leaf 21 goes to x, into the range of 23. */
	const uint8_t left[] = { 20, 21 };
	const uint8_t right[] = { 24 };
	const uint8_t top[] = { 22, 23 };
	const struct planted nodes[] = {
		{ 20, 0, "ab", NULL }, { 21, 0, "mx", NULL }, { 22, 1, "am", left },
		{ 24, 0, "qr", NULL }, { 23, 1, "q", right }, { 25, 2, "aq", top },
	};
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
		plant_node(f, &nodes[i]);
	expect_everything_refuses(f, 25, -EBADMSG);
}

/* ---- threads ---- */

struct worker {
	struct tree_test *t;
	uint64_t seed;
	struct digest root; /* of a writer: what it ends with */
	unsigned failures;
};

static void *read_all_the_time(void *arg)
{
	struct worker *w = arg;
	struct node_store *ns = w->t->f.ns;
	uint64_t r = w->seed;
	uint8_t key[17];
	for (unsigned i = 0; i < 5000; i++) {
		uint64_t k = rnd_below(&r, COUNT);
		struct tree_value v = { 0 };
		int got = tree_get(ns, &w->t->root, key, fs_key(2 * k, key), &v);
		w->failures += got != 0 || memcmp(v.data, &k, 8) != 0;
		tree_value_release(&v);
		if (i % 50)
			continue;
		CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(ns, &w->t->root);
		got = tree_iter_seek(it, key, fs_key(2 * k, key));
		for (unsigned n = 0; n < 300 && got == 1; n++)
			got = tree_iter_next(it);
		w->failures += got < 0;
	}
	return NULL;
}

static void *change_all_the_time(void *arg)
{
	struct worker *w = arg;
	uint64_t r = 99; /* the same for all: they store the same nodes */
	uint8_t key[17];
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	w->root = w->t->root;
	for (unsigned i = 0; i < 100; i++) {
		tree_batch_clear(b);
		for (unsigned n = 0; n < 10; n++) {
			size_t klen = fs_key(rnd_below(&r, 2 * COUNT), key);
			w->failures += tree_batch_put(b, key, klen, &n, sizeof(n)) != 0;
			klen = fs_key(rnd_below(&r, 2 * COUNT), key);
			w->failures += tree_batch_del(b, key, klen) != 0;
		}
		w->failures += tree_apply(w->t->f.ns, &w->root, b, &w->root, NULL) != 0;
	}
	return NULL;
}

static void threads_read_and_change_trees_of_one_store(void **state)
{
	struct tree_test *t = *state;
	fixture_reopen_nodes(&t->f, 256 << 10);
	pthread_t threads[4];
	struct worker workers[4];
	for (unsigned i = 0; i < 4; i++) {
		workers[i] = (struct worker){ .t = t, .seed = i + 1 };
		assert_int_equal(pthread_create(&threads[i], NULL,
						i % 2 ? change_all_the_time : read_all_the_time,
						&workers[i]),
				 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(workers[i].failures, 0);
	}
	assert_true(digest_equal(&workers[1].root, &workers[3].root));
	fixture_reopen_nodes(&t->f, 16 << 20);
}

/* ---- a million ---- */

/* A sanitizer makes it ten times slower, and finds no more in more of the same. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MANY 50000
#else
#define MANY 1000000
#endif

static void many_entries(void **state)
{
	(void)state;
	uint64_t n = MANY;
	struct fixture f;
	fixture_open(&f, 256 << 20);
	struct digest root;
	double t0 = now_s();
	build(&f, n, &root);
	double t_build = now_s() - t0;
	uint8_t key[17];
	uint64_t r = 7;
	unsigned gets = MANY / 2;
	for (int warm = 0; warm < 2; warm++) {
		t0 = now_s();
		for (unsigned i = 0; i < gets; i++) {
			uint64_t k = rnd_below(&r, n);
			struct tree_value v = { 0 };
			assert_int_equal(tree_get(f.ns, &root, key, fs_key(2 * k, key), &v), 0);
			assert_memory_equal(v.data, &k, 8);
			tree_value_release(&v);
		}
	}
	double t_get = now_s() - t0;
	struct node *node;
	t0 = now_s();
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(node_store_get(f.ns, &root, &node), 0);
		node_unref(node);
	}
	double t_node = now_s() - t0;
	t0 = now_s();
	uint64_t seen = 0;
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(f.ns, &root);
	while (tree_iter_next(it) == 1)
		seen++;
	double t_scan = now_s() - t0;
	assert_int_equal(seen, n);
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	struct digest changed = root;
	t0 = now_s();
	unsigned applies = 200;
	for (unsigned i = 0; i < applies; i++) {
		tree_batch_clear(b);
		uint64_t k = rnd_below(&r, n);
		assert_int_equal(tree_batch_put(b, key, fs_key(2 * k, key), &i, 4), 0);
		assert_int_equal(tree_apply(f.ns, &changed, b, &changed, NULL), 0);
	}
	double t_apply = now_s() - t0;
	print_message("%u entries: build %.2f s (%.0f keys/s), tree_get %.0f ns, "
		      "node_store_get %.0f ns, scan %.0f ns an entry, apply of one %.0f us\n",
		      MANY, t_build, (double)n / t_build, t_get / gets * 1e9, t_node / MANY * 1e9,
		      t_scan / (double)n * 1e9, t_apply / applies * 1e6);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_tree_has_no_entry),
		cmocka_unit_test(get_finds_what_is_there_and_nothing_else),
		cmocka_unit_test(iterator_passes_every_entry_in_order),
		cmocka_unit_test(seek_finds_neighbours_from_anywhere),
		cmocka_unit_test(seek_beyond_the_edges),
		cmocka_unit_test(a_referenced_leaf_outlives_iterator_and_cache),
		cmocka_unit_test(visit_sees_every_node_once),
		cmocka_unit_test(hostile_trees_are_refused),
		cmocka_unit_test(a_root_overlapping_below_its_last_child_is_refused),
		cmocka_unit_test(threads_read_and_change_trees_of_one_store),
		cmocka_unit_test(many_entries),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
