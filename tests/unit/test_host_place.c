#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshotd/api/host_place.h"

static char dir[64];

static void make(const char *name, const char *target)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(target ? symlink(target, path) : mkdir(path, 0700), 0);
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/test_host_place.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	make("root", NULL);
	make("root/a", NULL);
	make("root/a/b", NULL);
	make("rootless", NULL);
	make("secret", NULL);
	make("root/in", "a/b");
	make("root/up", "a/../a");
	make("root/out", "../secret");
	make("root/far", "/etc");
	make("root/a/out", "../../secret");
	make("link", "root");
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	(void)state;
	return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void places_outside_are_refused(void **state)
{
	static const struct {
		const char *root, *path;
		int rc;
		const char *real;
	} cases[] = {
		{ "root", "root", 0, "root" },
		{ "root/", "root/", 0, "root" },
		{ "root", "root/a", 0, "root/a" },
		{ "root", "root//a/./b", 0, "root/a/b" },
		{ "root", "root/in", 0, "root/a/b" },
		{ "root", "root/up/b", 0, "root/a/b" },
		{ "link", "link/a", 0, "root/a" },
		{ "root", "root/none", -ENOENT, NULL },
		{ "none", "none/a", -ENOENT, NULL },
		{ "root", "", -EACCES, NULL },
		{ "root", "secret", -EACCES, NULL },
		{ "root", "rootless", -EACCES, NULL },
		{ "root", "root/../secret", -EACCES, NULL },
		{ "root", "root/a/../../secret", -EACCES, NULL },
		{ "root", "root/out", -EACCES, NULL },
		{ "root", "root/far", -EACCES, NULL },
		{ "root", "root/far/passwd", -EACCES, NULL },
		{ "root", "root/a/out", -EACCES, NULL },
		{ "root/a", "root/a/b", 0, "root/a/b" },
		{ "root/a", "root/in", -EACCES, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char root[200], path[200], want[200], *real = NULL;
		struct error err = ERROR_INIT;
		json_t *roots;
		int fd;

		snprintf(root, sizeof(root), "%s/%s", dir, cases[i].root);
		snprintf(path, sizeof(path), "%s/%s", dir, cases[i].path);
		roots = json_pack("[s, s]", "/nonexistent", root);
		fd = host_place_open(roots, path, &err);
		json_decref(roots);
		if ((fd < 0 ? fd : 0) != cases[i].rc)
			fail_msg("%s beneath %s: %d %s", path, root, fd, err.msg);
		if (fd < 0)
			continue;
		assert_int_equal(host_place_path(fd, &real), 0);
		snprintf(want, sizeof(want), "%s/%s", dir, cases[i].real);
		assert_string_equal(real, want);
		free(real);
		close(fd);
	}
}

static void without_roots_there_is_no_place(void **state)
{
	struct error err = ERROR_INIT;
	json_t *none = json_array(), *all = json_pack("[s]", "/");
	int fd;

	(void)state;
	assert_int_equal(host_place_open(NULL, "/etc", &err), -EACCES);
	assert_int_equal(host_place_open(none, "/etc", &err), -EACCES);
	fd = host_place_open(all, "/etc", &err);
	assert_true(fd >= 0);
	close(fd);
	fd = host_place_open(all, "/", &err);
	assert_true(fd >= 0);
	close(fd);
	json_decref(none);
	json_decref(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(places_outside_are_refused),
		cmocka_unit_test(without_roots_there_is_no_place),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
