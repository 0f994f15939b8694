/* Records: what is encoded decodes to the same, anything else is refused. */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/wire.h"
#include "store/tree/record.h"

static const struct inode_rec plain_file = {
	.mode = S_IFREG | 04755,
	.uid = 1000,
	.gid = UINT32_MAX,
	.nlink = 2,
	.size = 1ull << 40,
	.alloc_bytes = 12345,
	.atime = { 1, 2 },
	.mtime = { -5, 999999999 },
	.ctime = { 1ll << 40, 0 },
	.parent = 77,
	.name_hash = 0x123456789abcdef0ull,
};

static void super_record_round_trips(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct super_rec in = { 1ull << 60, 3, 1ull << 50 }, out;
	(void)state;
	assert_int_equal(super_encode(&in, &b), 0);
	assert_int_equal(super_decode(b.data, b.len, &out), 0);
	assert_memory_equal(&in, &out, sizeof(in));
	assert_int_equal(super_decode(b.data, b.len - 1, &out), -EBADMSG);
	b.data[0] = 2;
	assert_int_equal(super_decode(b.data, b.len, &out), -EBADMSG);
}

static void inode_record_round_trips(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct inode_rec out;
	(void)state;
	assert_int_equal(inode_encode(&plain_file, &b), 0);
	assert_int_equal(inode_decode(b.data, b.len, &out), 0);
	assert_int_equal(out.mode, plain_file.mode);
	assert_int_equal(out.uid, 1000);
	assert_int_equal(out.gid, UINT32_MAX);
	assert_int_equal(out.nlink, 2);
	assert_int_equal(out.size, plain_file.size);
	assert_int_equal(out.alloc_bytes, 12345);
	assert_int_equal(out.mtime.tv_sec, -5);
	assert_int_equal(out.mtime.tv_nsec, 999999999);
	assert_int_equal(out.ctime.tv_sec, 1ll << 40);
	assert_int_equal(out.parent, 77);
	assert_int_equal(out.name_hash, plain_file.name_hash);
	assert_null(out.target);
}

static void symlink_target_is_borrowed_from_the_encoding(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	char target[SYMLINK_MAX + 1];
	struct inode_rec out, in = { .mode = S_IFLNK | 0777, .nlink = 1 };
	(void)state;
	memset(target, 'x', sizeof(target));
	in.target = target;
	in.size = in.target_len = SYMLINK_MAX;
	assert_int_equal(inode_encode(&in, &b), 0);
	assert_int_equal(inode_decode(b.data, b.len, &out), 0);
	assert_int_equal(out.target_len, SYMLINK_MAX);
	assert_ptr_equal(out.target, b.data + b.len - SYMLINK_MAX);
	in.size = in.target_len = SYMLINK_MAX + 1;
	assert_int_equal(inode_encode(&in, &b), -EINVAL);
}

static void inodes_that_cannot_be_are_not_encoded(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct inode_rec bad[9];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = plain_file;
	bad[0].mode = 0644;	     /* no type */
	bad[1].mode = S_IFMT | 0644; /* no such type */
	bad[2].mode |= 0x10000;	     /* no mode bit */
	bad[3].mtime.tv_nsec = 1000000000;
	bad[4].atime.tv_nsec = -1;
	bad[5].target = "x"; /* target of a file */
	bad[5].target_len = 1;
	bad[6].mode = S_IFLNK | 0777; /* symlink without target */
	bad[7].mode = S_IFLNK | 0777;
	bad[7].target = "a\0b"; /* NUL in it */
	bad[7].size = bad[7].target_len = 3;
	bad[8].size = 1ull << 63;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(inode_encode(&bad[i], &b), -EINVAL);
	assert_int_equal(b.len, 0);
}

static void damaged_inode_records_are_refused(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct inode_rec out, in = { .mode = S_IFLNK | 0777, .nlink = 1, .size = 3 };
	static const struct {
		size_t at;
		uint8_t value;
	} damage[] = {
		{ 0, 2 },     /* version */
		{ 1, 1 },     /* zero */
		{ 2, 2 },     /* shorter target */
		{ 2, 4 },     /* longer target */
		{ 5, 0x80 },  /* a file with a target */
		{ 28, 4 },    /* size is not the target's length */
		{ 35, 0x80 }, /* size beyond 2^63 */
		{ 43, 0x80 }, /* alloc_bytes, too */
		{ 55, 0x40 }, /* nanoseconds */
		{ 97, 0 },    /* NUL in the target */
	};
	(void)state;
	in.target = "abc";
	in.target_len = 3;
	assert_int_equal(inode_encode(&in, &b), 0);
	assert_int_equal(b.len, 99);
	for (size_t i = 0; i < ARRAY_SIZE(damage); i++) {
		uint8_t copy[99];
		memcpy(copy, b.data, sizeof(copy));
		copy[damage[i].at] = damage[i].value;
		assert_int_equal(inode_decode(copy, sizeof(copy), &out), -EBADMSG);
	}
	for (size_t len = 0; len < b.len; len++)
		assert_int_equal(inode_decode(b.data, len, &out), -EBADMSG);
}

