/* object_s3: what it asks, and what it makes of answers, good and bad. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

#include "store/base/clock.h"
#include "store/bucket/object_s3.h"
#include "tests/unit/http_script.h"

static struct object_store *s3(struct object_s3_options o)
{
	static char endpoint[64];
	struct object_store *os = NULL;
	struct error err = ERROR_INIT;

	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d", script.port);
	o.endpoint = o.endpoint ? o.endpoint : endpoint;
	o.bucket = "bkt";
	o.prefix = "pre";
	o.path_style = true;
	o.timeout_ms = o.timeout_ms ? o.timeout_ms : 30000;
	if (object_s3_open(&o, &os, &err) != 0)
		fail_msg("%s", error_text(&err));
	return os;
}

#define PLAIN ((struct object_s3_options){ 0 })

/* One request; all results but data's text are dropped. */
static int run(struct object_store *os, struct object_request *r, char *text, size_t size)
{
	object_run(os, r, 1);
	if (text)
		snprintf(text, size, "%.*s", (int)r->data.len, (char *)r->data.data);
	object_request_fini(r);
	return r->result;
}

static int get(struct object_store *os, struct object_request r, char text[64])
{
	r.op = OBJECT_GET;
	r.key = r.key ? r.key : "k";
	return run(os, &r, text, 64);
}

/* --- what is asked --- */

static char seen[4096];

static void keep_request(const char *head, const char *body, unsigned n, struct answer *a)
{
	(void)n;
	snprintf(seen, sizeof(seen), "%s%s", head, body);
	answer_http(a, "200 OK", "", "");
}

static void check_seen(const char *text, bool there)
{
	if (!strstr(seen, text) == there)
		fail_msg("%s is %sin: %s", text, there ? "not " : "", seen);
}

static void requests_are_what_services_expect(void **state)
{
	struct object_store *os = s3(PLAIN);
	struct object_request r = { .op = OBJECT_PUT_ONCE,
				    .key = "a/b",
				    .body = "body",
				    .len = 4,
				    .signed_at = 1369353600 };

	(void)state;
	script_set(keep_request);
	assert_int_equal(run(os, &r, NULL, 0), 0);
	check_seen("PUT /bkt/pre/a/b HTTP/1.1\r\n", true);
	check_seen("if-none-match: *\r\n", true);
	check_seen("x-amz-date: 20130524T000000Z\r\n", true);
	check_seen("SignedHeaders=host;if-none-match;x-amz-content-sha256;x-amz-date;"
		   "x-amz-security-token, ",
		   true);
	check_seen("x-amz-content-sha256: "
		   "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5\r\n",
		   true);
	check_seen("\r\n\r\nbody", true);
	check_seen("Expect:", false);
	check_seen("Transfer-Encoding:", false);
	check_seen("the-secret", false);
	assert_in_range(r.date, time(NULL) - 10, time(NULL) + 10);

	r = (struct object_request){ .op = OBJECT_PUT, .key = "empty", .body = "" };
	assert_int_equal(run(os, &r, NULL, 0), 0);
	check_seen("Content-Length: 0\r\n", true);
	check_seen("Transfer-Encoding:", false);

	r = (struct object_request){ .op = OBJECT_GET, .key = "k", .offset = 5, .len = 3 };
	(void)run(os, &r, NULL, 0);
	check_seen("Range: bytes=5-7\r\n", true);
	check_seen("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, ",
		   true);
	object_store_close(os);
}

/* --- ranges --- */

static const char *range_headers, *range_status, *range_body;

static void answer_range(const char *head, const char *body, unsigned n, struct answer *a)
{
	(void)head;
	(void)body;
	(void)n;
	answer_http(a, range_status, range_headers, range_body);
}

