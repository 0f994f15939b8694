/* object_fault and object_probe: faults happen as planned, and the probe finds those that matter.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/bucket/object_dir.h"
#include "store/bucket/object_fault.h"
#include "store/bucket/object_fault_internal.h"
#include "store/bucket/object_probe.h"

static char dir[64];

static int set_up(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/varve-fault-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
	char cmd[100];

	(void)state;
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd); /* NOLINT: our own mkdtemp name */
}

static struct object_store *with(const char *plan)
{
	struct object_store *os = NULL, *out = NULL;
	struct error err = ERROR_INIT;

	assert_int_equal(object_dir_open(dir, false, &os, &err), 0);
	if (object_fault_open(os, plan, &out, &err) != 0)
		fail_msg("%s", error_text(&err));
	return out;
}

static int put(struct object_store *os, const char *key, const char *text)
{
	return object_put(os, OBJECT_CONTROL, key, text, strlen(text), NULL);
}

static int get(struct object_store *os, const char *key, char out[64])
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	int rc = object_get(os, OBJECT_CONTROL, key, 60, &b, NULL, NULL);

	snprintf(out, 64, "%.*s", rc == 0 ? (int)b.len : 0, (char *)b.data);
	return rc;
}

static void plans_are_read_whole_or_not_at_all(void **state)
{
	static const char *const bad[] = { "drop",    "drop=",	   "drop=2",	 "drop=-0.1",
					   "drop=x",  "seed=-1",   "delay=30",	 "delay=30ms:2",
					   "delay=h", "unknown=1", "ops=get:no", "clock=soon",
					   "frozen=", "drop=nan",  "delay=-1s",	 "die=1x" };
	struct fault_plan p;
	int64_t ms;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = ERROR_INIT;
		assert_int_equal(fault_plan_parse(bad[i], &p, &err), -EINVAL);
		assert_non_null(strstr(err.msg, "plan of faults"));
	}
	assert_int_equal(fault_plan_parse("seed=7,drop=0.01,lost=0.02,delay=30ms:0.1,,ops=get:list,"
					  "under=snap/,clock=-2m,die=9",
					  &p, NULL),
			 0);
	assert_int_equal(p.seed, 7);
	assert_int_equal(p.delay_ms, 30);
	assert_int_equal(p.ops, 1u << OBJECT_GET | 1u << OBJECT_LIST);
	assert_int_equal(p.clock_ms, -120000);
	assert_int_equal(p.die, 9);
	assert_string_equal(p.under, "snap/");
	assert_int_equal(fault_parse_time("1500ms\n", &ms), 0);
	assert_int_equal(ms, 1500);
}

static void dropped_is_not_done_and_lost_is(void **state)
{
	struct object_store *os = with("seed=1,drop=0.1,lost=0.1,ops=put");
	struct object_faults n;
	unsigned timed_out = 0, there = 0;
	char key[32], text[64];

	(void)state;
	for (int i = 0; i < 120; i++) {
		snprintf(key, sizeof(key), "k/%d", i);
		int rc = put(os, key, "v");
		assert_true(rc == 0 || rc == -ETIMEDOUT);
		timed_out += rc != 0;
		there += get(os, key, text) == 0;
	}
	object_fault_counts(os, &n);
	assert_in_range(n.dropped, 2, 30); /* a tenth of 120, generously */
	assert_in_range(n.lost, 2, 30);
	assert_int_equal(there, 120 - n.dropped);
	assert_int_equal(timed_out, n.dropped + n.lost);
	object_store_close(os);
}

static void one_seed_gives_the_same_faults_again(void **state)
{
	char key[32], text[64], first[201] = "", second[201] = "";

	(void)state;
	for (int round = 0; round < 2; round++) {
		struct object_store *os = with("seed=5,drop=0.3");
		char *out = round ? second : first;

		for (int i = 0; i < 200; i++) {
			snprintf(key, sizeof(key), "k/%d", i);
			out[i] = get(os, key, text) == -ETIMEDOUT ? 'x' : '.';
		}
		object_store_close(os);
	}
	assert_string_equal(first, second);
	assert_non_null(strchr(first, 'x'));
}

/* Else a bucket whose first answer is lost could never be opened. */
static void each_opening_by_the_environment_draws_anew(void **state)
{
	unsigned char drawn[3][64];
	char text[64];

	(void)state;
	setenv("VARVE_FAULTS", "seed=1,drop=0.5", 1);
	for (unsigned n = 0; n < 3; n++) {
		struct object_store *os = NULL;
		struct error err = ERROR_INIT;

		assert_int_equal(object_dir_open(dir, false, &os, &err), 0);
		assert_int_equal(object_fault_by_env(&os, &err), 0);
		for (unsigned i = 0; i < 64; i++)
			drawn[n][i] = get(os, "k", text) == -ETIMEDOUT;
		object_store_close(os);
	}
	unsetenv("VARVE_FAULTS");
	assert_memory_not_equal(drawn[0], drawn[1], 64);
	assert_memory_not_equal(drawn[1], drawn[2], 64);
}

