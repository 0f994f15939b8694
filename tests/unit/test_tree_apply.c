/*
 * The tree against a model: a fixed set of keys, each present with some value or
 * absent. After each batch the root must be the one that an independent builder
 * computes from the model alone, whatever led there.
 */
#include "tests/unit/tree_fixture.h"

#define KEYS_MAX 3000

struct slot {
	uint8_t key[NODE_KEY_MAX];
	size_t klen;
	bool present;
	uint32_t vlen;
	uint32_t seed;
};

struct model {
	struct slot *slots; /* sorted by key */
	size_t count;
};

static void fill_value(uint8_t *out, uint32_t vlen, uint32_t seed)
{
	uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	for (uint32_t i = 0; i < vlen; i++) {
		if (i % 64 == 0)
			rnd(&x);
		out[i] = (uint8_t)(x >> (i % 8 * 8));
	}
}

/* ---- the independent builder ---- */

struct ref_entry {
	uint8_t key[NODE_KEY_MAX];
	size_t klen;
	uint8_t *val;
	size_t vlen;
};

static void put32(uint8_t *p, size_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static struct digest ref_node(const struct ref_entry *e, size_t n, unsigned level)
{
	static uint8_t out[200 << 10];
	memset(out, 0, 12);
	memcpy(out, "VND1", 4);
	out[4] = (uint8_t)level;
	put32(out + 8, n);
	size_t pos = 12 + 4 * n;
	size_t base = pos;
	for (size_t i = 0; i < n; i++) {
		out[pos++] = (uint8_t)(e[i].klen & 255);
		out[pos++] = (uint8_t)(e[i].klen >> 8);
		memcpy(out + pos, e[i].key, e[i].klen);
		pos += e[i].klen;
		memcpy(out + pos, e[i].val, e[i].vlen);
		pos += e[i].vlen;
		put32(out + 12 + 4 * i, pos - base);
	}
	struct digest d;
	assert_int_equal(hash_bytes(out, pos, &d), 0);
	return d;
}

/* How many of the entries the first node takes. */
static size_t ref_cut(const struct ref_entry *e, size_t n, unsigned level)
{
	size_t size = 12 + 4 + 2 + e[0].klen + e[0].vlen;
	size_t i = 1;
	for (; i < n; i++) {
		size += 4 + 2 + e[i].klen + e[i].vlen;
		if (size > 32768 || (i >= 4 && node_key_is_boundary(level, e[i].key, e[i].klen)))
			break;
	}
	return i;
}

static struct digest ref_levels(struct ref_entry *e, size_t n, unsigned level)
{
	if (n == 0)
		return ref_node(NULL, 0, 0);
	size_t nodes = 0;
	for (size_t at = 0, took; at < n; at += took, nodes++) {
		took = ref_cut(e + at, n - at, level);
		struct digest d = ref_node(e + at, took, level);
		if (took == n)
			return d;
		memcpy(e[nodes].key, e[at].key, e[at].klen);
		e[nodes].klen = e[at].klen;
		free(e[nodes].val);
		e[nodes].val = malloc(DIGEST_SIZE);
		memcpy(e[nodes].val, d.b, DIGEST_SIZE);
		e[nodes].vlen = DIGEST_SIZE;
	}
	return ref_levels(e, nodes, level + 1);
}

static struct digest ref_root(const struct model *m)
{
	struct ref_entry *e = calloc(m->count + 1, sizeof(*e));
	size_t n = 0;
	for (size_t i = 0; i < m->count; i++) {
		const struct slot *s = &m->slots[i];
		if (!s->present)
			continue;
		memcpy(e[n].key, s->key, s->klen);
		e[n].klen = s->klen;
		e[n].val = malloc(s->vlen + 1);
		e[n].vlen = s->vlen;
		fill_value(e[n].val, s->vlen, s->seed);
		n++;
	}
	struct digest d = ref_levels(e, n, 0);
	for (size_t i = 0; i < n; i++)
		free(e[i].val);
	free(e);
	return d;
}

/* ---- sets of keys ---- */

static size_t random_key(uint64_t *r, uint8_t *key)
{
	size_t klen = rnd_below(r, 20) == 0 ? rnd_below(r, NODE_KEY_MAX + 1) : rnd_below(r, 24);
	for (size_t i = 0; i < klen; i++)
		key[i] = (uint8_t)rnd_below(r, rnd_below(r, 3) ? 3 : 256);
	return klen;
}

static size_t sequence_key(uint64_t *r, uint8_t *key)
{
	return fs_key(rnd_below(r, 100000), key);
}

static size_t number_key(uint64_t *r, uint8_t *key)
{
	uint64_t v = rnd(r);
	memcpy(key, &v, 8);
	return 8;
}

static size_t boundary_key(uint64_t *r, uint8_t *key)
{
	do
		number_key(r, key);
	while (!node_key_is_boundary(0, key, 8));
	return 8;
}

static size_t boundary_on_two_levels_key(uint64_t *r, uint8_t *key)
{
	do
		number_key(r, key);
	while (!node_key_is_boundary(0, key, 8) || !node_key_is_boundary(1, key, 8));
	return 8;
}

static size_t no_boundary_key(uint64_t *r, uint8_t *key)
{
	do
		number_key(r, key);
	while (node_key_is_boundary(0, key, 8) || node_key_is_boundary(1, key, 8));
	return 8;
}

typedef size_t (*key_fn)(uint64_t *r, uint8_t *key);

static int slot_cmp(const void *a, const void *b)
{
	const struct slot *x = a, *y = b;
	return node_key_cmp(x->key, x->klen, y->key, y->klen);
}

static void model_init(struct model *m, size_t count, key_fn fn, uint64_t *r)
{
	m->slots = calloc(count, sizeof(*m->slots));
	for (size_t i = 0; i < count; i++)
		m->slots[i].klen = fn(r, m->slots[i].key);
	qsort(m->slots, count, sizeof(*m->slots), slot_cmp);
	m->count = 0;
	for (size_t i = 0; i < count; i++) {
		if (i == 0 || slot_cmp(&m->slots[i], &m->slots[m->count - 1]) != 0)
			m->slots[m->count++] = m->slots[i];
	}
}

/* ---- random batches ---- */

static uint32_t random_vlen(uint64_t *r, unsigned profile)
{
	switch (profile) {
	case 0:
		return (uint32_t)rnd_below(r, 40);
	case 1: /* size decides many boundaries */
		return (uint32_t)rnd_below(r, rnd_below(r, 4) ? 300 : 6000);
	default: /* around and over the size of a node */
		switch (rnd_below(r, 6)) {
		case 0:
			return (uint32_t)(NODE_MAX_BYTES - 100 + rnd_below(r, 200));
		case 1:
			return (uint32_t)(NODE_MAX_BYTES / 2 - 50 + rnd_below(r, 100));
		case 2:
			return (uint32_t)(NODE_VALUE_MAX - rnd_below(r, 3));
		default:
			return (uint32_t)rnd_below(r, 2000);
		}
	}
}

static void change(struct model *m, struct tree_batch *b, size_t i, bool del, unsigned profile,
		   uint64_t *r)
{
	static uint8_t value[NODE_VALUE_MAX];
	struct slot *s = &m->slots[i];
	s->present = !del;
	if (del) {
		assert_int_equal(tree_batch_del(b, s->key, s->klen), 0);
		return;
	}
	if (s->vlen == 0 || rnd_below(r, 3))
		s->vlen = random_vlen(r, profile);
	s->seed = (uint32_t)rnd(r);
	fill_value(value, s->vlen, s->seed);
	assert_int_equal(tree_batch_put(b, s->key, s->klen, value, s->vlen), 0);
}

static void change_run(struct model *m, struct tree_batch *b, size_t from, size_t n, bool del,
		       unsigned profile, uint64_t *r)
{
	for (size_t i = from; i < from + n && i < m->count; i++)
		change(m, b, i, del, profile, r);
}

/* Fill b with one of several kinds of change. */
static void random_batch(struct model *m, struct tree_batch *b, unsigned profile, uint64_t *r)
{
	size_t n = m->count;
	size_t few = 1 + rnd_below(r, 5);
	switch (rnd_below(r, 12)) {
	case 0: /* everything goes */
		change_run(m, b, 0, n, true, profile, r);
		break;
	case 1: /* everything comes, or changes */
		change_run(m, b, 0, n, false, profile, r);
		break;
	case 2: /* the left edge */
		change_run(m, b, 0, few, rnd_below(r, 2), profile, r);
		break;
	case 3: /* the right edge */
		change_run(m, b, n > few ? n - few : 0, few, rnd_below(r, 2), profile, r);
		break;
	case 4: /* all but a run */
		change_run(m, b, 0, rnd_below(r, n), true, profile, r);
		change_run(m, b, n - rnd_below(r, n / 4 + 1), n, true, profile, r);
		break;
	case 5: /* a run */
		change_run(m, b, rnd_below(r, n), rnd_below(r, n), true, profile, r);
		break;
	case 6:
		change_run(m, b, rnd_below(r, n), rnd_below(r, n), false, profile, r);
		break;
	case 7: /* many, several times each, in any order */
		for (size_t i = 0; i < n; i++)
			change(m, b, rnd_below(r, n), rnd_below(r, 2), profile, r);
		break;
	case 8: /* exactly the keys that can start nodes */
		for (size_t i = 0; i < n; i++) {
			if (node_key_is_boundary(0, m->slots[i].key, m->slots[i].klen) &&
			    rnd_below(r, 4) == 0)
				change(m, b, i, m->slots[i].present, profile, r);
		}
		break;
	default:
		for (size_t i = 0; i < few; i++)
			change(m, b, rnd_below(r, n), rnd_below(r, 2), profile, r);
	}
}

/* ---- checks ---- */

static void check_scan(struct node_store *ns, const struct model *m, const struct digest *root)
{
	static uint8_t want[NODE_VALUE_MAX];
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(ns, root);
	for (size_t i = 0; i < m->count; i++) {
		const struct slot *s = &m->slots[i];
		if (!s->present)
			continue;
		assert_int_equal(tree_iter_next(it), 1);
		size_t klen, vlen;
		const uint8_t *key = tree_iter_key(it, &klen);
		const uint8_t *val = tree_iter_value(it, &vlen);
		assert_int_equal(node_key_cmp(key, klen, s->key, s->klen), 0);
		assert_int_equal(vlen, s->vlen);
		fill_value(want, s->vlen, s->seed);
		assert_memory_equal(val, want, vlen);
	}
	assert_int_equal(tree_iter_next(it), 0);
}

struct diff_check {
	const struct model *a;
	const struct model *b;
	size_t at;
	struct tree_batch *batch;
};

static bool slots_differ(const struct slot *x, const struct slot *y)
{
	static uint8_t vx[NODE_VALUE_MAX], vy[NODE_VALUE_MAX];
	if (x->present != y->present || !x->present)
		return x->present != y->present;
	if (x->vlen != y->vlen || x->seed == y->seed)
		return x->vlen != y->vlen;
	fill_value(vx, x->vlen, x->seed);
	fill_value(vy, y->vlen, y->seed);
	return memcmp(vx, vy, x->vlen) != 0;
}

static int on_diff(void *arg, const struct tree_span *key, const struct tree_span *a,
		   const struct tree_span *b)
{
	struct diff_check *c = arg;
	while (c->at < c->a->count && !slots_differ(&c->a->slots[c->at], &c->b->slots[c->at]))
		c->at++;
	assert_true(c->at < c->a->count);
	const struct slot *x = &c->a->slots[c->at];
	const struct slot *y = &c->b->slots[c->at];
	c->at++;
	assert_int_equal(node_key_cmp(key->data, key->len, x->key, x->klen), 0);
	assert_int_equal(a != NULL, x->present);
	assert_int_equal(b != NULL, y->present);
	assert_true(!a || a->len == x->vlen);
	if (!b)
		return tree_batch_del(c->batch, key->data, key->len);
	assert_int_equal(b->len, y->vlen);
	return tree_batch_put(c->batch, key->data, key->len, b->data, b->len);
}

/* The diff of two trees is that of their models, and turns the one into the other. */
static void check_diff(struct node_store *ns, const struct model *a, const struct digest *root_a,
		       const struct model *b, const struct digest *root_b)
{
	CLEANUP(tree_batch_free_p) struct tree_batch *batch = tree_batch_new();
	struct diff_check c = { .a = a, .b = b, .batch = batch };
	assert_int_equal(tree_diff(ns, root_a, root_b, on_diff, &c), 0);
	while (c.at < a->count)
		assert_false(slots_differ(&a->slots[c.at], &b->slots[c.at])), c.at++;
	struct digest d;
	assert_int_equal(tree_apply(ns, root_a, batch, &d, NULL), 0);
	assert_true(digest_equal(&d, root_b));
}

/* The same content built at once. */
static void check_at_once(struct node_store *ns, const struct model *m, const struct digest *root)
{
	static uint8_t value[NODE_VALUE_MAX];
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	for (size_t i = m->count; i-- > 0;) {
		const struct slot *s = &m->slots[i];
		if (!s->present)
			continue;
		fill_value(value, s->vlen, s->seed);
		assert_int_equal(tree_batch_put(b, s->key, s->klen, value, s->vlen), 0);
	}
	struct digest d;
	assert_int_equal(tree_empty(ns, &d), 0);
	assert_int_equal(tree_apply(ns, &d, b, &d, NULL), 0);
	assert_true(digest_equal(&d, root));
}

static void run_history(struct fixture *f, key_fn fn, size_t keys, unsigned profile, unsigned steps,
			uint64_t seed)
{
	uint64_t r = seed * 2 + 1;
	struct model m, before;
	model_init(&m, keys, fn, &r);
	before = m;
	before.slots = malloc(m.count * sizeof(*m.slots));
	struct digest root;
	assert_int_equal(tree_empty(f->ns, &root), 0);
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	for (unsigned step = 0; step < steps; step++) {
		memcpy(before.slots, m.slots, m.count * sizeof(*m.slots));
		struct digest old = root;
		tree_batch_clear(b);
		random_batch(&m, b, profile, &r);
		assert_int_equal(tree_apply(f->ns, &root, b, &root, NULL), 0);
		struct digest want = ref_root(&m);
		if (!digest_equal(&root, &want))
			fail_msg("keys %zu profile %u seed %lu: wrong root after step %u", keys,
				 profile, (unsigned long)seed, step);
		if (step % 5 == 0)
			check_scan(f->ns, &m, &root);
		if (step % 5 == 1)
			check_diff(f->ns, &before, &old, &m, &root);
		if (step % 11 == 0)
			check_at_once(f->ns, &m, &root);
	}
	free(before.slots);
	free(m.slots);
}

/* ---- tests ---- */

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	fixture_open(f, 8 << 20);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	fixture_close(*state);
	free(*state);
	return 0;
}

