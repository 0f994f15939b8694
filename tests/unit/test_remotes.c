/* The table of remotes, while others change it. */
#include "tests/unit/lazy_fixture.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "tests/unit/http_script.h"

static void what_snapshots_need_is_not_removed(void **state)
{
	struct lazy_host *l = *state;
	struct error err = ERROR_INIT;
	struct remote_config c;
	struct remote *r;

	remotes_set_index(l->rs, l->ix);
	push_files(l, 3);
	pull_lazily(l, "base");
	assert_int_equal(remotes_remove(l->rs, "main", false, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "pull"));
	/* Another one that is the same bucket will do. */
	assert_int_equal(remotes_config(l->rs, "main", &c, NULL), 0);
	strcpy(c.name, "other");
	assert_int_equal(remotes_add(l->rs, &c, NULL), 0);
	remote_config_fini(&c);
	assert_int_equal(remotes_remove(l->rs, "main", false, NULL), 0);
	assert_int_equal(remotes_remove(l->rs, "other", false, NULL), -EBUSY);
	assert_int_equal(snapshots_delete(l->h->b.s->snapshots, "base", NULL), 0);
	collect(l);
	assert_int_equal(remotes_remove(l->rs, "other", false, NULL), 0);
	assert_int_equal(remotes_get(l->rs, "other", &r, NULL), -ENOENT);
	assert_int_equal(remotes_remove(l->rs, "other", true, NULL), -ENOENT);
}

static void *open_it(void *arg)
{
	struct lazy_host *l = arg;
	struct error err = ERROR_INIT;
	struct remote *r;
	int rc = remotes_get(l->rs, "main", &r, &err);

	if (rc == 0)
		remotes_release(l->rs, r);
	return (void *)(intptr_t)rc;
}

/* A service that takes connections and never answers. */
static int silent_service(char *url, size_t size)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	snprintf(url, size, "http://127.0.0.1:%d", ntohs(a.sin_port));
	return fd;
}

/* The remote "silent" at an endpoint. */
static void s3_config(const char *endpoint, struct remote_config *out)
{
	json_t *j = json_pack("{s:s, s:s, s:s, s:b, s:s, s:i}", "name", "silent", "url",
			      "s3://bucket/x", "endpoint", endpoint, "pathStyle", 1, "region", "r",
			      "timeoutSeconds", 1);

	assert_int_equal(setenv("AWS_ACCESS_KEY_ID", "k", 1), 0);
	assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "s", 1), 0);
	assert_int_equal(remote_config_parse(j, out, NULL), 0);
	json_decref(j);
}

static void one_that_does_not_answer_is_given_up_when_its_config_says(void **state)
{
	struct error err = ERROR_INIT;
	struct remote_config c;
	struct remote *r;
	char url[64];
	int fd = silent_service(url, sizeof(url));
	int64_t began = monotonic_ms();
	json_t *j;

	(void)state;
	s3_config(url, &c);
	assert_true(remote_open(&c, false, &r, &err) < 0);
	assert_true(monotonic_ms() - began < 20000);
	j = remote_config_json(&c);
	assert_int_equal(json_integer_value(json_object_get(j, "timeoutSeconds")), 1);
	json_decref(j);
	remote_config_fini(&c);
	close(fd);
}

/* Ask for one that does not answer. How long that took, ms. */
static int64_t ask_in_vain(struct lazy_host *l, struct error *err)
{
	int64_t began = monotonic_ms();
	struct remote *r;

	*err = (struct error)ERROR_INIT;
	assert_int_equal(remotes_get(l->rs, "silent", &r, err), -ETIMEDOUT);
	return monotonic_ms() - began;
}

#define WAITED_MS 700 /* of a time limit of a second */

static void one_that_is_away_is_not_waited_for_by_each(void **state)
{
	struct lazy_host *l = *state;
	struct error err = ERROR_INIT;
	struct remote_config c;
	char url[64];
	int fd = silent_service(url, sizeof(url));

	s3_config(url, &c);
	assert_int_equal(remotes_set(l->rs, &c, NULL), 0);
	assert_true(ask_in_vain(l, &err) >= WAITED_MS);
	assert_null(strstr(err.msg, "asked again"));
	assert_true(ask_in_vain(l, &err) < WAITED_MS);
	assert_non_null(strstr(err.msg, "asked again in"));
	assert_non_null(strstr(err.msg, "remote check silent"));
	/* A check, or another configuration, asks now. */
	remotes_reopen(l->rs, "silent");
	assert_true(ask_in_vain(l, &err) >= WAITED_MS);
	assert_true(ask_in_vain(l, &err) < WAITED_MS);
	assert_int_equal(remotes_set(l->rs, &c, NULL), 0);
	assert_true(ask_in_vain(l, &err) >= WAITED_MS);
	/* It is asked again by itself; then after a longer time. */
	while (ask_in_vain(l, &err) < WAITED_MS)
		usleep(100000);
	ask_in_vain(l, &err);
	assert_non_null(strstr(err.msg, "asked again in 4 s"));
	remote_config_fini(&c);
	close(fd);
}

