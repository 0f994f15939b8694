/* What a collection of a bucket deletes and keeps, and when it had better do nothing; its checks.
 */
#include "tests/unit/share_fixture.h"

#include <time.h>

#include "store/layout/share_pins.h"
#include "store/share/collect.h"
#include "store/share/share_verify.h"

static struct collect_result collect(struct hosts *h, int64_t grace_s)
{
	struct collect_options opt = COLLECT_DEFAULTS;
	struct collect_result res;
	struct error err = ERROR_INIT;

	opt.grace_s = grace_s;
	if (collect_run(h->b.r, &opt, NULL, &res, &err) < 0)
		fail_msg("%s", error_text(&err));
	return res;
}

static void tell_problem(void *arg, const char *key, const char *problem)
{
	snprintf(arg, 400, "%s: %s", key, problem);
}

/* How much is damaged; what was found last goes to `last`. */
static uint64_t verify(struct hosts *h, bool deep, char last[400])
{
	struct share_verify_result res;
	struct error err = ERROR_INIT;

	if (share_verify_run(h->b.r, deep, NULL, tell_problem, last, &res, &err) < 0)
		fail_msg("%s", error_text(&err));
	return res.damaged;
}

static void assert_bucket_is_whole(struct hosts *h)
{
	char last[400] = "";

	if (verify(h, true, last))
		fail_msg("%s", last);
}

static void delete (struct hosts *h, const char *name)
{
	bool deleted;

	assert_int_equal(remote_remove(h->a.r, name, &deleted, NULL), 0);
	assert_true(deleted);
}

/* "one" of many files, "two" shares most of them. */
static void push_two(struct hosts *h)
{
	make_files(h, "d", 60, 1);
	take(h, &h->a, "d", "one", NULL);
	push(&h->a, "one", "one");
	make_files(h, "d", 3, 2);
	take(h, &h->a, "d", "two", "one");
	push(&h->a, "two", "two");
}

static void what_nobody_names_is_deleted(void **state)
{
	struct hosts *h = *state;
	struct collect_result c;

	push_two(h);
	c = collect(h, 0);
	assert_int_equal(c.round, 0);
	assert_int_equal(c.snapshots, 2);
	assert_int_equal(c.packs, 2);
	delete (h, "one"); /* "two" needs its packs */
	c = collect(h, 0);
	assert_int_equal(c.deleted_packs, 0);
	assert_bucket_is_whole(h);
	pull(&h->b, "two", "two");
	assert_same_tree(&h->a, "two", &h->b, "two");
	delete (h, "two");
	c = collect(h, 0);
	assert_int_equal(c.deleted_packs, 2);
	assert_int_equal(c.garbage_packs, 2);
	assert_int_equal(c.deleted_bytes, c.bytes);
	assert_int_equal(count_objects(h, "pack/"), 0);
	/* It goes on from there. */
	assert_false(push(&h->a, "two", "two").existed);
	assert_bucket_is_whole(h);
}

static void a_dry_run_changes_nothing(void **state)
{
	struct collect_options opt = { .dry_run = true };
	struct collect_result c;
	struct hosts *h = *state;

	push_two(h);
	delete (h, "two");
	assert_int_equal(collect_run(h->b.r, &opt, NULL, &c, NULL), 0);
	assert_int_equal(c.garbage_packs, 1);
	assert_int_equal(c.deleted_packs, 0);
	assert_int_equal(count_objects(h, "pack/"), 2);
	assert_int_equal(count_objects(h, "gc/"), 0);
}

static void what_was_deleted_just_now_is_kept_for_its_readers(void **state)
{
	struct hosts *h = *state;

	push_two(h);
	delete (h, "two");
	assert_int_equal(collect(h, 3600).deleted_packs, 0);
	assert_int_equal(collect(h, 0).deleted_packs, 1);
}

