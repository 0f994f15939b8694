/* How the command line shows and reads values: tools/cli/text.h, table.h, progress_bar.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "tools/cli/progress_bar.h"
#include "tools/cli/table.h"
#include "tools/cli/text.h"

static void sizes_are_written_for_people(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1.0 KiB" },
		{ 1536, "1.5 KiB" },
		{ 10 * 1024, "10 KiB" },
		{ 1023 * 1024 + 600, "1.0 MiB" },
		{ 215ull << 20, "215 MiB" },
		{ 1ull << 40, "1.0 TiB" },
		{ UINT64_MAX, "16 EiB" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[TEXT_SIZE_MAX];
		text_size(cases[i].bytes, text);
		assert_string_equal(text, cases[i].text);
	}
}

static void sizes_are_read(void **state)
{
	static const struct {
		const char *text;
		int result;
		uint64_t bytes;
	} cases[] = {
		{ "0", 0, 0 },
		{ "1048576", 0, 1 << 20 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "64K", 0, 64 << 10 },
		{ "64k", 0, 64 << 10 },
		{ "10MiB", 0, 10 << 20 },
		{ "10MB", 0, 10 << 20 },
		{ "1.5G", 0, 3ull << 29 },
		{ "12B", 0, 12 },
		{ "20E", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "K", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ ".5G", -EINVAL, 0 },
		{ "1.5.5G", -EINVAL, 0 },
		{ "1 G", -EINVAL, 0 },
		{ "10X", -EINVAL, 0 },
		{ "10Kx", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t bytes = 0;
		assert_int_equal(text_parse_size(cases[i].text, &bytes), cases[i].result);
		if (cases[i].result == 0)
			assert_true(bytes == cases[i].bytes);
	}
}

static void durations_are_read(void **state)
{
	static const struct {
		const char *text;
		int result;
		int64_t seconds;
	} cases[] = {
		{ "0", 0, 0 },	      { "90", 0, 90 },	       { "90s", 0, 90 },
		{ "15m", 0, 900 },    { "1.5h", 0, 5400 },     { "7d", 0, 604800 },
		{ "2w", 0, 1209600 }, { "", -EINVAL, 0 },      { "d", -EINVAL, 0 },
		{ "7D", -EINVAL, 0 }, { "7days", -EINVAL, 0 }, { "99999999999999w", -ERANGE, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int64_t seconds = 0;
		assert_int_equal(text_parse_duration(cases[i].text, &seconds), cases[i].result);
		if (cases[i].result == 0)
			assert_true(seconds == cases[i].seconds);
	}
}

static void names_cannot_play_tricks_on_a_terminal(void **state)
{
	static const struct {
		const char *name, *shown;
	} cases[] = {
		{ "plain", "plain" },
		{ "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
		{ "a\nb\tc", "a\\nb\\tc" },
		{ "\033[2J", "\\x1b[2J" },
		{ "\x7f", "\\x7f" },
		{ "\xc2\x9b", "\\u{9b}" }, /* C1: a CSI of one character */
		{ "a\xe2\x80\xae"
		  "b",
		  "a\\u{202e}b" }, /* right-to-left override */
		{ "\xff\xfe", "\\xff\\xfe" },
		{ "\xc0\xaf", "\\xc0\\xaf" },			/* overlong */
		{ "\xed\xa0\x80", "\\xed\\xa0\\x80" },		/* surrogate */
		{ "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" }, /* beyond Unicode */
		{ "\xe2\x82", "\\xe2\\x82" },			/* cut short */
		{ "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
		assert_int_equal(text_escape(&b, cases[i].name, strlen(cases[i].name)), 0);
		assert_string_equal(buf_cstr(&b), cases[i].shown);
	}
}

static void times_are_written_and_read(void **state)
{
	char text[TEXT_TIME_MAX];
	int64_t t = 0;

	(void)state;
	setenv("TZ", "UTC", 1);
	tzset();
	text_time(1763848380, text);
	assert_string_equal(text, "2025-11-22 21:53:00");
	text_time_iso(1763848380, 0, text);
	assert_string_equal(text, "2025-11-22T21:53:00Z");
	text_time_iso(-1, 5, text);
	assert_string_equal(text, "1969-12-31T23:59:59.000000005Z");
	text_time_iso(INT64_MAX, 0, text);
	assert_string_equal(text, "@9223372036854775807");
	text_time(INT64_MAX, text);
	assert_string_equal(text, "@9223372036854775807");
	assert_int_equal(text_parse_time_iso("2025-11-22T21:53:00Z", &t), 0);
	assert_true(t == 1763848380);
	assert_int_equal(text_parse_time_iso("2025-11-22T21:53:00.123Z", &t), 0);
	assert_int_equal(text_parse_time_iso("2025-11-22", &t), -EINVAL);
	assert_int_equal(text_parse_time_iso("2025-11-22T21:53:00+01:00", &t), -EINVAL);
}

