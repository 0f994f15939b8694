/* Image manifests: the shared vectors, what a parsed one holds, the keys of steps. */
#include "snapshotd/build/manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/vectors.h"

static json_t *load(const char *text)
{
	json_error_t err;
	json_t *j = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &err);

	if (!j)
		fail_msg("%s: %s", text, err.text);
	return j;
}

/* Parses, which must work; the JSON belongs to the manifest alone. */
static struct manifest parse(const char *text)
{
	struct error err = ERROR_INIT;
	struct manifest m;
	json_t *j = load(text);

	if (manifest_parse(j, &m, &err) != 0)
		fail_msg("%s: %s", text, error_text(&err));
	json_decref(j);
	return m;
}

static void check_step_keys(const json_t *vector, const struct manifest *m, const char *root)
{
	const json_t *keys = json_object_get(vector, "stepKeys");
	char key[DIGEST_HEX_SIZE];
	const char *prev = root;

	if (!keys)
		return;
	assert_int_equal(json_array_size(keys), m->n_steps);
	for (size_t i = 0; i < m->n_steps; i++) {
		const char *expected = json_string_value(json_array_get(keys, i));
		assert_int_equal(manifest_step_key(prev, &m->steps[i], key), 0);
		assert_string_equal(key, expected);
		prev = expected;
	}
}

static void valid_vectors_have_their_keys(void **state)
{
	json_t *all = vectors_load(), *v;
	size_t i;
	(void)state;

	json_array_foreach(json_object_get(all, "valid"), i, v) {
		struct error err = ERROR_INIT;
		struct manifest m;
		if (manifest_parse(json_object_get(v, "manifest"), &m, &err) != 0)
			fail_msg("%s: %s", vector_text(v, "name"), error_text(&err));
		if (strcmp(m.key, vector_text(v, "key")) != 0)
			fail_msg("%s: another key: %s", vector_text(v, "name"), m.key);
		check_step_keys(v, &m, vector_text(all, "root"));
		manifest_fini(&m);
	}
	assert_true(i >= 30);
	json_decref(all);
}

static void invalid_vectors_are_refused_with_why(void **state)
{
	json_t *all = vectors_load(), *v;
	size_t i, failed = 0;
	(void)state;

	json_array_foreach(json_object_get(all, "invalid"), i, v) {
		struct error err = ERROR_INIT;
		struct manifest m = { .n_steps = 77 };
		const char *name = vector_text(v, "name"), *why = vector_text(v, "error");
		int r = manifest_parse(json_object_get(v, "manifest"), &m, &err);
		if (r != -EINVAL || !strstr(err.msg, why) || m.n_steps != 77) {
			print_error("%s: %d, \"%s\", not \"%s\"\n", name, r, err.msg, why);
			failed++;
		}
	}
	assert_true(i >= 250);
	assert_int_equal(failed, 0);
	json_decref(all);
}

static void a_parsed_manifest_says_what_to_do(void **state)
{
	(void)state;
	struct manifest m =
		parse("{\"base\": \"snapshot:deb\", \"builderMemoryMB\": 512, \"steps\": ["
		      "{\"type\": \"run\", \"args\": {\"commands\": [\"a\"]}},"
		      "{\"type\": \"workdir\", \"args\": {\"path\": \"/w\"}}]}");
	assert_int_equal(m.base, BASE_SNAPSHOT);
	assert_string_equal(m.base_ref, "deb");
	assert_int_equal(m.builder_memory_mb, 512);
	assert_int_equal(m.n_steps, 2);
	assert_int_equal(m.steps[0].type, STEP_RUN);
	assert_string_equal(m.steps[1].type_name, "workdir");
	assert_string_equal(json_string_value(json_object_get(m.steps[1].args, "path")), "/w");
	assert_ptr_equal(m.steps[1].json, json_array_get(json_object_get(m.json, "steps"), 1));
	manifest_fini(&m);
	assert_null(m.json);
	manifest_fini(&m);
	m = parse("{\"base\": \"oci:x/y:z\", \"steps\": [], \"builderMemoryMB\": null}");
	assert_int_equal(m.base, BASE_OCI);
	assert_string_equal(m.base_ref, "x/y:z");
	assert_int_equal(m.builder_memory_mb, 0);
	manifest_fini(&m);
	m = parse("{\"base\": \"snapshot:main:deb\", \"steps\": []}");
	assert_int_equal(m.base, BASE_SNAPSHOT);
	assert_string_equal(m.base_ref, "main:deb");
	manifest_fini(&m);
	m = parse("{\"base\": \"ubuntu\", \"steps\": []}");
	assert_int_equal(m.base, BASE_TEMPLATE);
	assert_string_equal(m.base_ref, "");
	manifest_fini(&m);
}