static void a_range_is_what_was_asked_or_nothing(void **state)
{
	static const struct {
		const char *status, *headers, *body;
		uint64_t offset;
		size_t len;
		bool from_end;
		int result;
		const char *want;
	} cases[] = {
		{ "206 X", "Content-Range: bytes 2-4/10\r\n", "234", 2, 3, false, 0, "234" },
		{ "206 X", "Content-Range: bytes 8-9/10\r\n", "89", 8, 5, false, 0, "89" },
		{ "206 X", "Content-Range: bytes 7-9/10\r\n", "789", 0, 3, true, 0, "789" },
		{ "206 X", "Content-Range: bytes 2-4/*\r\n", "234", 2, 3, false, 0, "234" },
		{ "200 OK", "", "0123456789", 2, 3, false, 0, "234" }, /* no ranges there */
		{ "200 OK", "", "0123456789", 0, 3, true, 0, "789" },
		{ "416 X", "Content-Range: bytes */10\r\n", "<Error/>", 10, 3, false, 0, "" },
		{ "206 X", "Content-Range: bytes 2-3/10\r\n", "23", 2, 3, false, -EBADMSG, "" },
		{ "206 X", "Content-Range: bytes 3-5/10\r\n", "345", 2, 3, false, -EBADMSG, "" },
		{ "206 X", "Content-Range: bytes 2-4/10\r\n", "2345", 2, 3, false, -EBADMSG, "" },
		{ "206 X", "", "234", 2, 3, false, -EBADMSG, "" },
		{ "206 X", "Content-Range: bytes 6-8/10\r\n", "678", 0, 3, true, -EBADMSG, "" },
		{ "206 X", "Content-Range: bytes 0-9/10\r\n", "0123456789", 0, 0, false, -EBADMSG,
		  "" },
	};

	(void)state;
	script_set(answer_range);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct object_store *os = s3(PLAIN); /* with a budget of its own */
		char text[64];

		range_status = cases[i].status;
		range_headers = cases[i].headers;
		range_body = cases[i].body;
		int rc = get(os,
			     (struct object_request){ .offset = cases[i].offset,
						      .len = cases[i].len,
						      .from_end = cases[i].from_end },
			     text);
		if (rc != cases[i].result)
			fail_msg("case %zu: %d", i, rc);
		assert_string_equal(text, cases[i].want);
		object_store_close(os);
	}
}

/* --- failures --- */

static const char *const *steps; /* "STATUS CODE", or "cut", "short"; then it is well */

static void answer_steps(const char *head, const char *body, unsigned n, struct answer *a)
{
	unsigned i = 0;

	(void)head;
	(void)body;
	while (i < n && steps[i])
		i++;
	if (!steps[i]) {
		answer_http(a, "200 OK", "", "good");
	} else if (strcmp(steps[i], "cut") == 0) {
		a->cut = true;
	} else if (strcmp(steps[i], "short") == 0) {
		a->cut = buf_append_str(&a->text,
					"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nba") == 0;
	} else if (strcmp(steps[i], "endless") == 0) {
		a->cut = buf_append_str(&a->text, "HTTP/1.1 200 OK\r\n\r\nbad") == 0;
	} else if (strncmp(steps[i], "html ", 5) == 0) {
		answer_http(a, steps[i] + 5, "", "<html>this is no S3</html>");
	} else {
		answer_error(a, steps[i], strchr(steps[i], ' ') + 1);
	}
}

static void what_may_pass_is_tried_again(void **state)
{
	static const char *const rounds[][5] = {
		{ "503 SlowDown", "429 TooManyRequests", "500 InternalError" },
		{ "cut", "short", "endless" },
		{ "502 BadGateway", "html 404 Not Found", "400 RequestTimeout",
		  "409 OperationAborted" },
	};
	struct object_store *os = s3(PLAIN);
	struct object_counts before = { 0 }, after;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rounds); i++) {
		char text[64];

		steps = rounds[i];
		script_set(answer_steps);
		assert_int_equal(get(os, (struct object_request){ 0 }, text), 0);
		assert_string_equal(text, "good");
		object_store_counts(os, &after);
		assert_true(after.retried > before.retried);
		before = after;
	}
	assert_int_equal(after.throttled, 2);
	assert_int_equal(after.failed, 0);
	object_store_close(os);
}