static void modes_look_like_those_of_ls(void **state)
{
	static const struct {
		uint32_t mode;
		const char *text;
	} cases[] = {
		{ S_IFREG | 0644, "-rw-r--r--" },  { S_IFDIR | 01777, "drwxrwxrwt" },
		{ S_IFREG | 04755, "-rwsr-xr-x" }, { S_IFREG | 02644, "-rw-r-Sr--" },
		{ S_IFREG | 04644, "-rwSr--r--" }, { S_IFDIR | 01770, "drwxrwx--T" },
		{ S_IFLNK | 0777, "lrwxrwxrwx" },  { S_IFBLK | 0660, "brw-rw----" },
		{ S_IFSOCK, "s---------" },	   { 0, "?---------" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[TEXT_MODE_MAX];
		text_mode(cases[i].mode, text);
		assert_string_equal(text, cases[i].text);
	}
}

static void check_table(struct table *t, size_t terminal_width, const char *wanted)
{
	char *out = NULL;
	size_t len;
	FILE *f = open_memstream(&out, &len);

	assert_non_null(f);
	assert_int_equal(table_print(t, f, terminal_width), 0);
	fclose(f);
	assert_string_equal(out, wanted);
	free(out);
}

static void columns_are_aligned(void **state)
{
	struct table *t = table_new("NAME|>SIZE|STATUS");

	(void)state;
	table_name(t, "a", 1);
	table_size(t, 2048);
	table_cell(t, "ready");
	table_name(t, "longer", 6);
	table_size(t, 1);
	table_cell(t, "%s", "");
	check_table(t, 0,
		    "NAME       SIZE  STATUS\n"
		    "a       2.0 KiB  ready\n"
		    "longer      1 B  \n");
	check_table(t, 0, "NAME  SIZE  STATUS\n"); /* printing empties it */
	table_free(t);
}

static void table_without_titles_has_no_first_line(void **state)
{
	struct table *t = table_new("|>");

	(void)state;
	check_table(t, 0, "");
	table_cell(t, "a");
	table_cell(t, "%d", 10);
	table_cell(t, "bcd");
	table_cell(t, "%d", 1);
	check_table(t, 0, "a    10\nbcd   1\n");
	table_free(t);
}

static void names_are_escaped_on_a_terminal_and_raw_elsewhere(void **state)
{
	struct table *t = table_new("|");

	(void)state;
	for (int i = 0; i < 2; i++) {
		table_name(t, "a\nb", 3);
		table_cell(t, "x");
		table_name(t, "\xff", 1);
		table_cell(t, "y");
		check_table(t, i == 0 ? 80 : 0,
			    i == 0 ? "a\\nb  x\n\\xff  y\n" : "a\nb  x\n\xff    y\n");
	}
	table_free(t);
}

static void add_long_row(struct table *t)
{
	table_name(t, "a-name-of-30-characters-0123456", 30);
	table_cell(t, "%d", 123456789);
	table_name(t, "/a/path", 7);
}

/* The longest names lose their middles; numbers and cells that are no names never. */
static void a_table_fits_the_terminal(void **state)
{
	struct table *t = table_new("NAME|>COUNT|PATH");

	(void)state;
	add_long_row(t);
	check_table(t, 40,
		    "NAME                      COUNT  PATH\n"
		    "a-name-of-\xe2\x80\xa6rs-012345  123456789  /a/path\n");
	add_long_row(t);
	check_table(t, 10,
		    "NAME          COUNT  PATH\n"
		    "a-na\xe2\x80\xa6"
		    "345  123456789  /a/path\n");
	for (int i = 0; i < 2; i++) { /* no terminal, or one that shall show all */
		add_long_row(t);
		check_table(t, i ? SIZE_MAX : 0,
			    "NAME                                COUNT  PATH\n"
			    "a-name-of-30-characters-012345  123456789  /a/path\n");
	}
	table_free(t);
	/* Without titles it is a listing, in which names stay whole. */
	t = table_new("|>|");
	add_long_row(t);
	check_table(t, 10, "a-name-of-30-characters-012345  123456789  /a/path\n");
	table_free(t);
}

static void no_cell_reaches_a_terminal_raw(void **state)
{
	struct table *t = table_new("STATUS");

	(void)state;
	table_cell(t, "%s", "\033]0;x\a");
	check_table(t, 80, "STATUS\n\\x1b]0;x\\x07\n");
	table_free(t);
}

static void shortened_text_fits(void **state)
{
	static const struct {
		const char *text;
		size_t width;
		const char *shown;
	} cases[] = {
		{ "", 0, "" },
		{ "abc", 3, "abc" },
		{ "abcd", 3,
		  "a\xe2\x80\xa6"
		  "d" },
		{ "abcd", 2, "a\xe2\x80\xa6" },
		{ "abcd", 1, "\xe2\x80\xa6" },
		{ "abcd", 0, "" },
		{ "\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2", 5, /* two columns each */
		  "\xe6\xbc\xa2\xe2\x80\xa6\xe6\xbc\xa2" },
		{ "\xe6\xbc\xa2\xe6\xbc\xa2\xe6\xbc\xa2", 4, "\xe6\xbc\xa2\xe2\x80\xa6" },
		{ "abcde\xcc\x81", 4,
		  "ab\xe2\x80\xa6"
		  "e\xcc\x81" }, /* e with an accent */
	};

	(void)state;
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
		assert_int_equal(
			text_shorten(&b, cases[i].text, strlen(cases[i].text), cases[i].width), 0);
		assert_string_equal(buf_cstr(&b), cases[i].shown);
		assert_true(text_width((const char *)b.data, b.len) <= cases[i].width);
	}
}

