#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "snapshotd/http/router.h"

static const struct route table[] = {
	{ "GET", "/healthz", NULL, 0, NULL },
	{ "POST", "/api/snapshots/import", NULL, ROUTE_LONG, NULL },
	{ "GET", "/api/snapshots", NULL, 0, NULL },
	{ "GET", "/api/snapshots/:name", NULL, 0, NULL },
	{ "DELETE", "/api/snapshots/:name", NULL, 0, NULL },
	{ "GET", "/api/snapshots/:name/export", NULL, ROUTE_LONG, NULL },
	{ "GET", "/api/snapshots/:name/diff/:other", NULL, 0, NULL },
};

static void requests_find_their_route(void **state)
{
	static const struct {
		const char *method, *path;
		int rc, route;
		const char *first, *second;
	} cases[] = {
		{ "GET", "/healthz", 0, 0, NULL, NULL },
		{ "HEAD", "/healthz", 0, 0, NULL, NULL },
		{ "POST", "/api/snapshots/import", 0, 1, NULL, NULL },
		{ "GET", "/api/snapshots/import", 0, 3, "import", NULL },
		{ "GET", "/api/snapshots", 0, 2, NULL, NULL },
		{ "GET", "/api/snapshots/a", 0, 3, "a", NULL },
		{ "DELETE", "/api/snapshots/a", 0, 4, "a", NULL },
		{ "GET", "/api/snapshots/a/diff/b", 0, 6, "a", "b" },
		{ "GET", "/api/snapshots/%2Fmnt%2Fx%20y", 0, 3, "/mnt/x y", NULL },
		{ "GET", "/api/snapshots/a+b", 0, 3, "a+b", NULL },
		{ "GET", "/", -ENOENT, 0, NULL, NULL },
		{ "GET", "", -ENOENT, 0, NULL, NULL },
		{ "GET", "/api", -ENOENT, 0, NULL, NULL },
		{ "GET", "/api/snapshots/", -ENOENT, 0, NULL, NULL },
		{ "GET", "/api/snapshots/a/", -ENOENT, 0, NULL, NULL },
		{ "GET", "/api/snapshots//diff/b", -ENOENT, 0, NULL, NULL },
		{ "GET", "/api/snapshots/a/b", -ENOENT, 0, NULL, NULL },
		{ "GET", "/healthz2", -ENOENT, 0, NULL, NULL },
		{ "GET", "/health", -ENOENT, 0, NULL, NULL },
		{ "GET", "//healthz", -ENOENT, 0, NULL, NULL },
		{ "GET", "http://host/healthz", -ENOENT, 0, NULL, NULL },
		{ "PUT", "/healthz", -EOPNOTSUPP, 0, NULL, NULL },
		{ "HEAD", "/api/snapshots/a/export", -EOPNOTSUPP, 0, NULL, NULL },
		{ "get", "/healthz", -EOPNOTSUPP, 0, NULL, NULL },
		{ "GET", "/api/snapshots/%", -EINVAL, 0, NULL, NULL },
		{ "GET", "/api/snapshots/%2", -EINVAL, 0, NULL, NULL },
		{ "GET", "/api/snapshots/a%zz", -EINVAL, 0, NULL, NULL },
		{ "GET", "/api/snapshots/a%00b", -EINVAL, 0, NULL, NULL },
		{ "GET", "/api/snapshots/a/diff/%G0", -EINVAL, 0, NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct route_match m = { 0 };
		int rc = router_find(table, ARRAY_SIZE(table), cases[i].method, cases[i].path, &m);

		if (rc != cases[i].rc)
			fail_msg("%s %s: %d", cases[i].method, cases[i].path, rc);
		if (rc < 0)
			continue;
		assert_ptr_equal(m.route, &table[cases[i].route]);
		if (cases[i].first)
			assert_string_equal(m.captures[0], cases[i].first);
		else
			assert_null(m.captures[0]);
		if (cases[i].second)
			assert_string_equal(m.captures[1], cases[i].second);
		route_match_fini(&m);
	}
}

static void wrong_method_names_the_right_ones(void **state)
{
	struct route_match m = { 0 };

	(void)state;
	assert_int_equal(router_find(table, ARRAY_SIZE(table), "PUT", "/api/snapshots/x", &m),
			 -EOPNOTSUPP);
	assert_string_equal(m.allow, "GET, DELETE");
}

static void url_decode_takes_escapes_and_refuses_bad_ones(void **state)
{
	static const struct {
		const char *in, *out; /* NULL: -EINVAL */
		bool plus;
	} cases[] = {
		{ "", "", false },	  { "abc", "abc", false },     { "%41%62", "Ab", false },
		{ "%ff", "\xff", false }, { "a+b", "a+b", false },     { "a+b", "a b", true },
		{ "%2B", "+", true },	  { "%", NULL, false },	       { "%4", NULL, false },
		{ "a%4", NULL, false },	  { "%4g", NULL, false },      { "%00", NULL, false },
		{ "%-1", NULL, false },	  { "100%25", "100%", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *out = NULL;
		int rc = url_decode(cases[i].in, strlen(cases[i].in), cases[i].plus, &out);

		assert_int_equal(rc, cases[i].out ? 0 : -EINVAL);
		if (rc == 0)
			assert_string_equal(out, cases[i].out);
		free(out);
	}
}

static void url_decode_stays_within_its_length(void **state)
{
	char *out = NULL;

	(void)state;
	assert_int_equal(url_decode("%41", 2, false, &out), -EINVAL);
	assert_int_equal(url_decode("%41", 1, false, &out), -EINVAL);
	assert_int_equal(url_decode("ab%41", 2, false, &out), 0);
	assert_string_equal(out, "ab");
	free(out);
}

static void queries_are_taken_apart(void **state)
{
	struct query q;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(query_parse("a=1&b=x%26y&&c&d=p+q&=z", &q, &err), 0);
	assert_int_equal(q.n, 5);
	assert_string_equal(query_get(&q, "a"), "1");
	assert_string_equal(query_get(&q, "b"), "x&y");
	assert_string_equal(query_get(&q, "c"), "");
	assert_string_equal(query_get(&q, "d"), "p q");
	assert_string_equal(query_get(&q, ""), "z");
	assert_null(query_get(&q, "e"));
	query_fini(&q);
	assert_int_equal(query_parse("", &q, &err), 0);
	assert_int_equal(q.n, 0);
}

static void bad_queries_are_refused(void **state)
{
	struct query q;
	struct error err = ERROR_INIT;
	char many[4 * QUERY_PARAMS_MAX + 8] = "";

	(void)state;
	assert_int_equal(query_parse("a=1&a=2", &q, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "\"a\""));
	assert_int_equal(query_parse("a=%", &q, &err), -EINVAL);
	assert_int_equal(query_parse("%=1", &q, &err), -EINVAL);
	for (int i = 0; i <= QUERY_PARAMS_MAX; i++) {
		char item[4] = { (char)('A' + i / 26), (char)('a' + i % 26), '&', 0 };

		strcat(many, item);
	}
	assert_int_equal(query_parse(many, &q, &err), -EINVAL);
}

static void query_values_are_checked(void **state)
{
	static const char *const known[] = { "on", "off", "bare", "n", "bad", NULL };
	struct query q;
	struct error err = ERROR_INIT;
	bool b = false;
	uint64_t n = 7;

	(void)state;
	assert_int_equal(query_parse("on=1&off=false&bare&n=18446744073709551615&bad=2x", &q, &err),
			 0);
	assert_int_equal(query_check(&q, known, &err), 0);
	assert_int_equal(query_check(&q, known + 1, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "\"on\""));
	assert_int_equal(query_bool(&q, "on", &b, &err), 0);
	assert_true(b);
	assert_int_equal(query_bool(&q, "absent", &b, &err), 0);
	assert_true(b);
	assert_int_equal(query_bool(&q, "off", &b, &err), 0);
	assert_false(b);
	assert_int_equal(query_bool(&q, "bare", &b, &err), 0);
	assert_true(b);
	assert_int_equal(query_bool(&q, "bad", &b, &err), -EINVAL);
	assert_int_equal(query_u64(&q, "absent", &n, &err), 0);
	assert_int_equal(n, 7);
	assert_int_equal(query_u64(&q, "bad", &n, &err), -EINVAL);
	assert_int_equal(query_u64(&q, "bare", &n, &err), -EINVAL);
	assert_int_equal(query_u64(&q, "n", &n, &err), 0);
	assert_true(n == UINT64_MAX);
	query_fini(&q);
	assert_int_equal(query_parse("n=18446744073709551616&m=-1", &q, &err), 0);
	assert_int_equal(query_u64(&q, "n", &n, &err), -EINVAL);
	assert_int_equal(query_u64(&q, "m", &n, &err), -EINVAL);
	query_fini(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_find_their_route),
		cmocka_unit_test(wrong_method_names_the_right_ones),
		cmocka_unit_test(url_decode_takes_escapes_and_refuses_bad_ones),
		cmocka_unit_test(url_decode_stays_within_its_length),
		cmocka_unit_test(queries_are_taken_apart),
		cmocka_unit_test(bad_queries_are_refused),
		cmocka_unit_test(query_values_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
