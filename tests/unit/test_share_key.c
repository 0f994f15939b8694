/* Keys of a bucket: each has one text, which is parsed back, and nothing else is taken. */
#include "store/layout/share_key.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define P "000102030405060708090a0b0c0d0e0f"
#define HOOK "ff000102030405060708090a0b0c0d0e"
static const struct share_id push = { { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 } };

static const struct {
	const char *text;
	struct share_key key;
} keys[] = {
	{ "format", { .kind = SHARE_KEY_FORMAT } },
	{ "pack/00/" P "-0", { .kind = SHARE_KEY_PACK } },
	{ "pack/00/" P "-1048575", { .kind = SHARE_KEY_PACK, .pack.number = PACK_NUMBER_MAX } },
	{ "push/" P, { .kind = SHARE_KEY_PUSH } },
	{ "snap/" P, { .kind = SHARE_KEY_SNAP } },
	{ "hot/" P, { .kind = SHARE_KEY_HOT } },
	{ "gone/" P, { .kind = SHARE_KEY_GONE } },
	{ "node/" P, { .kind = SHARE_KEY_NODE } },
	{ "moved/" P "-12", { .kind = SHARE_KEY_MOVED, .pack.number = 12 } },
	{ "meta/" P "-12", { .kind = SHARE_KEY_META, .pack.number = 12 } },
	{ "gc/fffffffffffffffe", { .kind = SHARE_KEY_GC, .generation = 1 } },
	{ "gc/ffffffffffffff00.done", { .kind = SHARE_KEY_GC_DONE, .generation = 255 } },
	{ "name/app/ffe0000000000000",
	  { .kind = SHARE_KEY_NAME, .name = "app", .generation = SHARE_GENERATION_MAX } },
	{ "name/_u_r_l__x-1..2/fffffffffffffffe",
	  { .kind = SHARE_KEY_NAME, .name = "URL_x-1..2", .generation = 1 } },
	{ "name/hint/fffffffffffffffd",
	  { .kind = SHARE_KEY_NAME, .name = "hint", .generation = 2 } },
	{ "name/hint/hint", { .kind = SHARE_KEY_NAME_HINT, .name = "hint" } },
	{ "name/fffffffffffffffe/hint",
	  { .kind = SHARE_KEY_NAME_HINT, .name = "fffffffffffffffe" } },
};

/* The table's keys without what they all have in common. */
static struct share_key whole_key(size_t i)
{
	struct share_key k = keys[i].key;
	if (k.kind == SHARE_KEY_PACK || k.kind == SHARE_KEY_MOVED || k.kind == SHARE_KEY_META)
		k.pack.push = push;
	if (k.kind == SHARE_KEY_PUSH || k.kind == SHARE_KEY_SNAP || k.kind == SHARE_KEY_HOT ||
	    k.kind == SHARE_KEY_GONE || k.kind == SHARE_KEY_NODE)
		k.id = push;
	return k;
}

static void check_same(const struct share_key *a, const struct share_key *b)
{
	assert_int_equal(a->kind, b->kind);
	assert_true(share_id_equal(&a->id, &b->id));
	assert_int_equal(pack_id_cmp(&a->pack, &b->pack), 0);
	assert_true(digest_equal(&a->digest, &b->digest));
	assert_true(a->generation == b->generation);
	assert_string_equal(a->name, b->name);
}

static void keys_have_the_documented_text(void **state)
{
	(void)state;
	char text[SHARE_KEY_SIZE];
	struct share_key back;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		struct share_key k = whole_key(i);
		assert_int_equal(share_key_text(&k, text), 0);
		assert_string_equal(text, keys[i].text);
		assert_int_equal(object_key_check(text), 0);
		assert_int_equal(share_key_parse(text, &back), 0);
		check_same(&k, &back);
	}
}

