/* hooks: two hosts that know nothing of each other push the same files once. */
#include "tests/unit/share_fixture.h"

#include "store/base/wire.h"
#include "store/layout/share_key.h"
#include "store/layout/share_round.h"
#include "store/layout/vpk.h"
#include "store/share/collect.h"
#include "store/share/hooks.h"
#include "store/share/share_verify.h"

#define FROM 100000u /* bytes of files: 5 of make_files */

static struct push_result push_hooked(struct host *h, const char *name)
{
	const struct push_options opt = { .name = name, .hooks_from = FROM };
	struct push_result res = { 0 };
	struct error err = ERROR_INIT;

	if (push_snapshot(h->s, h->r, name, &opt, NULL, &res, &err) != 0)
		fail_msg("%s", error_text(&err));
	return res;
}

static void collect(struct hosts *h, int64_t grace_s)
{
	struct collect_options opt = COLLECT_DEFAULTS;
	struct collect_result res;
	struct error err = ERROR_INIT;

	opt.grace_s = grace_s;
	if (collect_run(h->b.r, &opt, NULL, &res, &err) < 0)
		fail_msg("%s", error_text(&err));
}

static void tell_problem(void *arg, const char *key, const char *problem)
{
	(void)arg;
	fail_msg("%s: %s", key, problem);
}

static void assert_bucket_is_whole(struct hosts *h)
{
	struct share_verify_result res;

	assert_int_equal(share_verify_run(h->a.r, true, NULL, tell_problem, NULL, &res, NULL), 0);
	assert_int_equal(res.damaged, 0);
}

static void delete (struct hosts *h, const char *name)
{
	bool deleted;

	assert_int_equal(remote_remove(h->a.r, name, &deleted, NULL), 0);
	assert_true(deleted);
}

/* Both hosts import `n` files; the first `changed` of host B are others. */
static void both_take(struct hosts *h, unsigned n, unsigned changed)
{
	make_files(h, "d", n, 1);
	take(h, &h->a, "d", "of-a", NULL);
	make_files(h, "d", changed, 2);
	take(h, &h->b, "d", "of-b", NULL);
}

/* ---- what is found ---- */

static void the_same_files_are_sent_once(void **state)
{
	struct hosts *h = *state;
	struct push_result a, b;

	both_take(h, 200, 0);
	a = push_hooked(&h->a, "of-a");
	assert_in_range(count_objects(h, "hook/"), HOOKS_LEAST, HOOKS_LEAST + 2);
	b = push_hooked(&h->b, "of-b");
	assert_true(a.chunks >= 200);
	assert_int_equal(b.chunks, 0);
	assert_true(b.bytes < a.bytes / 50);
	assert_int_equal(count_objects(h, "hook/") % 2, 0); /* those of both are alike */
	assert_bucket_is_whole(h);
	pull(&h->a, "of-b", "got");
	assert_same_tree(&h->b, "of-b", &h->a, "got");
	/* The second stays whole when the first is gone. */
	delete (h, "of-a");
	collect(h, 0);
	assert_bucket_is_whole(h);
}

static void of_similar_files_what_is_new_is_sent(void **state)
{
	struct hosts *h = *state;
	struct push_result a, b;

	both_take(h, 200, 20);
	a = push_hooked(&h->a, "of-a");
	b = push_hooked(&h->b, "of-b");
	assert_in_range(b.chunks, 20, 40);
	assert_true(b.bytes < a.bytes / 5);
	assert_bucket_is_whole(h);
	pull(&h->a, "of-b", "got");
	assert_same_tree(&h->b, "of-b", &h->a, "got");
}

/* What no single snapshot has is found in two. */
static void the_rest_is_looked_for_in_another_one(void **state)
{
	struct hosts *h = *state;

	make_files(h, "one", 100, 1);
	take(h, &h->a, "one", "one", NULL);
	push_hooked(&h->a, "one");
	make_files(h, "two", 100, 2);
	take(h, &h->a, "two", "two", "one");
	push_hooked(&h->a, "two");
	make_files(h, "both/", 0, 0);
	make_files(h, "both/1", 100, 1);
	make_files(h, "both/2", 100, 2);
	take(h, &h->b, "both", "both", NULL);
	assert_int_equal(push_hooked(&h->b, "both").chunks, 0);
	assert_bucket_is_whole(h);
}

/* Neither asks for hooks nor writes any. */
static void a_small_push_does_without(void **state)
{
	struct hosts *h = *state;
	struct object_counts before, after;

	both_take(h, 3, 0);
	push_hooked(&h->a, "of-a");
	assert_int_equal(count_objects(h, "hook/"), 0);
	object_store_counts(remote_objects(h->b.r), &before);
	assert_true(push_hooked(&h->b, "of-b").chunks >= 3);
	object_store_counts(remote_objects(h->b.r), &after);
	assert_in_range(after.requests[OBJECT_LIST] - before.requests[OBJECT_LIST], 2, 5);
	assert_int_equal(count_objects(h, "hook/"), 0);
}

