/* exec_request: what the daemon writes is what the agent reads, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "snapshotd/container/container_internal.h"
#include "snapshotd/container/init/request.h"

static void requests_come_back(void **state)
{
	const char *const argv[] = { "prog", "", "a b\n", "\xff", NULL };
	const char *const env[] = { "A=1", "B=", NULL };
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct buf b = BUF_INIT;
	struct request got;

	(void)state;
	rq.argv = (char *const *)argv;
	rq.env = (char *const *)env;
	rq.cwd = "/dir";
	rq.user = "bob:wheel";
	assert_int_equal(exec_encode(&rq, &b), 0);
	assert_int_equal(request_parse((char *)b.data, b.len, &got), 0);
	assert_string_equal(got.cwd, "/dir");
	assert_string_equal(got.user, "bob:wheel");
	for (size_t i = 0; i < 4; i++)
		assert_string_equal(got.argv[i], argv[i]);
	assert_null(got.argv[4]);
	assert_string_equal(got.env[0], "A=1");
	assert_string_equal(got.env[1], "B=");
	assert_null(got.env[2]);
	free(got.argv);
	buf_clear(&b);

	/* What is left out. */
	rq = (struct exec_request)EXEC_REQUEST_INIT;
	rq.argv = (char *const *)argv;
	assert_int_equal(exec_encode(&rq, &b), 0);
	assert_int_equal(request_parse((char *)b.data, b.len, &got), 0);
	assert_string_equal(got.cwd, "");
	assert_string_equal(got.user, "");
	assert_null(got.env[0]);
	free(got.argv);
	buf_fini(&b);
}

static void requests_have_a_program_and_a_limit(void **state)
{
	const char *const none[] = { NULL };
	char *big = malloc(INIT_REQUEST_MAX + 1);
	const char *const one[] = { "p", big, NULL }, *const two[] = { big, big, NULL };
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(exec_encode(&rq, &b), -EINVAL);
	rq.argv = (char *const *)none;
	assert_int_equal(exec_encode(&rq, &b), -EINVAL);
	memset(big, 'x', INIT_REQUEST_MAX);
	big[INIT_REQUEST_MAX] = 0;
	rq.argv = (char *const *)one;
	buf_clear(&b);
	assert_int_equal(exec_encode(&rq, &b), -E2BIG);
	big[INIT_REQUEST_MAX - 60] = 0;
	buf_clear(&b);
	assert_int_equal(exec_encode(&rq, &b), 0);
	assert_true(b.len <= INIT_REQUEST_MAX);
	rq.argv = (char *const *)two;
	buf_clear(&b);
	assert_int_equal(exec_encode(&rq, &b), -E2BIG);
	buf_fini(&b);
	free(big);
}

/* Cut anywhere, or with any byte changed: refused or read, in bounds (the sanitizer looks). */
static void damaged_requests_are_survived(void **state)
{
	const char *const argv[] = { "prog", "arg", NULL }, *const env[] = { "A=1", NULL };
	struct exec_request rq = EXEC_REQUEST_INIT;
	struct buf b = BUF_INIT;
	struct request got;

	(void)state;
	rq.argv = (char *const *)argv;
	rq.env = (char *const *)env;
	assert_int_equal(exec_encode(&rq, &b), 0);
	for (size_t len = 0; len < b.len; len++) {
		char *copy = malloc(len ? len : 1);

		memcpy(copy, b.data, len);
		if (request_parse(copy, len, &got) == 0) {
			assert_null(got.env[0]); /* cut between the strings */
			free(got.argv);
		}
		for (unsigned x = 0; len > 0 && x < 256; x++) {
			memcpy(copy, b.data, len);
			copy[len - 1] = (char)x;
			if (request_parse(copy, len, &got) == 0)
				free(got.argv);
		}
		free(copy);
	}
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_come_back),
		cmocka_unit_test(requests_have_a_program_and_a_limit),
		cmocka_unit_test(damaged_requests_are_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