static struct dirent_rec entry(const char *name, uint64_t ino)
{
	return (struct dirent_rec){ ino, DT_REG, (uint8_t)strlen(name), name };
}

/* The names of a list, each with a comma. */
static const char *names(const struct buf *list, char out[128])
{
	struct dirent_reader r;
	struct dirent_rec e;
	int rc;
	out[0] = '\0';
	dirent_reader_init(&r, list->data, list->len);
	while ((rc = dirent_next(&r, &e)) == 1) {
		strncat(out, e.name, e.name_len);
		strcat(out, ",");
	}
	assert_int_equal(rc, 0);
	return out;
}

static void dirent_lists_are_sorted_by_name(void **state)
{
	CLEANUP(buf_fini_p) struct buf a = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	static const char *const order[] = { "m", "z", "a", "mm", "B" };
	struct dirent_rec e;
	char text[128];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		e = entry(order[i], i + 1);
		buf_clear(&b);
		assert_int_equal(dirent_list_put(a.data, a.len, &e, &b), 0);
		struct buf t = a;
		a = b;
		b = t;
	}
	assert_string_equal(names(&a, text), "B,a,m,mm,z,");
	assert_int_equal(dirent_find(a.data, a.len, "mm", 2, &e), 0);
	assert_int_equal(e.ino, 4);
	assert_int_equal(dirent_find(a.data, a.len, "mmm", 3, &e), -ENOENT);
}

static void putting_a_name_again_replaces_its_entry(void **state)
{
	CLEANUP(buf_fini_p) struct buf a = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct dirent_rec e = entry("x", 1);
	(void)state;
	assert_int_equal(dirent_list_put(NULL, 0, &e, &a), 0);
	e.ino = 9;
	e.type = DT_DIR;
	assert_int_equal(dirent_list_put(a.data, a.len, &e, &b), 0);
	assert_int_equal(b.len, a.len);
	assert_int_equal(dirent_find(b.data, b.len, "x", 1, &e), 0);
	assert_true(e.ino == 9 && e.type == DT_DIR);
}

static void deleting_the_last_name_leaves_an_empty_list(void **state)
{
	CLEANUP(buf_fini_p) struct buf a = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct dirent_rec e = entry("x", 1);
	(void)state;
	assert_int_equal(dirent_list_put(NULL, 0, &e, &a), 0);
	assert_int_equal(buf_append(&b, "keep", 4), 0);
	assert_int_equal(dirent_list_del(a.data, a.len, "y", 1, &b), -ENOENT);
	assert_int_equal(b.len, 4);
	assert_int_equal(dirent_list_del(a.data, a.len, "x", 1, &b), 0);
	assert_int_equal(b.len, 4);
}

static void bad_names_are_refused(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	static const struct {
		const char *name;
		size_t len;
		int rc;
	} cases[] = {
		{ "", 0, -EINVAL },    { ".", 1, -EINVAL },    { "..", 2, -EINVAL },
		{ "a/b", 3, -EINVAL }, { "a\0b", 3, -EINVAL }, { "...", 3, 0 },
		{ "a", 1, 0 },	       { "\xff\xfe", 2, 0 },   { " ", 1, 0 },
	};
	char longest[NAME_LEN_MAX + 1];
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct dirent_rec e = { 1, DT_REG, (uint8_t)cases[i].len, cases[i].name };
		assert_int_equal(name_check(cases[i].name, cases[i].len), cases[i].rc);
		assert_int_equal(dirent_list_put(NULL, 0, &e, &b), cases[i].rc);
	}
	memset(longest, 'n', sizeof(longest));
	assert_int_equal(name_check(longest, NAME_LEN_MAX), 0);
	assert_int_equal(name_check(longest, NAME_LEN_MAX + 1), -ENAMETOOLONG);
}

static int read_all(const void *list, size_t len)
{
	struct dirent_reader r;
	struct dirent_rec e;
	int rc;
	dirent_reader_init(&r, list, len);
	while ((rc = dirent_next(&r, &e)) == 1)
		;
	return rc;
}

