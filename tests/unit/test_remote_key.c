/* remote_key: who opens an encrypted bucket, and that nobody is led to write in the clear. */
#include "tests/unit/bucket_fixture.h"

#include "store/layout/share_format.h"
#include "store/remote/remote.h"

#define KEY_A "echo 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY_B "echo //79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA="

static struct remote_config config(const struct bucket *b, const char *command)
{
	struct remote_config c = { .name = "main" };

	assert_true(asprintf(&c.url, "file://%s", b->path) > 0);
	c.key_command = command ? strdup(command) : NULL;
	return c;
}

/* Its result; `why` is part of the message. */
static int open_as(const struct bucket *b, const char *command, const char *why)
{
	struct remote_config c = config(b, command);
	struct error err = ERROR_INIT;
	struct remote *r = NULL;
	int rc = remote_open(&c, true, &r, &err);

	if (rc < 0 && !strstr(err.msg, why))
		fail_msg("%s", err.msg);
	if (rc == 0)
		assert_int_equal(remote_is_encrypted(r), command != NULL);
	remote_close(r);
	remote_config_fini(&c);
	return rc;
}

static void write_secret(const struct bucket *b, const char *command, const char *text)
{
	struct remote_config c = config(b, command);
	struct remote *r = NULL;

	assert_int_equal(remote_open(&c, true, &r, NULL), 0);
	bucket_put(remote_objects(r), "node/00000000000000000000000000000001", text);
	remote_close(r);
	remote_config_fini(&c);
}

static void assert_secret(const struct bucket *b, const char *command, const char *text)
{
	struct remote_config c = config(b, command);
	struct remote *r = NULL;

	assert_int_equal(remote_open(&c, true, &r, NULL), 0);
	assert_object(remote_objects(r), "node/00000000000000000000000000000001", text);
	remote_close(r);
	remote_config_fini(&c);
}

static void only_its_key_opens_a_bucket(void **state)
{
	struct bucket *b = *state;
	char *format;

	write_secret(b, KEY_A, "kept");
	format = bucket_get(b->os, "format");
	assert_non_null(strstr(format, "\"features\":[\"moved\",\"moved-meta\",\"sealed\"]"));
	assert_int_equal(open_as(b, NULL, "is encrypted: its key is needed"), -EACCES);
	assert_int_equal(open_as(b, KEY_B, "does not open the bucket"), -EACCES);
	assert_int_equal(open_as(b, "echo short", "64 hex digits"), -EINVAL);
	assert_object(b->os, "format", format); /* nothing was written */
	assert_secret(b, KEY_A, "kept");
	free(format);
}

static void a_plain_bucket_stays_one(void **state)
{
	struct bucket *b = *state;

	assert_int_equal(open_as(b, NULL, ""), 0);
	assert_int_equal(open_as(b, KEY_A, "not encrypted"), -EACCES);
}

/* Who may write to the bucket edits its format: nobody with a key opens what comes of that. */
static void an_edited_format_opens_for_nobody(void **state)
{
	static const struct {
		const char *from, *to, *why;
		int result;
	} edits[] = {
		{ "[\"moved\",\"moved-meta\",\"sealed\"]", "[\"sealed\"]", "was changed", -EACCES },
		{ "[\"moved\",\"moved-meta\",\"sealed\"]", "[]", "\"sealed\" is missing or wrong",
		  -EBADMSG },
		{ "\"sealed\":{", "\"x\":{", "\"sealed\" is missing or wrong", -EBADMSG },
		{ "[\"moved\",\"moved-meta\",\"sealed\"]",
		  "[\"moved\",\"moved-meta\",\"sealed\",\"?other\"]", "was changed", -EACCES },
		{ "[\"moved\",\"moved-meta\",\"sealed\"]",
		  "[\"moved\",\"moved-meta\",\"sealed\",\"sealed\"]", "was changed", -EACCES },
		{ "aes-256-gcm-4k", "aes-256-gcm-8k", "aes-256-gcm-8k", -ENOTSUP },
		{ "\"keys\":[\"", "\"keys\":[\"AAAA", "a key is wrong", -EBADMSG },
	};
	struct bucket *b = *state;
	char *format, *uuid;

	write_secret(b, KEY_A, "kept");
	format = bucket_get(b->os, "format");
	for (size_t i = 0; i < ARRAY_SIZE(edits); i++) {
		char *at = strstr(format, edits[i].from), edited[1024];

		assert_non_null(at);
		snprintf(edited, sizeof(edited), "%.*s%s%s", (int)(at - format), format,
			 edits[i].to, at + strlen(edits[i].from));
		bucket_put(b->os, "format", edited);
		assert_int_equal(open_as(b, KEY_A, edits[i].why), edits[i].result);
	}
	uuid = strstr(format, "\"uuid\":\"") + 8;
	*uuid = *uuid == '0' ? '1' : '0';
	bucket_put(b->os, "format", format);
	assert_int_equal(open_as(b, KEY_A, "was changed"), -EACCES);
	/* A plain bucket in its place takes nothing either. */
	bucket_put(b->os, "format",
		   "{\"features\":[],\"uuid\":\"0f3a2a34-5b1e-4c50-8f51-3d3c14a4e8f1\",\"varve\":"
		   "1}");
	assert_int_equal(open_as(b, KEY_A, "not encrypted"), -EACCES);
	/* And where the format was lost, none is made over what it was for. */
	assert_int_equal(object_delete(b->os, OBJECT_CONTROL, "format", NULL), 0);
	assert_int_equal(open_as(b, KEY_A, "put its format back"), -EACCES);
	free(format);
}