static void wide_characters_take_two_columns(void **state)
{
	(void)state;
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		skip();
	assert_int_equal(text_width("\xe6\xbc\xa2", 3), 2);
	assert_int_equal(text_width("e\xcc\x81", 3), 1); /* a combining accent */
	assert_int_equal(text_width("\xff", 1), 1);
	assert_int_equal(text_width("", 0), 0);
}

static void progress_line_says_what_is_known(void **state)
{
	static const struct {
		struct progress_state s;
		uint64_t rate;
		unsigned width;
		const char *line;
	} cases[] = {
		{ { NULL, 0, 0, 0, 0 }, 0, 80, "working" },
		{ { "reading", 12, 0, 2048, 0 }, 0, 80, "reading  2.0 KiB  12 items" },
		{ { "reading", 5, 10, 0, 0 },
		  0,
		  80,
		  "reading  [############------------]  50%  5 of 10 items" },
		{ { "sealing", 1, 2, 3072, 3072 },
		  1024,
		  120,
		  "sealing  [########################] 100%  3.0 KiB of 3.0 KiB  1 of 2 items  "
		  "1.0 KiB/s" },
		{ { "odd", 30, 10, 0, 0 },
		  0,
		  80,
		  "odd  [########################] 100%  30 of 10 items" },
		{ { "reading", 12, 0, 2048, 0 }, 0, 11, "reading  2" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char line[256];
		progress_format(&cases[i].s, cases[i].rate, cases[i].width, line, sizeof(line));
		assert_string_equal(line, cases[i].line);
		progress_format(&cases[i].s, cases[i].rate, cases[i].width, line, 4);
		assert_int_equal(strlen(line), 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_written_for_people),
		cmocka_unit_test(sizes_are_read),
		cmocka_unit_test(durations_are_read),
		cmocka_unit_test(names_cannot_play_tricks_on_a_terminal),
		cmocka_unit_test(times_are_written_and_read),
		cmocka_unit_test(modes_look_like_those_of_ls),
		cmocka_unit_test(columns_are_aligned),
		cmocka_unit_test(table_without_titles_has_no_first_line),
		cmocka_unit_test(names_are_escaped_on_a_terminal_and_raw_elsewhere),
		cmocka_unit_test(a_table_fits_the_terminal),
		cmocka_unit_test(no_cell_reaches_a_terminal_raw),
		cmocka_unit_test(shortened_text_fits),
		cmocka_unit_test(wide_characters_take_two_columns),
		cmocka_unit_test(progress_line_says_what_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
