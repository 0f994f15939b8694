/* container: real containers, their programs, and what becomes of them. */
#include "tests/unit/container_fixture.h"

#include "snapshotd/container.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- programs ---- */

static void output_and_exit_status_come_back(void **state)
{
	const struct exec_request rq = EXEC_REQUEST_INIT;
	struct cf_output o;
	struct cf f;

	(void)state;
	cf_open_started(&f);
	cf_run(&f, &rq, "echo out; echo err >&2; exit 7", &o);
	assert_int_equal(o.rc, 0);
	assert_int_equal(o.result.exit_code, 7);
	assert_int_equal(o.result.signal, 0);
	assert_string_equal(cf_out(&o), "out\n");
	assert_string_equal(cf_err(&o), "err\n");
	cf_output_fini(&o);
	cf_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_and_exit_status_come_back),
	};
	(void)now_ms;

	return cmocka_run_group_tests(tests, NULL, NULL);
}