static void keys_of_digests_have_the_documented_text(void **state)
{
	(void)state;
	struct share_key k = { .generation = 1 }, back;
	char text[SHARE_KEY_SIZE];
	for (size_t i = 0; i < DIGEST_SIZE; i++)
		k.digest.b[i] = (uint8_t)(i == 0 ? 0xff : i - 1);
	for (int build = 0; build < 2; build++) {
		k.kind = build ? SHARE_KEY_BUILD : SHARE_KEY_IMAGE;
		assert_int_equal(share_key_text(&k, text), 0);
		assert_memory_equal(text, build ? "build/ff000102" : "image/ff000102", 14);
		assert_string_equal(text + 6 + 64, "/fffffffffffffffe");
		assert_int_equal(share_key_parse(text, &back), 0);
		check_same(&k, &back);
	}
	k = (struct share_key){ .kind = SHARE_KEY_HOOK, .id = push, .digest = k.digest };
	assert_int_equal(share_key_text(&k, text), 0);
	assert_string_equal(text, "hook/" HOOK "/" P);
	assert_int_equal(share_key_parse(text, &back), 0);
	memset(k.digest.b + SHARE_HOOK_BYTES, 0, DIGEST_SIZE - SHARE_HOOK_BYTES);
	check_same(&k, &back);
}

static void other_texts_are_no_keys(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"",
		"x",
		"format/",
		"formats",
		"Format",
		"pack/",
		"pack/0",
		"pack/00/",
		"pack/01/" P "-0",
		"pack/00/" P,
		"pack/00/" P "-",
		"pack/00/" P "-01",
		"pack/00/" P "-00",
		"pack/00/" P "-1048576",
		"pack/00/" P "-4294967296",
		"pack/00/" P "-+1",
		"pack/00/" P "-1x",
		"pack/00/00000000000000000000000000000000-1",
		"push/00000000000000000000000000000000",
		"push/" P "0",
		"push/" P "/",
		"push/000102030405060708090a0b0c0d0e0",
		"push/000102030405060708090A0B0C0D0E0F",
		"snap/",
		"snap/" P ".tmp",
		"gc/ffffffffffffffff", /* generation 0 */
		"gc/0000000000000000", /* one beyond JSON's numbers */
		"gc/ffdfffffffffffff",
		"gc/fffffffffffffffe/",
		"gc/fffffffffffffffe.don",
		"gc/.done",
		"gc/FFFFFFFFFFFFFFFE",
		"name/fffffffffffffffe",
		"name//fffffffffffffffe",
		"name/./fffffffffffffffe",
		"name/-a/fffffffffffffffe",
		"name/A/fffffffffffffffe",
		"name/a_/fffffffffffffffe",
		"name/a_1/fffffffffffffffe",
		"name/a/b/fffffffffffffffe",
		"name/a/hints",
		"name/hint",
		"hook/" HOOK,
		"hook/" HOOK "/",
		"hook/" HOOK "ff/" P,
		"hook/ff/" P,
		"image/ff/fffffffffffffffe",
		"image/" P P,
	};
	struct share_key k;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (share_key_parse(bad[i], &k) != -EINVAL)
			fail_msg("\"%s\" is taken", bad[i]);

	char text[SHARE_KEY_SIZE], longest[2 * OBJECT_KEY_MAX];
	memset(longest, 'a', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(share_key_parse(longest, &k), -EINVAL);
	k = (struct share_key){ .kind = SHARE_KEY_SNAP };
	assert_int_equal(share_key_text(&k, text), -EINVAL);
	k = (struct share_key){ .kind = SHARE_KEY_NAME, .name = "a" };
	assert_int_equal(share_key_text(&k, text), -EINVAL);
	k = (struct share_key){ .kind = SHARE_KEY_NAME, .name = "..", .generation = 1 };
	assert_int_equal(share_key_text(&k, text), -EINVAL);
	k = (struct share_key){ .kind = SHARE_KEY_GC, .generation = SHARE_GENERATION_MAX + 1 };
	assert_int_equal(share_key_text(&k, text), -EINVAL);
	k = (struct share_key){ .kind = (enum share_key_kind)99 };
	assert_int_equal(share_key_text(&k, text), -EINVAL);
}

static void the_newest_generation_is_listed_first(void **state)
{
	(void)state;
	char newer[SHARE_KEY_SIZE], older[SHARE_KEY_SIZE], other[SHARE_KEY_SIZE];
	struct share_key k = { .kind = SHARE_KEY_NAME, .name = "a", .generation = 255 };
	assert_int_equal(share_key_text(&k, older), 0);
	k.generation = 256;
	assert_int_equal(share_key_text(&k, newer), 0);
	assert_true(strcmp(newer, older) < 0);
	k.kind = SHARE_KEY_NAME_HINT;
	assert_int_equal(share_key_text(&k, other), 0);
	assert_true(strcmp(older, other) < 0);

	k = (struct share_key){ .kind = SHARE_KEY_GC, .generation = 9 };
	assert_int_equal(share_key_text(&k, newer), 0);
	k.generation = 8;
	assert_int_equal(share_key_text(&k, older), 0);
	k = (struct share_key){ .kind = SHARE_KEY_GC_DONE, .generation = 9 };
	assert_int_equal(share_key_text(&k, other), 0);
	assert_true(strcmp(newer, other) < 0);
	assert_true(strcmp(other, older) < 0);
}