static void what_will_not_pass_ends_at_once(void **state)
{
	static const struct {
		const char *step;
		enum object_op op;
		int result;
		unsigned requests;
	} cases[] = {
		{ "404 NoSuchKey", OBJECT_GET, -ENOENT, 1 },
		{ "404 NoSuchBucket", OBJECT_GET, -EIO, 1 },
		{ "html 404 Not Found", OBJECT_GET, -EBADMSG, 4 }, /* never: absent */
		{ "403 AccessDenied", OBJECT_GET, -EACCES, 1 },
		{ "412 PreconditionFailed", OBJECT_PUT_ONCE, -EEXIST, 1 },
		{ "403 RequestTimeTooSkewed", OBJECT_PUT_ONCE, -ESTALE, 1 },
		{ "403 QuotaExceeded", OBJECT_PUT, -ENOSPC, 1 },
		{ "400 EntityTooLarge", OBJECT_PUT, -EFBIG, 1 },
		{ "501 NotImplemented", OBJECT_PUT_ONCE, -EIO, 1 },
		{ "301 PermanentRedirect", OBJECT_GET, -EIO, 1 },
	};
	struct object_store *os = s3(PLAIN);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *step[] = { cases[i].step, cases[i].step, cases[i].step, cases[i].step,
				       NULL };
		struct object_request r = { .op = cases[i].op, .key = "k" };

		if (r.op != OBJECT_GET) {
			r.body = "x";
			r.len = 1;
			r.signed_at = 1369353600;
		}
		steps = step;
		script_set(answer_steps);
		int rc = run(os, &r, NULL, 0);
		if (rc != cases[i].result || script_requests() != cases[i].requests)
			fail_msg("%s: %d after %u: %s", cases[i].step, rc, script_requests(),
				 r.err.msg);
		assert_non_null(strstr(r.err.msg, "s3://bkt/pre/k"));
		assert_null(strstr(r.err.msg, "the-secret"));
	}
	object_store_close(os);
}

static void a_request_ends_at_its_deadline(void **state)
{
	static const char *const busy[] = { "503 SlowDown", "503 SlowDown", "503 SlowDown",
					    "503 SlowDown", "503 SlowDown", "503 SlowDown",
					    "503 SlowDown", "503 SlowDown", NULL };
	struct object_store *os = s3(PLAIN);
	struct object_request r = { .op = OBJECT_GET, .key = "k", .timeout_ms = 600 };
	int64_t start = monotonic_ms();

	(void)state;
	steps = busy;
	script_set(answer_steps);
	assert_int_equal(run(os, &r, NULL, 0), -ETIMEDOUT);
	assert_in_range(monotonic_ms() - start, 550, 20000);
	assert_non_null(strstr(r.err.msg, "SlowDown"));
	object_store_close(os);
}

static void what_is_too_large_is_refused(void **state)
{
	struct object_store *os = s3(PLAIN);
	char text[64];

	(void)state;
	range_status = "200 OK";
	range_headers = "";
	range_body = "0123456789";
	script_set(answer_range);
	assert_int_equal(get(os, (struct object_request){ .max_len = 9 }, text), -EFBIG);
	assert_int_equal(get(os, (struct object_request){ .max_len = 10 }, text), 0);
	assert_int_equal(script_requests(), 2);
	object_store_close(os);
}

/* --- clocks --- */

static void answer_by_other_clock(const char *head, const char *body, unsigned n, struct answer *a)
{
	(void)body;
	(void)n;
	/* It is in the year 2040, and refuses all else. */
	if (strstr(head, "x-amz-date: 2040"))
		answer_http(a, "200 OK", "Date: Sun, 01 Jan 2040 00:00:00 GMT\r\n", "good");
	else
		answer_http(a, "403 Forbidden", "Date: Sun, 01 Jan 2040 00:00:00 GMT\r\n",
			    "<Error><Code>RequestTimeTooSkewed</Code></Error>");
}

static void the_services_clock_is_taken(void **state)
{
	struct object_store *os = s3(PLAIN);
	char text[64];

	(void)state;
	script_set(answer_by_other_clock);
	assert_int_equal(get(os, (struct object_request){ 0 }, text), 0);
	assert_string_equal(text, "good");
	assert_int_equal(script_requests(), 2);
	assert_int_equal(get(os, (struct object_request){ 0 }, text), 0);
	assert_int_equal(script_requests(), 3); /* it is remembered */
	object_store_close(os);
}

/* --- credentials --- */

static char cred_path[64];

static void write_keys(const char *name)
{
	FILE *f = fopen(cred_path, "we");

	assert_non_null(f);
	fprintf(f, "[default]\naws_access_key_id = %s\naws_secret_access_key = s\n", name);
	fclose(f);
}

static void answer_expired(const char *head, const char *body, unsigned n, struct answer *a)
{
	(void)body;
	if (strstr(head, "Credential=NEW/")) {
		answer_http(a, "200 OK", "", "good");
		return;
	}
	if (n == 1)
		write_keys("NEW");
	answer_error(a, "400 Bad Request", "ExpiredToken");
}

