/* Template recipes: tools/commands/recipe.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/commands/recipe.h"

#define SMALL "{'bootstrap': {'suite': 'stable'}, 'steps': []}"

/* JSON with ' for ". */
static json_t *parse_json(const char *text)
{
	char *copy = strdup(text);

	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	json_t *o = json_loads(copy, 0, NULL);
	assert_non_null(o);
	free(copy);
	return o;
}

static int parse(const char *text, struct recipe *out, struct error *err)
{
	json_t *o = parse_json(text);
	int r = recipe_parse("t", o, out, err);

	json_decref(o);
	return r;
}

static void bad_recipes_are_refused(void **state)
{
	static const struct {
		const char *json, *why;
	} cases[] = {
		{ "[]", "is an object" },
		{ "{'steps': []}", "needs an object \"bootstrap\"" },
		{ "{'bootstrap': {'suite': 'x'}}", "needs an array \"steps\"" },
		{ "{'bootstrap': {}, 'steps': []}", "needs a suite" },
		{ "{'bootstrap': {'suite': '-x'}, 'steps': []}", "suite is no word" },
		{ "{'bootstrap': {'suite': ''}, 'steps': []}", "suite is no word" },
		{ "{'bootstrap': {'suite': 7}, 'steps': []}", "needs a suite" },
		{ "{'bootstrap': {'suite': 'x', 'variant': 'a b'}, 'steps': []}", "variant is no" },
		{ "{'bootstrap': {'suite': 'x', 'packages': 'git'}, 'steps': []}", "no array" },
		{ "{'bootstrap': {'suite': 'x', 'packages': ['a', 'b,c']}, 'steps': []}",
		  "packages[1] is no word" },
		{ "{'bootstrap': {'suite': 'x', 'packages': ['a;b']}, 'steps': []}", "no word" },
		{ "{'bootstrap': {'suite': 'x', 'keyring': 'a'}, 'steps': []}", "absolute" },
		{ "{'bootstrap': {'suite': 'x', 'mirror': 'a'}, 'steps': []}",
		  "bootstrap has no member \"mirror\"" },
		{ "{'bootstrap': {'suite': 'x'}, 'steps': [], 'y': 1}", "no member \"y\"" },
		{ "{'bootstrap': {'suite': 'x'}, 'steps': [], 'description': 1}", "no string" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = ERROR_INIT;
		struct recipe r;
		assert_int_equal(parse(cases[i].json, &r, &err), -EINVAL);
		if (!strstr(err.msg, cases[i].why))
			fail_msg("%s: said '%s'", cases[i].json, err.msg);
	}
}

/* The command line as one string. */
static void command_line(const struct recipe *r, const struct recipe_options *o, char *out)
{
	char **argv;

	assert_int_equal(recipe_argv(r, o, &argv), 0);
	*out = '\0';
	for (size_t i = 0; argv[i]; i++) {
		strcat(out, i ? "|" : "");
		strcat(out, argv[i]);
	}
	recipe_names_free(argv);
}

static void the_command_line_is_made(void **state)
{
	const char *mirrors[] = { "http://mirror.example/debian", "deb http://x stable main",
				  NULL };
	struct recipe_options plain = { 0 }, all = { "testing", "/k.gpg", mirrors };
	struct recipe r;
	char text[1024];

	(void)state;
	assert_int_equal(
		parse("{'bootstrap': {'suite': 'stable', 'components': ['main', 'contrib'],"
		      " 'packages': ['git', 'libc6:amd64']}, 'steps': []}",
		      &r, NULL),
		0);
	command_line(&r, &plain, text);
	assert_string_equal(text,
			    "mmdebstrap|--variant=minbase|--components=main,contrib|"
			    "--include=git,libc6:amd64|--format=tar|"
			    "--customize-hook=rm -f \"$1/etc/resolv.conf\" \"$1/etc/hostname\"|"
			    "--|stable|-");
	command_line(&r, &all, text);
	assert_non_null(strstr(text, "|--keyring=/k.gpg|"));
	assert_non_null(strstr(text,
			       "|--|testing|-|http://mirror.example/debian|deb http://x stable "
			       "main"));
	recipe_fini(&r);
}

static void the_key_changes_with_the_bootstrap_alone(void **state)
{
	const char *mirrors[] = { "http://mirror.example/debian", NULL };
	const struct recipe_options plain = { 0 }, keyring = { .keyring = "/k.gpg" },
				    mirror = { .mirrors = mirrors }, suite = { .suite = "testing" };
	char key[RECIPE_KEY_SIZE], other[RECIPE_KEY_SIZE];
	struct recipe r, steps;

	(void)state;
	assert_int_equal(parse(SMALL, &r, NULL), 0);
	assert_int_equal(parse("{'description': 'x', 'bootstrap': {'suite': 'stable', 'variant': "
			       "'minbase'}, 'steps': [{}]}",
			       &steps, NULL),
			 0);
	assert_int_equal(recipe_key(&r, &plain, key), 0);
	assert_int_equal(strspn(key, "0123456789abcdef"), 8);
	assert_int_equal(recipe_key(&steps, &plain, other), 0);
	assert_string_equal(key, other);
	assert_int_equal(recipe_key(&r, &keyring, other), 0);
	assert_string_equal(key, other);
	assert_int_equal(recipe_key(&r, &mirror, other), 0);
	assert_string_not_equal(key, other);
	assert_int_equal(recipe_key(&r, &suite, other), 0);
	assert_string_not_equal(key, other);
	json_t *m = recipe_manifest(&steps, "base-1"),
	       *want = parse_json("{'base': 'snapshot:base-1', 'steps': [{}]}");
	assert_true(json_equal(m, want));
	json_decref(m);
	json_decref(want);
	recipe_fini(&steps);
	recipe_fini(&r);
}

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void recipes_are_found_by_name_and_by_file(void **state)
{
	char dir[] = "/tmp/varve-recipe.XXXXXX", path[256];
	struct error err = ERROR_INIT;
	struct recipe r;
	char **names;

	(void)state;
	assert_non_null(mkdtemp(dir));
	write_file(dir, "b.json", "{\"bootstrap\": {\"suite\": \"x\"}, \"steps\": []}");
	write_file(dir, "a.json", "{\"bootstrap\": {\"suite\": \"y\"},\n\"steps\": [}");
	write_file(dir, ".c.json", "");
	write_file(dir, "readme", "");
	assert_int_equal(recipe_names(dir, &names, &err), 0);
	assert_string_equal(names[0], "a");
	assert_string_equal(names[1], "b");
	assert_null(names[2]);
	recipe_names_free(names);
	assert_int_equal(recipe_load(dir, "b", &r, &err), 0);
	assert_string_equal(r.name, "b");
	assert_string_equal(r.suite, "x");
	recipe_fini(&r);
	snprintf(path, sizeof(path), "%s/b.json", dir);
	assert_int_equal(recipe_load("/nowhere", path, &r, &err), 0);
	assert_string_equal(r.name, "b");
	assert_string_equal(r.path, path);
	recipe_fini(&r);
	assert_int_equal(recipe_load(dir, "a", &r, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "a.json: line 2: "));
	assert_int_equal(recipe_load(dir, "nope", &r, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "there is no template \"nope\""));
	assert_int_equal(recipe_load(dir, "../b", &r, &err), -EINVAL);
	assert_int_equal(recipe_names("/nowhere", &names, &err), -ENOENT);
	for (const char *const *n =
		     (const char *const[]){ "a.json", "b.json", ".c.json", "readme", NULL };
	     *n; n++) {
		snprintf(path, sizeof(path), "%s/%s", dir, *n);
		unlink(path);
	}
	rmdir(dir);
}

static void the_directory_is_the_one_named(void **state)
{
	char *dir = NULL;

	(void)state;
	assert_int_equal(setenv("VARVE_TEMPLATES", "/from-environment", 1), 0);
	assert_int_equal(recipe_dir("/given", &dir, NULL), 0);
	assert_string_equal(dir, "/given");
	free(dir);
	assert_int_equal(recipe_dir(NULL, &dir, NULL), 0);
	assert_string_equal(dir, "/from-environment");
	free(dir);
	assert_int_equal(unsetenv("VARVE_TEMPLATES"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_recipes_are_refused),
		cmocka_unit_test(the_command_line_is_made),
		cmocka_unit_test(the_key_changes_with_the_bootstrap_alone),
		cmocka_unit_test(recipes_are_found_by_name_and_by_file),
		cmocka_unit_test(the_directory_is_the_one_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
