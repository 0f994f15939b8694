#include "tests/unit/tree_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#include "store/base/wire.h"
#include "store/chunk/codec.h"

/* A leaf with one key, the number; and, so that its size is known, some value. */
static void leaf(uint64_t number, size_t vlen, struct buf *out)
{
	uint8_t key[8];
	uint8_t *val = malloc(vlen + 1);
	uint64_t r = number + 1;
	wire_set64be(key, number);
	for (size_t i = 0; i < vlen; i++)
		val[i] = (uint8_t)rnd(&r);
	struct node_builder nb;
	node_builder_init(&nb, 0);
	assert_int_equal(node_builder_add(&nb, key, sizeof(key), val, vlen), 0);
	assert_int_equal(node_builder_finish(&nb, out), 0);
	node_builder_fini(&nb);
	free(val);
}

static struct digest put_leaf(struct node_store *ns, uint64_t number, size_t vlen,
			      uint64_t *new_bytes)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct digest d;
	leaf(number, vlen, &b);
	assert_int_equal(node_store_put(ns, b.data, b.len, &d, new_bytes), 0);
	return d;
}

static void expect_leaf(const struct node *n, uint64_t number)
{
	const uint8_t *key, *val;
	size_t klen, vlen;
	assert_int_equal(n->view.count, 1);
	node_entry(&n->view, 0, &key, &klen, &val, &vlen);
	assert_int_equal(klen, 8);
	assert_int_equal(wire_get64be(key), number);
}

static void write_frame(struct fixture *f, const struct digest *d, const void *frame, size_t len)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	kv_batch_put(f->kv, b, KV_NODE, d->b, DIGEST_SIZE, frame, len);
	assert_int_equal(kv_write(f->kv, b, KV_NO_LOG), 0);
}

static struct node_store_stats stats_of(struct fixture *f)
{
	struct node_store_stats s;
	node_store_stats(f->ns, &s);
	return s;
}

static void what_is_put_can_be_read_and_is_named_by_its_hash(void **state)
{
	struct fixture *f = *state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	leaf(1, 100, &b);
	struct digest want, d;
	assert_int_equal(hash_bytes(b.data, b.len, &want), 0);
	uint64_t new_bytes = 0;
	assert_int_equal(node_store_put(f->ns, b.data, b.len, &d, &new_bytes), 0);
	assert_true(digest_equal(&d, &want));
	assert_true(new_bytes > 100);
	for (int cold = 0; cold < 2; cold++) {
		CLEANUP(node_unref_p) struct node *n = NULL;
		assert_int_equal(node_store_get(f->ns, &d, &n), 0);
		assert_int_equal(n->view.len, b.len);
		assert_memory_equal(n->view.bytes, b.data, b.len);
		assert_true(digest_equal(&n->digest, &want));
		fixture_reopen_nodes(f, 1 << 20);
	}
	uint32_t raw, stored;
	assert_int_equal(node_store_verify(f->ns, &d, &raw, &stored), 0);
	assert_int_equal(raw, b.len);
	assert_int_equal(stored, new_bytes);
}

static void a_frame_of_another_store_is_kept_as_it_is(void **state)
{
	struct fixture *f = *state;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT, frame = BUF_INIT;
	CLEANUP(node_unref_p) struct node *n = NULL;
	struct node_puts puts;
	uint32_t raw, stored;
	struct digest d;

	leaf(9, 5000, &b);
	assert_int_equal(hash_bytes(b.data, b.len, &d), 0);
	assert_int_equal(codec_encode(19, b.data, b.len, &frame), 0);
	node_puts_init(&puts, f->ns);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(node_puts_add(&puts, &d, b.data, b.len, frame.data, frame.len), 0);
		assert_int_equal(node_puts_flush(&puts), 0);
		assert_int_equal(puts.new_bytes, frame.len);
		assert_int_equal(puts.stored, 1);
	}
	assert_int_equal(node_store_get(f->ns, &d, &n), 0);
	expect_leaf(n, 9);
	assert_int_equal(node_store_verify(f->ns, &d, &raw, &stored), 0);
	assert_int_equal(stored, frame.len);
	assert_int_equal(node_puts_add(&puts, &d, "x", 1, frame.data, frame.len), -EBADMSG);
	node_puts_fini(&puts);
}