static void expired_credentials_are_renewed_meanwhile_all_wait(void **state)
{
	char source[80], text[64];

	(void)state;
	strcpy(cred_path, "/tmp/varve-s3-XXXXXX");
	int fd = mkstemp(cred_path);
	assert_true(fd >= 0);
	close(fd);
	write_keys("OLD");
	snprintf(source, sizeof(source), "file:%s", cred_path);
	struct object_store *os = s3((struct object_s3_options){ .credentials = source });
	script_set(answer_expired);
	assert_int_equal(get(os, (struct object_request){ 0 }, text), 0);
	assert_string_equal(text, "good");
	assert_in_range(script_requests(), 2, 4);
	object_store_close(os);
	/* Those of the environment will not change. */
	os = s3(PLAIN);
	script_set(answer_expired);
	assert_int_equal(get(os, (struct object_request){ 0 }, text), -EACCES);
	assert_int_equal(script_requests(), 1);
	object_store_close(os);
	unlink(cred_path);
}

/* --- listings and deletions --- */

#define PAGE(truncated, keys) \
	"<ListBucketResult><IsTruncated>" truncated "</IsTruncated>" keys "</ListBucketResult>"
#define KEY(k) "<Contents><Key>" k "</Key><Size>1</Size></Contents>"

static void answer_pages(const char *head, const char *body, unsigned n, struct answer *a)
{
	(void)body;
	(void)n;
	if (strstr(head, "start-after=pre%2FZZ&") || strstr(head, "start-after=pre%2FZZ "))
		answer_http(a, "200 OK", "", PAGE("false", KEY("pre/a") KEY("pre/b")));
	else
		answer_http(a, "200 OK", "", PAGE("true", KEY("pre/A") KEY("pre/ZZ")));
}

static void answer_same_page(const char *head, const char *body, unsigned n, struct answer *a)
{
	(void)head;
	(void)body;
	(void)n;
	answer_http(a, "200 OK", "", PAGE("true", KEY("pre/A")));
}

static void pages_of_others_keys_are_passed_over(void **state)
{
	struct object_store *os = s3(PLAIN);
	struct object_request r = { .op = OBJECT_LIST, .key = "" };

	(void)state;
	script_set(answer_pages);
	object_run(os, &r, 1);
	assert_int_equal(r.result, 0);
	assert_int_equal(r.n_entries, 2);
	assert_string_equal(r.entries[0].key, "a");
	assert_false(r.more);
	assert_int_equal(script_requests(), 2);
	object_request_fini(&r);
	/* A service that goes in circles. */
	r = (struct object_request){ .op = OBJECT_LIST, .key = "" };
	script_set(answer_same_page);
	assert_int_equal(run(os, &r, NULL, 0), -EBADMSG);
	object_store_close(os);
}

static unsigned deletions; /* of single keys */

static void answer_deletes(const char *head, const char *body, unsigned n, struct answer *a)
{
	(void)n;
	if (strncmp(head, "POST ", 5) == 0 && strstr(body, "<Key>pre/no</Key>"))
		answer_http(a, "200 OK", "",
			    "<DeleteResult><Error><Key>pre/no</Key>"
			    "<Code>AccessDenied</Code></Error></DeleteResult>");
	else if (strncmp(head, "POST ", 5) == 0)
		answer_error(a, "501 Not Implemented", "NotImplemented");
	else if (strstr(head, "DELETE /bkt/pre/k2 "))
		answer_error(a, "404 Not Found", "NoSuchKey");
	else if (strncmp(head, "DELETE /bkt/pre/k", 17) == 0 && ++deletions)
		answer_http(a, "204 No Content", "", "");
	else
		answer_error(a, "400 Bad Request", "Unexpected");
}

static void keys_are_deleted_singly_where_there_is_no_other_way(void **state)
{
	static const char *const names[] = { "k1", "k2", "k3" }, *const no[] = { "k1", "no" };
	struct object_store *os = s3(PLAIN);
	struct object_request r = { .op = OBJECT_DELETE, .names = no, .n_names = 2 };

	(void)state;
	script_set(answer_deletes);
	assert_int_equal(run(os, &r, NULL, 0), -EACCES);
	r = (struct object_request){ .op = OBJECT_DELETE, .names = names, .n_names = 3 };
	assert_int_equal(run(os, &r, NULL, 0), 0);
	assert_int_equal(deletions, 2);
	assert_int_equal(script_requests(), 1 + 1 + 3);
	r = (struct object_request){ .op = OBJECT_DELETE, .names = names, .n_names = 3 };
	assert_int_equal(run(os, &r, NULL, 0), 0);
	assert_int_equal(script_requests(), 5 + 3); /* it is remembered */
	r = (struct object_request){ .op = OBJECT_DELETE };
	assert_int_equal(run(os, &r, NULL, 0), 0);
	object_store_close(os);
}