static void what_is_pinned_is_kept(void **state)
{
	struct hosts *h = *state;
	struct buf CLEANUP(buf_fini_p) text = BUF_INIT;
	struct share_record rec;
	struct share_pins pins = { .counter = 1, .n = 1 };
	char key[SHARE_KEY_SIZE], path[700];
	struct timespec old[2] = { { .tv_sec = time(NULL) - 7200 },
				   { .tv_sec = time(NULL) - 7200 } };

	push_two(h);
	assert_int_equal(remote_resolve(h->a.r, "two", &rec, NULL), 0);
	pins.v = &rec.id;
	assert_int_equal(share_id_random(&pins.id), 0);
	assert_int_equal(share_pins_encode(&pins, &text, NULL), 0);
	share_key_of_id(SHARE_KEY_NODE, &pins.id, key);
	assert_int_equal(object_put(h->bucket.os, OBJECT_CONTROL, key, text.data, text.len, NULL),
			 0);
	share_record_fini(&rec);
	delete (h, "two");
	assert_int_equal(collect(h, 0).deleted_packs, 0);
	/* Until the instance has not been heard of for long. */
	snprintf(path, sizeof(path), "%s/%s", h->bucket.path, key);
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	assert_int_equal(collect(h, 0).deleted_packs, 1);
}

/* A push that was killed leaves its packs, and an intent that nobody decides. */
static void what_a_dead_push_left_is_garbage(void **state)
{
	struct hosts *h = *state;
	struct collect_options opt = { .grace_s = 0, .give_up_s = 0, .free_s = COLLECT_FREE_S };
	static const char id[] = "0123456789abcdef0123456789abcdef";
	struct collect_result c;
	struct error err = ERROR_INIT;
	char text[300];

	push_two(h);
	bucket_put(h->bucket.os, "pack/01/0123456789abcdef0123456789abcdef-0", "half");
	snprintf(text, sizeof(text),
		 "{\"epoch\":0,\"id\":\"%s\",\"node\":\"%s\",\"nonce\":\"%s\",\"startedAtMs\":1,"
		 "\"varve\":1}",
		 id, id, id);
	bucket_put(h->bucket.os, "push/0123456789abcdef0123456789abcdef", text);
	if (collect_run(h->b.r, &opt, NULL, &c, &err) < 0)
		fail_msg("%s", error_text(&err));
	assert_int_equal(c.given_up, 1);
	assert_int_equal(c.deleted_packs, 1);
	assert_int_equal(count_objects(h, "push/"), 0);
	assert_int_equal(count_objects(h, "pack/"), 2);
	assert_bucket_is_whole(h);
}

/* ---- I10 ---- */

static const struct bad_object {
	const char *key, *text;
	int result;
} bad_objects[] = {
	{ "snap/0123456789abcdef0123456789abcdef", "", -EBADMSG },
	{ "snap/0123456789abcdef0123456789abcdef", "{\"varve\":1,\"state\":\"ready\"}", -EBADMSG },
	{ "snap/0123456789abcdef0123456789abcdef", "{\"varve\":2,\"state\":\"ready\"}", -ENOTSUP },
	{ "snap/0123456789abcdef0123456789abcdef",
	  "{\"epoch\":0,\"id\":\"11111111111111111111111111111111\",\"nonce\":"
	  "\"11111111111111111111111111111111\",\"state\":\"aborted\",\"varve\":1}",
	  -EBADMSG },
	{ "snap/of-a-newer-kind", "x", -EBADMSG },
	{ "push/0123456789abcdef0123456789abcdef", "{}", -EBADMSG },
	{ "push/0123456789abcdef0123456789abcdef", "{\"varve\":2}", -ENOTSUP },
	{ "push/of-a-newer-kind", "x", -EBADMSG },
	{ "node/0123456789abcdef0123456789abcdef", "[]", -EBADMSG },
	{ "node/0123456789abcdef0123456789abcdef", "{\"varve\":3}", -ENOTSUP },
	{ "node/of-a-newer-kind", "x", -EBADMSG },
	{ "gc/fffffffffffffffe", "damaged", -EBADMSG },
	{ "gc/fffffffffffffffe", "{\"varve\":2}", -ENOTSUP },
	{ "moved/0123456789abcdef0123456789abcdef-0", "{}", -EBADMSG },
	{ "moved/of-a-newer-kind", "x", -EBADMSG },
	{ "moved/0123456789abcdef0123456789abcdef-0",
	  "VMV2............................................................................",
	  -ENOTSUP },
};