/* More of them than one write takes, and some that nobody flushes. */
static void frames_are_written_some_at_a_time(void **state)
{
	enum { MANY = SOURCE_ITEMS_MAX + 3 };
	struct fixture *f = *state;
	struct buf b[MANY], frame[MANY];
	struct node_puts puts;
	struct digest d[MANY];
	struct node *n;

	node_puts_init(&puts, f->ns);
	for (int i = 0; i < MANY; i++) {
		b[i] = frame[i] = (struct buf)BUF_INIT;
		leaf(i, 77, &b[i]);
		assert_int_equal(hash_bytes(b[i].data, b[i].len, &d[i]), 0);
		assert_int_equal(codec_encode(1, b[i].data, b[i].len, &frame[i]), 0);
		assert_int_equal(node_puts_add(&puts, &d[i], b[i].data, b[i].len, frame[i].data,
					       frame[i].len),
				 0);
		assert_int_equal(puts.stored, i + 1 < SOURCE_ITEMS_MAX ? 0 : SOURCE_ITEMS_MAX);
	}
	node_puts_fini(&puts);
	for (int i = 0; i < MANY; i++) {
		int r = node_store_get(f->ns, &d[i], &n);

		assert_int_equal(r, i < SOURCE_ITEMS_MAX ? 0 : -ENODATA);
		if (r == 0) {
			expect_leaf(n, i);
			node_unref(n);
		}
		buf_fini(&b[i]);
		buf_fini(&frame[i]);
	}
}

static void a_node_is_stored_once(void **state)
{
	struct fixture *f = *state;
	uint64_t first = 0, again = 0;
	put_leaf(f->ns, 2, 500, &first);
	put_leaf(f->ns, 2, 500, &again);
	fixture_reopen_nodes(f, 1 << 20);
	put_leaf(f->ns, 2, 500, &again);
	assert_true(first > 0);
	assert_int_equal(again, 0);
	put_leaf(f->ns, 3, 500, NULL);
}

/* A collection may delete what the cache still has: putting must write it again. */
static void a_node_deleted_behind_the_cache_is_stored_again(void **state)
{
	struct fixture *f = *state;
	struct digest d = put_leaf(f->ns, 4, 500, NULL);
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	kv_batch_del(f->kv, b, KV_NODE, d.b, DIGEST_SIZE);
	assert_int_equal(kv_write(f->kv, b, KV_NO_LOG), 0);
	uint64_t new_bytes = 0;
	put_leaf(f->ns, 4, 500, &new_bytes);
	assert_true(new_bytes > 0);
	fixture_reopen_nodes(f, 1 << 20);
	CLEANUP(node_unref_p) struct node *n = NULL;
	assert_int_equal(node_store_get(f->ns, &d, &n), 0);
}

static void a_missing_node_is_enodata(void **state)
{
	struct fixture *f = *state;
	struct digest d = { { 9 } };
	struct node *n;
	uint32_t raw, stored;
	assert_int_equal(node_store_get(f->ns, &d, &n), -ENODATA);
	assert_int_equal(node_store_peek(f->ns, &d, &n), -ENODATA);
	assert_int_equal(node_store_verify(f->ns, &d, &raw, &stored), -ENODATA);
}

static void damaged_frames_are_ebadmsg(void **state)
{
	struct fixture *f = *state;
	CLEANUP(buf_fini_p) struct buf raw = BUF_INIT;
	leaf(5, 3000, &raw);
	CLEANUP(buf_fini_p) struct buf no_node = BUF_INIT;
	raw.data[4] = 1;
	assert_int_equal(codec_encode(3, raw.data, raw.len, &no_node), 0);
	raw.data[4] = 0;
	CLEANUP(buf_fini_p) struct buf frame = BUF_INIT;
	assert_int_equal(codec_encode(3, raw.data, raw.len, &frame), 0);
	static const uint8_t bomb[] = { 1, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3 };
	const struct {
		const void *data;
		size_t len;
	} cases[] = {
		{ "", 0 },
		{ "\1\4\0\0", 4 },
		{ "\7\4\0\0\0abcd", 9 },
		{ bomb, sizeof(bomb) }, /* claims 2 GiB */
		{ frame.data, frame.len - 1 },
		{ no_node.data, no_node.len },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct digest d = { { 77, (uint8_t)i } };
		struct node *n;
		uint32_t got_raw, stored;
		write_frame(f, &d, cases[i].data, cases[i].len);
		assert_int_equal(node_store_get(f->ns, &d, &n), -EBADMSG);
		assert_int_equal(node_store_peek(f->ns, &d, &n), -EBADMSG);
		assert_int_equal(node_store_verify(f->ns, &d, &got_raw, &stored), -EBADMSG);
	}
}

