/* view: attributes, ACLs, xattrs, and what writing takes away. */
#include <linux/limits.h>

#include "tests/unit/mount_fixture.h"

#include <sys/xattr.h>

#include "fs/view/acl.h"
#include "fs/view/view.h"
#include "store/import/ingest.h"
#include "store/archive/tar_header.h"

static void chmod_it(struct mf *f, uint64_t ino, uint32_t mode)
{
	struct view_setattr set = { .valid = VIEW_SET_MODE, .mode = mode };
	struct view_attr a;

	assert_int_equal(view_setattr(f->v, ino, &set, &a), 0);
}

static bool has_xattr(struct mf *f, uint64_t ino, const char *name)
{
	struct buf value CLEANUP(buf_fini_p) = BUF_INIT;
	int r = view_getxattr(f->v, ino, name, &value);

	assert_true(r == 0 || r == -ENODATA);
	return r == 0;
}

/* ---- ACLs ---- */

/* user::rwx user:5:rwx group::r-x mask::rwx other::r-- */
static const uint8_t named[] = { 2, 0, 0,   0,	 1,   0,   7,  0, 255, 255, 255, 255, 2,   0,  7,
				 0, 5, 0,   0,	 0,   4,   0,  5, 0,   255, 255, 255, 255, 16, 0,
				 7, 0, 255, 255, 255, 255, 32, 0, 4,   0,   255, 255, 255, 255 };
/* user::rw- group::--- other::r-- */
static const uint8_t minimal[] = { 2, 0, 0,   0,   1,	0,   6,	 0, 255, 255, 255, 255, 4,   0,
				   0, 0, 255, 255, 255, 255, 32, 0, 4,	 0,   255, 255, 255, 255 };

static void acls_are_inherited_and_follow_the_mode(void **state)
{
	struct mf *f = *state;
	uint64_t dir = mf_create(f, ROOT_INO, "d", S_IFDIR | 0777), sub, file;

	assert_int_equal(
		view_setxattr(f->v, dir, ACL_XATTR_DEFAULT, named, sizeof(named), 0, false), 0);
	for (int sealed = 0; sealed < 2; sealed++) {
		sub = mf_create(f, dir, sealed ? "sub2" : "sub", S_IFDIR | 0777);
		file = mf_create(f, sub, "file", S_IFREG | 0666);
		/* The umask does not count where there is a default ACL. */
		assert_int_equal(mf_stat(f, sub).mode, S_IFDIR | 0774);
		assert_true(has_xattr(f, sub, ACL_XATTR_DEFAULT));
		assert_int_equal(mf_stat(f, file).mode, S_IFREG | 0664);
		assert_true(has_xattr(f, file, ACL_XATTR_ACCESS));
		assert_false(has_xattr(f, file, ACL_XATTR_DEFAULT));
		mf_checkpoint(f);
	}
	struct buf acl CLEANUP(buf_fini_p) = BUF_INIT;

	chmod_it(f, file, 0610);
	assert_int_equal(view_getxattr(f->v, file, ACL_XATTR_ACCESS, &acl), 0);
	assert_int_equal(acl.len, sizeof(named));
	assert_int_equal(acl.data[4 + 3 * 8 + 2], 1); /* the mask */
	assert_int_equal(acl.data[4 + 2 * 8 + 2], 5); /* not the group */
	/* One that says no more than the mode is not kept. */
	assert_int_equal(
		view_setxattr(f->v, file, ACL_XATTR_ACCESS, minimal, sizeof(minimal), 0, false), 0);
	assert_false(has_xattr(f, file, ACL_XATTR_ACCESS));
	assert_int_equal(mf_stat(f, file).mode, S_IFREG | 0604);
	assert_int_equal(view_removexattr(f->v, file, ACL_XATTR_ACCESS), 0);
	assert_int_equal(
		view_setxattr(f->v, file, ACL_XATTR_DEFAULT, minimal, sizeof(minimal), 0, false),
		-EACCES);
	assert_int_equal(
		view_setxattr(f->v, file, ACL_XATTR_ACCESS, minimal, sizeof(minimal) - 1, 0, false),
		-EINVAL);
}

