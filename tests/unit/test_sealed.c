/*
 * sealed, object_sealed, bucket_key: what is written comes back, what was touched does not, and a
 * sealed bucket answers as a plain one does.
 */
#include "tests/unit/bucket_fixture.h"

#include <stdint.h>

#include "store/bucket/bucket_key.h"
#include "store/bucket/object_fault.h"
#include "store/bucket/object_probe.h"
#include "store/bucket/object_sealed.h"
#include "store/bucket/sealed.h"

/* 0, 1, 2, ... */
static struct crypt_key test_key(void)
{
	struct crypt_key k;

	for (unsigned i = 0; i < sizeof(k.b); i++)
		k.b[i] = (uint8_t)i;
	return k;
}

static struct buf from_hex(const char *hex)
{
	struct buf b = BUF_INIT;

	for (; *hex; hex += 2) {
		unsigned v;
		assert_int_equal(sscanf(hex, "%2x", &v), 1);
		assert_int_equal(buf_append(&b, &(uint8_t){ (uint8_t)v }, 1), 0);
	}
	return b;
}

static uint8_t pattern(size_t i)
{
	return (uint8_t)(7 * i % 251);
}

static struct buf content_of(size_t len)
{
	struct buf b = BUF_INIT;

	assert_int_equal(buf_reserve(&b, len + 1), 0);
	for (size_t i = 0; i < len; i++)
		b.data[i] = pattern(i);
	b.len = len;
	return b;
}

/* ---- the format ---- */

/* Made by another program: Python's cryptography. Salt 100 to 115. */
#define SALT "6465666768696a6b6c6d6e6f70717273"
static const struct vector {
	const char *name, *hex, *content;
	uint64_t first;
	bool end;
} vectors[] = {
	{ "snap/x", SALT "9bbb2cb57703e5e5d06ae97f7f3b07e7", "", 0, true },
	{ "pack/aa/x-0", SALT "b62088f0162aa3617f34bb6bd9fdf78e347fb7771d763e97386dcc728e",
	  "hello, bucket", 0, true },
	/* The second segment of 4,100 bytes. */
	{ "pack/aa/x-0", SALT "1883f18b952a1bdcc5dacda96d7b15cdbdca3589", NULL, 1, true },
};

static void opens_what_another_program_has_sealed(void **state)
{
	struct crypt_key key = test_key();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		const struct vector *v = &vectors[i];
		/* With and without the object's size. */
		for (int sized = 0; sized < 2; sized++) {
			struct buf CLEANUP(buf_fini_p) b = from_hex(v->hex);
			struct sealed_part part = { .first = v->first,
						    .size = sized ? v->first * SEALED_STRIDE + b.len
								  : 0 };

			assert_int_equal(sealed_open(&key, v->name, &part, &b), 0);
			assert_int_equal(part.has_end, v->end);
			if (v->content) {
				assert_int_equal(b.len, strlen(v->content));
				assert_memory_equal(b.data, v->content, b.len);
			} else {
				assert_int_equal(b.len, 4);
				for (size_t k = 0; k < 4; k++)
					assert_int_equal(b.data[k], pattern(4096 + k));
			}
		}
	}
}

/* A digest, as another program names it with that key. */
static void names_a_digest_as_another_program_does(void **state)
{
	const struct digest d = { .b = { 0xab, [31] = 1 } };
	const struct crypt_key key = test_key();
	char hex[DIGEST_HEX_SIZE];
	struct digest named;

	(void)state;
	assert_int_equal(sealed_digest(&key, &d, &named), 0);
	digest_to_hex(&named, hex);
	assert_string_equal(hex,
			    "61f7940d00408b0747af0c6b5745485ea361d1ddbb65a54474c837aada8c42d5");
}

static const size_t sizes[] = { 0, 1, 31, 32, 4095, 4096, 4097, 8191, 8192, 8193, 20000 };