static int rekey(const struct bucket *b, const char *was, const char *now, bool keep)
{
	struct remote_config a = config(b, was), c = config(b, now);
	int rc = remote_rekey(&a, &c, keep, NULL);

	remote_config_fini(&a);
	remote_config_fini(&c);
	return rc;
}

static void keys_change_hands(void **state)
{
	struct bucket *b = *state;
	char *before, *after;

	write_secret(b, KEY_A, "kept");
	assert_int_equal(rekey(b, KEY_B, KEY_B, false), -EACCES);
	assert_int_equal(rekey(b, KEY_A, KEY_B, true), 0);
	assert_secret(b, KEY_A, "kept");
	assert_secret(b, KEY_B, "kept");
	before = bucket_get(b->os, "format");
	assert_int_equal(rekey(b, KEY_A, KEY_B, true), 0); /* it opens it already */
	assert_object(b->os, "format", before);
	assert_int_equal(rekey(b, NULL, KEY_B, false), 0); /* the former one goes */
	after = bucket_get(b->os, "format");
	assert_int_equal(open_as(b, KEY_A, "does not open"), -EACCES);
	assert_secret(b, KEY_B, "kept");
	assert_int_equal(rekey(b, NULL, KEY_A, false), -EACCES);
	assert_object(b->os, "format", after);
	assert_int_equal(rekey(b, KEY_B, KEY_A, false), 0);
	assert_secret(b, KEY_A, "kept");
	free(before);
	free(after);
	bucket_put(b->os, "format",
		   "{\"features\":[],\"uuid\":\"0f3a2a34-5b1e-4c50-8f51-3d3c14a4e8f1\",\"varve\":"
		   "1}");
	assert_int_equal(rekey(b, KEY_A, KEY_B, false), -EINVAL);
}

static void keys_have_their_limits(void **state)
{
	static const char base[] = "echo 00000000000000000000000000000000"
				   "0000000000000000000000000000000%u";
	struct bucket *b = *state;
	char key[200];

	write_secret(b, KEY_A, "kept");
	for (unsigned i = 1; i < SHARE_KEYS_MAX; i++) {
		snprintf(key, sizeof(key), base, i);
		assert_int_equal(rekey(b, KEY_A, key, true), 0);
		assert_secret(b, key, "kept");
	}
	assert_int_equal(rekey(b, KEY_A, KEY_B, true), -EINVAL);
	assert_secret(b, KEY_A, "kept");
}

static void a_configuration_names_one_place_of_a_key(void **state)
{
	static const struct {
		const char *text;
		const char *why;
	} cases[] = {
		{ "{\"name\":\"a\",\"url\":\"file:///x\",\"keyFile\":\"/k\"}", NULL },
		{ "{\"name\":\"a\",\"url\":\"s3://x\",\"keyCommand\":\"c\"}", NULL },
		{ "{\"name\":\"a\",\"url\":\"s3://x\",\"keyFile\":\"/k\",\"keyCommand\":\"c\"}",
		  "one of" },
		{ "{\"name\":\"a\",\"url\":\"s3://x\",\"keyFile\":\"k\"}", "absolute" },
		{ "{\"name\":\"a\",\"url\":\"s3://x\",\"keyFile\":7}", "keyFile" },
		{ "{\"name\":\"a\",\"url\":\"s3://x\",\"key\":\"00\"}", "no such member" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		json_t *j = json_loads(cases[i].text, 0, NULL);
		struct remote_config c;
		struct error err = ERROR_INIT;
		int rc = remote_config_parse(j, &c, &err);

		assert_int_equal(rc, cases[i].why ? -EINVAL : 0);
		if (cases[i].why)
			assert_non_null(strstr(err.msg, cases[i].why));
		else
			remote_config_fini(&c);
		json_decref(j);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, bucket_setup, bucket_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(only_its_key_opens_a_bucket),
		TEST(a_plain_bucket_stays_one),
		TEST(an_edited_format_opens_for_nobody),
		TEST(keys_change_hands),
		TEST(keys_have_their_limits),
		cmocka_unit_test(a_configuration_names_one_place_of_a_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