static void run_histories(void **state, key_fn fn, size_t keys_max, unsigned profile)
{
	static const size_t sizes[] = { 2, 5, 9, 40, 300, KEYS_MAX };
	unsigned scale = test_scale();
	for (unsigned round = 0; round < 3 * scale; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(sizes) && sizes[i] <= keys_max; i++) {
			unsigned steps = sizes[i] > 1000 ? 12 : 40;
			run_history(*state, fn, sizes[i], profile, steps, 1 + round * 100 + i);
		}
	}
}

static void root_depends_only_on_content_fs_keys(void **state)
{
	run_histories(state, sequence_key, KEYS_MAX, 0);
	run_histories(state, sequence_key, 300, 1);
}

static void root_depends_only_on_content_random_keys(void **state)
{
	run_histories(state, random_key, KEYS_MAX, 0);
	run_histories(state, random_key, 300, 1);
}

static void root_depends_only_on_content_large_values(void **state)
{
	run_histories(state, random_key, 40, 2);
	run_histories(state, sequence_key, 40, 2);
}

static void root_depends_only_on_content_all_keys_boundaries(void **state)
{
	run_histories(state, boundary_key, KEYS_MAX, 0);
	run_histories(state, boundary_on_two_levels_key, 300, 0);
}

static void root_depends_only_on_content_no_key_a_boundary(void **state)
{
	run_histories(state, no_boundary_key, KEYS_MAX, 0);
	run_histories(state, no_boundary_key, 300, 1);
	run_histories(state, no_boundary_key, 40, 2);
}

