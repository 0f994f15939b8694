/*
 * quota: all that a mount's upper holds counts, names and xattrs as well as data, and
 * a mount that is full can be emptied.
 */
#include <linux/falloc.h>

#include "tests/unit/mount_fixture.h"

#include "fs/upper/upper.h"

#define QUOTA (100u << 10)
/* More operations than the quota has room for. */
#define MANY 3000

static uint64_t meta(struct mf *f)
{
	return atomic_load(&f->v->cur->meta_bytes);
}

/* ---- what grows ---- */

struct growth {
	const char *name;
	int (*grow)(struct mf *f, uint64_t ino, int i);
	int (*shrink)(struct mf *f, uint64_t ino, int i);
};

static int make(struct mf *f, int i, uint32_t mode, const char *target)
{
	struct view_attr a;
	char name[32];

	snprintf(name, sizeof(name), "name %d", i);
	return view_create(f->v, ROOT_INO, name, mode, 0, target, &mf_root, &a);
}

static int remove_name(struct mf *f, uint64_t ino, int i)
{
	char name[32];

	(void)ino;
	snprintf(name, sizeof(name), "name %d", i);
	return view_unlink(f->v, ROOT_INO, name);
}

static int make_file(struct mf *f, uint64_t ino, int i)
{
	(void)ino;
	return make(f, i, S_IFREG | 0644, NULL);
}

static int make_symlink(struct mf *f, uint64_t ino, int i)
{
	static const char dots[] =
		"................................................................";

	(void)ino;
	return make(f, i, S_IFLNK | 0777, dots);
}

static int make_dir(struct mf *f, uint64_t ino, int i)
{
	(void)ino;
	return make(f, i, S_IFDIR | 0755, NULL);
}

static int remove_dir(struct mf *f, uint64_t ino, int i)
{
	char name[32];

	(void)ino;
	snprintf(name, sizeof(name), "name %d", i);
	return view_rmdir(f->v, ROOT_INO, name);
}

static int make_link(struct mf *f, uint64_t ino, int i)
{
	struct view_attr a;
	char name[32];

	snprintf(name, sizeof(name), "name %d", i);
	return view_link(f->v, ino, ROOT_INO, name, &a);
}

static int set_xattr(struct mf *f, uint64_t ino, int i)
{
	static const char value[1000];
	char name[32];

	snprintf(name, sizeof(name), "user.%d", i);
	return view_setxattr(f->v, ino, name, value, sizeof(value), 0, false);
}

static int remove_xattr(struct mf *f, uint64_t ino, int i)
{
	char name[32];

	snprintf(name, sizeof(name), "user.%d", i);
	return view_removexattr(f->v, ino, name);
}

/* One byte, and a hole behind it. */
static int write_byte(struct mf *f, uint64_t ino, int i)
{
	int64_t n = view_write(f->v, ino, 8192ull * (unsigned)i, "x", 1, 0);

	return n < 0 ? (int)n : 0;
}

static int truncate_to(struct mf *f, uint64_t ino, int i)
{
	struct view_setattr set = { .valid = VIEW_SET_SIZE, .size = 8192ull * (unsigned)i };
	struct view_attr a;

	return view_setattr(f->v, ino, &set, &a);
}

static void what_grows_is_stopped_and_can_be_deleted(void **state)
{
	static const struct growth kinds[] = {
		{ "file", make_file, remove_name },    { "symlink", make_symlink, remove_name },
		{ "directory", make_dir, remove_dir }, { "link", make_link, remove_name },
		{ "xattr", set_xattr, remove_xattr },  { "extent", write_byte, truncate_to },
	};
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "file"), before;

	(void)mf_file(f, "other");
	before = meta(f);
	f->v->quota_bytes = QUOTA;
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		uint64_t refused = atomic_load(&f->v->no_space);
		int n = 0, r = 0;

		while (n < MANY && !(r = kinds[k].grow(f, ino, n)))
			n++;
		print_message("%s: %d\n", kinds[k].name, n);
		assert_int_equal(r, -EDQUOT);
		assert_true(atomic_load(&f->v->no_space) > refused);
		assert_in_range(upper_bytes(f->v->cur), QUOTA - 1500, QUOTA);
		assert_true(n > 50);
		while (n-- > 0)
			assert_int_equal(kinds[k].shrink(f, ino, n), 0);
		assert_int_equal(upper_bytes(f->v->cur), before);
	}
}

