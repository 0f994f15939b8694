#include "store/base/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void context_is_put_before_the_message(void **state)
{
	struct error err = ERROR_INIT;
	(void)state;

	assert_int_equal(error_set(&err, -EINVAL, "bad level %d", 7), -EINVAL);
	assert_string_equal(error_text(&err), "bad level 7");
	assert_int_equal(error_prefix(&err, -EBADMSG, "file %s", "x"), -EBADMSG);
	assert_string_equal(error_text(&err), "file x: bad level 7");
	assert_int_equal(err.code, -EBADMSG);
}

static void errno_text_is_appended(void **state)
{
	struct error err = ERROR_INIT;
	(void)state;

	assert_int_equal(error_set_errno(&err, -ENOENT, "open %s", "y"), -ENOENT);
	assert_string_equal(error_text(&err), "open y: No such file or directory");
}

static void code_stands_for_a_missing_message(void **state)
{
	struct error err = ERROR_INIT;
	(void)state;

	assert_int_equal(error_prefix(&err, -ENOSPC, "write"), -ENOSPC);
	assert_string_equal(error_text(&err), "write: No space left on device");
	err = (struct error){ .code = -EBUSY };
	assert_string_equal(error_text(&err), "Device or resource busy");
	err.code = -99999;
	assert_non_null(error_text(&err));
}

static void null_error_returns_only_the_code(void **state)
{
	(void)state;
	assert_int_equal(error_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(error_set_errno(NULL, -EIO, "x"), -EIO);
	assert_int_equal(error_prefix(NULL, -EIO, "x"), -EIO);
	assert_non_null(error_text(NULL));
}

static void long_messages_are_cut_and_terminated(void **state)
{
	struct error err = ERROR_INIT;
	char longest[2000];
	(void)state;

	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	error_set(&err, -EIO, "%s", longest);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	error_prefix(&err, -EIO, "context");
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	assert_memory_equal(err.msg, "context: aaa", 12);
	error_prefix(&err, -EIO, "%s", longest);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	error_set_errno(&err, -EIO, "%s", longest);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
}

static void message_may_be_an_argument_of_the_next(void **state)
{
	struct error err = ERROR_INIT;
	(void)state;

	error_set(&err, -EIO, "inner");
	error_set(&err, -EIO, "outer (%s)", err.msg);
	assert_string_equal(err.msg, "outer (inner)");
}

static void message_is_one_line_without_control_characters(void **state)
{
	struct error err = ERROR_INIT;
	(void)state;

	error_set(&err, -EIO, "a\nb\tc\033[31md\n\n");
	assert_string_equal(err.msg, "a b c?[31md");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(context_is_put_before_the_message),
		cmocka_unit_test(errno_text_is_appended),
		cmocka_unit_test(code_stands_for_a_missing_message),
		cmocka_unit_test(null_error_returns_only_the_code),
		cmocka_unit_test(long_messages_are_cut_and_terminated),
		cmocka_unit_test(message_may_be_an_argument_of_the_next),
		cmocka_unit_test(message_is_one_line_without_control_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