static void modes_are_octal_text_or_a_number(void **state)
{
	static const struct {
		const char *json;
		unsigned mode;
	} cases[] = {
		{ "{\"mode\": \"0755\"}", 0755 }, { "{\"mode\": \"7777\"}", 07777 },
		{ "{\"mode\": \"0\"}", 0 },	  { "{\"mode\": 420}", 0644 },
		{ "{\"mode\": 0}", 0 },		  { "{}", 0640 },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		json_t *j = load(cases[i].json);
		assert_int_equal(manifest_mode(j, 0640), cases[i].mode);
		json_decref(j);
	}
}

/* Too long for the vectors: what execve(2) does not take as one argument, or as all. */
static void arguments_that_no_process_takes_are_refused(void **state)
{
	struct error err = ERROR_INIT;
	struct manifest m;
	char *text = calloc(1, 131073);
	(void)state;

	memset(text, 'x', 131072);
	json_t *run = json_pack("{s:s, s:[{s:s, s:{s:[s]}}]}", "base", "base", "steps", "type",
				"run", "args", "commands", text);
	assert_int_equal(manifest_parse(run, &m, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "commands[0]"));
	json_t *env = json_pack("{s:s, s:[{s:s, s:{s:{s:s}}}]}", "base", "base", "steps", "type",
				"env", "args", "vars", "A", text + 2);
	assert_int_equal(manifest_parse(env, &m, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "the value of \"A\""));
	text[131071] = '\0';
	json_decref(run);
	run = json_pack("{s:s, s:[{s:s, s:{s:[s]}}]}", "base", "base", "steps", "type", "run",
			"args", "commands", text);
	assert_int_equal(manifest_parse(run, &m, &err), 0);
	manifest_fini(&m);
	text[4096] = '\0';
	json_t *list = json_array();
	for (int i = 0; i < 256; i++)
		json_array_append_new(list, json_string(text));
	json_t *pip = json_pack("{s:s, s:[{s:s, s:{s:o}}]}", "base", "base", "steps", "type",
				"pip_install", "args", "packages", list);
	assert_int_equal(manifest_parse(pip, &m, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "longer than"));
	json_decref(run);
	json_decref(env);
	json_decref(pip);
	free(text);
}

static void messages_name_the_step_and_fit(void **state)
{
	struct error err = ERROR_INIT;
	struct manifest m;
	char name[4097];
	(void)state;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	json_t *j = json_pack("{s:s, s:[{s:s, s:{s:[], s:i}}]}", "base", "base", "steps", "type",
			      "add_dir", "args", "files", name, 1);
	assert_int_equal(manifest_parse(j, &m, &err), -EINVAL);
	assert_int_equal(strncmp(err.msg, "step 1 (add_dir): unknown argument \"nnn", 38), 0);
	json_decref(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(valid_vectors_have_their_keys),
		cmocka_unit_test(invalid_vectors_are_refused_with_why),
		cmocka_unit_test(a_parsed_manifest_says_what_to_do),
		cmocka_unit_test(modes_are_octal_text_or_a_number),
		cmocka_unit_test(arguments_that_no_process_takes_are_refused),
		cmocka_unit_test(messages_name_the_step_and_fit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
