/* What a program's failure to start is called. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

#include <cmocka.h>

#include "snapshotd/http/budget.h"
#include "snapshotd/sandbox/sandbox_exec.h"

static void failures_have_the_codes_of_a_shell(void **state)
{
	static const struct {
		int rc, code;
	} cases[] = {
		{ -ENOENT, 127 },
		{ -EACCES, 126 },
		{ -ENOEXEC, 126 },
		{ -ENOTDIR, 126 },
		{ -E2BIG, 126 },
		{ -EINVAL, 126 },
		{ -ELOOP, 126 },
		{ -ENAMETOOLONG, 126 },
		{ -EISDIR, 126 },
		{ -EPERM, 126 },
		{ -ETXTBSY, 126 },
		/* Not the program's fault: there is no result. */
		{ -ENOMEM, 0 },
		{ -EMFILE, 0 },
		{ -EAGAIN, 0 },
		{ -ESRCH, 0 },
		{ -EIO, 0 },
		{ -ECANCELED, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(exec_code_of_failure(cases[i].rc), cases[i].code);
}

static void nothing_is_kept_at_first(void **state)
{
	struct budget output;
	struct sandbox_execs *x;

	(void)state;
	budget_init(&output, NULL, 1000);
	x = sandbox_execs_new(&output);
	assert_non_null(x);
	sandbox_execs_expire(x);
	sandbox_execs_free(x);
	sandbox_execs_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failures_have_the_codes_of_a_shell),
		cmocka_unit_test(nothing_is_kept_at_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
