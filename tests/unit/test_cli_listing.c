/* Lists with --quiet and --filter, and commands on several words: tools/cli/listing.h, each.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/each.h"
#include "tools/cli/listing.h"

static const struct option_spec options[] = {
	LISTING_QUIET,
	LISTING_FILTER("name, state, pinned or metadata.NAME"),
	{ 0 },
};

static bool state_fits(const json_t *o, const char *pattern)
{
	return listing_fits(json_object_get(o, "gone") ? "gone" : "here", pattern);
}

static const struct listing_key keys[] = {
	{ "name", "name", NULL },
	{ "state", NULL, state_fits },
	{ "pinned", "pinned", NULL },
	{ "metadata.", "metadata", NULL },
	{ 0 },
};
static const struct listing listing = { .label = listing_name, .keys = keys };

static const char things[] = "[{'name': 'a', 'pinned': true},"
			     " {'name': 'a/b', 'gone': 1, 'metadata': {'colour': 'red'}},"
			     " {'name': 'c=d', 'metadata': {'colour': 'blue', 'x.y': 'z'}},"
			     " {'pinned': false}]";

/* The words of `line` as arguments. */
static void parse(const char *line, struct args *args)
{
	static char copy[128], *argv[12];
	struct error err = ERROR_INIT;
	int argc = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *w = strtok(copy, " "); w; w = strtok(NULL, " "))
		argv[argc++] = w;
	argv[argc] = NULL;
	assert_int_equal(args_parse(options, NULL, false, argc, argv, args, &err), 0);
}

static void filters_choose(void **state)
{
	static const struct {
		const char *line, *names;
	} cases[] = {
		{ "-q", "a\na/b\nc=d\n\n" },
		{ "-q --filter name=a", "a\n" },
		{ "-q --filter name=A", "" },
		{ "-q --filter name=a*", "a\na/b\n" },
		{ "-q --filter name=?/[a-c]", "a/b\n" },
		{ "-q --filter name=c=d", "c=d\n" },
		{ "-q --filter name=", "\n" },
		{ "-q --filter name=a --filter name=c*", "a\nc=d\n" },
		{ "-q --filter name=a* --filter state=gone", "a/b\n" },
		{ "-q --filter state=gone --filter name=a --filter state=here", "a\n" },
		{ "-q --filter pinned=yes", "a\n" },
		{ "-q --filter pinned=no", "\n" },
		{ "-q --filter metadata.colour=*", "a\na/b\nc=d\n\n" },
		{ "-q --filter metadata.colour=?*", "a/b\nc=d\n" },
		{ "-q --filter metadata.x.y=z", "c=d\n" },
		{ "-q --filter metadata.colour=red --filter metadata.x.y=z", "" },
	};
	json_t *list;
	char *text = strdup(things), *out = NULL;
	size_t size;

	(void)state;
	for (char *s = text; *s; s++)
		*s = *s == '\'' ? '"' : *s;
	list = json_loads(text, 0, NULL);
	assert_non_null(list);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cli cli = { 0 };
		struct error err = ERROR_INIT;
		FILE *terminal = stdout;
		struct args args;

		parse(cases[i].line, &args);
		assert_int_equal(listing_check(&cli, &args, &listing, &err), 0);
		stdout = open_memstream(&out, &size);
		int r = listing_print(&cli, &args, &listing, list);
		fclose(stdout);
		stdout = terminal;
		assert_int_equal(r, 0);
		assert_string_equal(out, cases[i].names);
		free(out);
	}
	json_decref(list);
	free(text);
}

static void what_makes_no_sense_is_refused(void **state)
{
	static const struct {
		const char *line;
		bool json;
		const char *text;
	} cases[] = {
		{ "--filter name", false, "'name' is no KEY=VALUE" },
		{ "--filter colour=red", false,
		  "there is no filter 'colour': the keys are name, state, pinned and "
		  "metadata.NAME" },
		{ "--filter =x", false,
		  "there is no filter '': the keys are name, state, pinned and metadata.NAME" },
		{ "--filter metadata=x", false,
		  "there is no filter 'metadata': the keys are name, state, pinned and "
		  "metadata.NAME" },
		{ "--filter metadata.=x", false,
		  "there is no filter 'metadata.': the keys are name, state, pinned and "
		  "metadata.NAME" },
		{ "--filter names=x", false,
		  "there is no filter 'names': the keys are name, state, pinned and "
		  "metadata.NAME" },
		{ "-q", true, "give --quiet or --json, not both" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cli cli = { .json = cases[i].json };
		struct error err = ERROR_INIT;
		struct args args;

		parse(cases[i].line, &args);
		assert_int_equal(listing_check(&cli, &args, &listing, &err), CLI_USAGE);
		assert_string_equal(error_text(&err), cases[i].text);
	}
}

/* ---- several words ---- */

static int do_one(struct cli *cli, const char *word, void *arg, json_t **out, struct error *err)
{
	(void)cli;
	strcat(arg, word);
	if (strcmp(word, "b") == 0)
		return error_set(err, -EINVAL, "it is bad");
	if (strcmp(word, "x") == 0)
		return error_set(err, -ECONNREFUSED, "nobody is there");
	*out = json_string(word);
	return 0;
}

static void each_word_is_done(void **state)
{
	static const struct {
		const char *words[5];
		int result;
		const char *done, *json;
	} cases[] = {
		{ { "a" }, 0, "a", "\"a\"\n" },
		{ { "a", "c" }, 0, "ac", "[\n  \"a\",\n  \"c\"\n]\n" },
		{ { "b" }, -EINVAL, "b", "" },
		{ { "a", "b", "c", "b" }, CLI_FAILED, "abcb", "[\n  \"a\",\n  \"c\"\n]\n" },
		{ { "a", "x", "c" }, CLI_FAILED, "ax", "[\n  \"a\"\n]\n" },
	};
	char *out = NULL;
	size_t size;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char done[8] = "", *words[6] = { NULL };
		const struct each e = { .command = "test", .one = do_one, .arg = done };
		struct cli cli = { .json = true };
		struct error err = ERROR_INIT;
		FILE *terminal = stdout;

		for (size_t n = 0; n < 5 && cases[i].words[n]; n++)
			words[n] = (char *)(uintptr_t)cases[i].words[n];
		stdout = open_memstream(&out, &size);
		int r = each_run(&cli, words, &e, &err);
		fclose(stdout);
		stdout = terminal;
		assert_int_equal(r, cases[i].result);
		assert_string_equal(done, cases[i].done);
		assert_string_equal(out, cases[i].json);
		free(out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(filters_choose),
		cmocka_unit_test(what_makes_no_sense_is_refused),
		cmocka_unit_test(each_word_is_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
