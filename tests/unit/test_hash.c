#include "store/base/hash.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct {
	const char *text;
	const char *hex;
} known[] = {
	/* FIPS 180-4 examples */
	{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
	{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
	{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
};

static void known_messages_have_their_digests(void **state)
{
	CLEANUP(hasher_free_p) struct hasher *h = hasher_new();
	(void)state;

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		char hex[DIGEST_HEX_SIZE];
		struct digest d, parsed;
		size_t len = strlen(known[i].text);
		assert_int_equal(hash_bytes(known[i].text, len, &d), 0);
		digest_to_hex(&d, hex);
		assert_string_equal(hex, known[i].hex);
		assert_int_equal(digest_from_hex(hex, &parsed), 0);
		assert_true(digest_equal(&d, &parsed));
		/* In pieces; the hasher starts anew after each final. */
		for (size_t at = 0; at < len; at++)
			assert_int_equal(hasher_update(h, known[i].text + at, 1), 0);
		assert_int_equal(hasher_final(h, &parsed), 0);
		assert_true(digest_equal(&d, &parsed));
	}
}

static void null_data_of_no_length_is_the_empty_message(void **state)
{
	char hex[DIGEST_HEX_SIZE];
	struct digest d;
	(void)state;

	assert_int_equal(hash_bytes(NULL, 0, &d), 0);
	digest_to_hex(&d, hex);
	assert_string_equal(hex, known[0].hex);
}

static void malformed_hex_is_refused(void **state)
{
	struct digest d = { { 7 } };
	char hex[DIGEST_HEX_SIZE + 1];
	(void)state;

	assert_int_equal(digest_from_hex("", &d), -EINVAL);
	assert_int_equal(digest_from_hex("ab", &d), -EINVAL);
	for (size_t i = 0; i < 2 * DIGEST_SIZE; i++) {
		strcpy(hex, known[1].hex);
		hex[i] = 'A';
		assert_int_equal(digest_from_hex(hex, &d), -EINVAL);
		hex[i] = '\0';
		assert_int_equal(digest_from_hex(hex, &d), -EINVAL);
	}
	strcpy(hex, known[1].hex);
	strcat(hex, "0");
	assert_int_equal(digest_from_hex(hex, &d), -EINVAL);
	assert_int_equal(d.b[0], 7);
}

static void *hash_much(void *arg)
{
	struct digest d;
	char hex[DIGEST_HEX_SIZE];
	(void)arg;

	for (int i = 0; i < 1000; i++) {
		assert_int_equal(hash_bytes("abc", 3, &d), 0);
		digest_to_hex(&d, hex);
		assert_string_equal(hex, known[1].hex);
	}
	return NULL;
}

static void threads_hash_independently(void **state)
{
	pthread_t threads[4];
	(void)state;

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hash_much, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_messages_have_their_digests),
		cmocka_unit_test(null_data_of_no_length_is_the_empty_message),
		cmocka_unit_test(malformed_hex_is_refused),
		cmocka_unit_test(threads_hash_independently),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