static void sizes_are_told_from_each_other(void **state)
{
	uint64_t content;

	(void)state;
	for (uint64_t n = 0, last = 0; n < 3 * SEALED_STRIDE; n++) {
		uint64_t size = sealed_size(n);

		assert_int_equal(sealed_content_size(size, &content), 0);
		assert_int_equal(content, n);
		for (uint64_t bad = n ? last + 1 : 0; bad < size; bad++)
			assert_int_equal(sealed_content_size(bad, &content), -EBADMSG);
		last = size;
	}
}

/* Whether the bytes open as the object, to what is expected. */
static int open_whole(const char *name, const struct crypt_key *key, const struct buf *bytes,
		      bool sized)
{
	struct sealed_part part = { .size = sized ? bytes->len : 0 };
	struct buf CLEANUP(buf_fini_p) copy = BUF_INIT;
	int rc;

	assert_int_equal(buf_append(&copy, bytes->data, bytes->len), 0);
	rc = sealed_open(key, name, &part, &copy);
	return rc == 0 && !part.has_end ? -EBADMSG : rc;
}

static void what_was_touched_does_not_open(void **state)
{
	struct crypt_key key = test_key(), other = test_key();
	struct buf CLEANUP(buf_fini_p) content = content_of(9000), CLEANUP(buf_fini_p) a = BUF_INIT,
				       CLEANUP(buf_fini_p) b = BUF_INIT;

	(void)state;
	other.b[31] ^= 1;
	assert_int_equal(sealed_make(&key, "snap/a", content.data, 9000, &a), 0);
	assert_int_equal(sealed_make(&key, "snap/a", content.data, 9000, &b), 0);
	assert_int_equal(a.len, b.len);
	assert_memory_not_equal(a.data, b.data, 16); /* never one salt twice */
	for (int sized = 0; sized < 2; sized++) {
		assert_int_equal(open_whole("snap/a", &key, &a, sized), 0);
		assert_int_equal(open_whole("snap/b", &key, &a, sized), -EBADMSG);
		assert_int_equal(open_whole("snap/a", &other, &a, sized), -EBADMSG);
		for (size_t i = 0; i < a.len; i += i % SEALED_STRIDE < 40 ? 1 : 97) {
			a.data[i] ^= 4;
			assert_int_equal(open_whole("snap/a", &key, &a, sized), -EBADMSG);
			a.data[i] ^= 4;
		}
		for (size_t len = 0; len < a.len; len += len % SEALED_STRIDE < 40 ? 1 : 97) {
			struct buf cut = { a.data, len, a.cap };
			assert_int_equal(open_whole("snap/a", &key, &cut, sized), -EBADMSG);
		}
		/* Made longer by an old tail, or by its own. */
		struct buf CLEANUP(buf_fini_p) longer = BUF_INIT;
		assert_int_equal(buf_append(&longer, a.data, a.len), 0);
		assert_int_equal(buf_append(&longer, a.data + 2 * SEALED_STRIDE, 500), 0);
		assert_int_equal(open_whole("snap/a", &key, &longer, sized), -EBADMSG);
	}
	/* Segments change places; one comes from an earlier object of that name. */
	uint8_t keep[SEALED_STRIDE];
	memcpy(keep, a.data, SEALED_STRIDE);
	memcpy(a.data, a.data + SEALED_STRIDE, SEALED_STRIDE);
	memcpy(a.data + SEALED_STRIDE, keep, SEALED_STRIDE);
	assert_int_equal(open_whole("snap/a", &key, &a, true), -EBADMSG);
	memcpy(a.data + SEALED_STRIDE, a.data, SEALED_STRIDE);
	memcpy(a.data, keep, SEALED_STRIDE);
	assert_int_equal(open_whole("snap/a", &key, &a, true), 0);
	memcpy(a.data + SEALED_STRIDE, b.data + SEALED_STRIDE, SEALED_STRIDE);
	assert_int_equal(open_whole("snap/a", &key, &a, true), -EBADMSG);
}

/* ---- as a bucket ---- */

struct pair {
	struct bucket plain, sealed;
	struct object_store *os;
};

