/* acl: the rules of POSIX 1003.1e draft 17, as Linux has them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "fs/view/acl.h"
#include "store/base/wire.h"

/* An ACL from text: "u:rwx g:r-x m:rwx o:r-- u5:rw- g7:---"; tags by their numbers. */
static size_t make(const char *text, uint8_t *out)
{
	size_t len = 4;

	wire_set32(out, 2);
	while (*text) {
		bool group = *text == 'g';
		uint16_t tag = *text == 'u' ? 1 : *text == 'g' ? 4 : *text == 'm' ? 16 : 32;
		uint32_t id = 0xffffffff;
		uint16_t perm = 0;

		text++;
		if (*text != ':') {
			id = (uint32_t)strtoul(text, (char **)&text, 10);
			tag = group ? 8 : 2;
		}
		text++;
		for (int i = 0; i < 3; i++)
			perm = (uint16_t)(perm << 1 | (*text++ != '-'));
		text += *text == ' ';
		wire_set32(out + len, tag | (uint32_t)perm << 16);
		wire_set32(out + len + 4, id);
		len += 8;
	}
	return len;
}

static void assert_acl(const struct buf *is, const char *want)
{
	uint8_t bytes[200];
	size_t len = make(want, bytes);

	assert_int_equal(is->len, len);
	assert_memory_equal(is->data, bytes, len);
}

static void what_is_no_acl_is_refused(void **state)
{
	static const struct {
		const char *text;
		int result;
	} cases[] = {
		{ "u:rwx g:r-x o:r--", 0 },
		{ "u:rwx u5:r-- g:r-x m:rwx o:r--", 0 },
		{ "u:rwx g:r-x g7:--- m:rwx o:r--", 0 },
		{ "", 0 },
		{ "u:rwx g:r-x", -EINVAL },
		{ "g:rwx o:r-x", -EINVAL },
		{ "u:rwx u:rwx g:r-x o:r--", -EINVAL },
		{ "u:rwx g:r-x m:rwx m:rwx o:r--", -EINVAL },
		{ "u:rwx u5:r-- g:r-x o:r--", -EINVAL }, /* named, without a mask */
	};
	uint8_t acl[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t len = make(cases[i].text, acl);

		assert_int_equal(acl_check(acl, len), cases[i].result);
		for (size_t cut = 1; cut < 8 && cut <= len; cut++)
			assert_int_equal(acl_check(acl, len - cut), -EINVAL);
	}
	size_t len = make("u:rwx g:r-x o:r--", acl);

	acl[0] = 1; /* version */
	assert_int_equal(acl_check(acl, len), -EINVAL);
	acl[0] = 2;
	acl[4 + 2] = 8; /* permission */
	assert_int_equal(acl_check(acl, len), -EINVAL);
	acl[4 + 2] = 7;
	acl[4] = 64; /* tag */
	assert_int_equal(acl_check(acl, len), -EINVAL);
}

static void a_default_acl_is_inherited(void **state)
{
	static const struct {
		const char *text;
		uint32_t mode, want_mode;
		const char *want; /* "": the mode says it all */
	} cases[] = {
		{ "u:rwx g:r-x o:r--", 0666, 0644, "" },
		{ "u:rwx g:rwx o:rwx", 0640, 0640, "" },
		{ "u:rw- g:rw- o:---", 0777, 0660, "" },
		{ "u:rwx u5:rwx g:r-x m:rwx o:r--", 0640, 0640, "u:rw- u5:rwx g:r-x m:r-- o:---" },
		{ "u:rwx g:rwx m:r-x o:---", 0777, 0750, "u:rwx g:rwx m:r-x o:---" },
	};
	uint8_t acl[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf out CLEANUP(buf_fini_p) = BUF_INIT;
		uint32_t mode = S_IFREG | S_ISVTX | cases[i].mode;
		size_t len = make(cases[i].text, acl);

		assert_int_equal(acl_inherit(acl, len, &mode, &out), 0);
		assert_int_equal(mode, S_IFREG | S_ISVTX | cases[i].want_mode);
		if (cases[i].want[0])
			assert_acl(&out, cases[i].want);
		else
			assert_int_equal(out.len, 0);
	}
}

static void an_access_acl_and_the_mode_are_one(void **state)
{
	static const struct {
		const char *text;
		uint32_t mode;
		bool minimal;
		uint32_t chmod;
		const char *after;
	} cases[] = {
		{ "u:rw- g:r-- o:---", 0640, true, 0751, "u:rwx g:r-x o:--x" },
		{ "u:rw- u5:rwx g:r-- m:rwx o:---", 0670, false, 0604,
		  "u:rw- u5:rwx g:r-- m:--- o:r--" },
		{ "u:--- g:rwx m:--x o:rwx", 0017, false, 0770, "u:rwx g:rwx m:rwx o:---" },
	};
	uint8_t acl[200], after[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t len = make(cases[i].text, acl);
		bool minimal;

		assert_int_equal(acl_to_mode(acl, len, S_IFDIR | S_ISGID | 0123, &minimal),
				 S_IFDIR | S_ISGID | cases[i].mode);
		assert_int_equal(minimal, cases[i].minimal);
		acl_chmod(acl, len, S_IFDIR | cases[i].chmod);
		assert_int_equal(make(cases[i].after, after), len);
		assert_memory_equal(acl, after, len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_acl_is_refused),
		cmocka_unit_test(a_default_acl_is_inherited),
		cmocka_unit_test(an_access_acl_and_the_mode_are_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
