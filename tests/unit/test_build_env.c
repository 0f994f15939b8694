/* /etc/environment: what a shell and pam_env read from it. */
#include "snapshotd/build/build_env.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char *merge(const char *old, const json_t *vars, size_t *left_out)
{
	struct buf out = BUF_INIT;
	size_t n;

	assert_int_equal(build_env_merge(old, strlen(old), vars, &out, left_out ? left_out : &n),
			 0);
	assert_non_null(buf_cstr(&out));
	return (char *)out.data;
}

/* The file that sets V to value. */
static char *file_of(const char *value)
{
	json_t *vars = json_pack("{s:s}", "V", value);
	char *text;

	assert_non_null(vars);
	text = merge("", vars, NULL);
	json_decref(vars);
	return text;
}

/* What a real shell gets. */
static char *read_by_sh(const char *file)
{
	char path[] = "/tmp/varve-test-XXXXXX", command[128];
	char *out = calloc(1, 4096);
	int fd = mkstemp(path);
	FILE *p;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, file, strlen(file)), (ssize_t)strlen(file));
	close(fd);
	snprintf(command, sizeof(command), "unset V; . %s && printf '%%s|' \"$V\"", path);
	p = popen(command, "r");
	assert_non_null(p);
	assert_true(fread(out, 1, 4095, p) > 0);
	assert_int_equal(pclose(p), 0);
	unlink(path);
	assert_int_equal(out[strlen(out) - 1], '|');
	out[strlen(out) - 1] = '\0';
	return out;
}

/* What _parse_env_file() of Linux-PAM's pam_env.c (1.4) makes of a line; NULL: nothing. */
static char *read_by_pam(const char *file)
{
	char *line = strndup(file, strcspn(file, "\n#")), *v;
	size_t i, t;

	for (i = 0; line[i] && line[i] != '='; i++)
		assert_true(isalnum((unsigned char)line[i]) || line[i] == '_');
	assert_int_equal(line[i], '=');
	i++;
	if (line[i] == '"' || line[i] == '\'') {
		for (t = i + 1; line[t]; t++)
			if ((line[t] != '"' && line[t] != '\'') || line[t + 1])
				line[i++] = line[t];
		line[i] = '\0';
	}
	v = strdup(strchr(line, '=') + 1);
	free(line);
	return v;
}

static void both_read_the_same(void **state)
{
	static const char *const values[] = {
		"",
		"plain",
		"two words",
		" spaces around ",
		"$HOME `id` $(id)",
		"back\\slash \\n \\",
		"say \"hello\"",
		"it's",
		"'quoted'",
		"a=b;c|d&e>f<g*?[x]~{1,2}!",
		"tab\there",
		"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
		"/usr/bin:/bin",
		"ends with a quote'",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		char *file = file_of(values[i]);
		char *sh = read_by_sh(file), *pam = read_by_pam(file);

		assert_string_equal(sh, values[i]);
		assert_string_equal(pam, values[i]);
		free(sh);
		free(pam);
		free(file);
	}
}

/* pam_env has no way to say these. */
static void sh_reads_what_pam_cannot(void **state)
{
	static const char *const values[] = { "a#b", "it's \"both\"", "it's $HOME", "it's `id`",
					      "it's \\" };

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		char *file = file_of(values[i]);
		char *sh = read_by_sh(file), *pam = read_by_pam(file);

		assert_string_equal(sh, values[i]);
		free(sh);
		free(pam);
		free(file);
	}
}

static void line_breaks_are_left_out(void **state)
{
	json_t *vars =
		json_pack("{s:s, s:s, s:s}", "A", "x\nLD_PRELOAD=evil", "B", "y\r", "C", "z");
	size_t left_out = 0;
	char *text = merge("", vars, &left_out);

	(void)state;
	assert_string_equal(text, "C='z'\n");
	assert_int_equal(left_out, 2);
	free(text);
	json_decref(vars);
}

static void names_are_in_order(void **state)
{
	json_t *vars = json_pack("{s:s, s:s, s:s}", "b", "1", "B", "2", "A", "3");
	char *text = merge("", vars, NULL);

	(void)state;
	assert_string_equal(text, "A='3'\nB='2'\nb='1'\n");
	free(text);
	json_decref(vars);
}

static void other_lines_stay(void **state)
{
	static const char old[] = "# comment A=1\nPATH=\"/bin\"\nA=old\n  export A=older\nAB=keep\n"
				  "\nA\nlast=1";
	json_t *vars = json_pack("{s:s}", "A", "new");
	char *text = merge(old, vars, NULL), *again;

	(void)state;
	assert_string_equal(text, "# comment A=1\nPATH=\"/bin\"\nAB=keep\n\nA\nlast=1\nA='new'\n");
	again = merge(text, vars, NULL);
	assert_string_equal(again, text);
	free(again);
	free(text);
	json_decref(vars);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_read_the_same),
		cmocka_unit_test(sh_reads_what_pam_cannot),
		cmocka_unit_test(line_breaks_are_left_out),
		cmocka_unit_test(names_are_in_order),
		cmocka_unit_test(other_lines_stay),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