static void setting_an_acl_may_cost_setgid(void **state)
{
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "f");

	for (int kill = 0; kill < 2; kill++) {
		chmod_it(f, ino, 02755);
		assert_int_equal(
			view_setxattr(f->v, ino, ACL_XATTR_ACCESS, named, sizeof(named), 0, kill),
			0);
		assert_int_equal(mf_stat(f, ino).mode, S_IFREG | (kill ? 0774 : 02774));
	}
}

/* ---- setuid, setgid, capabilities ---- */

static void writes_take_setuid_away_where_asked(void **state)
{
	static const struct {
		uint32_t mode;
		bool kill, kill_sgid;
		uint32_t want;
	} cases[] = {
		{ 06755, false, false, 06755 }, { 06755, true, false, 0755 },
		{ 06745, true, false, 02745 },	{ 06745, true, true, 0745 },
		{ 01777, true, true, 01777 },
	};
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "f");
	struct view_attr a;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned how = (cases[i].kill ? VIEW_WRITE_KILL : 0) |
			       (cases[i].kill_sgid ? VIEW_WRITE_KILL_SGID : 0);
		struct view_setattr cut = { .valid = VIEW_SET_SIZE |
						     (cases[i].kill ? VIEW_KILL_SUIDGID : 0) |
						     (cases[i].kill_sgid ? VIEW_KILL_SGID : 0) };

		for (int k = 0; k < 4; k++) {
			chmod_it(f, ino, cases[i].mode);
			if (k < 2) /* into new space, then in place */
				assert_int_equal(view_write(f->v, ino, 0, "x", 1, how), 1);
			else if (k == 2)
				assert_int_equal(view_fallocate(f->v, ino, 0, 0, 10, how), 0);
			else
				assert_int_equal(view_setattr(f->v, ino, &cut, &a), 0);
			assert_int_equal(mf_stat(f, ino).mode, S_IFREG | cases[i].want);
		}
	}
}

static void every_way_of_changing_a_file_drops_its_capabilities(void **state)
{
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "f");
	struct view_setattr cut = { .valid = VIEW_SET_SIZE, .size = 100 };
	struct view_setattr chown = { .valid = VIEW_SET_UID, .uid = 3 };
	struct view_setattr touch = { .valid = VIEW_SET_MTIME };
	struct view_attr a;

	for (int i = 0; i < 14; i++) {
		assert_int_equal(
			view_setxattr(f->v, ino, "security.capability", "cap", 3, 0, false), 0);
		if (i >= 7)
			mf_checkpoint(f); /* it is in the base, then */
		switch (i % 7) {
		case 0:
			assert_int_equal(view_write(f->v, ino, 0, "x", 1, 0), 1);
			break;
		case 1: /* in place, as the page cache is written back */
			assert_int_equal(view_write(f->v, ino, 0, "y", 1, VIEW_WRITE_CACHED), 1);
			break;
		case 2:
			assert_int_equal(view_fallocate(f->v, ino, 0, 0, 10, 0), 0);
			break;
		case 3:
			assert_int_equal(view_setattr(f->v, ino, &cut, &a), 0);
			break;
		case 4:
			assert_int_equal(view_setattr(f->v, ino, &chown, &a), 0);
			break;
		case 5: /* not these */
			assert_int_equal(view_setattr(f->v, ino, &touch, &a), 0);
			assert_int_equal(view_setxattr(f->v, ino, "user.x", "x", 1, 0, false), 0);
			break;
		default:
			assert_int_equal(view_write(f->v, ino, 50, "z", 1, VIEW_WRITE_CACHED), 1);
		}
		assert_int_equal(has_xattr(f, ino, "security.capability"), i % 7 == 5);
	}
}

/* ---- what is refused ---- */

