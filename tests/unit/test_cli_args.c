/* Command-line arguments, and chunks by digest: tools/cli/args.h, chunk_index.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tools/cli/args.h"
#include "tools/inspect/chunk_index.h"

static const struct option_spec first[] = {
	{ 'l', "long", NULL, "a flag" },
	{ 'd', "depth", "COUNT", "a value" },
	{ 0, "cache", "private|shared", "a choice" },
	{ 0 },
};
static const struct option_spec second[] = {
	{ 'j', "json", NULL, "another table's flag" },
	{ 0 },
};

struct parsed {
	char *argv[10];
	struct args args;
	struct error err;
	int result;
};

/* Parse the words of `line`, which are divided by spaces. */
static void parse(struct parsed *p, const char *line, bool stop_at_word)
{
	static char copy[128];
	int argc = 0;

	*p = (struct parsed){ .err = ERROR_INIT };
	strcpy(copy, line);
	for (char *w = strtok(copy, " "); w; w = strtok(NULL, " "))
		p->argv[argc++] = w;
	p->result = args_parse(first, second, stop_at_word, argc, p->argv, &p->args, &p->err);
}

static void options_stand_anywhere(void **state)
{
	struct parsed p;

	(void)state;
	parse(&p, "a -l b --depth 3 c --json", false);
	assert_int_equal(p.result, 0);
	assert_int_equal(p.args.count, 3);
	assert_string_equal(p.args.words[0], "a");
	assert_string_equal(p.args.words[2], "c");
	assert_null(p.args.words[3]);
	assert_true(args_has(&p.args, "long"));
	assert_true(args_has(&p.args, "json"));
	assert_false(args_has(&p.args, "cache"));
	assert_string_equal(args_get(&p.args, "depth"), "3");
	assert_null(args_get(&p.args, "cache"));
}

static void values_come_in_four_forms(void **state)
{
	static const char *const lines[] = { "--depth 7", "--depth=7", "-d 7",
					     "-d7",	  "-ld7",      "-d 1 -d 7" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		struct parsed p;
		parse(&p, lines[i], false);
		assert_int_equal(p.result, 0);
		assert_int_equal(p.args.count, 0);
		assert_string_equal(args_get(&p.args, "depth"), "7");
	}
}

static void dash_is_a_word_and_two_end_the_options(void **state)
{
	struct parsed p;

	(void)state;
	parse(&p, "a - -l -- -d --json", false);
	assert_int_equal(p.result, 0);
	assert_int_equal(p.args.count, 4);
	assert_string_equal(p.args.words[1], "-");
	assert_string_equal(p.args.words[2], "-d");
	assert_string_equal(p.args.words[3], "--json");
	assert_false(args_has(&p.args, "json"));
}

static void first_word_stops_where_asked(void **state)
{
	struct parsed p;

	(void)state;
	parse(&p, "-l ls -j --nonsense", true);
	assert_int_equal(p.result, 0);
	assert_true(args_has(&p.args, "long"));
	assert_false(args_has(&p.args, "json"));
	assert_int_equal(p.args.count, 3);
	assert_string_equal(p.args.words[0], "ls");
	assert_string_equal(p.args.words[2], "--nonsense");
}

static void mistakes_are_named(void **state)
{
	static const struct {
		const char *line, *error;
	} cases[] = {
		{ "--nonsense", "unknown option '--nonsense'" },
		{ "--nonsense=3", "unknown option '--nonsense'" },
		{ "-lx", "unknown option '-x'" },
		{ "--long=3", "--long takes no value" },
		{ "--depth", "--depth needs a value (COUNT)" },
		{ "-d", "-d needs a value (COUNT)" },
		{ "--cache public", "--cache is one of private|shared, not 'public'" },
		{ "--cache=", "--cache is one of private|shared, not ''" },
		{ "--cache=private|shared",
		  "--cache is one of private|shared, not 'private|shared'" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct parsed p;
		parse(&p, cases[i].line, false);
		assert_int_equal(p.result, -EINVAL);
		assert_string_equal(error_text(&p.err), cases[i].error);
	}
}

static void choices_are_whole_words(void **state)
{
	(void)state;
	assert_true(args_is_choice("dir|tar|oci", "dir"));
	assert_true(args_is_choice("dir|tar|oci", "tar"));
	assert_true(args_is_choice("dir|tar|oci", "oci"));
	assert_false(args_is_choice("dir|tar|oci", "oc"));
	assert_false(args_is_choice("dir|tar|oci", "ocis"));
	assert_false(args_is_choice("dir|tar|oci", ""));
	assert_false(args_is_choice("dir|tar|oci", "dir|tar"));
}

static void index_finds_what_was_added(void **state)
{
	struct chunk_index index = { 0 };
	struct digest d = { { 0 } };

	(void)state;
	assert_null(chunk_index_find(&index, &d));
	/* All but equal, and so in each other's way. */
	for (uint32_t i = 0; i < 20000; i++) {
		struct chunk_entry *e;
		d.b[0] = (uint8_t)(i % 7);
		memcpy(d.b + 8, &i, sizeof(i));
		memcpy(d.b + 3, &(uint16_t){ (uint16_t)(i / 4) }, 2);
		assert_int_equal(chunk_index_add(&index, &d, &e), 1);
		e->value = i;
	}
	assert_int_equal(index.count, 20000);
	for (uint32_t i = 0; i < 20000; i++) {
		d.b[0] = (uint8_t)(i % 7);
		memcpy(d.b + 8, &i, sizeof(i));
		memcpy(d.b + 3, &(uint16_t){ (uint16_t)(i / 4) }, 2);
		assert_int_equal(chunk_index_add(&index, &d, NULL), 0);
		assert_int_equal(chunk_index_find(&index, &d)->value, i);
	}
	memset(d.b, 0xff, sizeof(d.b));
	assert_null(chunk_index_find(&index, &d));
	chunk_index_fini(&index);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_stand_anywhere),
		cmocka_unit_test(values_come_in_four_forms),
		cmocka_unit_test(dash_is_a_word_and_two_end_the_options),
		cmocka_unit_test(first_word_stops_where_asked),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(choices_are_whole_words),
		cmocka_unit_test(index_finds_what_was_added),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
