/* libvarve's images: what calls make, that images do not change, local files, errors. */
#include "tools/libvarve/varve.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/vectors.h"

static char dir[] = "/tmp/test_image.XXXXXX";

static int make_dir(void **state)
{
	(void)state;
	umask(022);
	return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int remove_dir(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return chdir("/") == 0 && system(command) == 0 ? 0 : -1; /* NOLINT: our own mkdtemp name */
}

/* The manifest, which is given up; the image has to be sound. */
static json_t *manifest_of(struct varve_image *img)
{
	struct varve_error err;
	char *text;

	if (varve_image_to_json(img, &text, &err) != 0)
		fail_msg("%d: %s", err.code, err.message);
	json_t *j = json_loads(text, 0, NULL);
	assert_non_null(j);
	free(text);
	return j;
}

static void check_manifest(struct varve_image *img, const char *expected)
{
	char *text;

	assert_int_equal(varve_image_to_json(img, &text, NULL), 0);
	assert_string_equal(text, expected);
	free(text);
}

static const char *key_of(struct varve_image *img)
{
	static char keys[2][VARVE_KEY_SIZE];
	static int which;

	which = !which;
	assert_int_equal(varve_image_cache_key(img, keys[which], NULL), 0);
	return keys[which];
}

/* ---- the shared vectors ---- */

static const char **strings_of(const json_t *call, size_t from, bool nested)
{
	const json_t *list = nested ? json_array_get(call, from) : call;
	size_t n = 0;
	const char **v = calloc(json_array_size(list) + 1, sizeof(*v));

	for (size_t i = nested ? 0 : from; i < json_array_size(list); i++)
		v[n++] = json_string_value(json_array_get(list, i));
	return v;
}

static struct varve_image *call_env(struct varve_image *img, const json_t *vars)
{
	char **v = calloc(json_object_size(vars) + 1, sizeof(*v));
	const char *name;
	size_t n = 0;
	json_t *value;

	json_object_foreach((json_t *)vars, name, value)
		if (asprintf(&v[n++], "%s=%s", name, json_string_value(value)) < 0)
			fail();
	img = varve_image_env(img, (const char *const *)v);
	while (n > 0)
		free(v[--n]);
	free(v);
	return img;
}

static struct varve_image *call_add_file(struct varve_image *img, const json_t *call)
{
	const char *path = json_string_value(json_array_get(call, 1));
	const char *text = json_string_value(json_array_get(call, 2));
	const char *mode = json_string_value(json_array_get(call, 3));

	return varve_image_add_file(img, path, text, strlen(text),
				    mode ? (int)strtol(mode, NULL, 8) : -1);
}

static struct varve_image *make_call(struct varve_image *img, const json_t *call)
{
	const char *name = json_string_value(json_array_get(call, 0));
	const char *first = json_string_value(json_array_get(call, 1));
	const char **list = NULL;
	struct varve_image *next = NULL;

	if (strcmp(name, "base") == 0)
		next = varve_image_base();
	else if (strcmp(name, "from_snapshot") == 0)
		next = varve_image_from_snapshot(first);
	else if (strcmp(name, "from_oci") == 0)
		next = varve_image_from_oci(first);
	else if (strcmp(name, "apt_install") == 0)
		next = varve_image_apt_install(img, list = strings_of(call, 1, true));
	else if (strcmp(name, "pip_install") == 0)
		next = varve_image_pip_install(img, list = strings_of(call, 1, true));
	else if (strcmp(name, "run_commands") == 0)
		next = varve_image_run_commands(img, list = strings_of(call, 1, false));
	else if (strcmp(name, "env") == 0)
		next = call_env(img, json_array_get(call, 1));
	else if (strcmp(name, "workdir") == 0)
		next = varve_image_workdir(img, first);
	else if (strcmp(name, "add_file") == 0)
		next = call_add_file(img, call);
	else if (strcmp(name, "builder_memory") == 0)
		next = varve_image_builder_memory(
			img, (unsigned)json_integer_value(json_array_get(call, 1)));
	else
		fail_msg("%s is no call", name);
	free(list);
	return next;
}

static void check_image(const json_t *vector, struct varve_image *img)
{
	json_t *made = manifest_of(img);

	if (strcmp(key_of(img), vector_text(vector, "key")) != 0)
		fail_msg("%s: another key", vector_text(vector, "name"));
	if (!json_equal(made, json_object_get(vector, "manifest")))
		fail_msg("%s: another manifest", vector_text(vector, "name"));
	json_decref(made);
}

static void calls_make_the_manifests_of_the_vectors(void **state)
{
	const json_t *all = *state;
	json_t *v, *call;
	size_t i, k, n = 0;

	json_array_foreach(json_object_get(all, "valid"), i, v) {
		const json_t *calls = json_object_get(v, "calls");
		struct varve_image *img = NULL;
		if (!calls)
			continue;
		json_array_foreach(calls, k, call)
			varve_image_set(&img, make_call(img, call));
		check_image(v, img);
		varve_image_unref(img);
		n++;
	}
	assert_true(n >= 15);
}

static void manifests_are_read_and_keep_their_keys(void **state)
{
	const json_t *all = *state;
	json_t *v;
	size_t i;

	json_array_foreach(json_object_get(all, "valid"), i, v) {
		char *text = json_dumps(json_object_get(v, "manifest"), JSON_INDENT(3));
		struct varve_image *img = varve_image_from_json(text, strlen(text));
		assert_null(varve_image_error(img));
		check_image(v, img);
		varve_image_unref(img);
		free(text);
	}
	assert_true(i >= 30);
}

/* ---- images ---- */

static void an_image_never_changes(void **state)
{
	(void)state;
	struct varve_image *base = varve_image_base();
	struct varve_image *a = varve_image_run_commands(base, VARVE_LIST("a"));
	struct varve_image *b = varve_image_run_commands(base, VARVE_LIST("b"));
	struct varve_image *ab = varve_image_run_commands(a, VARVE_LIST("b"));
	struct varve_image *big = varve_image_builder_memory(ab, 9000);
	varve_image_unref(a);
	check_manifest(base, "{\"base\":\"base\",\"steps\":[]}");
	check_manifest(b, "{\"base\":\"base\",\"steps\":[{\"args\":{\"commands\":[\"b\"]},"
			  "\"type\":\"run\"}]}");
	varve_image_unref(base);
	check_manifest(ab,
		       "{\"base\":\"base\",\"steps\":[{\"args\":{\"commands\":[\"a\"]},\"type\":"
		       "\"run\"},{\"args\":{\"commands\":[\"b\"]},\"type\":\"run\"}]}");
	check_manifest(big, "{\"base\":\"base\",\"builderMemoryMB\":9000,\"steps\":[{\"args\":"
			    "{\"commands\":[\"a\"]},\"type\":\"run\"},{\"args\":{\"commands\":"
			    "[\"b\"]},\"type\":\"run\"}]}");
	assert_string_equal(key_of(ab), key_of(big));
	assert_string_not_equal(key_of(ab), key_of(b));
	varve_image_unref(b);
	varve_image_unref(ab);
	varve_image_unref(big);
	varve_image_unref(NULL);
}

static void a_long_chain_is_made_and_freed(void **state)
{
	(void)state;
	struct varve_image *img = varve_image_base();
	for (int i = 0; i < 200000; i++)
		varve_image_set(&img, varve_image_builder_memory(img, 100));
	varve_image_set(&img, varve_image_workdir(img, "/w"));
	assert_null(varve_image_error(img));
	assert_int_equal(strlen(key_of(img)), 64);
	varve_image_unref(img);
}

#define THREADS 4

static void *use_shared(void *arg)
{
	for (int i = 0; i < 3000; i++) {
		char key[VARVE_KEY_SIZE];
		struct varve_image *mine = varve_image_workdir(arg, "/x");
		if (varve_image_cache_key(mine, key, NULL) != 0)
			return arg;
		varve_image_unref(varve_image_ref(mine));
		varve_image_unref(mine);
	}
	return NULL;
}

static void threads_share_an_image(void **state)
{
	pthread_t threads[THREADS];
	void *failed;
	(void)state;

	struct varve_image *img = varve_image_base();
	varve_image_set(&img, varve_image_env(img, VARVE_LIST("A=1", "B=2")));
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, use_shared, img), 0);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	varve_image_unref(img);
}