static void a_repeated_create_meets_itself(void **state)
{
	struct object_store *os = with("repeat=1");
	char text[64];

	(void)state;
	assert_int_equal(object_put_once(os, OBJECT_CONTROL, "k", "v", 1, 0, NULL), -EEXIST);
	assert_int_equal(get(os, "k", text), 0);
	assert_string_equal(text, "v");
	object_store_close(os);
}

static void reads_are_spoiled(void **state)
{
	struct object_store *os = with("flip=1,under=flip");
	char text[64];

	(void)state;
	assert_int_equal(put(os, "flip", "aaaa"), 0);
	assert_int_equal(put(os, "other", "aaaa"), 0);
	assert_int_equal(get(os, "flip", text), 0);
	assert_string_not_equal(text, "aaaa");
	assert_int_equal(get(os, "other", text), 0);
	assert_string_equal(text, "aaaa");
	object_store_close(os);

	os = with("cut=1");
	assert_int_equal(get(os, "flip", text), 0);
	assert_true(strlen(text) < 4);
	assert_memory_equal(text, "aaaa", strlen(text));
	object_store_close(os);
}

static void stale_gives_what_was_there_before(void **state)
{
	struct object_store *os = with("stale=1");
	char text[64];

	(void)state;
	assert_int_equal(put(os, "k", "one"), 0);
	assert_int_equal(get(os, "k", text), 0);
	assert_string_equal(text, "one"); /* there was nothing before */
	assert_int_equal(put(os, "k", ""), 0);
	assert_int_equal(get(os, "k", text), 0);
	assert_string_equal(text, "one");
	assert_int_equal(put(os, "k", "three"), 0);
	assert_int_equal(get(os, "k", text), 0);
	assert_string_equal(text, "");
	object_store_close(os);
}

static void what_is_late_comes_late(void **state)
{
	struct object_store *os = with("delay=50ms:1");
	int64_t start = monotonic_ms();
	char text[64];

	(void)state;
	assert_int_equal(put(os, "k", "v"), 0);
	assert_int_equal(get(os, "k", text), 0);
	assert_true(monotonic_ms() - start >= 100);
	object_store_close(os);
}

static void a_frozen_bucket_waits(void **state)
{
	char plan[128], path[100];
	struct object_request r = {
		.op = OBJECT_PUT, .key = "k", .body = "v", .len = 1, .timeout_ms = 60
	};

	(void)state;
	snprintf(path, sizeof(path), "%s.frozen", dir);
	snprintf(plan, sizeof(plan), "frozen=%s", path);
	struct object_store *os = with(plan);
	fclose(fopen(path, "we"));
	object_run(os, &r, 1);
	assert_int_equal(r.result, -ETIMEDOUT);
	unlink(path);
	object_run(os, &r, 1);
	assert_int_equal(r.result, 0);
	object_store_close(os);
}

static void note_result(struct object_request *r)
{
	*(int *)r->arg = r->result;
}

static void closing_ends_what_waits(void **state)
{
	struct object_store *os = with("delay=1m:1");
	int result = 0;
	struct object_request r = { .op = OBJECT_PUT,
				    .key = "k",
				    .body = "v",
				    .len = 1,
				    .done = note_result,
				    .arg = &result };

	(void)state;
	object_submit(os, &r);
	assert_int_equal(result, 0);
	object_store_close(os);
	assert_int_equal(result, -ECANCELED);
}

static void write_clock(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	fclose(f);
}

/* A writer that slept for 16 minutes after the read that justified its write. */
static void its_clock_refuses_old_dates(void **state)
{
	char plan[128], path[100];
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	int64_t date = 0;

	(void)state;
	snprintf(path, sizeof(path), "%s.clock", dir);
	snprintf(plan, sizeof(plan), "clock=@%s", path);
	struct object_store *os = with(plan);
	assert_true(os->has_clock);
	assert_int_equal(object_get(os, OBJECT_CONTROL, "k", 9, &b, &date, NULL), -ENOENT);
	assert_in_range(date, time(NULL) - 5, time(NULL) + 5);
	write_clock(path, "14m");
	assert_int_equal(object_put_once(os, OBJECT_CONTROL, "a", "v", 1, date, NULL), 0);
	write_clock(path, "16m\n");
	assert_int_equal(object_put_once(os, OBJECT_CONTROL, "b", "v", 1, date, NULL), -ESTALE);
	assert_int_equal(object_get(os, OBJECT_CONTROL, "b", 9, &b, &date, NULL), -ENOENT);
	assert_int_equal(object_put_once(os, OBJECT_CONTROL, "b", "v", 1, date, NULL), 0);
	unlink(path);
	object_store_close(os);
}

