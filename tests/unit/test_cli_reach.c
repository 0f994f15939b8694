/* What package tools say of what they cannot reach, and programs run for it: tools/cli/reach.h,
 * child.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/cli/child.h"
#include "tools/cli/reach.h"

static void feed(struct reach *r, const char *text)
{
	while (*text) {
		size_t n = strcspn(text, "\n");
		reach_line(r, text, n);
		text += n + (text[n] == '\n');
	}
}

/* What the tools printed when it happened; `text` "" where nothing is to be found. */
static const struct {
	const char *said, *text;
} cases[] = {
	{ "Get:1 http://mirror.example/debian stable InRelease [151 kB]\n"
	  "E: Unable to locate package frotz\n",
	  "" },
	{ "Ign:1 http://127.0.0.1:9/debian stable InRelease\n"
	  "Err:1 http://127.0.0.1:9/debian stable InRelease\n"
	  "  Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)\n"
	  "Reading package lists...\n",
	  "could not reach 127.0.0.1:9: Could not connect to 127.0.0.1:9 (127.0.0.1). - connect "
	  "(111: Connection refused" },
	{ "W: Failed to fetch http://mirror.example/debian/dists/stable/InRelease  Temporary "
	  "failure resolving 'mirror.example'\n"
	  "W: Failed to fetch http://other.example/dists/x/InRelease  Connection timed out\n",
	  "could not reach mirror.example: Temporary failure resolving 'mirror.example'" },
	{ "E: Failed to fetch http://user:pw@mirror.example:8080/x.deb  404  Not Found [IP: "
	  "192.0.2.1 80]\n",
	  "could not reach mirror.example:8080: 404  Not Found [IP: 192.0.2.1 80]" },
	{ "Err:2 http://[2001:db8::1]:80/ubuntu jammy InRelease\n  Connection failed\n",
	  "could not reach [2001:db8::1]:80: Connection failed" },
	{ "Err:2 http://mirror.example/ubuntu jammy InRelease\n"
	  "  The following signatures couldn't be verified because the public key is not "
	  "available: NO_PUBKEY 871920D1991BC93C\n"
	  "W: GPG error: http://mirror.example/ubuntu jammy InRelease: The following signatures "
	  "couldn't be verified because the public key is not available: NO_PUBKEY 0123\n",
	  "no keyring here has the key 871920D1991BC93C that signs it" },
	{ "npm ERR! code ENOTFOUND\n"
	  "npm ERR! network request to https://registry.example/foo failed, reason: getaddrinfo "
	  "ENOTFOUND registry.example\n",
	  "could not reach registry.example: getaddrinfo ENOTFOUND registry.example" },
	{ "npm error code SELF_SIGNED_CERT_IN_CHAIN\n"
	  "npm error request to https://registry.example/foo failed, reason: self-signed "
	  "certificate in certificate chain\n",
	  "could not reach registry.example: self-signed certificate in certificate chain" },
	{ "npm error 404 Not Found - GET https://registry.example/frotz - Not found\n",
	  "could not reach registry.example: 404 Not Found" },
	{ "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by "
	  "'NewConnectionError('<pip._vendor.X object at 0x7f>: Failed to establish a new "
	  "connection: [Errno 111] Connection refused')': /simple/foo/\n",
	  "could not reach the package index: Failed to establish a new connection: [Errno 111] "
	  "Connection refused" },
	{ "Looking in indexes: http://127.0.0.1:9/simple\n"
	  "WARNING: Retrying (Retry(total=0)) after connection broken by 'ProtocolError'\n",
	  "could not reach 127.0.0.1:9: 'ProtocolError'" },
	{ "ERROR: HTTPConnectionPool(host='index.example', port=443): Max retries exceeded with "
	  "url: /simple (Caused by NewConnectionError('<x>: Failed to establish a new "
	  "connection: [Errno -3] Temporary failure in name resolution'))\n",
	  "could not reach index.example: Failed to establish a new connection: [Errno -3] "
	  "Temporary failure in name resolution" },
	{ "fatal: unable to access 'https://git.example/x/': Could not resolve host: git.example\n",
	  "could not reach git.example: Could not resolve host: git.example" },
	{ "curl: (7) Failed to connect to 127.0.0.1 port 9 after 0 ms: Couldn't connect\n",
	  "could not reach 127.0.0.1: Failed to connect to 127.0.0.1 port 9 after 0 ms: "
	  "Couldn't connect" },
	{ "wget: unable to resolve host address \xe2\x80\x98web.example\xe2\x80\x99\n",
	  "could not reach web.example: unable to resolve host address "
	  "\xe2\x80\x98web.example\xe2\x80\x99" },
	{ "Err:1\nErr:\nNO_PUBKEY \nFailed to fetch \nPool(host='\nrequest to  failed, reason:\n",
	  "" },
};

