/* Ids by their start, and variables on the command line: tools/cli/id_ref.h, exec_run.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "tools/commands/exec_run.h"
#include "tools/cli/id_ref.h"

static void ids_are_found_by_their_start(void **state)
{
	static const struct {
		const char *word;
		int result;
		const char *id; /* or a part of the message */
	} cases[] = {
		{ "sb-aa11", 0, "sb-aa11" },
		{ "aa11", 0, "sb-aa11" },
		{ "sb-bb", 0, "sb-bb22" },
		{ "bb2", 0, "sb-bb22" },
		{ "aa", -EINVAL, "2 ids of a sandbox" },
		{ "b", -ENOENT, "\"b\"" },
		{ "sb-", -ENOENT, "\"sb-\"" },
		{ "sb-b", -ENOENT, "" },
		{ "", -ENOENT, "" },
		{ "aa11x", -ENOENT, "no sandbox has the id" },
	};
	json_t *list = json_pack("[{s:s}, {s:s}, {s:s}, {}]", "id", "sb-aa11", "id", "sb-aa1177",
				 "id", "sb-bb22");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = ERROR_INIT;
		json_t *o = NULL;
		int r = id_match(list, "id", "sb-", cases[i].word, "sandbox", &o, &err);
		assert_int_equal(r, cases[i].result);
		if (r == 0)
			assert_string_equal(cli_str(o, "id"), cases[i].id);
		else
			assert_non_null(strstr(err.msg, cases[i].id));
	}
	json_decref(list);
}

static void sandboxes_are_told_from_mounts(void **state)
{
	(void)state;
	assert_true(is_sandbox_id("sb-0123"));
	assert_false(is_sandbox_id("/mnt/sb-0123"));
	assert_false(is_sandbox_id("sbx"));
}

static const struct option_spec options[] = {
	{ 'e', "env", "K=V", "" },
	{ 'k', "keep", NULL, "" },
	{ 0 },
};

static int envs(char **argv, int argc, json_t **out, struct error *err)
{
	struct args args;

	assert_int_equal(args_parse(options, NULL, false, argc, argv, &args, err), 0);
	return exec_envs(&args, out, err);
}

static void variables_are_collected(void **state)
{
	char *some[] = { "-e", "A=1", "--keep", "--env=B=x=y", "-eC=", "-e", "A=2", NULL };
	char *none[] = { "--keep", NULL };
	char *bad[] = { "-e", "A", NULL }, *empty[] = { "-e", "=1", NULL };
	struct error err = ERROR_INIT;
	json_t *o = NULL;

	(void)state;
	assert_int_equal(envs(some, 7, &o, &err), 0);
	assert_int_equal(json_object_size(o), 3);
	assert_string_equal(cli_str(o, "A"), "2");
	assert_string_equal(cli_str(o, "B"), "x=y");
	assert_string_equal(cli_str(o, "C"), "");
	json_decref(o);
	assert_int_equal(envs(none, 1, &o, &err), 0);
	assert_null(o);
	assert_int_equal(envs(bad, 2, &o, &err), CLI_USAGE);
	assert_int_equal(envs(empty, 2, &o, &err), CLI_USAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_are_found_by_their_start),
		cmocka_unit_test(sandboxes_are_told_from_mounts),
		cmocka_unit_test(variables_are_collected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