static void prefixes_begin_their_keys(void **state)
{
	(void)state;
	char text[SHARE_KEY_SIZE];
	struct share_key k = { .kind = SHARE_KEY_NAME, .name = "Ab" };
	assert_int_equal(share_key_prefix(&k, text), 0);
	assert_string_equal(text, "name/_ab/");
	k = (struct share_key){ .kind = SHARE_KEY_SNAP };
	assert_int_equal(share_key_prefix(&k, text), 0);
	assert_string_equal(text, "snap/");
	k = (struct share_key){ .kind = SHARE_KEY_HOOK, .digest.b = { 0xab } };
	assert_int_equal(share_key_prefix(&k, text), 0);
	assert_string_equal(text, "hook/ab000000000000000000000000000000/");
	assert_string_equal(share_key_kind_prefix(SHARE_KEY_GC_DONE), "gc/");
	share_key_of_id(SHARE_KEY_HOT, &push, text);
	assert_string_equal(text, "hot/" P);
	share_key_pack(&(struct pack_id){ push, 3 }, text);
	assert_string_equal(text, "pack/00/" P "-3");
}

/* Every name of one or two characters, and the longest. */
static void names_are_encoded_reversibly(void **state)
{
	(void)state;
	static const char chars[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	char text[SHARE_NAME_SIZE], back[SNAPSHOT_NAME_MAX + 1], name[SNAPSHOT_NAME_MAX + 2] = "";
	for (size_t i = 0; chars[i]; i++) {
		for (size_t j = 0; j < sizeof(chars); j++) { /* the last is the NUL */
			name[0] = chars[i];
			name[1] = chars[j];
			bool good = i < strlen(chars) - 3;
			assert_int_equal(share_name_encode(name, text), good ? 0 : -EINVAL);
			if (!good)
				continue;
			assert_int_equal(share_name_decode(text, back), 0);
			assert_string_equal(back, name);
		}
	}
	memset(name, 'Z', SNAPSHOT_NAME_MAX);
	assert_int_equal(share_name_encode(name, text), 0);
	assert_int_equal(strlen(text), SHARE_NAME_SIZE - 1);
	assert_int_equal(share_name_decode(text, back), 0);
	assert_string_equal(back, name);
	name[SNAPSHOT_NAME_MAX] = 'Z';
	assert_int_equal(share_name_encode(name, text), -EINVAL);
	assert_int_equal(share_name_encode("", text), -EINVAL);
	assert_int_equal(share_name_encode("a/b", text), -EINVAL);
	assert_int_equal(share_name_decode("", back), -EINVAL);
}

static void ids_are_random_and_not_zero(void **state)
{
	(void)state;
	struct share_id a, b;
	char text[SHARE_ID_SIZE];
	assert_int_equal(share_id_random(&a), 0);
	assert_int_equal(share_id_random(&b), 0);
	assert_false(share_id_equal(&a, &b));
	share_id_text(&a, text);
	assert_int_equal(share_id_parse(text, &b), 0);
	assert_true(share_id_equal(&a, &b));
	assert_false(share_id_is_none(&a));
}

static void one_digest_in_1024_has_a_hook(void **state)
{
	(void)state;
	struct digest d;
	unsigned n = 0;
	for (unsigned i = 0; i < 1u << 16; i++) {
		memset(&d, 0xff, sizeof(d));
		d.b[DIGEST_SIZE - 1] = (uint8_t)i;
		d.b[DIGEST_SIZE - 2] = (uint8_t)(i >> 8);
		n += share_digest_hooks(&d);
	}
	assert_int_equal(n, 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_have_the_documented_text),
		cmocka_unit_test(keys_of_digests_have_the_documented_text),
		cmocka_unit_test(other_texts_are_no_keys),
		cmocka_unit_test(the_newest_generation_is_listed_first),
		cmocka_unit_test(prefixes_begin_their_keys),
		cmocka_unit_test(names_are_encoded_reversibly),
		cmocka_unit_test(ids_are_random_and_not_zero),
		cmocka_unit_test(one_digest_in_1024_has_a_hook),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
