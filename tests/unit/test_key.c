/* Keys: built, parsed, ordered; hashes of names. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/wire.h"
#include "store/tree/key.h"
#include "store/tree/node.h"

static void keys_parse_to_what_they_were_built_from(void **state)
{
	struct key_parts p;
	struct key k;
	(void)state;
	key_super(&k);
	assert_int_equal(key_parse(k.bytes, k.len, &p), 0);
	assert_true(p.ino == 0 && p.kind == KEY_INODE && p.sub_len == 0);
	key_xattr(&k, 7, "user.a", 6);
	assert_int_equal(key_parse(k.bytes, k.len, &p), 0);
	assert_true(p.ino == 7 && p.kind == KEY_XATTR && p.sub_len == 6);
	assert_memory_equal(p.sub, "user.a", 6);
	key_dirent(&k, 8, 0x1234567890abcdefull);
	assert_int_equal(key_parse(k.bytes, k.len, &p), 0);
	assert_true(p.ino == 8 && p.kind == KEY_DIRENT && key_sub_u64(&p) == 0x1234567890abcdefull);
	key_extent(&k, UINT64_MAX, INT64_MAX);
	assert_int_equal(key_parse(k.bytes, k.len, &p), 0);
	assert_true(p.ino == UINT64_MAX && p.kind == KEY_EXTENT && key_sub_u64(&p) == INT64_MAX);
	key_backref(&k, 9, 10, 11 + 16);
	assert_int_equal(key_parse(k.bytes, k.len, &p), 0);
	assert_true(p.ino == 9 && p.kind == KEY_BACKREF && key_sub_u64(&p) == 10);
	assert_int_equal(wire_get64be(p.sub + 8), 27);
}

static void longest_xattr_name_fits(void **state)
{
	char name[XATTR_NAME_MAX];
	struct key_parts p;
	struct key k;
	(void)state;
	memset(name, 'x', sizeof(name));
	key_xattr(&k, 1, name, sizeof(name));
	assert_int_equal(k.len, KEY_SIZE_MAX);
	assert_int_equal(key_parse(k.bytes, k.len, &p), 0);
	assert_int_equal(p.sub_len, sizeof(name));
}

static void malformed_keys_are_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
		{ "", 0 },
		{ "\0\0\0\0\0\0\0\1", 8 },			/* no kind */
		{ "\0\0\0\0\0\0\0\1\5", 9 },			/* unknown kind */
		{ "\0\0\0\0\0\0\0\1\0x", 10 },			/* record with a sub-key */
		{ "\0\0\0\0\0\0\0\1\1", 9 },			/* xattr without name */
		{ "\0\0\0\0\0\0\0\1\1a\0b", 12 },		/* NUL in a name */
		{ "\0\0\0\0\0\0\0\1\2\0\0\0\0\0\0\0", 16 },	/* short hash */
		{ "\0\0\0\0\0\0\0\1\2\0\0\0\0\0\0\0\x0f", 17 }, /* hash below 16 */
		{ "\0\0\0\0\0\0\0\1\2\x80\0\0\0\0\0\0\0", 17 }, /* top bit */
		{ "\0\0\0\0\0\0\0\1\3\x80\0\0\0\0\0\0\0", 17 }, /* offset beyond a file's */
		{ "\0\0\0\0\0\0\0\1\4\0\0\0\0\0\0\0\1", 17 },	/* half a back reference */
		{ "\0\0\0\0\0\0\0\0\2\x10\0\0\0\0\0\0\0", 17 }, /* names of inode 0 */
	};
	struct key_parts p;
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(key_parse(bad[i].bytes, bad[i].len, &p), -EBADMSG);
}

static void keys_of_an_inode_are_adjacent_and_ordered(void **state)
{
	struct key k[6], next;
	(void)state;
	key_inode(&k[0], 255);
	key_xattr(&k[1], 255, "\xff", 1);
	key_dirent(&k[2], 255, 16);
	key_extent(&k[3], 255, 0);
	key_extent(&k[4], 255, 256);
	key_backref(&k[5], 255, 1, 16);
	key_inode(&next, 256);
	for (int i = 0; i < 5; i++)
		assert_true(node_key_cmp(k[i].bytes, k[i].len, k[i + 1].bytes, k[i + 1].len) < 0);
	assert_true(node_key_cmp(k[5].bytes, k[5].len, next.bytes, next.len) < 0);
	key_kind_start(&next, 255, KEY_DIRENT);
	assert_true(node_key_cmp(k[1].bytes, k[1].len, next.bytes, next.len) < 0);
	assert_true(node_key_cmp(next.bytes, next.len, k[2].bytes, k[2].len) < 0);
}

static void name_hash_is_part_of_the_format(void **state)
{
	(void)state;
	/* From `printf %s NAME | sha256sum`, the first 16 digits, top bit cleared. */
	assert_int_equal(name_hash("a", 1), 0x4a978112ca1bbdcaull);
	assert_int_equal(name_hash("etc", 3), 0x012de6e718f869feull);
}

static void name_hashes_are_valid_cookies(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		uint64_t h = name_hash((const char *)&i, sizeof(i));
		assert_true(h >= 16 && h <= INT64_MAX);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_parse_to_what_they_were_built_from),
		cmocka_unit_test(longest_xattr_name_fits),
		cmocka_unit_test(malformed_keys_are_refused),
		cmocka_unit_test(keys_of_an_inode_are_adjacent_and_ordered),
		cmocka_unit_test(name_hash_is_part_of_the_format),
		cmocka_unit_test(name_hashes_are_valid_cookies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
