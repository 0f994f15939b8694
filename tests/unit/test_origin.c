#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "snapshotd/http/origin.h"

#define MOZILLA "Mozilla/5.0 (X11; Linux x86_64)"

static int check(const struct origin_facts *f, bool unix_socket, const json_t *allowed)
{
	const struct origin_names names = { .unix_socket = unix_socket,
					    .listen_host = unix_socket ? NULL : "Varve.Example.Org",
					    .local_address = unix_socket ? "" : "10.1.2.3",
					    .allowed_hosts = allowed };
	struct error err = ERROR_INIT;
	int rc = origin_check(f, &names, &err);

	if (rc < 0)
		assert_true(err.msg[0]);
	return rc;
}

static void hosts_of_strangers_are_refused(void **state)
{
	static const struct {
		const char *host;
		bool on_socket, on_tcp; /* allowed */
	} cases[] = {
		{ NULL, true, true },
		{ "", true, true },
		{ "localhost", true, true },
		{ "LocalHost:8080", true, true },
		{ "localhost.", true, true },
		{ "a.b.localhost:1", true, true },
		{ "127.0.0.1:8080", true, true },
		{ "127.9.9.9", true, true },
		{ "[::1]:8080", true, true },
		{ "[::ffff:127.0.0.1]", true, true },
		{ "other.example", true, true }, /* listed */
		{ "OTHER.example:99", true, true },
		{ "x", true, false },
		{ "snapshotd:80", true, false },
		{ "varve.example.org:80", false, true }, /* listened on */
		{ "10.1.2.3:80", false, true },
		{ "10.1.2.4", false, false },
		{ "evil.example", false, false },
		{ "evil.example:8080", false, false },
		{ "localhost.evil.example", false, false },
		{ "evillocalhost.example", false, false },
		{ "127.0.0.1.evil.example", false, false },
		{ "x.other.example", false, false },
		{ "0.0.0.0", false, false },
		{ "[::]", false, false },
		{ "[fe80::1]", false, false },
		{ "[::1", false, false },
		{ "[::1]x", false, false },
		{ "localhost:8x", false, false },
		{ "localhost:80@evil.example", false, false },
		{ "localhost/evil.example", false, false },
		{ "localhost evil.example", false, false },
		{ ":80", false, false },
	};
	json_t *allowed = json_pack("[s]", "Other.Example");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct origin_facts f = { .host = cases[i].host };

		if ((check(&f, true, allowed) == 0) != cases[i].on_socket ||
		    (check(&f, false, allowed) == 0) != cases[i].on_tcp)
			fail_msg("Host \"%s\"", cases[i].host);
	}
	json_decref(allowed);
}

static void two_hosts_are_refused(void **state)
{
	const struct origin_facts f = { .host = "localhost", .many_hosts = true };

	(void)state;
	assert_int_equal(check(&f, true, NULL), -EACCES);
}

static void pages_of_other_sites_are_refused(void **state)
{
	static const struct {
		const char *host, *origin, *site;
		bool allowed;
	} cases[] = {
		{ "localhost:8080", NULL, NULL, true },
		{ "localhost:8080", "http://localhost:8080", NULL, true },
		{ "localhost:8080", "https://LOCALHOST:8080", "same-origin", true },
		{ "localhost:8080", NULL, "none", true },
		{ "localhost:8080", NULL, "cross-site", false },
		{ "localhost:8080", NULL, "same-site", false },
		{ "localhost:8080", "http://localhost:8080", "cross-site", false },
		{ "localhost:8080", "http://localhost:8081", NULL, false },
		{ "localhost:8080", "http://localhost", NULL, false },
		{ "localhost:8080", "http://evil.example", NULL, false },
		{ "localhost:8080", "http://localhost:8080.evil.example", NULL, false },
		{ "localhost:8080", "null", NULL, false },
		{ "localhost:8080", "", NULL, false },
		{ "localhost:8080", "file://localhost:8080", NULL, false },
		{ NULL, "http://evil.example", NULL, false },
		{ "", "http://", NULL, true }, /* no browser sends such a Host */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct origin_facts f = { .host = cases[i].host,
						.origin = cases[i].origin,
						.fetch_site = cases[i].site };

		if ((check(&f, true, NULL) == 0) != cases[i].allowed)
			fail_msg("Origin \"%s\", site %s", cases[i].origin, cases[i].site);
	}
}