static struct object_store *seal(struct object_store *inner)
{
	struct object_store *os = NULL;
	struct crypt_key key = test_key();

	assert_int_equal(object_sealed_open(inner, &key, &os, NULL), 0);
	return os;
}

static int pair_setup(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	bucket_init(&p->plain);
	bucket_init(&p->sealed);
	p->os = seal(bucket_open(p->sealed.path, false));
	*state = p;
	return 0;
}

static int pair_teardown(void **state)
{
	struct pair *p = *state;

	object_store_close(p->os);
	bucket_fini(&p->plain);
	bucket_fini(&p->sealed);
	free(p);
	return 0;
}

static struct object_request run_get(struct object_store *os, uint64_t offset, size_t len,
				     bool from_end)
{
	struct object_request r = { .op = OBJECT_GET,
				    .key = "pack/aa/x-0",
				    .offset = offset,
				    .len = len,
				    .from_end = from_end };
	object_run(os, &r, 1);
	return r;
}

static void check_same(struct pair *p, uint64_t offset, size_t len, bool from_end)
{
	struct object_request a = run_get(p->plain.os, offset, len, from_end);
	struct object_request b = run_get(p->os, offset, len, from_end);

	if (a.result != b.result || a.data.len != b.data.len || (a.data.len && a.size != b.size) ||
	    (a.data.len && memcmp(a.data.data, b.data.data, a.data.len) != 0))
		fail_msg("offset %llu, len %zu, end %d: %d and %zu bytes of %llu, %d and %zu of "
			 "%llu",
			 (unsigned long long)offset, len, from_end, a.result, a.data.len,
			 (unsigned long long)a.size, b.result, b.data.len,
			 (unsigned long long)b.size);
	object_request_fini(&a);
	object_request_fini(&b);
}

static void ranges_are_those_of_a_plain_bucket(void **state)
{
	static const size_t at[] = { 1, 2, 100, 4095, 4096, 4097, 8192, 12000, 19999, 20000 };
	struct pair *p = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct buf CLEANUP(buf_fini_p) c = content_of(sizes[i]);

		for (int k = 0; k < 2; k++)
			assert_int_equal(object_put(k ? p->os : p->plain.os, OBJECT_PUSH,
						    "pack/aa/x-0", c.data, c.len, NULL),
					 0);
		check_same(p, 0, 0, false);
		for (size_t x = 0; x < ARRAY_SIZE(at); x++) {
			check_same(p, 0, at[x], true);
			check_same(p, 0, at[x], false);
			for (size_t y = 0; y < ARRAY_SIZE(at) && at[x] <= sizes[i]; y++)
				check_same(p, at[x], at[y], false);
			if (at[x] <= sizes[i])
				check_same(p, at[x], 0, false);
		}
	}
}

static int note_size(void *arg, const struct object_entry *e)
{
	if (!e->is_prefix)
		*(uint64_t *)arg += e->size;
	return 0;
}

static void lists_limits_and_creation_are_those_of_contents(void **state)
{
	struct pair *p = *state;
	struct buf CLEANUP(buf_fini_p) c = content_of(9000), CLEANUP(buf_fini_p) got = BUF_INIT;
	struct object_counts counts;
	uint64_t bytes = 0;

	assert_int_equal(object_put_once(p->os, OBJECT_PUSH, "a/b", c.data, 9000, 0, NULL), 0);
	assert_int_equal(object_put_once(p->os, OBJECT_PUSH, "a/b", c.data, 9, 0, NULL), -EEXIST);
	assert_int_equal(object_put(p->os, OBJECT_PUSH, "a/c", "", 0, NULL), 0);
	assert_int_equal(object_each(p->os, OBJECT_PUSH, "a/", note_size, &bytes, NULL), 0);
	assert_int_equal(bytes, 9000);
	assert_int_equal(object_get(p->os, OBJECT_PUSH, "a/b", 8999, &got, NULL, NULL), -EFBIG);
	assert_int_equal(object_get(p->os, OBJECT_PUSH, "a/b", 9000, &got, NULL, NULL), 0);
	assert_memory_equal(got.data, c.data, 9000);
	assert_int_equal(object_get(p->os, OBJECT_PUSH, "a/d", 0, &got, NULL, NULL), -ENOENT);
	object_store_counts(p->os, &counts);
	assert_int_equal(counts.requests[OBJECT_GET], 3);
	assert_int_equal(counts.requests[OBJECT_PUT_ONCE], 2);
	assert_int_equal(object_delete(p->os, OBJECT_PUSH, "a/b", NULL), 0);
	assert_int_equal(object_get(p->os, OBJECT_PUSH, "a/b", 0, &got, NULL, NULL), -ENOENT);
}