/* ---- what is not relied on ---- */

static struct share_id id_of(struct hosts *h, const char *name)
{
	struct share_record rec;

	assert_int_equal(remote_resolve(h->a.r, name, &rec, NULL), 0);
	share_record_fini(&rec);
	return rec.id;
}

static void what_was_deleted_counts_for_nothing(void **state)
{
	struct hosts *h = *state;

	both_take(h, 60, 0);
	push_hooked(&h->a, "of-a");
	delete (h, "of-a");
	assert_in_range(count_objects(h, "hook/"), HOOKS_LEAST, HOOKS_LEAST + 2);
	assert_true(push_hooked(&h->b, "of-b").chunks >= 60);
	collect(h, 0);
	assert_bucket_is_whole(h);
}

/* A round that has not ended may delete all of its packs. */
static void what_is_condemned_counts_for_nothing(void **state)
{
	struct hosts *h = *state;
	struct share_round round = { .epoch = 1 };
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	struct share_record rec;

	both_take(h, 60, 0);
	push_hooked(&h->a, "of-a");
	assert_int_equal(remote_resolve(h->a.r, "of-a", &rec, NULL), 0);
	assert_int_equal(share_packs_add_all(&round.condemned, &rec.packs), 0);
	assert_int_equal(share_id_random(&round.nonce), 0);
	assert_int_equal(share_id_random(&round.node), 0);
	assert_int_equal(share_round_encode(&round, &text, NULL), 0);
	assert_int_equal(object_put(remote_objects(h->a.r), OBJECT_CONTROL, "gc/fffffffffffffffe",
				    text.data, text.len, NULL),
			 0);
	assert_true(push_hooked(&h->b, "of-b").chunks >= 60);
	share_round_fini(&round);
	share_record_fini(&rec);
}

/* A hook of that push beside each that is there. */
struct planting {
	struct hosts *h;
	struct share_id id;
	char keys[20][SHARE_KEY_SIZE];
	unsigned n;
};

static int note_hook(void *arg, const struct object_entry *e)
{
	struct planting *p = arg;
	struct share_key k;

	assert_int_equal(share_key_parse(e->key, &k), 0);
	assert_int_equal(k.kind, SHARE_KEY_HOOK);
	if (p->n && strncmp(p->keys[p->n - 1], e->key, strlen("hook/") + 2 * SHARE_HOOK_BYTES) == 0)
		return 0;
	k.id = p->id;
	assert_int_equal(share_key_text(&k, p->keys[p->n++]), 0);
	return 0;
}

static unsigned plant(struct hosts *h, const struct share_id *id)
{
	struct planting p = { .h = h, .id = *id };

	assert_int_equal(object_each(h->bucket.os, OBJECT_CONTROL, "hook/", note_hook, &p, NULL),
			 0);
	for (unsigned i = 0; i < p.n; i++)
		assert_int_equal(
			object_put(remote_objects(h->a.r), OBJECT_CONTROL, p.keys[i], "", 0, NULL),
			0);
	return p.n;
}

/* Hooks that lead to nothing, to no record and to another snapshot; then the one that is right. */
static void hooks_that_lie_do_no_harm(void **state)
{
	static const char *const bad[] = { NULL, "no record", "{\"varve\":7}" };
	struct hosts *h = *state;

	both_take(h, 60, 0);
	make_files(h, "other", 60, 9);
	take(h, &h->a, "other", "other", NULL);
	push(&h->a, "other", "other");
	push_hooked(&h->a, "of-a");
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		const struct share_id id = { .b = { (uint8_t)(i + 1) } };
		char key[SHARE_KEY_SIZE];

		plant(h, &id);
		share_key_of_id(SHARE_KEY_SNAP, &id, key);
		if (bad[i])
			assert_int_equal(object_put(remote_objects(h->a.r), OBJECT_CONTROL, key,
						    bad[i], strlen(bad[i]), NULL),
					 0);
	}
	const struct share_id other = id_of(h, "other");
	plant(h, &other);
	assert_int_equal(push_hooked(&h->b, "of-b").chunks, 0);
	pull(&h->a, "of-b", "got");
	assert_same_tree(&h->b, "of-b", &h->a, "got");
}