static void browsers_are_told_from_programs(void **state)
{
	static const struct {
		struct origin_facts f;
		bool is_browser;
	} cases[] = {
		{ { .host = "localhost" }, false },
		{ { .user_agent = "curl/8.5.0" }, false },
		{ { .user_agent = "node", .fetch_mode = "cors" }, false },
		{ { .user_agent = MOZILLA }, true },
		{ { .fetch_mode = "no-cors" }, true },
		{ { .fetch_mode = "navigate" }, true },
		{ { .fetch_site = "none" }, true },
		{ { .fetch_dest = "image" }, true },
		{ { .fetch_user = "?1" }, true },
		{ { .origin = "http://localhost" }, true },
		{ { .referer = "http://localhost/" }, true },
		{ { .cookie = "a=b" }, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (origin_is_browser(&cases[i].f) != cases[i].is_browser)
			fail_msg("case %zu", i);
}

static void types_that_a_page_may_send_are_refused(void **state)
{
	static const char form[] = "application/x-www-form-urlencoded";
	static const struct {
		const char *type, *user_agent;
		enum origin_body body;
		bool keyed, allowed;
	} cases[] = {
		{ "application/json", MOZILLA, ORIGIN_BODY_JSON, false, true },
		{ "Application/JSON; charset=utf-8", NULL, ORIGIN_BODY_JSON, false, true },
		{ "application/merge-patch+json", NULL, ORIGIN_BODY_JSON, false, true },
		{ "application/octet-stream", NULL, ORIGIN_BODY_JSON, false, false },
		{ "application/jsonx", NULL, ORIGIN_BODY_JSON, false, false },
		{ "text/plain", NULL, ORIGIN_BODY_JSON, false, false },
		{ "text/plain; application/json", NULL, ORIGIN_BODY_JSON, true, false },
		{ " TEXT/plain;x", NULL, ORIGIN_BODY_STREAM, true, false },
		{ "multipart/form-data; boundary=x", NULL, ORIGIN_BODY_JSON, true, false },
		{ "multipart/form-data", NULL, ORIGIN_BODY_FILE, false, false },
		{ form, "curl/8", ORIGIN_BODY_JSON, false, true },
		{ form, MOZILLA, ORIGIN_BODY_JSON, false, false },
		{ form, MOZILLA, ORIGIN_BODY_STREAM, true, false },
		{ NULL, "curl/8", ORIGIN_BODY_JSON, false, true },
		{ NULL, MOZILLA, ORIGIN_BODY_JSON, true, false },
		{ NULL, "curl/8", ORIGIN_BODY_FILE, false, true },
		{ "application/octet-stream", MOZILLA, ORIGIN_BODY_STREAM, false, true },
		{ "application/x-tar", NULL, ORIGIN_BODY_STREAM, false, true },
		{ "text/plain;charset=UTF-8", NULL, ORIGIN_BODY_FILE, true, true },
		{ "text/plain;charset=UTF-8", NULL, ORIGIN_BODY_FILE, false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct origin_facts f = { .content_type = cases[i].type,
						.user_agent = cases[i].user_agent };
		struct error err = ERROR_INIT;
		int rc = origin_check_type(&f, cases[i].body, cases[i].keyed, &err);

		if (rc != (cases[i].allowed ? 0 : -EINVAL))
			fail_msg("case %zu: \"%s\"", i, cases[i].type);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hosts_of_strangers_are_refused),
		cmocka_unit_test(two_hosts_are_refused),
		cmocka_unit_test(pages_of_other_sites_are_refused),
		cmocka_unit_test(browsers_are_told_from_programs),
		cmocka_unit_test(types_that_a_page_may_send_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