/* --- caches, slow ones, the end --- */

static void answer_cache(const char *head, const char *body, unsigned n, struct answer *a)
{
	(void)head;
	(void)body;
	(void)n;
	answer_http(a, "404 Not Found", "", "<Error><Code>NoSuchKey</Code></Error>");
}

static void a_cache_is_asked_first_and_never_believed_that_nothing_is_there(void **state)
{
	char proxy[64], text[64];

	(void)state;
	snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%d", script.port);
	/* The service itself is at a port where nobody listens. */
	struct object_store *os = s3((struct object_s3_options){
		.endpoint = "http://127.0.0.1:1", .proxy = proxy, .timeout_ms = 300 });
	steps = (const char *const[]){ NULL };
	script_set(answer_steps);
	assert_int_equal(get(os, (struct object_request){ .immutable = true }, text), 0);
	assert_string_equal(text, "good");
	assert_int_equal(get(os, (struct object_request){ 0 }, text), -ETIMEDOUT);
	script_set(answer_cache);
	assert_int_equal(get(os, (struct object_request){ .immutable = true }, text), -ETIMEDOUT);
	assert_int_equal(script_requests(), 1);
	object_store_close(os);
}

static void answer_slow(const char *head, const char *body, unsigned n, struct answer *a)
{
	(void)head;
	(void)body;
	answer_http(a, "200 OK", "", "good");
	if (n == 40)
		a->delay_ms = 15000;
}

static void a_slow_small_read_is_asked_twice(void **state)
{
	struct object_store *os = s3(PLAIN);
	struct object_counts c;
	int64_t start = monotonic_ms();

	(void)state;
	script_set(answer_slow);
	for (int i = 0; i < 60; i++) {
		char text[64];
		assert_int_equal(get(os, (struct object_request){ .max_len = 100 }, text), 0);
	}
	assert_true(monotonic_ms() - start < 14000);
	object_store_counts(os, &c);
	assert_in_range(c.hedged, 1, 4);
	object_store_close(os);
}

static void note_result(struct object_request *r)
{
	*(int *)r->arg = r->result;
}

static void closing_ends_what_is_under_way(void **state)
{
	int result[40];
	struct object_request r[ARRAY_SIZE(result)];
	struct object_store *os = s3((struct object_s3_options){ .max_in_flight = 4 });

	(void)state;
	script_set(answer_slow);
	pthread_mutex_lock(&script.lock); /* it does not answer now */
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		result[i] = 1;
		r[i] = (struct object_request){
			.op = OBJECT_GET, .key = "k", .done = note_result, .arg = &result[i]
		};
		object_submit(os, &r[i]);
	}
	usleep(20000); /* in which some are sent; others wait for their turn */
	object_store_close(os);
	pthread_mutex_unlock(&script.lock);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++)
		assert_int_equal(result[i], -ECANCELED);
}

static int set_up(void **state)
{
	(void)state;
	setenv("AWS_ACCESS_KEY_ID", "AK", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "the-secret", 1);
	setenv("AWS_SESSION_TOKEN", "token", 1);
	script_start();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	script_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_what_services_expect),
		cmocka_unit_test(a_range_is_what_was_asked_or_nothing),
		cmocka_unit_test(what_may_pass_is_tried_again),
		cmocka_unit_test(what_will_not_pass_ends_at_once),
		cmocka_unit_test(a_request_ends_at_its_deadline),
		cmocka_unit_test(what_is_too_large_is_refused),
		cmocka_unit_test(the_services_clock_is_taken),
		cmocka_unit_test(expired_credentials_are_renewed_meanwhile_all_wait),
		cmocka_unit_test(pages_of_others_keys_are_passed_over),
		cmocka_unit_test(keys_are_deleted_singly_where_there_is_no_other_way),
		cmocka_unit_test(a_cache_is_asked_first_and_never_believed_that_nothing_is_there),
		cmocka_unit_test(a_slow_small_read_is_asked_twice),
		cmocka_unit_test(closing_ends_what_is_under_way),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
