/* Sources: the database, and a far one that is asked for what it does not have. */
#include "tests/unit/fs_fixture.h"

#include "tests/unit/far_source.h"

/* A store with content, and an empty one whose far source it is. */
struct sf {
	struct fx origin, fx;
	struct source *behind;
	struct far *far;
	struct digest chunk, root;
};

static const char text[] = "the bytes of a chunk that is elsewhere";

static int setup(void **state)
{
	struct sf *f = calloc(1, sizeof(*f));
	struct chunk_put_result put;

	assert_non_null(f);
	fx_open(&f->origin);
	fx_open(&f->fx);
	assert_int_equal(chunk_store_put(f->origin.s->chunks, text, sizeof(text), &put), 0);
	f->chunk = put.digest;
	assert_int_equal(tree_empty(f->origin.s->nodes, &f->root), 0);
	f->behind = source_kv_new(f->origin.s->kv);
	assert_non_null(f->behind);
	f->far = far_new(f->behind);
	store_set_far(f->fx.s, &f->far->source);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct sf *f = *state;

	fx_close(&f->fx);
	source_free(&f->far->source);
	source_free(f->behind);
	fx_close(&f->origin);
	free(f);
	return 0;
}

static int get_chunk(struct sf *f)
{
	struct chunk *c CLEANUP(chunk_unref_p) = NULL;
	int r = chunk_store_get(f->fx.s->chunks, &f->chunk, &c);

	if (!r) {
		assert_int_equal(c->len, sizeof(text));
		assert_memory_equal(c->data, text, sizeof(text));
	}
	return r;
}

static int read_chunk(struct sf *f)
{
	char out[sizeof(text)];
	int r = chunk_store_read(f->fx.s->chunks, &f->chunk, out, sizeof(out));

	if (!r)
		assert_memory_equal(out, text, sizeof(text));
	return r;
}

static int get_node(struct sf *f)
{
	struct node *n CLEANUP(node_unref_p) = NULL;

	return node_store_get(f->fx.s->nodes, &f->root, &n);
}

/* 1 if the store's own database has the node. */
static int has_node(struct sf *f)
{
	return kv_has(f->fx.s->kv, KV_NODE, f->root.b, DIGEST_SIZE);
}

static void database_gives_what_was_put(void **state)
{
	struct sf *f = *state;
	struct source *src CLEANUP(source_free_p) = source_kv_new(f->fx.s->kv);
	struct source_item items[3] = { { .frame = { (const uint8_t *)"one", 3 } },
					{ .frame = { (const uint8_t *)"three", 5 } } };

	assert_non_null(src);
	for (uint8_t i = 0; i < 3; i++)
		items[i].digest.b[0] = i;
	assert_int_equal(src->ops->put_many(src, SOURCE_NODE, items, 2), 0);
	src->ops->has_many(src, SOURCE_NODE, items, 3);
	assert_int_equal(items[0].result, 1);
	assert_int_equal(items[1].result, 1);
	assert_int_equal(items[2].result, 0);
	src->ops->get_many(src, SOURCE_NODE, items, 3);
	assert_int_equal(items[0].result, 0);
	assert_int_equal(items[1].frame.len, 5);
	assert_memory_equal(items[1].frame.data, "three", 5);
	assert_int_equal(items[2].result, -ENODATA);
	source_frame_release(&items[0].frame);
	source_frame_release(&items[1].frame);
	assert_int_equal(source_has(src, SOURCE_CHUNK, &items[0].digest), 0);
}

static void what_is_far_is_near_afterwards(void **state)
{
	struct sf *f = *state;

	assert_int_equal(chunk_store_has(f->fx.s->chunks, &f->chunk), 0);
	assert_int_equal(get_chunk(f), 0);
	assert_int_equal(get_node(f), 0);
	f->far->mode = FAR_LOSES;
	chunk_store_flush_kept(f->fx.s->chunks);
	assert_int_equal(chunk_store_has(f->fx.s->chunks, &f->chunk), 1);
	assert_int_equal(has_node(f), 1);
	assert_int_equal(get_chunk(f), 0);
	assert_int_equal(get_node(f), 0);
	assert_int_equal(f->far->items, 2);
}

static void a_read_past_the_cache_asks_afar_too(void **state)
{
	struct sf *f = *state;

	assert_int_equal(read_chunk(f), 0);
	chunk_store_flush_kept(f->fx.s->chunks);
	assert_int_equal(chunk_store_has(f->fx.s->chunks, &f->chunk), 1);
}

static void verify_sees_the_database_alone(void **state)
{
	struct sf *f = *state;
	uint32_t raw, stored;

	assert_int_equal(chunk_store_verify(f->fx.s->chunks, &f->chunk, &raw, &stored), -ENODATA);
	assert_int_equal(node_store_verify(f->fx.s->nodes, &f->root, &raw, &stored), -ENODATA);
	assert_int_equal(f->far->items, 0);
}

/* Whatever it does wrong is an error of that read, and nothing of it stays. */
static void nothing_is_kept_of_a_source_that_errs(void **state)
{
	static const struct {
		enum far_mode mode;
		int failure;
	} cases[] = {
		{ FAR_FAILS, -EIO },
		{ FAR_LIES, -EBADMSG },
		{ FAR_CUTS, -EBADMSG },
		{ FAR_LOSES, -ENODATA },
	};
	struct sf *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		f->far->mode = cases[i].mode;
		assert_int_equal(get_chunk(f), cases[i].failure);
		assert_int_equal(read_chunk(f), cases[i].failure);
		assert_int_equal(get_node(f), cases[i].failure);
		assert_null(chunk_store_cached(f->fx.s->chunks, &f->chunk));
		assert_int_equal(chunk_store_has(f->fx.s->chunks, &f->chunk), 0);
		assert_int_equal(node_store_cached_bytes(f->fx.s->nodes), 0);
		assert_int_equal(has_node(f), 0);
	}
	f->far->mode = FAR_WELL;
	assert_int_equal(get_chunk(f), 0);
	assert_int_equal(get_node(f), 0);
}

static void *get_chunk_beside(void *arg)
{
	struct sf *f = arg;
	int r = get_chunk(f);

	return (void *)(intptr_t)r;
}

static void a_source_that_is_stopped_lets_go_of_all(void **state)
{
	struct sf *f = *state;
	pthread_t thread;
	void *result;

	far_hold(f->far, true);
	assert_int_equal(pthread_create(&thread, NULL, get_chunk_beside, f), 0);
	far_await_waiting(f->far, 1);
	store_stop_far(f->fx.s);
	pthread_join(thread, &result);
	assert_int_equal((intptr_t)result, -ECANCELED);
	assert_int_equal(get_node(f), -ECANCELED);
	assert_int_equal(f->far->waiting, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(database_gives_what_was_put),
		T(what_is_far_is_near_afterwards),
		T(a_read_past_the_cache_asks_afar_too),
		T(verify_sees_the_database_alone),
		T(nothing_is_kept_of_a_source_that_errs),
		T(a_source_that_is_stopped_lets_go_of_all),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