static void verify_finds_a_node_under_a_wrong_name(void **state)
{
	struct fixture *f = *state;
	CLEANUP(buf_fini_p) struct buf raw = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf frame = BUF_INIT;
	leaf(6, 300, &raw);
	assert_int_equal(codec_encode(3, raw.data, raw.len, &frame), 0);
	struct digest d = { { 55 } };
	write_frame(f, &d, frame.data, frame.len);
	CLEANUP(node_unref_p) struct node *n = NULL;
	uint32_t got_raw, stored;
	assert_int_equal(node_store_get(f->ns, &d, &n), 0);
	assert_int_equal(node_store_verify(f->ns, &d, &got_raw, &stored), -EBADMSG);
}

static void put_refuses_what_is_no_node(void **state)
{
	struct fixture *f = *state;
	struct digest d;
	assert_int_equal(node_store_put(f->ns, "nonsense", 8, &d, NULL), -EBADMSG);
	assert_int_equal(node_store_put(f->ns, "", 0, &d, NULL), -EBADMSG);
}

static void cache_stays_within_its_budget(void **state)
{
	struct fixture *f = *state;
	size_t budget = 2 << 20;
	fixture_reopen_nodes(f, budget);
	for (uint64_t i = 0; i < 2000; i++) {
		put_leaf(f->ns, i, 4000, NULL);
		assert_true(node_store_cached_bytes(f->ns) <= budget);
	}
	assert_in_range(node_store_cached_bytes(f->ns), budget / 2, budget);
	assert_in_range(stats_of(f).cached_nodes, 250, 520);
}

static void a_cache_of_nothing_still_serves(void **state)
{
	struct fixture *f = *state;
	fixture_reopen_nodes(f, 0);
	struct digest d = put_leaf(f->ns, 7, 100, NULL);
	assert_int_equal(node_store_cached_bytes(f->ns), 0);
	CLEANUP(node_unref_p) struct node *n = NULL;
	assert_int_equal(node_store_get(f->ns, &d, &n), 0);
	expect_leaf(n, 7);
	fixture_reopen_nodes(f, 1 << 20);
}

static void a_referenced_node_outlives_its_place_in_the_cache(void **state)
{
	struct fixture *f = *state;
	fixture_reopen_nodes(f, 256 << 10);
	struct digest d = put_leaf(f->ns, 8, 1000, NULL);
	CLEANUP(node_unref_p) struct node *n = NULL;
	assert_int_equal(node_store_get(f->ns, &d, &n), 0);
	for (uint64_t i = 100; i < 1000; i++)
		put_leaf(f->ns, i, 4000, NULL);
	expect_leaf(n, 8);
	fixture_reopen_nodes(f, 1 << 20);
	expect_leaf(n, 8);
}

static void nodes_in_demand_survive_a_flood_of_new_ones(void **state)
{
	struct fixture *f = *state;
	struct digest hot[20];
	fixture_reopen_nodes(f, 4 << 20);
	for (uint64_t i = 0; i < ARRAY_SIZE(hot); i++)
		hot[i] = put_leaf(f->ns, 5000 + i, 1000, NULL);
	uint64_t loads = stats_of(f).loads;
	for (uint64_t i = 0; i < 3000; i++) {
		put_leaf(f->ns, 10000 + i, 4000, NULL);
		CLEANUP(node_unref_p) struct node *n = NULL;
		assert_int_equal(node_store_get(f->ns, &hot[i % ARRAY_SIZE(hot)], &n), 0);
	}
	assert_int_equal(stats_of(f).loads, loads);
}

static void peek_leaves_the_cache_alone(void **state)
{
	struct fixture *f = *state;
	struct digest d = put_leaf(f->ns, 9, 1000, NULL);
	fixture_reopen_nodes(f, 1 << 20);
	for (int i = 0; i < 2; i++) {
		CLEANUP(node_unref_p) struct node *n = NULL;
		assert_int_equal(node_store_peek(f->ns, &d, &n), 0);
		expect_leaf(n, 9);
	}
	assert_int_equal(stats_of(f).cached_nodes, 0);
	assert_int_equal(stats_of(f).loads, 2);
	CLEANUP(node_unref_p) struct node *n = NULL;
	assert_int_equal(node_store_get(f->ns, &d, &n), 0);
	CLEANUP(node_unref_p) struct node *same = NULL;
	assert_int_equal(node_store_peek(f->ns, &d, &same), 0);
	assert_ptr_equal(n, same);
}