static void the_probe_is_content(void **state)
{
	struct pair *p = *state;
	struct object_probe probe;

	assert_int_equal(object_probe(p->os, 3, &probe, NULL), 0);
	assert_true(probe.usable);
}

static void nothing_plain_is_written_and_nothing_foreign_read(void **state)
{
	struct pair *p = *state;
	struct object_store *raw = p->sealed.os;
	struct buf CLEANUP(buf_fini_p) got = BUF_INIT, CLEANUP(buf_fini_p) old = BUF_INIT;
	struct object_counts counts;

	bucket_put(p->os, "snap/a", "a secret that is long enough");
	bucket_put(p->os, "snap/b", "another one, of snapshot b");
	assert_int_equal(object_get(raw, OBJECT_PUSH, "snap/a", 0, &old, NULL, NULL), 0);
	assert_null(memmem(old.data, old.len, "secret", 6));
	/* Under another name, cut at every length, and plain. */
	assert_int_equal(object_put(raw, OBJECT_PUSH, "snap/b", old.data, old.len, NULL), 0);
	assert_int_equal(object_get(p->os, OBJECT_PUSH, "snap/b", 0, &got, NULL, NULL), -EBADMSG);
	for (size_t len = 0; len < old.len; len++) {
		assert_int_equal(object_put(raw, OBJECT_PUSH, "snap/a", old.data, len, NULL), 0);
		assert_int_equal(object_get(p->os, OBJECT_PUSH, "snap/a", 0, &got, NULL, NULL),
				 -EBADMSG);
	}
	bucket_put(raw, "snap/a", "{\"varve\":1}");
	assert_int_equal(object_get(p->os, OBJECT_PUSH, "snap/a", 0, &got, NULL, NULL), -EBADMSG);
	/* As it was: a copy that was kept opens, which nobody can tell from the newest. */
	assert_int_equal(object_put(raw, OBJECT_PUSH, "snap/a", old.data, old.len, NULL), 0);
	assert_object(p->os, "snap/a", "a secret that is long enough");
	object_store_counts(p->os, &counts);
	assert_int_equal(counts.failed, old.len + 2);
	assert_int_equal(counts.retried, old.len + 2); /* each is asked for once more */
}