/* ---- a full mount ---- */

static void fill(struct mf *f, uint64_t ino)
{
	int n = 0;

	f->v->quota_bytes = QUOTA;
	while (n < MANY && set_xattr(f, ino, n) == 0)
		n++;
	/* What is left is too little for a name. */
	f->v->quota_bytes = upper_bytes(f->v->cur);
}

static void a_full_mount_can_be_emptied_of_what_is_below(void **state)
{
	struct mf *f = *state;
	uint64_t ino, data = mf_file(f, "data");
	struct view_attr a;

	(void)mf_create(f, ROOT_INO, "dir", S_IFDIR | 0755);
	mf_write(f, data, 0, "0123456789", 10);
	assert_int_equal(view_setxattr(f->v, data, "user.x", "1", 1, 0, false), 0);
	(void)mf_file(f, "over");
	(void)mf_file(f, "by");
	mf_checkpoint(f);
	assert_int_equal(upper_bytes(f->v->cur), 0);
	ino = mf_file(f, "full");
	fill(f, ino);
	assert_int_equal(make_file(f, 0, 0), -EDQUOT);
	assert_int_equal(view_rename(f->v, ROOT_INO, "full", ROOT_INO, "a longer name", 0),
			 -EDQUOT);
	assert_int_equal(view_lookup(f->v, ROOT_INO, "full", &a), 0);
	assert_int_equal(view_rename(f->v, ROOT_INO, "by", ROOT_INO, "over", 0), 0);
	assert_int_equal(view_removexattr(f->v, data, "user.x"), 0);
	mf_truncate(f, data, 5);
	assert_int_equal(view_unlink(f->v, ROOT_INO, "data"), 0);
	assert_int_equal(view_unlink(f->v, ROOT_INO, "over"), 0);
	assert_int_equal(view_rmdir(f->v, ROOT_INO, "dir"), 0);
	assert_true(upper_bytes(f->v->cur) > f->v->quota_bytes);
	assert_int_equal(view_unlink(f->v, ROOT_INO, "full"), 0);
	assert_int_equal(make_file(f, 0, 0), 0);
}

static void a_file_without_a_name_counts_until_it_is_closed(void **state)
{
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "open");

	assert_int_equal(live_add(f->v->live, ino, 1), 0);
	fill(f, ino);
	assert_int_equal(view_unlink(f->v, ROOT_INO, "open"), 0);
	assert_true(meta(f) > QUOTA / 2);
	assert_int_equal(make_dir(f, 0, 0), -EDQUOT);
	view_forget(f->v, ino, 1);
	assert_true(meta(f) < 1000);
	assert_int_equal(make_dir(f, 0, 0), 0);
}

/* Punching frees data, but splits an extent. */
static void holes_that_take_more_than_they_free_are_stopped(void **state)
{
	static const uint8_t data[40000] = { 1 };
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "f");
	int n = 0;

	mf_write(f, ino, 0, data, sizeof(data));
	mf_checkpoint(f);
	mf_write(f, ino, 0, data, sizeof(data));
	f->v->quota_bytes = upper_bytes(f->v->cur) + 2000;
	while (n < MANY && view_fallocate(f->v, ino, punch, 2ull * (unsigned)n, 1, 0) == 0)
		n++;
	assert_true(n < 20);
	assert_true(upper_bytes(f->v->cur) <= f->v->quota_bytes);
	assert_int_equal(view_fallocate(f->v, ino, punch, 10000, 20000, 0), 0);
	mf_truncate(f, ino, 0);
}

