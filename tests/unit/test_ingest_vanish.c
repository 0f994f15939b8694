/*
 * Files whose names change hands while a directory is imported.
 * wrap: openat64
 */
#include "tests/unit/ingest_zoo.h"

/* Before the first of a, b and c is opened: */
static enum { NOTHING, IT_VANISHES, ANOTHER_IS_THERE } then;
static char first[2]; /* which it was */

int __real_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...)
{
	va_list ap;

	va_start(ap, flags);
	int mode = flags & O_CREAT ? va_arg(ap, int) : 0;

	va_end(ap);
	if (then != NOTHING && strlen(path) == 1 && strchr("abc", *path)) {
		assert_int_equal(then == IT_VANISHES ? unlinkat(dir, path, 0)
						     : renameat(dir, "other", dir, path),
				 0);
		then = NOTHING;
		memcpy(first, path, 2);
	}
	return __real_openat64(dir, path, flags, mode);
}

/* The two names that are left are the file that all three were. */
static void check_others(struct scratch *s)
{
	struct inode_rec rec;
	uint64_t ino = 0;

	for (const char *name = "abc"; *name; name++) {
		const char path[] = { *name, '\0' };

		if (*name == first[0])
			continue;
		uint64_t this = lookup(s, path, &rec);

		assert_true(!ino || this == ino);
		ino = this;
		assert_int_equal(rec.nlink, 2);
		assert_int_equal(rec.size, 6);
	}
}

static void other_names_of_a_file_that_vanishes_stay(void **state)
{
	struct scratch *s = *state;

	sh("mkdir d && echo three >d/a && ln d/a d/b && ln d/a d/c");
	then = IT_VANISHES;
	import_dir(s, "d");
	assert_int_equal(s->result.file_count, 2); /* inodes: the directory, too */
	check_others(s);
}

static void a_file_that_takes_a_name_is_one_of_its_own(void **state)
{
	struct scratch *s = *state;
	struct inode_rec rec;

	sh("mkdir d && echo three >d/a && ln d/a d/b && ln d/a d/c && echo longer text >d/other");
	then = ANOTHER_IS_THERE;
	import_dir(s, "d");
	lookup(s, first, &rec);
	assert_int_equal(rec.size, 12);
	assert_int_equal(rec.nlink, 1);
	check_others(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(other_names_of_a_file_that_vanishes_stay,
						scratch_setup, scratch_teardown),
		cmocka_unit_test_setup_teardown(a_file_that_takes_a_name_is_one_of_its_own,
						scratch_setup, scratch_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