static void xattr_names_and_sizes_are_checked(void **state)
{
	static const struct {
		const char *name;
		int result;
	} cases[] = {
		{ "user.x", 0 },	  { "trusted.x", 0 },	       { "security.x", 0 },
		{ "user.", -EINVAL },	  { "user", -EOPNOTSUPP },     { "", -EOPNOTSUPP },
		{ "os2.x", -EOPNOTSUPP }, { "system.x", -EOPNOTSUPP },
	};
	struct mf *f = *state;
	struct buf names CLEANUP(buf_fini_p) = BUF_INIT;
	uint64_t ino = mf_file(f, "f");
	char *big = calloc(1, XATTR_VALUE_MAX + 1);
	char long_name[300] = "user.";

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(view_setxattr(f->v, ino, cases[i].name, "v", 1, 0, false),
				 cases[i].result);
	memset(long_name + 5, 'x', 250);
	assert_int_equal(view_setxattr(f->v, ino, long_name, big, XATTR_VALUE_MAX, 0, false), 0);
	long_name[255] = 'x';
	assert_int_equal(view_setxattr(f->v, ino, long_name, "v", 1, 0, false), -ERANGE);
	assert_int_equal(view_setxattr(f->v, ino, "user.x", big, XATTR_VALUE_MAX + 1, 0, false),
			 -E2BIG);
	assert_int_equal(view_setxattr(f->v, ino, "user.empty", "", 0, 0, false), 0);
	mf_checkpoint(f);
	assert_true(has_xattr(f, ino, "user.empty"));
	/* trusted.* is for root alone. */
	assert_int_equal(view_listxattr(f->v, ino, true, &names), 0);
	size_t all = names.len;

	buf_clear(&names);
	assert_int_equal(view_listxattr(f->v, ino, false, &names), 0);
	assert_int_equal(names.len, all - sizeof("trusted.x"));
	free(big);
}

/* One member of a tar, with xattrs: name and value in turn, NULL at the end. */
static void add_member(struct buf *tar, enum tar_type type, const char *path,
		       const char *const *xattrs)
{
	struct buf extra CLEANUP(buf_fini_p) = BUF_INIT;
	struct tar_member m = { .type = type,
				.path = path,
				.path_len = strlen(path),
				.link = type == TAR_SYMLINK ? "x" : NULL,
				.link_len = 1,
				.mode = 0755,
				.extra = &extra };

	for (; *xattrs; xattrs += 2) {
		char key[100];
		int len = snprintf(key, sizeof(key), "SCHILY.xattr.%s", xattrs[0]);

		assert_int_equal(
			tar_put_record(&extra, key, (size_t)len, xattrs[1], strlen(xattrs[1])), 0);
	}
	assert_int_equal(tar_put_header(tar, &m), 0);
}

/* A tree with xattrs that Linux would not have let anyone set, mounted. */
static void mount_odd_xattrs(struct mf *f)
{
	static const char *const all[] = { "com.apple.provenance",
					   "p",
					   "user.keep",
					   "k",
					   "user.",
					   "e",
					   "trusted.t",
					   "t",
					   "system.posix_acl_access",
					   "bad",
					   "system.posix_acl_default",
					   "bad",
					   "system.other",
					   "o",
					   NULL };
	struct buf tar CLEANUP(buf_fini_p) = BUF_INIT;
	struct ingest_result result = { 0 };
	struct error err = ERROR_INIT;
	FILE *file = tmpfile();

	add_member(&tar, TAR_FILE, "f", all);
	add_member(&tar, TAR_DIRECTORY, "d", all);
	add_member(&tar, TAR_SYMLINK, "l", all);
	add_member(&tar, TAR_FIFO, "p", all);
	assert_int_equal(tar_put_end(&tar), 0);
	assert_int_equal(fwrite(tar.data, 1, tar.len, file), tar.len);
	rewind(file);
	if (ingest_tar(f->fx.s, fileno(file), NULL, NULL, &result, &err) < 0)
		fail_msg("%s", error_text(&err));
	fclose(file);
	/* Of f: the first, "user.", a default ACL and system.other; and so on. */
	assert_int_equal(result.remarks.kinds[REMARK_XATTR_HIDDEN].count, 4 + 3 + 6 + 5);
	mount_close(f->m);
	mf_new_mount(f, &result.root, 0);
}