static void damaged_dirent_lists_are_refused(void **state)
{
	CLEANUP(buf_fini_p) struct buf good = BUF_INIT;
	struct dirent_rec e = entry("ab", 5), other = entry("cd", 6);
	CLEANUP(buf_fini_p) struct buf two = BUF_INIT;
	(void)state;
	assert_int_equal(dirent_list_put(NULL, 0, &e, &good), 0);
	assert_int_equal(dirent_list_put(good.data, good.len, &other, &two), 0);
	assert_int_equal(two.len, 26);
	for (size_t len = 1; len < two.len; len++)
		assert_int_equal(read_all(two.data, len), len == 13 ? 0 : -EBADMSG);
	static const struct {
		size_t at;
		uint8_t value;
	} damage[] = {
		{ 0, 0 }, { 1, 3 },    { 2, 0 },  { 2, 200 },
		{ 3, 0 }, { 12, '/' }, { 11, 0 }, { 11, 'x' }, /* "xb" before "cd" */
	};
	for (size_t i = 0; i < ARRAY_SIZE(damage); i++) {
		uint8_t copy[26];
		memcpy(copy, two.data, sizeof(copy));
		copy[damage[i].at] = damage[i].value;
		assert_int_equal(read_all(copy, sizeof(copy)), -EBADMSG);
		assert_int_equal(dirent_find(copy, sizeof(copy), "zz", 2, &e), -EBADMSG);
		buf_clear(&good);
		assert_int_equal(dirent_list_del(copy, sizeof(copy), "cd", 2, &good), -EBADMSG);
		assert_int_equal(good.len, 0);
	}
}

static void extents_round_trip(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct extent_rec out, chunk = { .kind = EXTENT_CHUNK, .len = CHUNK_MAX };
	struct extent_rec inl = { .kind = EXTENT_INLINE, .len = 3, .data = (uint8_t *)"abc" };
	(void)state;
	memset(chunk.digest.b, 0xab, DIGEST_SIZE);
	assert_int_equal(extent_encode(&chunk, &b), 0);
	assert_int_equal(extent_decode(b.data, b.len, &out), 0);
	assert_true(out.kind == EXTENT_CHUNK && out.len == CHUNK_MAX);
	assert_true(digest_equal(&out.digest, &chunk.digest));
	assert_int_equal(extent_decode(b.data, b.len - 1, &out), -EBADMSG);
	buf_clear(&b);
	assert_int_equal(extent_encode(&inl, &b), 0);
	assert_int_equal(extent_decode(b.data, b.len, &out), 0);
	assert_true(out.kind == EXTENT_INLINE && out.len == 3);
	assert_memory_equal(out.data, "abc", 3);
}

static void extents_beyond_their_limits_are_refused(void **state)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	uint8_t bytes[2 + INLINE_MAX] = { EXTENT_INLINE };
	struct extent_rec out, chunk = { .kind = EXTENT_CHUNK, .len = 1 };
	(void)state;
	assert_int_equal(extent_decode(bytes, sizeof(bytes) - 1, &out), 0);
	assert_int_equal(extent_decode(bytes, sizeof(bytes), &out), -EBADMSG);
	assert_int_equal(extent_decode(bytes, 1, &out), -EBADMSG);
	assert_int_equal(extent_decode(bytes, 0, &out), -EBADMSG);
	bytes[0] = 3;
	assert_int_equal(extent_decode(bytes, 20, &out), -EBADMSG);
	assert_int_equal(extent_encode(&chunk, &b), 0);
	wire_set32(b.data + 1, CHUNK_MAX + 1);
	assert_int_equal(extent_decode(b.data, b.len, &out), -EBADMSG);
	wire_set32(b.data + 1, 0);
	assert_int_equal(extent_decode(b.data, b.len, &out), -EBADMSG);
	chunk.len = 0;
	assert_int_equal(extent_encode(&chunk, &b), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(super_record_round_trips),
		cmocka_unit_test(inode_record_round_trips),
		cmocka_unit_test(symlink_target_is_borrowed_from_the_encoding),
		cmocka_unit_test(inodes_that_cannot_be_are_not_encoded),
		cmocka_unit_test(damaged_inode_records_are_refused),
		cmocka_unit_test(dirent_lists_are_sorted_by_name),
		cmocka_unit_test(putting_a_name_again_replaces_its_entry),
		cmocka_unit_test(deleting_the_last_name_leaves_an_empty_list),
		cmocka_unit_test(bad_names_are_refused),
		cmocka_unit_test(damaged_dirent_lists_are_refused),
		cmocka_unit_test(extents_round_trip),
		cmocka_unit_test(extents_beyond_their_limits_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