/* The call's result has this error, and so has what is made of it. Gives img up. */
static void check_failed(struct varve_image *img, int code, const char *why)
{
	const struct varve_error *err = varve_image_error(img);
	struct varve_error got = { 0 };
	char *text;

	assert_non_null(err);
	if (err->code != code || !strstr(err->message, why))
		fail_msg("%d \"%s\", not %d \"%s\"", err->code, err->message, code, why);
	varve_image_set(&img, varve_image_run_commands(img, VARVE_LIST("x")));
	varve_image_set(&img, varve_image_builder_memory(img, 1000));
	varve_image_set(&img, varve_image_add_file(img, "/f", "", 0, -1));
	varve_image_set(&img, varve_image_add_local_file(img, "/etc/passwd", "/f"));
	varve_image_set(&img, varve_image_add_local_dir(img, "/nowhere", "/f"));
	assert_non_null(strstr(varve_image_error(img)->message, why));
	assert_int_equal(varve_image_to_json(img, &text, &got), code);
	assert_non_null(strstr(got.message, why));
	varve_image_unref(img);
}

static void errors_stay_with_the_image(void **state)
{
	(void)state;
	struct varve_image *b = varve_image_base();
	check_failed(varve_image_workdir(NULL, "/"), -EINVAL, "the image is NULL");
	check_failed(varve_image_ref(NULL), -EINVAL, "the image is NULL");
	check_failed(varve_image_workdir(b, NULL), -EINVAL, "a path is NULL");
	check_failed(varve_image_workdir(b, "/\xff"), -EILSEQ, "a path is not UTF-8");
	check_failed(varve_image_apt_install(b, VARVE_LIST("a", "\xc3")), -EILSEQ, "a package");
	check_failed(varve_image_run_commands(b, VARVE_LIST("a\xe2\x82")), -EILSEQ, "a command");
	check_failed(varve_image_env(b, VARVE_LIST("A=1", "B")), -EINVAL, "not NAME=VALUE: \"B\"");
	check_failed(varve_image_env(b, VARVE_LIST("A=\xff")), -EILSEQ, "a variable");
	check_failed(varve_image_env(b, VARVE_LIST("\xff=1")), -EILSEQ, "a variable");
	check_failed(varve_image_add_file(b, NULL, "x", 1, -1), -EINVAL, "a path is NULL");
	check_failed(varve_image_from_snapshot(NULL), -EINVAL, "base is NULL");
	check_failed(varve_image_from_oci("\xff"), -EILSEQ, "base is not UTF-8");
	check_failed(varve_image_from_json("{", 1), -EINVAL, "not JSON: line 1");
	check_failed(varve_image_from_json("{}", 2), -EINVAL, "a manifest is");
	check_failed(varve_image_from_json("{\"base\":\"\",\"steps\":[{}]}", 24), -EINVAL,
		     "step 1");
	check_failed(varve_image_add_local_file(b, "none", "/f"), -ENOENT, "none: No such file");
	check_failed(varve_image_add_local_file(b, "/", "/f"), -EINVAL, "/ is not a regular file");
	check_failed(varve_image_add_local_dir(b, "none", "/d"), -ENOENT, "none: No such file");
	check_failed(varve_image_add_local_dir(b, "/etc/passwd", "/d"), -ENOTDIR, "/etc/passwd");
	check_failed(varve_image_add_local_dir(b, NULL, "/d"), -EINVAL, "NULL");
	varve_image_unref(b);
}