static void a_list_of_names_is_no_longer_than_linux_takes(void **state)
{
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "a");
	char name[256];
	int n;

	for (n = 0; n < 262; n++) { /* 251 bytes each, with the NUL */
		snprintf(name, sizeof(name), "user.%0245d", n);
		assert_int_equal(view_setxattr(f->v, ino, name, "", 0, 0, false), 0);
		struct buf names CLEANUP(buf_fini_p) = BUF_INIT;

		assert_int_equal(view_listxattr(f->v, ino, true, &names),
				 (n + 1) * 251 > XATTR_LIST_MAX ? -E2BIG : 0);
		assert_true(names.len <= XATTR_LIST_MAX);
	}
	assert_true(n * 251 > XATTR_LIST_MAX);
}

static void what_linux_cannot_show_of_a_file_is_not_listed(void **state)
{
	static const struct {
		const char *path, *names;
		size_t len;
	} cases[] = {
		{ "f", "trusted.t\0user.keep", 20 },
		{ "d", "trusted.t\0user.keep", 20 },
		{ "l", "trusted.t", 10 },
		{ "p", "trusted.t", 10 },
	};
	struct mf *f = *state;

	mount_odd_xattrs(f);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf names CLEANUP(buf_fini_p) = BUF_INIT;
		struct view_attr a;

		assert_int_equal(view_lookup(f->v, ROOT_INO, cases[i].path, &a), 0);
		assert_int_equal(view_listxattr(f->v, a.ino, true, &names), 0);
		assert_int_equal(names.len, cases[i].len);
		assert_memory_equal(names.data, cases[i].names, names.len);
		assert_int_equal(has_xattr(f, a.ino, "user.keep"), names.len > 10);
		assert_false(has_xattr(f, a.ino, ACL_XATTR_ACCESS));
	}
	struct view_attr d;

	assert_int_equal(view_lookup(f->v, ROOT_INO, "d", &d), 0);
	mf_create(f, d.ino, "below", S_IFREG | 0644);
}

static void setting_an_xattr_to_what_it_is_changes_nothing(void **state)
{
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "f");
	static const char *const values[] = { "v", "v", "w", "w", "", "", "v" };
	static const bool changes[] = { true, false, true, false, true, false, true };

	for (size_t i = 0; i < 2 * ARRAY_SIZE(values); i++) {
		const char *value = values[i % ARRAY_SIZE(values)];
		struct inode_rec before = mf_stat(f, ino), after;

		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL); /* some ticks */
		assert_int_equal(view_setxattr(f->v, ino, "user.x", value, strlen(value), 0, false),
				 0);
		after = mf_stat(f, ino);
		/* In the second round "v" is there from the first. */
		assert_int_equal(after.ctime.tv_sec != before.ctime.tv_sec ||
					 after.ctime.tv_nsec != before.ctime.tv_nsec,
				 changes[i % ARRAY_SIZE(values)] && i != ARRAY_SIZE(values));
		if (i == ARRAY_SIZE(values) - 1)
			mf_checkpoint(f);
	}
	assert_int_equal(view_setxattr(f->v, ino, "user.x", "v", 1, XATTR_CREATE, false), -EEXIST);
}

