/* Lines of the log: one a call, and text whatever is put into them. */
#include "store/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* What comes after the time of a line that has s in it. */
static const char *logged(const char *s)
{
	static char text[4096];
	int old = dup(STDERR_FILENO), fd = memfd_create("log", MFD_CLOEXEC);

	assert_true(old >= 0 && fd >= 0);
	assert_true(dup2(fd, STDERR_FILENO) >= 0);
	log_info("%s", s);
	assert_true(dup2(old, STDERR_FILENO) >= 0);
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	close(old);
	close(fd);
	assert_true(n > 0);
	text[n] = '\0';
	char *rest = strstr(text, "info: ");
	assert_non_null(rest);
	return rest;
}

static void a_line_is_text(void **state)
{
	static const struct {
		const char *said, *line;
	} cases[] = {
		{ "plain", "info: plain\n" },
		{ "two\nlines\r\t\x1b[31m", "info: two lines   [31m\n" },
		{ "x\x7fy", "info: x?y\n" },
		{ "gr\xc3\xbc\xc3\x9f \xe2\x82\xac", "info: gr\xc3\xbc\xc3\x9f \xe2\x82\xac\n" },
		{ "\xff\xc0\xaf.", "info: ???.\n" },
		{ "cut \xe2\x82", "info: cut ??\n" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(logged(cases[i].said), cases[i].line);
}

static void a_long_line_is_cut_between_characters(void **state)
{
	char said[4000];
	(void)state;

	for (size_t shift = 0; shift < 2; shift++) { /* one of them would end inside */
		memset(said, 'x', shift);
		for (size_t i = shift; i + 2 < sizeof(said); i += 2)
			memcpy(said + i, "\xc3\xbc", 3);
		const char *line = logged(said);
		size_t len = strlen(line);

		assert_in_range(len, 1900, 2048);
		assert_int_equal(line[len - 1], '\n');
		assert_true(line[len - 2] == '?' || memcmp(line + len - 3, "\xc3\xbc", 2) == 0);
		assert_null(memchr(line, '\n', len - 1));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_is_text),
		cmocka_unit_test(a_long_line_is_cut_between_characters),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