static void empty_lists_and_no_list_are_alike(void **state)
{
	(void)state;
	struct varve_image *b = varve_image_base(), *x = varve_image_env(b, NULL);
	check_manifest(x,
		       "{\"base\":\"base\",\"steps\":[{\"args\":{\"vars\":{}},\"type\":\"env\"}]}");
	varve_image_unref(x);
	x = varve_image_run_commands(b, NULL);
	check_manifest(x, "{\"base\":\"base\",\"steps\":[{\"args\":{\"commands\":[]},\"type\":"
			  "\"run\"}]}");
	varve_image_unref(x);
	varve_image_unref(b);
}

/* ---- local files ---- */

static void put(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void local_files_have_their_modes(void **state)
{
	(void)state;
	put("script", "hello", 04751);
	assert_int_equal(symlink("script", "to-script"), 0);
	struct varve_image *b = varve_image_base();
	struct varve_image *x = varve_image_add_local_file(b, "to-script", "/bin/s");
	check_manifest(x, "{\"base\":\"base\",\"steps\":[{\"args\":{\"content\":\"aGVsbG8=\","
			  "\"encoding\":\"base64\",\"mode\":\"4751\",\"path\":\"/bin/s\"},"
			  "\"type\":\"add_file\"}]}");
	varve_image_unref(x);
	varve_image_unref(b);
}

static void make_tree(const char *const *order)
{
	static const char *const all[] = { "t/b", "t/b-", "t/b/c", "t/a.txt", "t/z\xc3\xa4", NULL };

	assert_int_equal(mkdir("t", 0755), 0);
	assert_int_equal(mkdir("t/b", 0750), 0);
	for (const char *const *p = order ? order : all; *p; p++)
		if (strcmp(*p, "t/b") != 0)
			put(*p, *p, 0644);
	assert_int_equal(mkdir("t/empty", 01777), 0);
	assert_int_equal(chmod("t/empty", 01777), 0);
	assert_int_equal(symlink("../b/c", "t/empty/link"), 0);
	assert_int_equal(symlink("/nowhere", "t/dangling"), 0);
}

#define TREE                                                                            \
	"{\"base\":\"base\",\"steps\":[{\"args\":{\"dirs\":["                           \
	"{\"mode\":\"0750\",\"relativePath\":\"b\"},"                                   \
	"{\"mode\":\"1777\",\"relativePath\":\"empty\"}],\"files\":["                   \
	"{\"content\":\"dC9hLnR4dA==\",\"mode\":\"0644\",\"relativePath\":\"a.txt\"},"  \
	"{\"content\":\"dC9iLQ==\",\"mode\":\"0644\",\"relativePath\":\"b-\"},"         \
	"{\"content\":\"dC9iL2M=\",\"mode\":\"0644\",\"relativePath\":\"b/c\"},"        \
	"{\"relativePath\":\"dangling\",\"target\":\"/nowhere\"},"                      \
	"{\"relativePath\":\"empty/link\",\"target\":\"../b/c\"},"                      \
	"{\"content\":\"dC96w6Q=\",\"mode\":\"0644\",\"relativePath\":\"z\xc3\xa4\"}]," \
	"\"path\":\"/d\"},\"type\":\"add_dir\"}]}"

static void local_directories_are_sorted_with_links_and_modes(void **state)
{
	static const char *const other[] = { "t/z\xc3\xa4", "t/b/c", "t/b-", "t/a.txt", NULL };
	(void)state;
	struct varve_image *b = varve_image_base(), *x;
	make_tree(NULL);
	x = varve_image_add_local_dir(b, "t", "/d");
	check_manifest(x, TREE);
	varve_image_unref(x);
	assert_int_equal(system("rm -r t"), 0); /* NOLINT */
	make_tree(other);
	assert_int_equal(symlink("t", "to-t"), 0);
	x = varve_image_add_local_dir(b, "to-t/", "/d");
	check_manifest(x, TREE);
	varve_image_unref(x);
	assert_int_equal(mkdir("nothing", 0755), 0);
	x = varve_image_add_local_dir(b, "nothing", "/d");
	check_manifest(x, "{\"base\":\"base\",\"steps\":[{\"args\":{\"files\":[],\"path\":\"/d\"},"
			  "\"type\":\"add_dir\"}]}");
	varve_image_unref(x);
	varve_image_unref(b);
}

static void other_kinds_of_files_are_refused(void **state)
{
	(void)state;
	struct varve_image *b = varve_image_base();
	assert_int_equal(mkdir("odd", 0755), 0);
	assert_int_equal(mkfifo("odd/fifo", 0644), 0);
	check_failed(varve_image_add_local_dir(b, "odd", "/d"), -EINVAL, "odd/fifo is neither");
	check_failed(varve_image_add_local_file(b, "odd/fifo", "/f"), -EINVAL, "not a regular");
	assert_int_equal(unlink("odd/fifo"), 0);
	put("odd/\xff", "", 0644);
	check_failed(varve_image_add_local_dir(b, "odd", "/d"), -EILSEQ, "the name of a file");
	assert_int_equal(unlink("odd/\xff"), 0);
	assert_int_equal(symlink("\xfe", "odd/link"), 0);
	check_failed(varve_image_add_local_dir(b, "odd", "/d"), -EILSEQ, "the target of");
	assert_int_equal(unlink("odd/link"), 0);
	put("odd/huge", "", 0644);
	assert_int_equal(truncate("odd/huge", (off_t)1 << 40), 0);
	check_failed(varve_image_add_local_dir(b, "odd", "/d"), -EFBIG, "odd/huge: the contents");
	varve_image_unref(b);
}

/* ---- clients ---- */

static void clients_check_their_options(void **state)
{
	static const struct {
		struct varve_client_options o;
		int code;
	} cases[] = {
		{ { "/s", "http://x", NULL }, -EINVAL },
		{ { NULL, "ftp://x", NULL }, -EINVAL },
		{ { NULL, "http://x", "a\r\nb: c" }, -EINVAL },
		{ { NULL, "http://x/api/", "key" }, 0 },
		{ { "/s", NULL, NULL }, 0 },
	};
	char path[300];
	struct varve_client *c = NULL;
	struct varve_error err;
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		c = NULL;
		assert_int_equal(varve_client_new(&cases[i].o, &c, &err), cases[i].code);
		varve_client_free(c);
	}
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	struct varve_client_options o = { .socket_path = path };
	assert_int_equal(varve_client_new(&o, &c, &err), -ENAMETOOLONG);
}