static void what_was_unreachable_is_found(void **state)
{
	char text[400];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct reach r = REACH_INIT;
		feed(&r, cases[i].said);
		reach_text(&r, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
		assert_int_equal(reach_found(&r), cases[i].text[0] != '\0');
	}
}

static void long_lines_and_hosts_do_no_harm(void **state)
{
	static char line[100000];
	struct reach r = REACH_INIT;

	(void)state;
	memset(line, 'x', sizeof(line));
	memcpy(line, "E: Failed to fetch http://", 26);
	reach_line(&r, line, sizeof(line));
	assert_false(reach_found(&r)); /* no host is that long */
	memcpy(line + 60, "/a  ", 4);
	reach_line(&r, line, sizeof(line));
	assert_true(reach_found(&r));
	assert_int_equal(strlen(r.host), 60 - 26);
	assert_true(strlen(r.reason) < sizeof(r.reason));
}

struct lines {
	unsigned n;
	char last[64];
};

static void take_line(void *arg, const char *line, size_t len)
{
	struct lines *l = arg;

	l->n++;
	snprintf(l->last, sizeof(l->last), "%.*s", (int)len, line);
}

static int run(const char *script, struct lines *l, char *out, size_t size)
{
	char *argv[] = { "sh", "-c", (char *)script, NULL };
	struct child c = { .on_line = take_line, .arg = l };
	size_t n = 0;
	ssize_t got;

	assert_int_equal(child_start(&c, argv, NULL), 0);
	while (n + 1 < size && (got = read(c.out_fd, out + n, size - 1 - n)) > 0)
		n += (size_t)got;
	out[n] = '\0';
	return child_wait(&c);
}

static void a_child_is_read_and_waited_for(void **state)
{
	struct lines l = { 0 };
	char out[64];

	(void)state;
	assert_int_equal(run("echo out; echo one >&2; printf two >&2; exit 7", &l, out, 64), 7);
	assert_string_equal(out, "out\n");
	assert_int_equal(l.n, 2);
	assert_string_equal(l.last, "two");
	assert_int_equal(run("kill -TERM $$", &l, out, 64), 128 + 15);
	/* Nobody reads on: it does not hang. */
	assert_int_equal(run("yes", &l, out, 2), 128 + 13);
	/* It has no descriptors of ours. */
	int fd = dup2(0, 77);
	assert_int_equal(fd, 77);
	assert_int_equal(run("[ ! -e /proc/self/fd/77 ]", &l, out, 64), 0);
	close(fd);
}

static void a_program_that_is_not_there(void **state)
{
	char *argv[] = { "varve-no-such-program", NULL };
	struct child c = { .on_line = take_line };
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(child_start(&c, argv, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "varve-no-such-program"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_unreachable_is_found),
		cmocka_unit_test(long_lines_and_hosts_do_no_harm),
		cmocka_unit_test(a_child_is_read_and_waited_for),
		cmocka_unit_test(a_program_that_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