/* A range over the place where an object was cut fails, as does one over what was changed. */
static void damage_is_found_in_ranges(void **state)
{
	struct pair *p = *state;
	struct object_store *raw = p->sealed.os;
	struct buf CLEANUP(buf_fini_p) c = content_of(20000), CLEANUP(buf_fini_p) old = BUF_INIT;
	static const struct {
		uint64_t offset;
		size_t len;
		bool from_end;
		int cut, flipped; /* results */
	} cases[] = {
		{ 0, 4096, false, 0, 0 },
		{ 0, 4097, false, -EBADMSG, -EBADMSG },
		{ 5000, 100, false, -EBADMSG, -EBADMSG },
		{ 5000, 9000, false, -EBADMSG, -EBADMSG },
		{ 9000, 9000, false, 0, 0 }, /* cut: behind the end */
		{ 0, 0, false, -EBADMSG, -EBADMSG },
		{ 0, 100, true, -EBADMSG, 0 },
		{ 0, 10000, true, -EBADMSG, 0 },
		/* Flipped: what is behind that. */
		{ 0, 12000, true, -EBADMSG, 0 },
	};

	assert_int_equal(object_put(p->os, OBJECT_PUSH, "pack/aa/x-0", c.data, c.len, NULL), 0);
	assert_int_equal(object_get(raw, OBJECT_PUSH, "pack/aa/x-0", 0, &old, NULL, NULL), 0);
	for (int flipped = 0; flipped < 2; flipped++) {
		size_t len = flipped ? old.len : 2 * SEALED_STRIDE;

		if (flipped)
			old.data[SEALED_STRIDE + 1000] ^= 1;
		assert_int_equal(object_put(raw, OBJECT_PUSH, "pack/aa/x-0", old.data, len, NULL),
				 0);
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			struct object_request r =
				run_get(p->os, cases[i].offset, cases[i].len, cases[i].from_end);
			int want = flipped ? cases[i].flipped : cases[i].cut;

			if (r.result != want)
				fail_msg("case %zu, flipped %d: %d", i, flipped, r.result);
			if (r.result == 0 && cases[i].from_end)
				assert_int_equal(r.data.len, MIN(cases[i].len, 20000u - 8192u));
			if (r.result == 0 && cases[i].from_end)
				assert_memory_equal(r.data.data, c.data + 20000 - r.data.len,
						    r.data.len);
			object_request_fini(&r);
		}
	}
}

static void what_a_bad_way_spoils_is_asked_for_again(void **state)
{
	struct pair *p = *state;
	struct object_store *os = NULL;
	struct object_counts counts;
	struct buf CLEANUP(buf_fini_p) c = content_of(20000);
	unsigned good = 0;

	assert_int_equal(object_put(p->os, OBJECT_PUSH, "pack/aa/x-0", c.data, c.len, NULL), 0);
	assert_int_equal(object_fault_open(bucket_open(p->sealed.path, false),
					   "seed=3,flip=0.2,cut=0.2,ops=get", &os, NULL),
			 0);
	os = seal(os);
	for (unsigned i = 0; i < 200; i++) {
		struct object_request r = run_get(os, 100 * i, 5000, false);

		assert_true(r.result == 0 || r.result == -EBADMSG);
		if (r.result == 0) {
			assert_int_equal(r.data.len, MIN(5000u, 20000u - 100 * i));
			assert_memory_equal(r.data.data, c.data + 100 * i, r.data.len);
			good++;
		}
		object_request_fini(&r);
	}
	object_store_counts(os, &counts);
	assert_true(counts.retried > 40 && counts.failed > 5);
	assert_true(good > 150); /* without the second attempt: 128 of 200 */
	object_store_close(os);
}

/* ---- keys ---- */

static void a_wrapped_key_opens_for_its_tenant_and_bucket_alone(void **state)
{
	static const char about[] = "01234567-89ab-cdef-0123-456789abcdef aes-256-gcm-4k sealed";
	/* Made by another program; salt 32 to 63, tenant's key 255, 254, ... */
	struct buf CLEANUP(buf_fini_p) w = from_hex(
		"202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f77a43497d6a09c4b"
		"bc380e42433546efada3ef812870b20275538778a2d924bda3144df0f71e632a40cf7827a0cc2e8"
		"2");
	struct crypt_key tenant, key, want = test_key();
	uint8_t wrapped[BUCKET_KEY_WRAPPED];

	(void)state;
	for (unsigned i = 0; i < sizeof(tenant.b); i++)
		tenant.b[i] = (uint8_t)(255 - i);
	assert_int_equal(w.len, BUCKET_KEY_WRAPPED);
	assert_int_equal(bucket_key_unwrap(&tenant, about, w.data, &key), 0);
	assert_memory_equal(key.b, want.b, sizeof(key.b));
	assert_int_equal(bucket_key_wrap(&tenant, about, &want, wrapped), 0);
	assert_memory_not_equal(wrapped, w.data, 32);
	assert_int_equal(bucket_key_unwrap(&tenant, about, wrapped, &key), 0);
	assert_memory_equal(key.b, want.b, sizeof(key.b));
	assert_int_equal(bucket_key_unwrap(&tenant, "other", wrapped, &key), -EBADMSG);
	for (size_t i = 0; i < sizeof(wrapped); i++) {
		wrapped[i] ^= 0x80;
		assert_int_equal(bucket_key_unwrap(&tenant, about, wrapped, &key), -EBADMSG);
		wrapped[i] ^= 0x80;
	}
	tenant.b[0] ^= 1;
	assert_int_equal(bucket_key_unwrap(&tenant, about, wrapped, &key), -EBADMSG);
}

