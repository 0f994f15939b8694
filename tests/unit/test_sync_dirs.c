/*
 * A name is on disk before anything counts on it: the directories of a store, the
 * staging file of a mount, the log of a build, the keys of a bucket. So are records.
 * wrap: fsync kv_sync_log
 */
#include "tests/unit/mount_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "fs/view/view.h"
#include "snapshotd/build/build_log.h"
#include "store/bucket/object_dir.h"

/* The directories that were synced, with how many names each had then. */
static struct synced {
	dev_t dev;
	ino_t ino;
	unsigned names;
} list[64];
static unsigned n_synced;
static ino_t file_synced;
static unsigned n_log_syncs; /* of the database's log */

int __real_kv_sync_log(struct kv *kv);
int __wrap_kv_sync_log(struct kv *kv);
int __wrap_kv_sync_log(struct kv *kv)
{
	n_log_syncs++;
	return __real_kv_sync_log(kv);
}

static unsigned count_names(int fd)
{
	int dup = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(dup);
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) && n_synced < ARRAY_SIZE(list))
		list[n_synced++] = (struct synced){ st.st_dev, st.st_ino, count_names(fd) };
	else
		file_synced = st.st_ino;
	return __real_fsync(fd);
}

/* With all the names that it has now. */
static bool is_synced(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned names;
	struct stat st;

	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	names = count_names(fd);
	close(fd);
	for (unsigned i = 0; i < n_synced; i++)
		if (list[i].dev == st.st_dev && list[i].ino == st.st_ino && list[i].names == names)
			return true;
	return false;
}

static void a_new_store_is_on_disk_with_its_directories(void **state)
{
	struct fx *f = *state;
	struct error err = ERROR_INIT;
	struct store *s;
	char dir[512];

	snprintf(dir, sizeof(dir), "%s/new", f->dir);
	n_synced = 0;
	assert_int_equal(store_open(dir, NULL, &s, &err), 0);
	assert_true(is_synced(f->dir));
	assert_true(is_synced(dir));
	store_close(s);
}

static void a_staging_file_is_found_again(void **state)
{
	struct mf *f = *state;
	static uint8_t bytes[200000]; /* more than is logged */
	char dir[512];

	snprintf(dir, sizeof(dir), "%s/staging", f->fx.dir);
	mf_write(f, mf_file(f, "a"), 0, bytes, sizeof(bytes));
	n_synced = 0;
	assert_int_equal(view_sync(f->v), 0);
	assert_true(is_synced(dir));
	snprintf(dir, sizeof(dir), "%s/journal", f->fx.dir);
	assert_true(is_synced(dir));
}

static void an_fsync_makes_records_permanent_that_were_noted(void **state)
{
	struct mf *f = *state;

	mf_file(f, "a");
	assert_int_equal(view_sync(f->v), 0);
	n_log_syncs = 0;
	mf_file(f, "b");
	assert_int_equal(view_sync(f->v), 0);
	assert_int_equal(n_log_syncs, 0);
	mount_note_record(f->m);
	assert_int_equal(view_sync(f->v), 0);
	assert_int_equal(n_log_syncs, 1);
}

static void the_log_of_a_build_is_on_disk_with_its_name(void **state)
{
	struct fx *f = *state;
	struct error err = ERROR_INIT;
	struct build_log *l;
	struct stat st;
	char path[512];

	snprintf(path, sizeof(path), "%s/build.log", f->dir);
	assert_int_equal(build_log_open(path, false, &l, &err), 0);
	build_log_add(l, 1, "run", BUILD_STDOUT, "text", 4);
	n_synced = 0;
	build_log_sync(l);
	build_log_end(l);
	build_log_free(l);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(file_synced, st.st_ino);
	assert_true(is_synced(f->dir));
}

static void a_bucket_is_on_disk_with_its_keys(void **state)
{
	static const char *const dirs[] = { "", "/far", "/far/bucket", "/far/bucket/a",
					    "/far/bucket/a/b" };
	struct object_request put = {
		.op = OBJECT_PUT_ONCE, .key = "a/b/c", .body = "x", .len = 1
	};
	struct error err = ERROR_INIT;
	struct object_store *os;
	struct fx *f = *state;
	char dir[512];

	snprintf(dir, sizeof(dir), "%s/far/bucket", f->dir);
	n_synced = 0;
	assert_int_equal(object_dir_open(dir, false, &os, &err), 0);
	for (unsigned i = 0; i < 2; i++) {
		snprintf(dir, sizeof(dir), "%s%s", f->dir, dirs[i]);
		assert_true(is_synced(dir));
	}
	/* Another has made a directory, and was killed before he synced it. */
	snprintf(dir, sizeof(dir), "%s/far/bucket/a", f->dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	n_synced = 0;
	object_run(os, &put, 1);
	assert_int_equal(put.result, 0);
	for (unsigned i = 2; i < ARRAY_SIZE(dirs); i++) {
		snprintf(dir, sizeof(dir), "%s%s", f->dir, dirs[i]);
		assert_true(is_synced(dir));
	}
	object_store_close(os);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_new_store_is_on_disk_with_its_directories,
						fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(a_staging_file_is_found_again, mf_setup,
						mf_teardown),
		cmocka_unit_test_setup_teardown(an_fsync_makes_records_permanent_that_were_noted,
						mf_setup, mf_teardown),
		cmocka_unit_test_setup_teardown(the_log_of_a_build_is_on_disk_with_its_name,
						fx_setup, fx_teardown),
		cmocka_unit_test_setup_teardown(a_bucket_is_on_disk_with_its_keys, fx_setup,
						fx_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
