/*
 * A directory as a bucket: each operation, its awkward cases, and many at once.
 * wrap: time
 */
#include "tests/unit/bucket_fixture.h"

#include <pthread.h>
#include <utime.h>

/* How far this host's clock is ahead. */
static time_t host_ahead;

time_t __real_time(time_t *out);
time_t __wrap_time(time_t *out);
time_t __wrap_time(time_t *out)
{
	time_t now = __real_time(NULL) + host_ahead;

	if (out)
		*out = now;
	return now;
}

static int request(struct object_store *os, struct object_request *r)
{
	object_run(os, r, 1);
	return r->result;
}

static void keys_are_checked(void **state)
{
	static const char *const good[] = { "a", "pack/0f/0123-7", "a.b_c-d/e", "x/y/z" };
	static const char *const bad[] = { "",	   "/a", "a/",	"a//b", ".a",	    "a/.b", "..",
					   "a/..", "A",	 "a b", "a\n",	"\xc3\xa4", "a+b" };
	struct bucket *b = *state;
	char longest[OBJECT_KEY_MAX + 2];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(object_key_check(good[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(object_key_check(bad[i]), -EINVAL);
		assert_int_equal(bucket_put_once(b->os, bad[i], "x"), -EINVAL);
	}
	memset(longest, 'a', sizeof(longest));
	longest[OBJECT_KEY_MAX + 1] = '\0';
	assert_int_equal(object_key_check(longest), -EINVAL);
	longest[OBJECT_KEY_MAX] = '\0';
	assert_int_equal(object_key_check(longest), 0);
}

static void what_was_put_is_read(void **state)
{
	struct bucket *b = *state;

	assert_object(b->os, "a/b", NULL);
	bucket_put(b->os, "a/b", "one");
	assert_object(b->os, "a/b", "one");
	bucket_put(b->os, "a/b", "");
	assert_object(b->os, "a/b", "");
	bucket_put(b->os, "a/b", "three");
	assert_object(b->os, "a/b", "three");
	assert_object(b->os, "a", NULL);
	assert_object(b->os, "a/b/c", NULL);
	assert_int_equal(bucket_put_once(b->os, "a", "x"), -EINVAL);
	assert_int_equal(bucket_put_once(b->os, "a/b/c", "x"), -EINVAL);
	assert_object(b->os, "a/b", "three");
}

static void once_is_once(void **state)
{
	struct bucket *b = *state;

	assert_int_equal(bucket_put_once(b->os, "k", "first"), 0);
	assert_int_equal(bucket_put_once(b->os, "k", "second"), -EEXIST);
	assert_object(b->os, "k", "first");
	assert_int_equal(object_delete(b->os, OBJECT_CONTROL, "k", NULL), 0);
	assert_int_equal(bucket_put_once(b->os, "k", "third"), 0);
	assert_object(b->os, "k", "third");
}

static void ranges_are_exact(void **state)
{
	static const struct {
		uint64_t offset;
		size_t len;
		bool from_end;
		int rc;
		const char *text;
	} cases[] = {
		{ 0, 0, false, 0, "0123456789" }, { 0, 1, false, 0, "0" },
		{ 3, 4, false, 0, "3456" },	  { 8, 10, false, 0, "89" },
		{ 10, 1, false, 0, "" },	  { 11, 1, false, -EINVAL, "" },
		{ 0, 3, true, 0, "789" },	  { 0, 30, true, 0, "0123456789" },
	};
	struct bucket *b = *state;

	bucket_put(b->os, "k", "0123456789");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct object_request r = { .op = OBJECT_GET,
					    .key = "k",
					    .offset = cases[i].offset,
					    .len = cases[i].len,
					    .from_end = cases[i].from_end };

		assert_int_equal(request(b->os, &r), cases[i].rc);
		assert_int_equal(r.data.len, strlen(cases[i].text));
		assert_memory_equal(r.data.len ? r.data.data : (uint8_t *)"", cases[i].text,
				    r.data.len);
		assert_int_equal(r.size, 10);
		assert_true(r.date > 0);
		object_request_fini(&r);
	}
}

static void failures_name_their_key(void **state)
{
	struct bucket *b = *state;
	struct object_request r = { .op = OBJECT_GET, .key = "nothing" };

	assert_int_equal(request(b->os, &r), -ENOENT);
	assert_non_null(strstr(r.err.msg, "nothing: "));
	bucket_put(b->os, "k", "first");
	r = (struct object_request){ .op = OBJECT_PUT_ONCE, .key = "k", .body = "x", .len = 1 };
	assert_int_equal(request(b->os, &r), -EEXIST);
	assert_non_null(strstr(r.err.msg, "k: "));
}

static void what_is_too_large_is_refused(void **state)
{
	struct bucket *b = *state;
	struct object_request r = { .op = OBJECT_GET, .key = "k", .max_len = 9 };

	bucket_put(b->os, "k", "0123456789");
	assert_int_equal(request(b->os, &r), -EFBIG);
	object_request_fini(&r);
	r = (struct object_request){
		.op = OBJECT_PUT, .key = "k", .body = "", .len = OBJECT_SIZE_MAX + 1
	};
	assert_int_equal(request(b->os, &r), -EFBIG);
	assert_object(b->os, "k", "0123456789");
}

/* All keys of one page, each followed by a space. */
static void assert_list(struct object_store *os, struct object_request r, const char *want,
			bool more)
{
	char got[1000] = "";

	r.op = OBJECT_LIST;
	assert_int_equal(request(os, &r), 0);
	for (size_t i = 0; i < r.n_entries; i++) {
		strcat(got, r.entries[i].key);
		strcat(got, " ");
		assert_int_equal(r.entries[i].is_prefix,
				 r.entries[i].key[strlen(r.entries[i].key) - 1] == '/');
		assert_true(r.entries[i].is_prefix || r.entries[i].size == 3);
	}
	assert_string_equal(got, want);
	assert_int_equal(r.more, more);
	object_request_fini(&r);
}

/* The order is that of the keys' bytes, in which '/' is between '.' and the digits. */
static void lists_are_in_the_order_of_keys(void **state)
{
	static const char *const keys[] = { "a/x", "a-b", "a.c/y", "a0", "b/c/d", "b/c/e", "b/f" };
	struct bucket *b = *state;
	struct object_request r = { .key = "" };

	assert_list(b->os, r, "", false);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		bucket_put(b->os, keys[i], "123");
	assert_list(b->os, r, "a-b a.c/y a/x a0 b/c/d b/c/e b/f ", false);
	r.max_keys = 3;
	assert_list(b->os, r, "a-b a.c/y a/x ", true);
	r.after = "a/x";
	assert_list(b->os, r, "a0 b/c/d b/c/e ", true);
	r.after = "b/c/e";
	assert_list(b->os, r, "b/f ", false);
	r.after = "b/f";
	assert_list(b->os, r, "", false);
	r = (struct object_request){ .key = "b/c" };
	assert_list(b->os, r, "b/c/d b/c/e ", false);
	r = (struct object_request){ .key = "b/", .delimited = true };
	assert_list(b->os, r, "b/c/ b/f ", false);
	r.max_keys = 1;
	assert_list(b->os, r, "b/c/ ", true);
	r.after = "b/c/";
	assert_list(b->os, r, "b/f ", false);
	r = (struct object_request){ .key = "", .delimited = true };
	assert_list(b->os, r, "a-b a.c/ a/ a0 b/ ", false);
	r = (struct object_request){ .key = "zz" };
	assert_list(b->os, r, "", false);
}

static int count_entry(void *arg, const struct object_entry *e)
{
	(void)e;
	return ++*(int *)arg == 2500 ? 7 : 0;
}

static void each_goes_over_pages(void **state)
{
	struct bucket *b = *state;
	char key[32];
	int n = 0;

	for (int i = 0; i < 2100; i++) {
		snprintf(key, sizeof(key), "k/%d/%d", i % 7, i);
		/* Not put by the backend, which syncs each. */
		assert_true(i % 7 == i ? bucket_put_once(b->os, key, "123") == 0 : true);
		if (i >= 7) {
			char path[160];
			snprintf(path, sizeof(path), "%s/%s", b->path, key);
			FILE *f = fopen(path, "w");
			assert_non_null(f);
			fclose(f);
		}
	}
	assert_int_equal(object_each(b->os, OBJECT_CONTROL, "k/", count_entry, &n, NULL), 0);
	assert_int_equal(n, 2100);
	n = 400;
	assert_int_equal(object_each(b->os, OBJECT_CONTROL, "k/", count_entry, &n, NULL), 7);
}

static void deleting_leaves_no_directories(void **state)
{
	static const char *const names[] = { "a/b/c", "a/b/none", "none/none", "a/x" };
	struct bucket *b = *state;
	struct object_request r = {
		.op = OBJECT_DELETE, .key = "", .names = names, .n_names = ARRAY_SIZE(names)
	};
	char path[100];

	bucket_put(b->os, "a/b/c", "123");
	bucket_put(b->os, "a/x", "123");
	bucket_put(b->os, "a/y", "123");
	assert_int_equal(request(b->os, &r), 0);
	assert_list(b->os, (struct object_request){ .key = "" }, "a/y ", false);
	snprintf(path, sizeof(path), "%s/a/b", b->path);
	assert_int_equal(access(path, F_OK), -1);
	/* An empty directory, of a writer that was killed, is no common prefix. */
	assert_int_equal(mkdir(path, 0700), 0);
	assert_list(b->os, (struct object_request){ .key = "a/", .delimited = true }, "a/y ",
		    false);
}

static void a_reader_changes_nothing(void **state)
{
	struct bucket *b = *state;
	struct object_store *ro;
	struct error err = ERROR_INIT;

	bucket_put(b->os, "k", "123");
	ro = bucket_open(b->path, true);
	assert_object(ro, "k", "123");
	assert_int_equal(object_put(ro, OBJECT_CONTROL, "k", "x", 1, &err), -EROFS);
	assert_non_null(strstr(err.msg, "read-only"));
	assert_int_equal(bucket_put_once(ro, "l", "x"), -EROFS);
	assert_int_equal(object_delete(ro, OBJECT_CONTROL, "k", NULL), -EROFS);
	assert_object(ro, "k", "123");
	object_store_close(ro);
	assert_int_equal(object_dir_open("/proc/nonexistent", true, &ro, &err), -ENOENT);
}

/* Old files of writers that were killed go, new ones stay: they may be somebody's. */
static void old_unfinished_writes_go(void **state)
{
	struct bucket *b = *state;
	struct utimbuf day_before_yesterday = { time(NULL) - 200000, time(NULL) - 200000 };
	char old[120], new[120];

	snprintf(old, sizeof(old), "%s/.tmp/old", b->path);
	snprintf(new, sizeof(new), "%s/.tmp/new", b->path);
	close(creat(old, 0600));
	close(creat(new, 0600));
	assert_int_equal(utime(old, &day_before_yesterday), 0);
	assert_list(b->os, (struct object_request){ .key = "" }, "", false);
	object_store_close(b->os);
	b->os = bucket_open(b->path, false);
	assert_int_equal(access(old, F_OK), -1);
	assert_int_equal(access(new, F_OK), 0);
}

#define RACERS 8
#define ROUNDS 40

static void *race(void *arg)
{
	struct object_store *os = bucket_open(arg, false);
	char key[32], last[32];
	long won = 0;

	for (int i = 0; i < ROUNDS; i++) {
		snprintf(key, sizeof(key), "r/%d/k", i);
		int rc = bucket_put_once(os, key, "123");
		assert_true(rc == 0 || rc == -EEXIST);
		won += rc == 0;
		/* Directories come and go beside it. */
		snprintf(last, sizeof(last), "d/%d/k", i % 3);
		assert_true(object_put(os, OBJECT_CONTROL, last, "1", 1, NULL) == 0);
		assert_int_equal(object_delete(os, OBJECT_CONTROL, last, NULL), 0);
	}
	object_store_close(os);
	return (void *)won; // NOLINT(performance-no-int-to-ptr)
}

/* I7: what is old is so by the clock that all hosts share. */
static void the_hosts_clock_does_not_matter(void **state)
{
	static const time_t ahead[] = { 0, 2 * 24 * 3600, -2 * 24 * 3600 };
	struct bucket *b = *state;
	char tmp[400];

	snprintf(tmp, sizeof(tmp), "%s/.tmp/of-another-writer", b->path);
	for (size_t i = 0; i < ARRAY_SIZE(ahead); i++) {
		struct object_store *os;
		struct object_request put = { .op = OBJECT_PUT, .key = "k", .body = "x", .len = 1 };
		struct object_request list = { .op = OBJECT_LIST, .key = "" };
		FILE *f = fopen(tmp, "w");

		assert_non_null(f);
		fclose(f);
		host_ahead = ahead[i];
		assert_int_equal(object_dir_open(b->path, false, &os, NULL), 0);
		assert_int_equal(request(os, &put), 0);
		assert_int_equal(request(os, &list), 0);
		assert_int_equal(list.n_entries, 1);
		assert_in_range(list.date - list.entries[0].modified, 0, 60);
		object_request_fini(&list);
		object_store_close(os);
		host_ahead = 0;
		assert_int_equal(access(tmp, F_OK), 0);
	}
}

static void one_of_many_writers_wins(void **state)
{
	struct bucket *b = *state;
	pthread_t threads[RACERS];
	long won = 0;

	for (int i = 0; i < RACERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race, b->path), 0);
	for (int i = 0; i < RACERS; i++) {
		void *n;
		pthread_join(threads[i], &n);
		won += (long)n;
	}
	assert_int_equal(won, ROUNDS);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, bucket_setup, bucket_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(keys_are_checked),
		TEST(what_was_put_is_read),
		TEST(once_is_once),
		TEST(ranges_are_exact),
		TEST(failures_name_their_key),
		TEST(what_is_too_large_is_refused),
		TEST(lists_are_in_the_order_of_keys),
		TEST(each_goes_over_pages),
		TEST(deleting_leaves_no_directories),
		TEST(a_reader_changes_nothing),
		TEST(old_unfinished_writes_go),
		TEST(the_hosts_clock_does_not_matter),
		TEST(one_of_many_writers_wins),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