static void write_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F"
static void a_tenants_key_is_read_from_a_private_file_or_a_command(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
		int result;
		const char *why;
	} cases[] = {
		{ HEX, 0600, 0, "" },
		{ " \n" HEX "\r\n", 0400, 0, "" },
		{ "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n", 0600, 0, "" },
		{ HEX, 0640, -EACCES, "0640" },
		{ HEX, 0604, -EACCES, "chmod" },
		{ HEX "00", 0600, -EINVAL, "64 hex digits" },
		{ "", 0600, -EINVAL, "64 hex digits" },
		{ "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", 0600, -EINVAL, "base64" },
		{ "zz0102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F", 0600, -EINVAL,
		  "not a key" },
	};
	char path[] = "/tmp/test-key-XXXXXX";
	struct crypt_key key, want = test_key();
	struct error err = ERROR_INIT;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		write_file(path, cases[i].text, 0600);
		assert_int_equal(chmod(path, cases[i].mode), 0);
		err = (struct error)ERROR_INIT;
		assert_int_equal(tenant_key_load(path, NULL, NULL, &key, &err), cases[i].result);
		assert_non_null(strstr(err.msg, cases[i].why));
		if (cases[i].text[0])
			assert_null(strstr(err.msg, cases[i].text));
		if (cases[i].result == 0)
			assert_memory_equal(key.b, want.b, sizeof(key.b));
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(tenant_key_load(path, NULL, NULL, &key, &err), -ENOENT);
	assert_int_equal(tenant_key_load("/dev/zero", NULL, NULL, &key, &err), -EINVAL);
	assert_int_equal(tenant_key_load(NULL, "echo " HEX, NULL, &key, &err), 0);
	assert_memory_equal(key.b, want.b, sizeof(key.b));
	assert_int_equal(tenant_key_load(NULL, "echo secret-word; exit 3", NULL, &key, &err),
			 -EACCES);
	assert_non_null(strstr(err.msg, "exits with 3"));
	assert_null(strstr(err.msg, "secret-word"));
	assert_int_equal(tenant_key_load(NULL, "yes", NULL, &key, &err), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens_what_another_program_has_sealed),
		cmocka_unit_test(names_a_digest_as_another_program_does),
		cmocka_unit_test(sizes_are_told_from_each_other),
		cmocka_unit_test(what_was_touched_does_not_open),
		cmocka_unit_test_setup_teardown(ranges_are_those_of_a_plain_bucket, pair_setup,
						pair_teardown),
		cmocka_unit_test_setup_teardown(lists_limits_and_creation_are_those_of_contents,
						pair_setup, pair_teardown),
		cmocka_unit_test_setup_teardown(the_probe_is_content, pair_setup, pair_teardown),
		cmocka_unit_test_setup_teardown(nothing_plain_is_written_and_nothing_foreign_read,
						pair_setup, pair_teardown),
		cmocka_unit_test_setup_teardown(damage_is_found_in_ranges, pair_setup,
						pair_teardown),
		cmocka_unit_test_setup_teardown(what_a_bad_way_spoils_is_asked_for_again,
						pair_setup, pair_teardown),
		cmocka_unit_test(a_wrapped_key_opens_for_its_tenant_and_bucket_alone),
		cmocka_unit_test(a_tenants_key_is_read_from_a_private_file_or_a_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