/* ---- credentials ---- */

static const char *good_key;
static char bucket_format[128];

/* A bucket that takes one key alone. */
static void answer_key(const char *head, const char *body, unsigned n, struct answer *a)
{
	char want[64];

	(void)body, (void)n;
	snprintf(want, sizeof(want), "Credential=%s/", good_key);
	if (!strstr(head, want))
		answer_error(a, "403 Forbidden", "AccessDenied");
	else
		answer_http(a, "200 OK", "", bucket_format);
}

/* What pins, the evictor and the sharer do: get it, ask, let go of it. */
static int ask_once(struct lazy_host *l, struct error *err)
{
	struct buf CLEANUP(buf_fini_p) data = BUF_INIT;
	struct remote *r;
	int rc = remotes_get(l->rs, "silent", &r, err);

	if (rc < 0)
		return rc;
	rc = object_get(remote_objects(r), OBJECT_CONTROL, "some", 0, &data, NULL, err);
	remotes_release(l->rs, r);
	return rc;
}

/* From a source that one which is open does not look at. */
static void other_credentials_reach_who_asks_again(void **state)
{
	struct lazy_host *l = *state;
	struct error err = ERROR_INIT;
	struct remote_config c;
	char url[64], id[SNAPSHOT_ID_SIZE];

	snprintf(url, sizeof(url), "http://127.0.0.1:%d", script.port);
	good_key = "k";
	id_random(id);
	snprintf(bucket_format, sizeof(bucket_format),
		 "{\"varve\":1,\"uuid\":\"%s\",\"features\":[]}", id);
	script_set(answer_key);
	s3_config(url, &c);
	assert_int_equal(remotes_set(l->rs, &c, NULL), 0);
	remote_config_fini(&c);
	if (ask_once(l, &err) < 0)
		fail_msg("%s", error_text(&err));
	good_key = "other";
	assert_int_equal(ask_once(l, &err), -EACCES);
	assert_int_equal(setenv("AWS_ACCESS_KEY_ID", "other", 1), 0);
	for (int i = 0; ask_once(l, &err) < 0; i++) {
		if (i > 150)
			fail_msg("%s", error_text(&err));
		usleep(100000);
	}
}

static void a_time_limit_is_of_sound_size_and_of_s3(void **state)
{
	static const char *const bad[] = {
		"{\"name\":\"a\",\"url\":\"s3://b\",\"timeoutSeconds\":0}",
		"{\"name\":\"a\",\"url\":\"s3://b\",\"timeoutSeconds\":86401}",
		"{\"name\":\"a\",\"url\":\"s3://b\",\"timeoutSeconds\":1.5}",
		"{\"name\":\"a\",\"url\":\"file:///b\",\"timeoutSeconds\":5}",
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = ERROR_INIT;
		struct remote_config c;
		json_t *j = json_loads(bad[i], 0, NULL);

		assert_int_equal(remote_config_parse(j, &c, &err), -EINVAL);
		assert_non_null(strstr(err.msg, "timeoutSeconds"));
		json_decref(j);
	}
}

static pthread_t begin_open(struct lazy_host *l)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, open_it, l), 0);
	return thread;
}

static int end_open(pthread_t thread)
{
	void *rc;

	assert_int_equal(pthread_join(thread, &rc), 0);
	return (int)(intptr_t)rc;
}

/* From now on, whoever opens the remote waits, until the gate is removed. */
static void freeze(struct lazy_host *l, char gate[160])
{
	char plan[200];
	FILE *f;

	snprintf(gate, 160, "%s/gate", l->h->bucket.dir);
	snprintf(plan, sizeof(plan), "frozen=%s", gate);
	f = fopen(gate, "w");
	assert_non_null(f);
	fclose(f);
	setenv("VARVE_FAULTS", plan, 1);
}

static int add_gets(void *arg, const char *name, const char *bucket, const struct object_counts *c)
{
	(void)name, (void)bucket;
	*(uint64_t *)arg += c->requests[OBJECT_GET];
	return 0;
}

static uint64_t gets(struct lazy_host *l)
{
	uint64_t n = 0;

	assert_int_equal(remotes_each_seen(l->rs, add_gets, &n), 0);
	return n;
}

/* Somebody waits for the bucket: it was asked more often than that. */
static void await_more_gets(struct lazy_host *l, uint64_t than)
{
	const int64_t from = monotonic_ms();

	while (gets(l) <= than) {
		if (monotonic_ms() - from > 60000)
			fail_msg("the bucket is not asked");
		usleep(1000);
	}
}

