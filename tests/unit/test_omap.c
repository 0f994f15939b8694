/* omap: random operations beside a sorted array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/upper/omap.h"

#define KEYS 700

struct key {
	uint8_t bytes[6];
	size_t len;
};

struct world {
	struct omap map;
	struct key keys[KEYS]; /* sorted, each once */
	size_t n_keys;
	uint32_t value[KEYS]; /* 0: not in the map */
	size_t count;
	uint64_t random;
};

static uint64_t next(struct world *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random >> 11;
}

static int key_order(const void *a, const void *b)
{
	const struct key *x = a, *y = b;
	int c = memcmp(x->bytes, y->bytes, MIN(x->len, y->len));

	return c ? c : (x->len > y->len) - (x->len < y->len);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->random = 12345;
	for (size_t i = 0; i < KEYS; i++) {
		struct key *k = &w->keys[i];

		/* Few different bytes, so that many keys begin alike. */
		k->len = 1 + next(w) % sizeof(k->bytes);
		for (size_t j = 0; j < k->len; j++)
			k->bytes[j] = (uint8_t)(next(w) % 3 * 127);
	}
	qsort(w->keys, KEYS, sizeof(w->keys[0]), key_order);
	for (size_t i = 0; i < KEYS; i++)
		if (!i || key_order(&w->keys[w->n_keys - 1], &w->keys[i]) != 0)
			w->keys[w->n_keys++] = w->keys[i];
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	omap_clear(&w->map);
	free(w);
	return 0;
}

/* e is the entry of keys[i], or NULL where i is none. */
static void assert_entry(const struct world *w, const struct omap_entry *e, size_t i)
{
	if (i >= w->n_keys) {
		assert_null(e);
		return;
	}
	assert_non_null(e);
	assert_int_equal(e->key_len, w->keys[i].len);
	assert_memory_equal(omap_key(e), w->keys[i].bytes, e->key_len);
	assert_int_equal(e->tombstone, w->value[i] % 2);
	assert_int_equal(e->value_len, w->value[i] % 2 ? 0 : sizeof(uint32_t));
	if (e->value_len)
		assert_memory_equal(omap_value(e), &w->value[i], e->value_len);
}

static size_t present_from(const struct world *w, size_t i)
{
	while (i < w->n_keys && !w->value[i])
		i++;
	return i;
}

static void check_seeks(struct world *w)
{
	size_t i = next(w) % w->n_keys, le = i;
	const struct key *k = &w->keys[i];

	while (le < w->n_keys && !w->value[le])
		le--; /* wraps to none */
	assert_entry(w, omap_find(&w->map, k->bytes, k->len), w->value[i] ? i : w->n_keys);
	assert_entry(w, omap_seek_ge(&w->map, k->bytes, k->len), present_from(w, i));
	assert_entry(w, omap_seek_gt(&w->map, k->bytes, k->len), present_from(w, i + 1));
	assert_entry(w, omap_seek_le(&w->map, k->bytes, k->len), le);
}

static void check_order(struct world *w)
{
	size_t i = present_from(w, 0), n = 0;

	for (struct omap_entry *e = omap_seek_ge(&w->map, "", 0); e;
	     e = omap_seek_gt(&w->map, omap_key(e), e->key_len), n++) {
		assert_entry(w, e, i);
		i = present_from(w, i + 1);
	}
	assert_int_equal(i, w->n_keys);
	assert_int_equal(n, w->count);
	assert_int_equal(w->map.count, w->count);
}

static void insert(struct world *w, size_t i)
{
	const struct key *k = &w->keys[i];
	uint32_t value = 2 + (uint32_t)(next(w) % 1000);
	struct omap_entry *old, *e = omap_entry_new(k->bytes, k->len, &value,
						    value % 2 ? 0 : sizeof(value), value % 2);

	assert_non_null(e);
	old = omap_insert(&w->map, e);
	assert_entry(w, old, w->value[i] ? i : w->n_keys);
	omap_entry_free(old);
	w->count += !w->value[i];
	w->value[i] = value;
}

static void drop(struct world *w, size_t i)
{
	struct omap_entry *e = omap_remove(&w->map, w->keys[i].bytes, w->keys[i].len);

	assert_entry(w, e, w->value[i] ? i : w->n_keys);
	omap_entry_free(e);
	w->count -= !!w->value[i];
	w->value[i] = 0;
}

static void a_map_does_what_a_sorted_array_does(void **state)
{
	struct world *w = *state;

	for (unsigned round = 0; round < 20000; round++) {
		/* It fills, and it empties. */
		unsigned inserts = round / 4000 % 2 ? 3 : 7;

		if (next(w) % 10 < inserts)
			insert(w, next(w) % w->n_keys);
		else
			drop(w, next(w) % w->n_keys);
		check_seeks(w);
		if (round % 500 == 0)
			check_order(w);
	}
	omap_clear(&w->map);
	memset(w->value, 0, sizeof(w->value));
	w->count = 0;
	check_order(w);
	check_seeks(w);
}

static unsigned depth(const struct omap_entry *e)
{
	return e ? 1 + MAX(depth(e->left), depth(e->right)) : 0;
}

/* Keys that come in order must not make a list of it. */
static void keys_in_order_make_no_deep_tree(void **state)
{
	struct omap map = { 0 };

	(void)state;
	for (uint32_t i = 0; i < 100000; i++) {
		uint8_t key[4] = { (uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8),
				   (uint8_t)i };

		assert_null(omap_insert(&map, omap_entry_new(key, 4, NULL, 0, false)));
	}
	assert_true(depth(map.root) < 64);
	omap_clear(&map);
	assert_int_equal(map.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_map_does_what_a_sorted_array_does, setup,
						teardown),
		cmocka_unit_test(keys_in_order_make_no_deep_tree),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
