/* Records of the meta family. */
#include "store/kv/meta.h"
#include "store/kv/meta_version.h"

#include "tests/unit/kv_fixture.h"

static int collect(void *arg, const char *name, const void *value, size_t len)
{
	char *out = arg;

	sprintf(out + strlen(out), "%s=%.*s ", name, (int)len, (const char *)value);
	return strcmp(name, "stop") == 0 ? -ECANCELED : 0;
}

static void put_text(struct kv *kv, enum meta_kind kind, const char *name, const char *value)
{
	assert_int_equal(meta_put(kv, kind, name, value, strlen(value), KV_LOG), 0);
}

static void records_are_found_by_kind_and_name(void **state)
{
	struct kv *kv = ((struct fixture *)*state)->kv;
	struct kv_value v = { 0 };
	char found[200] = "";

	put_text(kv, META_CHECKPOINT, "2", "two");
	put_text(kv, META_CHECKPOINT, "1", "one");
	put_text(kv, META_CHECKPOINT, "3", "three");
	put_text(kv, META_CHECKPOINTING, "1", "other");
	put_text(kv, META_CHECKPOINT, "1", "uno");
	assert_int_equal(meta_del(kv, META_CHECKPOINT, "3", KV_LOG), 0);
	assert_int_equal(meta_each(kv, META_CHECKPOINT, "", collect, found), 0);
	assert_string_equal(found, "1=uno 2=two ");
	assert_int_equal(meta_has(kv, META_CHECKPOINT, "2"), 1);
	assert_int_equal(meta_has(kv, META_CHECKPOINT, "3"), 0);
	assert_int_equal(meta_get(kv, META_CHECKPOINT, "3", &v), -ENOENT);
	assert_int_equal(meta_get(kv, META_CHECKPOINTING, "1", &v), 0);
	assert_int_equal(v.len, 5);
	kv_value_release(&v);
}

static void a_walk_ends_where_it_is_told_to(void **state)
{
	struct kv *kv = ((struct fixture *)*state)->kv;
	char found[200] = "";

	put_text(kv, META_PATCH, "a/1", "x");
	put_text(kv, META_PATCH, "a/2", "y");
	put_text(kv, META_PATCH, "b/1", "z");
	assert_int_equal(meta_each(kv, META_PATCH, "a/", collect, found), 0);
	assert_string_equal(found, "a/1=x a/2=y ");
	found[0] = '\0';
	put_text(kv, META_BUILD, "1", "x");
	put_text(kv, META_BUILD, "stop", "x");
	put_text(kv, META_BUILD, "z", "x");
	assert_int_equal(meta_each(kv, META_BUILD, "", collect, found), -ECANCELED);
	assert_string_equal(found, "1=x stop=x ");
}

static void a_name_that_is_too_long_is_no_records(void **state)
{
	struct kv *kv = ((struct fixture *)*state)->kv;
	struct kv_value v = { 0 };
	char name[META_NAME_MAX + 2];

	memset(name, 'n', sizeof(name));
	name[META_NAME_MAX + 1] = '\0';
	assert_int_equal(meta_get(kv, META_BUILD, name, &v), -ENOENT);
	assert_int_equal(meta_has(kv, META_BUILD, name), 0);
	assert_int_equal(meta_put(kv, META_BUILD, name, "x", 1, KV_LOG), -ENAMETOOLONG);
	assert_int_equal(meta_del(kv, META_BUILD, name, KV_LOG), -ENAMETOOLONG);
	name[META_NAME_MAX] = '\0';
	put_text(kv, META_BUILD, name, "x");
	assert_int_equal(meta_has(kv, META_BUILD, name), 1);
}

static void records_of_a_newer_version_are_found(void **state)
{
	struct kv *kv = ((struct fixture *)*state)->kv;
	struct error err = ERROR_INIT;

	put_text(kv, META_SANDBOX, "1", "{\"version\": 1, \"metadata\": {\"version\": 9}}");
	put_text(kv, META_SANDBOX, "2", "{\"version\": 2}");
	put_text(kv, META_SANDBOX, "3", "no JSON");
	put_text(kv, META_SANDBOX, "4", "[]");
	assert_int_equal(meta_check_versions(kv, META_SANDBOX, 2, &err), 0);
	assert_int_equal(meta_check_versions(kv, META_SANDBOX, 1, &err), -EINVAL);
	assert_string_equal(error_text(&err), "the record sandbox/2 is of version 2, which this "
					      "program does not know");
}

static void no_prefix_begins_another(void **state)
{
	(void)state;
	for (int a = 0; a < META_KIND_COUNT; a++) {
		const char *prefix = meta_prefix((enum meta_kind)a);

		assert_int_equal(prefix[strlen(prefix) - 1], '/');
		for (int b = 0; b < META_KIND_COUNT; b++)
			assert_true(a == b || strncmp(meta_prefix((enum meta_kind)b), prefix,
						      strlen(prefix)) != 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(records_are_found_by_kind_and_name),
		TEST(a_walk_ends_where_it_is_told_to),
		TEST(a_name_that_is_too_long_is_no_records),
		TEST(records_of_a_newer_version_are_found),
		cmocka_unit_test(no_prefix_begins_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
