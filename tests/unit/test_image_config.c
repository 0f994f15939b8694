/* Image configs: read from anywhere, changed, merged, and made an environment. */
#include "snapshotd/build/image_config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct image_config load(const char *text)
{
	struct image_config c;
	json_t *j = text ? json_loads(text, JSON_ALLOW_NUL, NULL) : NULL;

	assert_true(!text || j);
	assert_int_equal(image_config_load(j, &c), 0);
	json_decref(j);
	return c;
}

/* v, which ends in NULL, is these, joined by '|'. */
static void check_list(char *const *v, const char *expected)
{
	char text[4096] = "";

	for (; v && *v; v++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", *text ? "|" : "",
			 *v);
	assert_string_equal(text, expected);
}

static void what_is_not_said_has_a_default(void **state)
{
	static const char *const configs[] = {
		NULL,
		"{}",
		"{\"Env\": null, \"WorkingDir\": \"\", \"User\": \"\"}",
		"{\"Env\": {}, \"WorkingDir\": 7, \"User\": []}",
		"{\"WorkingDir\": \"relative\"}",
		"{\"WorkingDir\": \"/a\\u0000b\", \"User\": \"a\\u0000b\"}",
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
		CLEANUP(image_config_fini_p) struct image_config c = load(configs[i]);
		assert_int_equal(c.n_env, 0);
		assert_string_equal(c.workdir, "/");
		assert_string_equal(c.user, "");
	}
}

static void variables_are_read_once_each(void **state)
{
	(void)state;
	CLEANUP(image_config_fini_p)
	struct image_config c =
		load("{\"Env\": [\"A=1\", \"AB=2\", \"novalue\", \"=x\", 3,"
		     " \"A=3=4\", \"N=a\\u0000b\", \"E=\"], \"WorkingDir\": \"/srv\","
		     " \"User\": \"www:www\"}");
	check_list(c.env, "A=3=4|AB=2|E=");
	assert_int_equal(c.n_env, 3);
	assert_string_equal(c.workdir, "/srv");
	assert_string_equal(c.user, "www:www");
}

static void changes_replace_or_add(void **state)
{
	(void)state;
	CLEANUP(image_config_fini_p) struct image_config c = load("{\"Env\": [\"A=1\", \"B=2\"]}");
	assert_int_equal(image_config_setenv(&c, "A", "x=y\n"), 0);
	assert_int_equal(image_config_setenv(&c, "C", ""), 0);
	assert_int_equal(image_config_setenv(&c, "", "x"), -EINVAL);
	assert_int_equal(image_config_setenv(&c, "A=B", "x"), -EINVAL);
	check_list(c.env, "A=x=y\n|B=2|C=");
	assert_int_equal(image_config_set_workdir(&c, "/new"), 0);
	assert_string_equal(c.workdir, "/new");
}

static void the_rest_of_a_config_is_kept(void **state)
{
	json_t *old = json_loads(
		"{\"Env\": [\"A=1\"], \"Entrypoint\": [\"/init\"], \"User\": \"u\"}", 0, NULL);
	json_t *before = json_deep_copy(old);
	struct image_config c;
	(void)state;

	assert_int_equal(image_config_load(old, &c), 0);
	assert_int_equal(image_config_setenv(&c, "B", "2"), 0);
	assert_int_equal(image_config_set_workdir(&c, "/w"), 0);
	json_t *now = image_config_merge(old, &c);
	json_t *expected = json_loads("{\"Env\": [\"A=1\", \"B=2\"], \"Entrypoint\": [\"/init\"],"
				      " \"User\": \"u\", \"WorkingDir\": \"/w\"}",
				      0, NULL);
	assert_true(json_equal(now, expected));
	assert_true(json_equal(old, before));
	json_decref(now);
	now = image_config_merge(NULL, &c);
	json_object_del(expected, "Entrypoint");
	assert_true(json_equal(now, expected));
	json_decref(now);
	json_decref(expected);
	json_decref(old);
	json_decref(before);
	image_config_fini(&c);
}

#define PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static void environments_go_from_default_to_image_to_call(void **state)
{
	static const struct {
		const char *config, *extra, *expected;
	} cases[] = {
		{ NULL, NULL, PATH "|LANG=C.UTF-8" },
		{ "{\"Env\": [\"PATH=/p\", \"X=1\"]}", NULL, "PATH=/p|LANG=C.UTF-8|X=1" },
		{ "{\"Env\": [\"X=1\", \"Y=1\"]}",
		  "{\"X\": \"2\", \"LANG\": \"\", \"bad\": 1, \"a=b\": \"x\", \"\": \"x\", \"n\":"
		  " \"a\\u0000b\"}",
		  PATH "|LANG=|X=2|Y=1" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP(image_config_fini_p) struct image_config c = load(cases[i].config);
		json_t *extra =
			cases[i].extra ? json_loads(cases[i].extra, JSON_ALLOW_NUL, NULL) : NULL;
		CLEANUP(strv_free_p) char **env = image_config_environ(&c, extra);
		check_list(env, cases[i].expected);
		json_decref(extra);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_said_has_a_default),
		cmocka_unit_test(variables_are_read_once_each),
		cmocka_unit_test(changes_replace_or_add),
		cmocka_unit_test(the_rest_of_a_config_is_kept),
		cmocka_unit_test(environments_go_from_default_to_image_to_call),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