static void die_kills_at_the_request_that_is_named(void **state)
{
	static const struct {
		const char *plan;
		int there;
	} cases[] = { { "die=2", 0 }, { "die-after=2", 1 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char key[2][8], text[64];
		int status;

		snprintf(key[0], sizeof(key[0]), "a%zu", i);
		snprintf(key[1], sizeof(key[1]), "b%zu", i);
		pid_t pid = fork();
		if (pid == 0) {
			struct object_store *os = with(cases[i].plan);
			(void)put(os, key[0], "v");
			(void)put(os, key[1], "v");
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		struct object_store *os = with("");
		assert_int_equal(get(os, key[0], text), 0);
		assert_int_equal(get(os, key[1], text) == 0, cases[i].there);
		object_store_close(os);
	}
}

/* --- the probe --- */

static enum object_check_result result_of(const struct object_probe *p, const char *name)
{
	for (size_t i = 0; i < p->n; i++)
		if (strcmp(p->checks[i].name, name) == 0)
			return p->checks[i].result;
	fail_msg("no check %s", name);
	return CHECK_FAILED;
}

static void probe(const char *plan, struct object_probe *out)
{
	struct object_store *os = with(plan);

	assert_int_equal(object_probe(os, 5, out, NULL), 0);
	object_store_close(os);
}

static void the_probe_passes_a_directory_and_leaves_nothing(void **state)
{
	struct object_store *os = with("clock=0s");
	struct object_request l = { .op = OBJECT_LIST, .key = "" };
	struct object_probe p;

	(void)state;
	assert_int_equal(object_probe(os, 5, &p, NULL), 0);
	assert_true(p.usable);
	assert_true(p.refuses_old);
	assert_int_equal(p.n, OBJECT_CHECKS_MAX);
	for (size_t i = 0; i < p.n; i++)
		assert_true(p.checks[i].result != CHECK_FAILED && p.checks[i].text[0]);
	object_run(os, &l, 1);
	assert_int_equal(l.n_entries, 0);
	object_store_close(os);
}

static void the_probe_finds_what_would_lose_data(void **state)
{
	struct object_probe p;

	(void)state;
	probe("hide=0.3,seed=1,ops=list", &p);
	assert_false(p.usable);
	assert_int_equal(result_of(&p, "list"), CHECK_FAILED);
	assert_int_equal(result_of(&p, "clock"), CHECK_SKIPPED);
	probe("stale=0.3,seed=2", &p);
	assert_int_equal(result_of(&p, "overwrite"), CHECK_FAILED);
	probe("cut=1", &p);
	assert_false(p.usable);
	probe("", &p);
	assert_int_equal(result_of(&p, "clock"), CHECK_NOTED);
	assert_true(p.usable);
	probe("repeat=0.5,seed=2", &p); /* a lost reply is no second winner */
	assert_int_equal(result_of(&p, "create once"), CHECK_OK);
}

/* A service that ignores If-None-Match: every create-once is a plain write. */
static void forget_once(struct object_store *os, struct object_request *r)
{
	struct object_store *inner = *(struct object_store **)(os + 1);

	if (r->op == OBJECT_PUT_ONCE)
		r->op = OBJECT_PUT;
	inner->ops->submit(inner, r);
}

static void forget_close(struct object_store *os)
{
	object_store_close(*(struct object_store **)(os + 1));
	free(os);
}

static void the_probe_refuses_who_ignores_if_none_match(void **state)
{
	static const struct object_store_ops ops = { .submit = forget_once, .close = forget_close };
	struct object_store *os = calloc(1, sizeof(*os) + sizeof(os));
	struct object_probe p;

	(void)state;
	os->ops = &ops;
	*(struct object_store **)(os + 1) = with("");
	assert_int_equal(object_probe(os, 5, &p, NULL), 0);
	assert_false(p.usable);
	assert_int_equal(result_of(&p, "create once"), CHECK_FAILED);
	object_store_close(os);
}

static void a_bucket_that_does_not_answer_is_an_error(void **state)
{
	struct object_store *os = with("drop=1");
	struct object_probe p;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(object_probe(os, 5, &p, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.msg, "dropped"));
	object_store_close(os);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plans_are_read_whole_or_not_at_all),
		cmocka_unit_test_setup_teardown(dropped_is_not_done_and_lost_is, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_seed_gives_the_same_faults_again, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(each_opening_by_the_environment_draws_anew, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_repeated_create_meets_itself, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reads_are_spoiled, set_up, tear_down),
		cmocka_unit_test_setup_teardown(stale_gives_what_was_there_before, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(what_is_late_comes_late, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_frozen_bucket_waits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(closing_ends_what_waits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(its_clock_refuses_old_dates, set_up, tear_down),
		cmocka_unit_test_setup_teardown(die_kills_at_the_request_that_is_named, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(the_probe_passes_a_directory_and_leaves_nothing,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_probe_finds_what_would_lose_data, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(the_probe_refuses_who_ignores_if_none_match, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_bucket_that_does_not_answer_is_an_error, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