/* A container as somebody wrote who said the place of one chunk of another; in place. */
static void swap_places(uint8_t *bytes, size_t len)
{
	uint8_t *tail = bytes + len - VPK_TAIL_SIZE, *nodes = bytes + wire_get32(tail);
	uint8_t *first = bytes + wire_get32(tail + 4), *second, held[12];
	CLEANUP(hasher_free_p) struct hasher *h = hasher_new();
	struct digest sum;

	first += 4 + wire_get32(first) * 20u + 8; /* its table, and the digest's beginning */
	second = first + 20;
	memcpy(held, first, sizeof(held));
	memcpy(first, second, sizeof(held));
	memcpy(second, held, sizeof(held));
	assert_int_equal(hasher_update(h, bytes, VPK_HEADER_SIZE), 0);
	assert_int_equal(hasher_update(h, nodes, (size_t)(tail + 12 - nodes)), 0);
	assert_int_equal(hasher_final(h, &sum), 0);
	memcpy(tail + 12, sum.b, sizeof(sum.b));
}

static void mislead(struct hosts *h, const char *name)
{
	struct buf CLEANUP(buf_fini_p) pack = BUF_INIT;
	char key[SHARE_KEY_SIZE];
	struct share_record rec;

	assert_int_equal(remote_resolve(h->a.r, name, &rec, NULL), 0);
	share_key_pack(&rec.meta[0], key);
	assert_int_equal(object_get(h->bucket.os, OBJECT_CONTROL, key, 0, &pack, NULL, NULL), 0);
	swap_places(pack.data, pack.len);
	assert_int_equal(object_put(h->bucket.os, OBJECT_CONTROL, key, pack.data, pack.len, NULL),
			 0);
	share_record_fini(&rec);
}

static void ignore_problem(void *arg, const char *key, const char *problem)
{
	(void)arg, (void)key, (void)problem;
}

static uint64_t damaged(struct hosts *h)
{
	struct share_verify_result res;

	assert_int_equal(share_verify_run(h->a.r, true, NULL, ignore_problem, NULL, &res, NULL), 0);
	return res.damaged;
}

/* The snapshot that hooks lead to says wrong places: of that, only what is right is relied on. */
static void a_snapshot_that_lies_is_not_relied_on(void **state)
{
	const struct push_options opt = { .name = "of-a", .repair = true, .hooks_from = FROM };
	struct hosts *h = *state;
	struct push_result res;

	both_take(h, 60, 0);
	push_hooked(&h->a, "of-a");
	assert_int_equal(damaged(h), 0);
	mislead(h, "of-a");
	assert_int_equal(damaged(h), 2);
	assert_int_equal(push_hooked(&h->b, "of-b").chunks, 2);
	assert_int_equal(damaged(h), 2);
	pull(&h->a, "of-b", "got");
	assert_same_tree(&h->b, "of-b", &h->a, "got");
	/* Who has it mends the other, too. */
	assert_int_equal(push_snapshot(h->a.s, h->a.r, "of-a", &opt, NULL, &res, NULL), 0);
	assert_int_equal(res.damaged, 2);
	assert_int_equal(res.chunks, 2);
	assert_int_equal(damaged(h), 0);
	pull(&h->b, "of-a", "mended");
	assert_same_tree(&h->a, "of-a", &h->b, "mended");
}

/* ---- what becomes of them ---- */

static void hooks_go_with_their_snapshot(void **state)
{
	struct hosts *h = *state;
	unsigned n;

	both_take(h, 60, 0);
	push_hooked(&h->a, "of-a");
	n = count_objects(h, "hook/");
	push_hooked(&h->b, "of-b");
	assert_int_equal(count_objects(h, "hook/"), 2 * n);
	collect(h, 0);
	assert_int_equal(count_objects(h, "hook/"), 2 * n);
	delete (h, "of-a");
	collect(h, 3600); /* it is kept for those who read it now */
	assert_int_equal(count_objects(h, "hook/"), 2 * n);
	collect(h, 0);
	assert_int_equal(count_objects(h, "hook/"), n);
	delete (h, "of-b");
	collect(h, 0);
	assert_int_equal(count_objects(h, "hook/"), 0);
}