static void a_daemon_that_is_not_there_is_named(void **state)
{
	struct varve_client_options o = { .socket_path = "no-socket" };
	struct varve_sandbox **list, *sb;
	struct varve_client *c;
	struct varve_error err;
	(void)state;

	assert_int_equal(varve_client_new(&o, &c, NULL), 0);
	assert_int_equal(varve_sandbox_list(c, &list, &err), -ECONNREFUSED);
	assert_string_equal(err.message, "cannot reach snapshotd at no-socket");
	assert_int_equal(varve_sandbox_get(c, "", &sb, &err), -EINVAL);
	assert_int_equal(varve_sandbox_kill(c, NULL, &err), -EINVAL);
	assert_int_equal(varve_sandbox_fork(c, NULL, NULL, &sb, &err), -EINVAL);
	struct varve_image *bad = varve_image_from_oci(NULL);
	assert_int_equal(
		varve_sandbox_create(c, &(struct varve_sandbox_options){ .image = bad }, &sb, &err),
		-EINVAL);
	varve_image_unref(bad);
	varve_client_free(c);
	varve_client_free(NULL);
}

int main(void)
{
	/* Before the directory is changed. */
	json_t *vectors = vectors_load();
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(calls_make_the_manifests_of_the_vectors, vectors),
		cmocka_unit_test_prestate(manifests_are_read_and_keep_their_keys, vectors),
		cmocka_unit_test(an_image_never_changes),
		cmocka_unit_test(a_long_chain_is_made_and_freed),
		cmocka_unit_test(threads_share_an_image),
		cmocka_unit_test(errors_stay_with_the_image),
		cmocka_unit_test(empty_lists_and_no_list_are_alike),
		cmocka_unit_test(local_files_have_their_modes),
		cmocka_unit_test(local_directories_are_sorted_with_links_and_modes),
		cmocka_unit_test(other_kinds_of_files_are_refused),
		cmocka_unit_test(clients_check_their_options),
		cmocka_unit_test(a_daemon_that_is_not_there_is_named),
	};
	int failed = cmocka_run_group_tests(tests, make_dir, remove_dir);
	json_decref(vectors);
	return failed;
}