static void putting_and_touching_protect_from_a_collection(void **state)
{
	struct fixture *f = *state;
	struct digest before = put_leaf(f->ns, 20, 100, NULL);
	struct digest touched = put_leaf(f->ns, 21, 100, NULL);
	struct digest again = put_leaf(f->ns, 22, 100, NULL);
	assert_int_equal(guard_collect_begin(f->guard, 1 << 16), 0);
	struct guard_session session;
	guard_session_begin(f->guard, &session);
	node_store_touch(f->ns, &touched);
	put_leaf(f->ns, 22, 100, NULL);
	struct digest fresh = put_leaf(f->ns, 23, 100, NULL);
	guard_session_end(f->guard, &session);
	guard_collect_wait(f->guard);
	assert_false(guard_sweep_lock(f->guard, &touched));
	assert_false(guard_sweep_lock(f->guard, &again));
	assert_false(guard_sweep_lock(f->guard, &fresh));
	assert_true(guard_sweep_lock(f->guard, &before));
	guard_sweep_unlock(f->guard, &before);
	guard_collect_end(f->guard);
}

/* ---- threads ---- */

#define SHARED 400u

struct crowd {
	struct fixture *f;
	struct digest digests[SHARED];
	atomic_bool stop;
};

struct member {
	struct crowd *crowd;
	uint64_t seed;
	unsigned failures;
};

static void *read_at_random(void *arg)
{
	struct member *m = arg;
	uint64_t r = m->seed;
	struct node *held[8] = { NULL };
	for (int i = 0; i < 20000; i++) {
		uint64_t k = rnd_below(&r, SHARED);
		struct node **slot = &held[rnd_below(&r, ARRAY_SIZE(held))];
		node_unref(STEAL(*slot));
		const struct digest *d = &m->crowd->digests[k];
		int got = i % 16 ? node_store_get(m->crowd->f->ns, d, slot)
				 : node_store_peek(m->crowd->f->ns, d, slot);
		m->failures += got != 0 || !digest_equal(&(*slot)->digest, d);
	}
	for (size_t i = 0; i < ARRAY_SIZE(held); i++)
		node_unref(held[i]);
	return NULL;
}

static void *write_meanwhile(void *arg)
{
	struct member *m = arg;
	for (uint64_t i = 0; !atomic_load(&m->crowd->stop); i++) {
		CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
		struct digest d;
		leaf(1000000 + i % 3000, 2000, &b);
		m->failures += node_store_put(m->crowd->f->ns, b.data, b.len, &d, NULL) != 0;
	}
	return NULL;
}

static void threads_share_a_small_cache(void **state)
{
	struct crowd crowd = { .f = *state };
	fixture_reopen_nodes(crowd.f, 256 << 10);
	for (uint64_t i = 0; i < SHARED; i++)
		crowd.digests[i] = put_leaf(crowd.f->ns, 30000 + i, 2000, NULL);
	pthread_t threads[4], writer;
	struct member members[5];
	for (unsigned i = 0; i < 5; i++)
		members[i] = (struct member){ .crowd = &crowd, .seed = i + 1 };
	assert_int_equal(pthread_create(&writer, NULL, write_meanwhile, &members[4]), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_at_random, &members[i]), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&crowd.stop, true);
	pthread_join(writer, NULL);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(members[i].failures, 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	fixture_open(f, 1 << 20);
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
		cmocka_unit_test(what_is_put_can_be_read_and_is_named_by_its_hash),
		cmocka_unit_test(a_frame_of_another_store_is_kept_as_it_is),
		cmocka_unit_test(frames_are_written_some_at_a_time),
		cmocka_unit_test(a_node_is_stored_once),
		cmocka_unit_test(a_node_deleted_behind_the_cache_is_stored_again),
		cmocka_unit_test(a_missing_node_is_enodata),
		cmocka_unit_test(damaged_frames_are_ebadmsg),
		cmocka_unit_test(verify_finds_a_node_under_a_wrong_name),
		cmocka_unit_test(put_refuses_what_is_no_node),
		cmocka_unit_test(cache_stays_within_its_budget),
		cmocka_unit_test(a_cache_of_nothing_still_serves),
		cmocka_unit_test(a_referenced_node_outlives_its_place_in_the_cache),
		cmocka_unit_test(nodes_in_demand_survive_a_flood_of_new_ones),
		cmocka_unit_test(peek_leaves_the_cache_alone),
		cmocka_unit_test(putting_and_touching_protect_from_a_collection),
		cmocka_unit_test(threads_share_a_small_cache),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
