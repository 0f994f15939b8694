/*
 * Files of trees, materialised: content, names, eviction, what a start finds.
 * wrap: fstatvfs64
 */
#include "tests/unit/fs_fixture.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/statvfs.h>

#include "fs/shared/shared_files.h"

/* What is free on the disk; 0: as it is. */
static _Atomic uint64_t pretend_free;

int __real_fstatvfs64(int fd, struct statvfs *out);
int __wrap_fstatvfs64(int fd, struct statvfs *out);

int __wrap_fstatvfs64(int fd, struct statvfs *out)
{
	int r = __real_fstatvfs64(fd, out);

	if (pretend_free)
		out->f_bavail = pretend_free / out->f_frsize;
	return r;
}

struct sfx {
	struct fx fx;
	struct shared_files *sf;
};

static void open_files(struct sfx *f, uint64_t limit)
{
	struct error err = ERROR_INIT;

	if (shared_files_open(f->fx.s, limit, &f->sf, &err))
		fail_msg("shared_files_open: %s", error_text(&err));
}

static int setup(void **state)
{
	struct sfx *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	fx_open(&f->fx);
	open_files(f, 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct sfx *f = *state;

	shared_files_close(f->sf);
	fx_close(&f->fx);
	free(f);
	return 0;
}

static unsigned files_in_dir(const struct sfx *f)
{
	char path[400];
	unsigned n = 0;

	snprintf(path, sizeof(path), "%s/shared", f->fx.dir);
	DIR *d = opendir(path);

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static struct shared_files_stats stats_of(const struct sfx *f)
{
	struct shared_files_stats s;

	shared_files_get_stats(f->sf, &s);
	return s;
}

static struct shared_file *get(struct sfx *f, const struct digest *root, const struct model *m,
			       const char *path)
{
	struct model *all = (struct model *)m;
	struct tree_fs fs = store_tree(f->fx.s, root);
	struct digest key;

	return shared_files_get(f->sf, &fs, m_ino(all, path), m_at(all, path)->size, &key);
}

/* Ask until it is there. */
static struct shared_file *make(struct sfx *f, const struct digest *root, const struct model *m,
				const char *path)
{
	struct shared_file *sf = get(f, root, m, path);

	if (sf)
		return sf;
	shared_files_settle(f->sf);
	return get(f, root, m, path);
}

static void assert_holds(struct sfx *f, const struct shared_file *sf, const struct m_inode *want)
{
	int fd = shared_files_fd(f->sf, sf);
	char *got = malloc(want->size + 1);

	assert_true(fd >= 0);
	assert_non_null(got);
	assert_int_equal(pread(fd, got, want->size + 1, 0), want->size);
	for (uint64_t i = 0; i < want->size; i++) {
		bool hole = i < want->data_at || i >= want->data_at + want->data_len;

		assert_int_equal(got[i], hole ? 0 : want->data[i - want->data_at]);
	}
	free(got);
	close(fd);
}

static void a_file_is_there_soon_after_it_was_asked_for(void **state)
{
	struct sfx *f = *state;
	struct model *m = m_new();

	m_random_file(m, "random", 1, 300000);
	m_random_file(m, "small", 2, SHARED_FILE_MIN);
	m_random_file(m, "too-small", 3, SHARED_FILE_MIN - 1);
	m_random_file(m, "hole", 4, 100000);
	m_at(m, "hole")->data_at = 1 << 20;
	m_at(m, "hole")->size = 3 << 20;
	struct digest root = m_snapshot(f->fx.s, m, "base");

	assert_null(get(f, &root, m, "random"));
	assert_null(make(f, &root, m, "too-small"));
	for (const char *const *p = (const char *const[]){ "random", "small", "hole", NULL }; *p;
	     p++) {
		struct shared_file *sf = make(f, &root, m, *p);

		assert_non_null(sf);
		assert_holds(f, sf, m_at(m, *p));
		assert_ptr_equal(get(f, &root, m, *p), sf);
		shared_files_put(f->sf, sf);
		shared_files_put(f->sf, sf);
	}
	assert_int_equal(stats_of(f).files, 3);
	assert_int_equal(stats_of(f).made, 3);
	assert_int_equal(stats_of(f).failed, 0);
	assert_true(stats_of(f).bytes < 500000); /* holes are not counted */
	assert_int_equal(files_in_dir(f), 3);
	m_free(m);
}

static void equal_files_of_other_trees_are_one(void **state)
{
	struct sfx *f = *state;
	struct model *m = m_new();

	m_random_file(m, "a", 1, 50000);
	m_random_file(m, "twin", 1, 50000);
	struct digest one = m_snapshot(f->fx.s, m, "one");

	m_random_file(m, "b", 2, 50000);
	struct digest two = m_snapshot(f->fx.s, m, "two");
	struct shared_file *sf = make(f, &one, m, "a");

	assert_non_null(sf);
	assert_ptr_equal(get(f, &one, m, "twin"), sf);
	assert_ptr_equal(get(f, &two, m, "a"), sf); /* at once */
	assert_null(get(f, &two, m, "b"));
	for (int i = 0; i < 3; i++)
		shared_files_put(f->sf, sf);
	shared_files_settle(f->sf);
	assert_int_equal(files_in_dir(f), 2);
	m_free(m);
}

struct change {
	uint64_t ino;
	unsigned asked;
};

static bool is_changed(void *arg, uint64_t ino)
{
	struct change *c = arg;

	c->asked++;
	return ino == c->ino;
}

static void large_files_are_carried_to_another_root(void **state)
{
	struct sfx *f = *state;
	struct model *m = m_new();

	m_random_file(m, "small", 1, 50000);
	m_random_file(m, "large", 2, 9 << 20);
	m_random_file(m, "changes", 3, 9 << 20);
	struct digest one = m_snapshot(f->fx.s, m, "one");
	struct shared_file *was[] = { make(f, &one, m, "small"), make(f, &one, m, "large"),
				      make(f, &one, m, "changes") };
	struct change change = { .ino = m_ino(m, "changes") };

	char *other = calloc(1, 9 << 20);

	assert_non_null(other);
	m_set(m, "changes", other, 9 << 20);
	free(other);
	struct digest two = m_snapshot(f->fx.s, m, "two");

	shared_files_carry(f->sf, &one, &two, is_changed, &change);
	assert_int_equal(change.asked, 2); /* the small one is looked up when it is opened */
	assert_ptr_equal(get(f, &two, m, "small"), was[0]);
	assert_ptr_equal(get(f, &two, m, "large"), was[1]);
	assert_int_equal(stats_of(f).queued, 0);
	assert_int_equal(stats_of(f).made, 3);
	assert_null(get(f, &two, m, "changes")); /* its file is made meanwhile */
	for (int i = 0; i < 3; i++)
		shared_files_put(f->sf, was[i]);
	shared_files_put(f->sf, was[0]);
	shared_files_put(f->sf, was[1]);
	m_free(m);
}

static void equal_chunks_at_other_places_make_another_file(void **state)
{
	struct sfx *f = *state;
	struct model *m = m_new();

	m_random_file(m, "plain", 1, 20000);
	m_random_file(m, "moved", 1, 20000);
	m_at(m, "moved")->data_at = 65536;
	m_at(m, "moved")->size = 65536 + 20000;
	m_random_file(m, "longer", 1, 20000);
	m_at(m, "longer")->size = 30000;
	struct digest root = m_snapshot(f->fx.s, m, "base");

	for (const char *const *p = (const char *const[]){ "plain", "moved", "longer", NULL }; *p;
	     p++) {
		struct shared_file *sf = make(f, &root, m, *p);

		assert_non_null(sf);
		assert_holds(f, sf, m_at(m, *p));
		shared_files_put(f->sf, sf);
	}
	assert_int_equal(files_in_dir(f), 3);
	m_free(m);
}

static void what_is_in_use_is_not_evicted(void **state)
{
	struct sfx *f = *state;
	struct model *m = m_new();
	struct shared_file *used, *sf;

	for (uint64_t i = 0; i < 8; i++)
		m_random_file(m, (char[]){ 'a' + (char)i, 0 }, i + 1, 40960);
	struct digest root = m_snapshot(f->fx.s, m, "base");

	shared_files_close(f->sf);
	open_files(f, 3 * 50000);
	used = make(f, &root, m, "a");
	assert_non_null(used);
	for (char name[] = "b"; *name <= 'h'; ++*name) {
		sf = make(f, &root, m, name);
		assert_non_null(sf);
		shared_files_put(f->sf, sf);
		assert_true(stats_of(f).bytes <= stats_of(f).limit_bytes);
	}
	assert_int_equal(stats_of(f).files, 3);
	assert_int_equal(stats_of(f).evicted, 5);
	assert_int_equal(files_in_dir(f), 3);
	assert_holds(f, used, m_at(m, "a"));
	sf = make(f, &root, m, "b"); /* it went; it comes again */
	assert_non_null(sf);
	assert_holds(f, sf, m_at(m, "b"));
	shared_files_put(f->sf, used);
	shared_files_put(f->sf, sf);
	m_free(m);
}

static void what_does_not_fit_is_not_made(void **state)
{
	struct sfx *f = *state;
	struct model *m = m_new();
	struct shared_file *used;

	m_random_file(m, "used", 1, 40960);
	m_random_file(m, "other", 2, 40960);
	m_random_file(m, "large", 3, 200000);
	struct digest root = m_snapshot(f->fx.s, m, "base");

	shared_files_close(f->sf);
	open_files(f, 60000);
	used = make(f, &root, m, "used");
	assert_non_null(used);
	assert_null(make(f, &root, m, "other"));
	assert_null(make(f, &root, m, "large"));
	shared_files_put(f->sf, used);
	used = make(f, &root, m, "other"); /* room is made for it now */
	assert_non_null(used);
	shared_files_put(f->sf, used);
	assert_int_equal(stats_of(f).failed, 0);
	m_free(m);
}

static void a_full_disk_takes_files_away(void **state)
{
	struct sfx *f = *state;
	struct model *m = m_new();
	struct shared_file *used, *sf;

	m_random_file(m, "used", 1, 40960);
	m_random_file(m, "other", 2, 40960);
	struct digest root = m_snapshot(f->fx.s, m, "base");

	used = make(f, &root, m, "used");
	sf = make(f, &root, m, "other");
	assert_non_null(used);
	assert_non_null(sf);
	shared_files_put(f->sf, sf);
	pretend_free = 10 << 20;
	for (int i = 0; i < 2000 && stats_of(f).files > 1; i++)
		usleep(10000);
	assert_int_equal(stats_of(f).files, 1);
	assert_holds(f, used, m_at(m, "used"));
	assert_null(make(f, &root, m, "other"));
	assert_int_equal(files_in_dir(f), 1);
	pretend_free = 0;
	sf = make(f, &root, m, "other"); /* there is room again */
	assert_non_null(sf);
	assert_int_equal(stats_of(f).failed, 0);
	shared_files_put(f->sf, sf);
	shared_files_put(f->sf, used);
	m_free(m);
}

static void a_start_drops_what_it_finds(void **state)
{
	struct sfx *f = *state;
	struct model *m = m_new();
	char path[400];

	m_random_file(m, "a", 1, 40960);
	struct digest root = m_snapshot(f->fx.s, m, "base");
	struct shared_file *sf = make(f, &root, m, "a");

	assert_non_null(sf);
	shared_files_put(f->sf, sf);
	shared_files_close(f->sf);
	f->sf = NULL;
	assert_int_equal(files_in_dir(f), 0);
	snprintf(path, sizeof(path), "%s/shared/tmp.0", f->fx.dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	snprintf(path, sizeof(path), "%s/shared/%064d", f->fx.dir, 7);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	open_files(f, 0);
	assert_int_equal(files_in_dir(f), 0);
	m_free(m);
}

static void a_damaged_tree_makes_no_file(void **state)
{
	struct sfx *f = *state;
	struct digest root, key;
	struct tree_fs fs;

	memset(&root, 7, sizeof(root));
	fs = store_tree(f->fx.s, &root);
	assert_null(shared_files_get(f->sf, &fs, 5, 100000, &key));
	shared_files_settle(f->sf);
	assert_int_equal(stats_of(f).failed, 1);
	assert_int_equal(files_in_dir(f), 0);
	assert_null(shared_files_get(f->sf, &fs, 5, 100000, &key));
	shared_files_settle(f->sf);
	assert_int_equal(stats_of(f).failed, 1); /* not tried again */
}

int main(void)
{
#define FILES_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		FILES_TEST(a_file_is_there_soon_after_it_was_asked_for),
		FILES_TEST(equal_files_of_other_trees_are_one),
		FILES_TEST(large_files_are_carried_to_another_root),
		FILES_TEST(equal_chunks_at_other_places_make_another_file),
		FILES_TEST(what_is_in_use_is_not_evicted),
		FILES_TEST(what_does_not_fit_is_not_made),
		FILES_TEST(a_full_disk_takes_files_away),
		FILES_TEST(a_start_drops_what_it_finds),
		FILES_TEST(a_damaged_tree_makes_no_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