static void last_change_of_a_key_counts(void **state)
{
	struct fixture *f = *state;
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	struct digest root;
	assert_int_equal(tree_empty(f->ns, &root), 0);
	assert_int_equal(tree_batch_put(b, "k", 1, "one", 3), 0);
	assert_int_equal(tree_batch_put(b, "a", 1, "a", 1), 0);
	assert_int_equal(tree_batch_del(b, "k", 1), 0);
	assert_int_equal(tree_batch_put(b, "k", 1, "two", 3), 0);
	assert_int_equal(tree_batch_del(b, "a", 1), 0);
	assert_int_equal(tree_apply(f->ns, &root, b, &root, NULL), 0);
	struct tree_value v = { 0 };
	assert_int_equal(tree_get(f->ns, &root, "k", 1, &v), 0);
	assert_int_equal(v.len, 3);
	assert_memory_equal(v.data, "two", 3);
	tree_value_release(&v);
	assert_int_equal(tree_get(f->ns, &root, "a", 1, &v), -ENOENT);
}

static void batch_refuses_what_no_node_holds(void **state)
{
	(void)state;
	static const uint8_t big[NODE_VALUE_MAX + 1];
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	assert_int_equal(tree_batch_put(b, big, NODE_KEY_MAX + 1, "", 0), -EINVAL);
	assert_int_equal(tree_batch_del(b, big, NODE_KEY_MAX + 1), -EINVAL);
	assert_int_equal(tree_batch_put(b, "k", 1, big, NODE_VALUE_MAX + 1), -EINVAL);
	assert_int_equal(tree_batch_count(b), 0);
	assert_int_equal(tree_batch_put(b, big, NODE_KEY_MAX, big, NODE_VALUE_MAX), 0);
	assert_int_equal(tree_batch_count(b), 1);
	assert_true(tree_batch_bytes(b) >= NODE_KEY_MAX + NODE_VALUE_MAX);
	tree_batch_clear(b);
	assert_int_equal(tree_batch_count(b), 0);
}