static void what_is_not_understood_ends_a_round_before_it_deletes(void **state)
{
	const struct collect_options opt = { .free_s = COLLECT_FREE_S };
	struct hosts *h = *state;
	struct collect_result c;

	push_two(h);
	delete (h, "two");
	for (size_t i = 0; i < ARRAY_SIZE(bad_objects); i++) {
		const struct bad_object *bad = &bad_objects[i];
		struct error err = ERROR_INIT;
		int rc;

		bucket_put(h->bucket.os, bad->key, bad->text);
		rc = collect_run(h->b.r, &opt, NULL, &c, &err);
		if (rc != bad->result || !err.msg[0])
			fail_msg("%s %s: %d, %s", bad->key, bad->text, rc, error_text(&err));
		assert_int_equal(count_objects(h, "pack/"), 2);
		assert_int_equal(object_delete(h->bucket.os, OBJECT_CONTROL, bad->key, NULL), 0);
	}
	assert_int_equal(collect(h, 0).deleted_packs, 1);
	assert_bucket_is_whole(h);
}

/* ---- verification ---- */

static void assert_problem(struct hosts *h, bool deep, const char *part)
{
	char last[400] = "";

	assert_true(verify(h, deep, last) > 0);
	if (!strstr(last, part))
		fail_msg("\"%s\" is not in \"%s\"", part, last);
}

/* The key of a pack of `name` alone. */
static void newest_pack(struct hosts *h, const char *name, char path[700])
{
	struct share_record rec;
	char key[SHARE_KEY_SIZE];

	assert_int_equal(remote_resolve(h->a.r, name, &rec, NULL), 0);
	share_key_pack(&rec.meta[0], key);
	snprintf(path, 700, "%s/%s", h->bucket.path, key);
	share_record_fini(&rec);
}

static void verification_finds_what_is_wrong(void **state)
{
	struct hosts *h = *state;
	char path[700], aside[310], last[400];
	FILE *f;

	push_two(h);
	assert_int_equal(verify(h, false, last), 0);
	newest_pack(h, "two", path);
	snprintf(aside, sizeof(aside), "%s/aside", h->bucket.dir);
	assert_int_equal(rename(path, aside), 0);
	assert_problem(h, false, "is missing");
	assert_int_equal(rename(aside, path), 0);
	assert_bucket_is_whole(h);
	/* A bit of a chunk: only who reads all bytes sees it. */
	f = fopen(path, "r+");
	assert_non_null(f);
	assert_int_equal(fseek(f, 200, SEEK_SET), 0);
	int byte = fgetc(f);
	assert_int_equal(fseek(f, 200, SEEK_SET), 0);
	fputc(byte ^ 1, f);
	fclose(f);
	assert_int_equal(verify(h, false, last), 0);
	assert_problem(h, true, "pack/");
	bucket_put(h->bucket.os, "snap/0123456789abcdef0123456789abcdef", "no record");
	assert_problem(h, false, "snap/0123456789abcdef0123456789abcdef");
	/* What was deleted is no damage. */
	assert_int_equal(object_delete(h->bucket.os, OBJECT_CONTROL,
				       "snap/0123456789abcdef0123456789abcdef", NULL),
			 0);
	delete (h, "two");
	assert_int_equal(verify(h, true, last), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, hosts_setup, hosts_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_nobody_names_is_deleted),
		TEST(a_dry_run_changes_nothing),
		TEST(what_was_deleted_just_now_is_kept_for_its_readers),
		TEST(what_is_pinned_is_kept),
		TEST(what_a_dead_push_left_is_garbage),
		TEST(what_is_not_understood_ends_a_round_before_it_deletes),
		TEST(verification_finds_what_is_wrong),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