/* Of a push that is under way they stay; of one that has ended or was given up they go. */
static void hooks_of_dead_pushes_go(void **state)
{
	static const char aborted[] = "{\"epoch\":0,\"id\":\"03000000000000000000000000000000\","
				      "\"nonce\":\"11111111111111111111111111111111\","
				      "\"state\":\"aborted\",\"varve\":1}";
	const struct share_id alive = { .b = { 1 } }, ended = { .b = { 2 } },
			      given_up = { .b = { 3 } };
	struct hosts *h = *state;
	char key[SHARE_KEY_SIZE];
	unsigned n;

	both_take(h, 60, 0);
	push_hooked(&h->a, "of-a");
	n = plant(h, &alive);
	assert_int_equal(object_put(remote_objects(h->a.r), OBJECT_CONTROL,
				    "push/01000000000000000000000000000000", "{}", 2, NULL),
			 0);
	collect(h, 0); /* no round begins: nothing is garbage, and the intent is not read */
	assert_int_equal(count_objects(h, "hook/"), 2 * n);
	assert_int_equal(object_delete(h->bucket.os, OBJECT_CONTROL,
				       "push/01000000000000000000000000000000", NULL),
			 0);
	collect(h, 0);
	assert_int_equal(count_objects(h, "hook/"), n);
	plant(h, &ended);
	share_key_of_id(SHARE_KEY_SNAP, &given_up, key);
	assert_int_equal(object_put(remote_objects(h->a.r), OBJECT_CONTROL, key, aborted,
				    strlen(aborted), NULL),
			 0);
	plant(h, &given_up);
	assert_int_equal(count_objects(h, "hook/"), 3 * n);
	collect(h, 0);
	assert_int_equal(count_objects(h, "hook/"), n);
}

/* ---- names ---- */

static struct digest hook_at(const struct host *h, const struct digest *d)
{
	struct digest out;

	assert_int_equal(remote_hook(h->r, d, &out), 0);
	return out;
}

/* The digest of a file that somebody else has, too, is not seen in the bucket. */
static void an_encrypted_bucket_shows_no_digests(void **state)
{
	struct hosts *h = *state;
	const struct digest d = { .b = { 0xab, [31] = 1 } }, e = { .b = { 0xab, [31] = 2 } };
	const struct digest of_a = hook_at(&h->a, &d), of_b = hook_at(&h->b, &d),
			    other = hook_at(&h->a, &e);

	assert_true(digest_equal(&of_a, &of_b));
	assert_false(digest_equal(&of_a, &other)); /* all of the digest counts */
	assert_memory_not_equal(of_a.b, d.b, 8);
}

static void a_plain_one_shows_their_beginnings(void **state)
{
	struct hosts *h = *state;
	const struct digest d = { .b = { 0xab, [SHARE_HOOK_BYTES] = 7, [31] = 1 } };
	const struct digest expected = { .b = { 0xab } }, got = hook_at(&h->a, &d);

	assert_true(digest_equal(&got, &expected));
}

/* ---- samples ---- */

static struct digest number(uint32_t n)
{
	struct digest d;

	assert_int_equal(hash_bytes(&n, sizeof(n), &d), 0);
	return d;
}

static void samples_are_bounded_and_alike(void **state)
{
	struct hook_sample few = { .n = 0 }, many = { .n = 0 }, again = { .n = 0 };

	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		const struct digest d = number(i);

		hook_sample_add(&few, &d, 10);
		hook_sample_add(&few, &d, 10);
	}
	assert_int_equal(few.n, 5);
	assert_int_equal(hook_sample_count(&few), 5);
	assert_int_equal(few.bytes, 100);
	for (uint32_t i = 0; i < 3000; i++) {
		const struct digest d = number(i), e = number(2999 - i);

		hook_sample_add(&many, &d, 1);
		hook_sample_add(&again, &e, 1);
	}
	assert_int_equal(hook_sample_count(&many), HOOKS_LEAST);
	assert_true(share_digest_hooks(&many.v[0]));
	assert_false(share_digest_hooks(&many.v[HOOKS_LEAST - 1]));
	assert_memory_equal(many.v, again.v, sizeof(many.v));
	for (uint32_t i = 3000; i < 200000; i++) {
		const struct digest d = number(i);

		hook_sample_add(&many, &d, 1);
	}
	assert_int_equal(many.n, HOOKS_MAX);
	assert_int_equal(hook_sample_count(&many), HOOKS_MAX);
	for (unsigned i = 0; i < HOOKS_MAX; i++)
		assert_true(share_digest_hooks(&many.v[i]));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, hosts_setup, hosts_teardown)
#define BOTH(fn) TEST(fn), ENCRYPTED(fn, hosts_setup, hosts_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(the_same_files_are_sent_once),
		BOTH(of_similar_files_what_is_new_is_sent),
		TEST(the_rest_is_looked_for_in_another_one),
		TEST(a_small_push_does_without),
		TEST(what_was_deleted_counts_for_nothing),
		TEST(what_is_condemned_counts_for_nothing),
		BOTH(hooks_that_lie_do_no_harm),
		TEST(a_snapshot_that_lies_is_not_relied_on),
		BOTH(hooks_go_with_their_snapshot),
		BOTH(hooks_of_dead_pushes_go),
		ENCRYPTED(an_encrypted_bucket_shows_no_digests, hosts_setup, hosts_teardown),
		TEST(a_plain_one_shows_their_beginnings),
		cmocka_unit_test(samples_are_bounded_and_alike),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