/* ---- what is counted ---- */

static void a_restart_and_a_checkpoint_count_right(void **state)
{
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "f"), was;

	mf_write(f, ino, 0, "0123456789", 10);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(make_symlink(f, 0, i), 0);
		assert_int_equal(set_xattr(f, ino, i), 0);
		assert_int_equal(write_byte(f, ino, i + 1), 0);
	}
	assert_int_equal(remove_name(f, 0, 3), 0);
	assert_int_equal(remove_xattr(f, ino, 3), 0);
	for (int i = 0; i < 2; i++) { /* with nothing below, then with a base */
		was = meta(f);
		assert_true(was > 500);
		mf_restart(f);
		assert_int_equal(meta(f), was);
		mf_checkpoint(f);
		assert_int_equal(meta(f), 0);
		ino = mf_file(f, i ? "g" : "h");
		assert_int_equal(set_xattr(f, ino, 0), 0);
		assert_int_equal(remove_name(f, 0, i), 0);
		mf_truncate(f, ino, 5);
	}
}

static void inodes_are_limited(void **state)
{
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "open");
	struct statvfs st;
	int n = 0;

	(void)mf_file(f, "below");
	mf_checkpoint(f);
	f->v->quota_inodes = 10;
	assert_int_equal(live_add(f->v->live, ino, 1), 0);
	while (n < MANY && make_dir(f, 0, n) == 0)
		n++;
	assert_int_equal(n, 10);
	assert_int_equal(make_symlink(f, 0, n), -EDQUOT);
	assert_int_equal(make_link(f, ino, n), 0);
	assert_int_equal(set_xattr(f, ino, 0), 0);
	assert_int_equal(view_statfs(f->v, &st), 0);
	assert_int_equal(st.f_ffree, 0);
	assert_int_equal(view_unlink(f->v, ROOT_INO, "below"), 0); /* not one of them */
	assert_int_equal(make_file(f, 0, 99), -EDQUOT);
	mf_restart(f);
	assert_int_equal(view_new_inodes(f->v), 10);
	f->v->quota_inodes = 10;
	assert_int_equal(make_file(f, 0, 99), -EDQUOT);
	assert_int_equal(remove_dir(f, 0, 0), 0);
	assert_int_equal(view_statfs(f->v, &st), 0);
	assert_int_equal(st.f_ffree, 1);
	assert_int_equal(make_file(f, 0, 99), 0);
	mf_checkpoint(f);
	assert_int_equal(view_new_inodes(f->v), 0);
	assert_int_equal(make_file(f, 0, 100), 0);
}

/* Without a quota as well: it is in the daemon's memory. */
static void metadata_is_limited_and_data_is_not(void **state)
{
	static const uint8_t data[QUOTA];
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "data");
	int i = 0;

	f->v->metadata_bytes = QUOTA;
	mf_write(f, ino, 0, data, sizeof(data));
	while (make_file(f, 0, i) == 0 && i < MANY)
		i++;
	assert_true(i > 10 && i < MANY);
	assert_int_equal(make_file(f, 0, i), -EDQUOT);
	assert_true(meta(f) <= QUOTA);
	assert_int_equal(set_xattr(f, ino, 0), -EDQUOT);
	assert_int_equal(remove_name(f, 0, 0), 0);
	assert_int_equal(remove_name(f, 0, 1), 0);
	mf_write(f, ino, sizeof(data), data, sizeof(data));
	mf_checkpoint(f);
	assert_int_equal(set_xattr(f, ino, 0), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, mf_setup, mf_teardown)
	const struct CMUnitTest tests[] = {
		T(what_grows_is_stopped_and_can_be_deleted),
		T(a_full_mount_can_be_emptied_of_what_is_below),
		T(a_file_without_a_name_counts_until_it_is_closed),
		T(holes_that_take_more_than_they_free_are_stopped),
		T(inodes_are_limited),
		T(metadata_is_limited_and_data_is_not),
		T(a_restart_and_a_checkpoint_count_right),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