static void changes_that_change_nothing_keep_the_root_and_store_nothing(void **state)
{
	struct fixture *f = *state;
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	struct digest root, again;
	uint8_t key[17];
	assert_int_equal(tree_empty(f->ns, &root), 0);
	for (uint64_t i = 0; i < 5000; i++)
		assert_int_equal(tree_batch_put(b, key, fs_key(i, key), &i, 8), 0);
	assert_int_equal(tree_apply(f->ns, &root, b, &root, NULL), 0);
	uint64_t new_bytes = 0;
	assert_int_equal(tree_apply(f->ns, &root, b, &again, &new_bytes), 0);
	assert_true(digest_equal(&root, &again));
	assert_int_equal(new_bytes, 0);
	tree_batch_clear(b);
	assert_int_equal(tree_batch_del(b, "absent", 6), 0);
	assert_int_equal(tree_apply(f->ns, &root, b, &again, &new_bytes), 0);
	assert_true(digest_equal(&root, &again));
	assert_int_equal(new_bytes, 0);
}

static void a_change_stores_only_its_path(void **state)
{
	struct fixture *f = *state;
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	struct digest root;
	uint8_t key[17];
	uint64_t whole = 0;
	assert_int_equal(tree_empty(f->ns, &root), 0);
	for (uint64_t i = 0; i < 100000; i++)
		assert_int_equal(tree_batch_put(b, key, fs_key(i, key), &i, 8), 0);
	assert_int_equal(tree_apply(f->ns, &root, b, &root, &whole), 0);
	for (uint64_t i = 0; i < 100000; i += 997) {
		uint64_t new_bytes = 0;
		struct node_store_stats before, after;
		fixture_reopen_nodes(f, 8 << 20);
		node_store_stats(f->ns, &before);
		tree_batch_clear(b);
		assert_int_equal(tree_batch_put(b, key, fs_key(i, key), "changed", 7), 0);
		assert_int_equal(tree_apply(f->ns, &root, b, &root, &new_bytes), 0);
		node_store_stats(f->ns, &after);
		assert_in_range(new_bytes, 1, 100 << 10);
		assert_in_range(after.loads - before.loads, 2, 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(last_change_of_a_key_counts),
		cmocka_unit_test(batch_refuses_what_no_node_holds),
		cmocka_unit_test(changes_that_change_nothing_keep_the_root_and_store_nothing),
		cmocka_unit_test(a_change_stores_only_its_path),
		cmocka_unit_test(root_depends_only_on_content_fs_keys),
		cmocka_unit_test(root_depends_only_on_content_random_keys),
		cmocka_unit_test(root_depends_only_on_content_large_values),
		cmocka_unit_test(root_depends_only_on_content_all_keys_boundaries),
		cmocka_unit_test(root_depends_only_on_content_no_key_a_boundary),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
