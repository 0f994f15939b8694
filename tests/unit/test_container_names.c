/*
 * A container's /etc/hosts: what its root has is read by a child, never by a thread of ours.
 * wrap: open_beneath
 */
#include "snapshotd/container/container_names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/open_beneath.h"

int __wrap_open_beneath(int dir_fd, const char *path, int flags, enum open_beneath how);
int __wrap_open_beneath(int dir_fd, const char *path, int flags, enum open_beneath how)
{
	(void)dir_fd;
	(void)flags;
	(void)how;
	fail_msg("a thread opens %s, and may wait for the daemon itself", path);
	return -1;
}

static void the_roots_lines_come_first(void **state)
{
	char dir[] = "/tmp/varve-names.XXXXXX", path[100], names[100], text[200] = "";
	struct error err = ERROR_INIT;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/etc", dir);
	snprintf(names, sizeof(names), "%s/names", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/etc/hosts", dir);
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fputs("10.0.0.1 there\n", f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(container_names_make(names, dir, "here", &err), 0);
	unlink(path);
	snprintf(path, sizeof(path), "%s/names/hosts", dir);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	fclose(f);
	assert_int_equal(strncmp(text, "10.0.0.1 there\n", 15), 0);
	assert_non_null(strstr(text, "\there\n"));
	container_names_release(names);
	snprintf(path, sizeof(path), "%s/etc", dir);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_roots_lines_come_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