static void operations_on_the_wrong_kind_of_inode_fail(void **state)
{
	struct mf *f = *state;
	uint64_t dir = mf_create(f, ROOT_INO, "d", S_IFDIR | 0755), file = mf_file(f, "f");
	uint64_t fifo = mf_create(f, ROOT_INO, "p", S_IFIFO | 0644);
	struct view_setattr cut = { .valid = VIEW_SET_SIZE, .size = 1 };
	struct buf target CLEANUP(buf_fini_p) = BUF_INIT;
	char name[258] = { 0 };
	struct view_attr a;
	char byte;

	assert_int_equal(view_read(f->v, dir, 0, &byte, 1), -EISDIR);
	assert_int_equal(view_write(f->v, dir, 0, &byte, 1, 0), -EINVAL);
	assert_int_equal(view_setattr(f->v, dir, &cut, &a), -EISDIR);
	assert_int_equal(view_setattr(f->v, fifo, &cut, &a), -EINVAL);
	assert_int_equal(view_fallocate(f->v, dir, 0, 0, 1, 0), -EISDIR);
	assert_int_equal(view_fallocate(f->v, fifo, 0, 0, 1, 0), -ENODEV);
	assert_int_equal(view_fallocate(f->v, file, 0x40, 0, 1, 0), -EOPNOTSUPP);
	assert_int_equal(view_readlink(f->v, file, &target), -EINVAL);
	assert_int_equal(view_parent(f->v, file, &a), -ENOTDIR);
	assert_int_equal(view_seek(f->v, file, 0, SEEK_END), -EINVAL);
	cut.size = (uint64_t)INT64_MAX + 1;
	assert_int_equal(view_setattr(f->v, file, &cut, &a), -EFBIG);
	assert_int_equal(view_write(f->v, file, INT64_MAX, "xx", 2, 0), -EFBIG);
	assert_int_equal(view_fallocate(f->v, file, 0, INT64_MAX, 2, 0), -EFBIG);
	assert_int_equal(view_fallocate(f->v, file, 0, 0, 1ull << 60, 0), -ENOSPC);
	assert_int_equal(view_fallocate(f->v, file, 1, 0, 1ull << 60, 0), -ENOSPC);
	assert_int_equal(mf_stat(f, file).size, 0);
	memset(name, 'n', 256);
	assert_int_equal(view_lookup(f->v, ROOT_INO, name, &a), -ENAMETOOLONG);
	assert_int_equal(view_create(f->v, ROOT_INO, name, S_IFREG, 0, NULL, &mf_root, &a),
			 -ENAMETOOLONG);
	assert_int_equal(view_link(f->v, file, ROOT_INO, name, &a), -ENAMETOOLONG);
	assert_int_equal(view_rename(f->v, ROOT_INO, "f", ROOT_INO, name, 0), -ENAMETOOLONG);
	name[255] = 0;
	(void)mf_file(f, name);
	mf_checkpoint(f);
	assert_int_equal(view_lookup(f->v, ROOT_INO, name, &a), 0);
	assert_int_equal(view_getattr(f->v, 12345, &a), -ENOENT);
	assert_int_equal(view_write(f->v, 12345, 0, "x", 1, 0), -ENOENT);
}

/* A file as large as there can be costs what was written. */
static void the_largest_file_is_sealed(void **state)
{
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "f"), far = INT64_MAX - 5;
	char got[5];

	mf_write(f, ino, 10, "near", 4);
	mf_write(f, ino, far, "far", 3);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(view_read(f->v, ino, far, got, 5), 3);
		assert_memory_equal(got, "far", 3);
		assert_int_equal(view_seek(f->v, ino, 14, SEEK_DATA), far);
		assert_int_equal(mf_stat(f, ino).alloc_bytes, 7);
		mf_checkpoint(f);
	}
	mf_truncate(f, ino, 12);
	mf_checkpoint(f);
	mf_assert_content(f, ino, (const uint8_t *)"\0\0\0\0\0\0\0\0\0\0ne", 12);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, mf_setup, mf_teardown)
	const struct CMUnitTest tests[] = {
		T(acls_are_inherited_and_follow_the_mode),
		T(setting_an_acl_may_cost_setgid),
		T(writes_take_setuid_away_where_asked),
		T(every_way_of_changing_a_file_drops_its_capabilities),
		T(xattr_names_and_sizes_are_checked),
		T(a_list_of_names_is_no_longer_than_linux_takes),
		T(what_linux_cannot_show_of_a_file_is_not_listed),
		T(setting_an_xattr_to_what_it_is_changes_nothing),
		T(operations_on_the_wrong_kind_of_inode_fail),
		T(the_largest_file_is_sealed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