/* One that is being opened for the first time does not come back when it was removed. */
static void one_that_was_removed_while_it_opens_stays_away(void **state)
{
	struct lazy_host *l = *state;
	struct remote_config c;
	pthread_t thread;
	char gate[160];
	uint64_t before;

	assert_int_equal(remotes_config(l->rs, "main", &c, NULL), 0);
	/* Its bucket is not known: this one was never open. */
	assert_int_equal(remotes_remove(l->rs, "main", true, NULL), 0);
	assert_int_equal(remotes_set(l->rs, &c, NULL), 0);
	remote_config_fini(&c);
	freeze(l, gate);
	before = gets(l);
	thread = begin_open(l);
	await_more_gets(l, before);
	unsetenv("VARVE_FAULTS");
	assert_int_equal(remotes_remove(l->rs, "main", true, NULL), 0);
	assert_int_equal(unlink(gate), 0);
	assert_int_equal(end_open(thread), -ENOENT);
	assert_int_equal(remotes_config(l->rs, "main", &c, NULL), -ENOENT);
}

#define MANY 8

static void many_open_it_once(void **state)
{
	struct lazy_host *l = *state;
	const uint64_t before = gets(l);
	pthread_t threads[MANY];
	char gate[160];

	freeze(l, gate);
	for (unsigned i = 0; i < MANY; i++)
		threads[i] = begin_open(l);
	await_more_gets(l, before);
	usleep(50000); /* in which the others would ask it, too */
	unsetenv("VARVE_FAULTS");
	assert_int_equal(gets(l), before + 1);
	assert_int_equal(unlink(gate), 0);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(end_open(threads[i]), 0);
	assert_int_equal(gets(l), before + 1);
}

static void one_that_is_being_opened_is_stopped(void **state)
{
	struct lazy_host *l = *state;
	const uint64_t before = gets(l);
	pthread_t first, second;
	char gate[160];

	freeze(l, gate);
	first = begin_open(l);
	second = begin_open(l);
	await_more_gets(l, before);
	remotes_stop(l->rs);
	assert_int_equal(end_open(first), -ECANCELED);
	assert_int_equal(end_open(second), -ECANCELED);
	/* Nor is another one begun. */
	assert_int_equal(end_open(begin_open(l)), -ECANCELED);
	unsetenv("VARVE_FAULTS");
	assert_int_equal(unlink(gate), 0);
}

/* Another bucket that does not answer is not asked whether it is this one. */
static void a_bucket_that_is_known_waits_for_no_other(void **state)
{
	struct lazy_host *l = *state;
	struct remote_config c = { .name = "another" };
	struct remote *r;

	/* It was never open, so it might be the bucket, and comes first by its name. */
	assert_true(asprintf(&c.url, "file://%s/another", l->h->bucket.dir) > 0);
	assert_int_equal(remotes_set(l->rs, &c, NULL), 0);
	assert_int_equal(remotes_get_uuid(l->rs, remote_uuid(l->h->b.r), &r, NULL), 0);
	/* Opening it would have made it. */
	assert_int_equal(access(c.url + strlen("file://"), F_OK), -1);
	remote_config_fini(&c);
	assert_string_equal(remote_name(r), "main");
	remotes_release(l->rs, r);
}

static int set_up(void **state)
{
	(void)state;
	script_start();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	script_stop();
	return 0;
}

/* Whatever stands before its backend. */
static void an_encrypted_one_that_fails_is_opened_anew(void **state)
{
	struct lazy_host *l = *state;
	struct remote_config c = { .name = "sealed" };
	struct remote *first, *second;

	assert_true(asprintf(&c.url, "file://%s/sealed", l->h->bucket.dir) > 0);
	c.key_command = strdup("echo 000102030405060708090a0b0c0d0e0f"
			       "101112131415161718191a1b1c1d1e1f");
	assert_int_equal(remotes_add(l->rs, &c, NULL), 0);
	assert_int_equal(remotes_get(l->rs, "sealed", &first, NULL), 0);
	remotes_failed(l->rs, "sealed", remote_objects(first));
	assert_int_equal(remotes_get(l->rs, "sealed", &second, NULL), 0);
	assert_ptr_not_equal(first, second);
	remotes_release(l->rs, first);
	remotes_release(l->rs, second);
	remote_config_fini(&c);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, lazy_setup, lazy_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_snapshots_need_is_not_removed),
		TEST(one_that_was_removed_while_it_opens_stays_away),
		cmocka_unit_test(one_that_does_not_answer_is_given_up_when_its_config_says),
		TEST(one_that_is_away_is_not_waited_for_by_each),
		TEST(other_credentials_reach_who_asks_again),
		cmocka_unit_test(a_time_limit_is_of_sound_size_and_of_s3),
		TEST(many_open_it_once),
		TEST(one_that_is_being_opened_is_stopped),
		TEST(an_encrypted_one_that_fails_is_opened_anew),
		TEST(a_bucket_that_is_known_waits_for_no_other),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
