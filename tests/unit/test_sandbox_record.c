/* Records of sandboxes: what is encoded decodes to the same, anything else is refused. */
#include "tests/unit/kv_fixture.h"
#include "snapshotd/sandbox/sandbox_record.h"

static struct sandbox_record full_sandbox(void)
{
	return (struct sandbox_record){
		.id = "sb-0123456789abcdef",
		.status = SANDBOX_STOPPED,
		.idle = true,
		.reason = "its first process has died",
		.mount_id = "11111111-2222-4333-8444-555555555555",
		.snapshot_id = "21111111-2222-4333-8444-555555555555",
		.snapshot_name = "web",
		.content_hash = "abcdef",
		.started_at_ms = 1234567890123,
		.ended_at_ms = 1234567890124,
		.timeout_s = 300,
		.config = { .template_id = "base",
			    .memory_mb = 512,
			    .disk_mb = 1024,
			    .cpus = 0.5,
			    .shared_cache = true,
			    .envs = json_pack("{s:s}", "A", "\xc3\xa4=b") },
		.metadata = json_pack("{s:s, s:i}", "who", "me", "n", 3),
		.image = json_pack("{s:[s], s:s}", "Env", "X=1", "WorkingDir", "/srv"),
	};
}

static void sandboxes_round_trip(void **state)
{
	struct sandbox_record in = full_sandbox(), out;
	char *text;

	(void)state;
	assert_int_equal(sandbox_record_encode(&in, &text), 0);
	assert_int_equal(sandbox_record_decode(text, strlen(text), &out), 0);
	assert_string_equal(out.id, in.id);
	assert_int_equal(out.status, in.status);
	assert_true(out.idle);
	assert_string_equal(out.reason, in.reason);
	assert_string_equal(out.mount_id, in.mount_id);
	assert_string_equal(out.snapshot_id, in.snapshot_id);
	assert_string_equal(out.snapshot_name, in.snapshot_name);
	assert_string_equal(out.content_hash, in.content_hash);
	assert_int_equal(out.started_at_ms, in.started_at_ms);
	assert_int_equal(out.ended_at_ms, in.ended_at_ms);
	assert_int_equal(out.timeout_s, 300);
	assert_string_equal(out.config.template_id, "base");
	assert_int_equal(out.config.memory_mb, 512);
	assert_int_equal(out.config.disk_mb, 1024);
	assert_true(out.config.cpus == 0.5);
	assert_true(out.config.shared_cache);
	assert_true(json_equal(out.config.envs, in.config.envs));
	assert_true(json_equal(out.metadata, in.metadata));
	assert_true(json_equal(out.image, in.image));
	sandbox_record_fini(&out);
	sandbox_record_fini(&in);
	free(text);
}

static void empty_members_may_be_absent(void **state)
{
	static const char text[] =
		"{\"version\":1,\"id\":\"sb-0000000000000000\",\"status\":\"running\"}";
	struct sandbox_record out;

	(void)state;
	assert_int_equal(sandbox_record_decode(text, strlen(text), &out), 0);
	assert_int_equal(out.status, SANDBOX_RUNNING);
	assert_false(out.idle);
	assert_null(out.config.envs);
	assert_null(out.metadata);
	assert_string_equal(out.mount_id, "");
	sandbox_record_fini(&out);
}

static void damaged_sandboxes_are_refused(void **state)
{
#define HEAD "{\"version\":1,\"id\":\"sb-0123456789abcdef\","
	static const char *const cases[] = {
		"",
		"[]",
		"{",
		"{\"version\":2,\"id\":\"sb-0123456789abcdef\",\"status\":\"running\"}",
		"{\"id\":\"sb-0123456789abcdef\",\"status\":\"running\"}",
		"{\"version\":1,\"id\":\"sb-0123456789abcde\",\"status\":\"running\"}",
		"{\"version\":1,\"id\":\"sb-0123456789abcdef0\",\"status\":\"running\"}",
		"{\"version\":1,\"id\":\"sb-../../../../x\",\"status\":\"running\"}",
		HEAD "\"status\":\"asleep\"}",
		HEAD "\"status\":1}",
		HEAD "\"status\":\"running\",\"mount\":7}",
		HEAD "\"status\":\"running\",\"mount\":\"11111111-2222-4333-8444-5555555555555\"}",
		HEAD "\"status\":\"running\",\"timeout\":-1}",
		HEAD "\"status\":\"running\",\"timeout\":1.5}",
		HEAD "\"status\":\"running\",\"envs\":[]}",
		HEAD "\"status\":\"running\",\"envs\":{\"A\":1}}",
		HEAD "\"status\":\"running\",\"envs\":{\"A=B\":\"1\"}}",
		HEAD "\"status\":\"running\",\"cpus\":\"2\"}",
		HEAD "\"status\":\"running\",\"cpus\":-2}",
		HEAD "\"status\":\"running\",\"metadata\":\"x\"}",
		HEAD "\"status\":\"running\",\"config\":1}",
	};
	struct sandbox_record out;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (sandbox_record_decode(cases[i], strlen(cases[i]), &out) != -EBADMSG)
			fail_msg("taken: %s", cases[i]);
}

static void checkpoints_round_trip(void **state)
{
	struct checkpoint_record in = { .id = "11111111-2222-4333-8444-555555555555",
					.sandbox_id = "sb-0123456789abcdef",
					.name = "vor dem \xc3\x84ndern",
					.sequence = 7,
					.created_at_ms = 99,
					.config = { .memory_mb = 256, .cpus = 2 } },
				 out;
	char *text;

	(void)state;
	in.config.envs = json_pack("{s:s}", "K", "V");
	assert_int_equal(checkpoint_record_encode(&in, &text), 0);
	assert_int_equal(checkpoint_record_decode(text, strlen(text), &out), 0);
	assert_string_equal(out.id, in.id);
	assert_string_equal(out.sandbox_id, in.sandbox_id);
	assert_string_equal(out.name, in.name);
	assert_int_equal(out.sequence, 7);
	assert_int_equal(out.created_at_ms, 99);
	assert_int_equal(out.config.memory_mb, 256);
	assert_true(out.config.cpus == 2);
	assert_true(json_equal(out.config.envs, in.config.envs));
	checkpoint_record_fini(&out);
	checkpoint_record_fini(&in);
	/* No sandbox, no id. */
	text[strlen(text) - 1] = ',';
	assert_int_equal(checkpoint_record_decode(text, strlen(text), &out), -EBADMSG);
	free(text);
	assert_int_equal(checkpoint_record_decode("{\"version\":1}", 13, &out), -EBADMSG);
}

static void patches_round_trip(void **state)
{
	struct patch_record in = { .id = "11111111-2222-4333-8444-555555555555",
				   .snapshot_id = "21111111-2222-4333-8444-555555555555",
				   .sequence = 3,
				   .created_at_ms = 5,
				   .script = "echo 'a\nb' \"c\"",
				   .description = "" },
			    out;
	char *text;

	(void)state;
	assert_int_equal(patch_record_encode(&in, &text), 0);
	assert_int_equal(patch_record_decode(text, strlen(text), &out), 0);
	assert_string_equal(out.id, in.id);
	assert_string_equal(out.snapshot_id, in.snapshot_id);
	assert_int_equal(out.sequence, 3);
	assert_string_equal(out.script, in.script);
	assert_string_equal(out.description, "");
	patch_record_fini(&out);
	free(text);
	assert_int_equal(patch_record_decode("{\"version\":1,\"id\":\"x\"}", 22, &out), -EBADMSG);
}

static void ids_are_random_and_valid(void **state)
{
	char a[SANDBOX_ID_SIZE], b[SANDBOX_ID_SIZE];

	(void)state;
	for (int i = 0; i < 100; i++) {
		sandbox_id_random(a);
		sandbox_id_random(b);
		assert_true(sandbox_id_is_valid(a));
		assert_string_not_equal(a, b);
	}
	assert_false(sandbox_id_is_valid(""));
	assert_false(sandbox_id_is_valid("sb-"));
	assert_false(sandbox_id_is_valid("sb-0123456789ABCDEF"));
	assert_false(sandbox_id_is_valid("xx-0123456789abcdef"));
}

static void names_and_envs_are_checked(void **state)
{
	char longest[CHECKPOINT_NAME_MAX + 2];
	json_t *bad = json_pack("{s:s}", "", "x"),
	       *good = json_pack("{s:s, s:s}", "A", "", "b", "=");
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(checkpoint_name_check("a b/\xc3\xa4", NULL), 0);
	assert_int_equal(checkpoint_name_check("", NULL), -EINVAL);
	assert_int_equal(checkpoint_name_check("a\nb", NULL), -EINVAL);
	assert_int_equal(checkpoint_name_check("a\x7f", NULL), -EINVAL);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(checkpoint_name_check(longest, NULL), -EINVAL);
	longest[CHECKPOINT_NAME_MAX] = '\0';
	assert_int_equal(checkpoint_name_check(longest, NULL), 0);
	assert_int_equal(envs_check(good, NULL), 0);
	assert_int_equal(envs_check(bad, &err), -EINVAL);
	json_decref(bad);
	json_decref(good);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sandboxes_round_trip),
		cmocka_unit_test(empty_members_may_be_absent),
		cmocka_unit_test(damaged_sandboxes_are_refused),
		cmocka_unit_test(checkpoints_round_trip),
		cmocka_unit_test(patches_round_trip),
		cmocka_unit_test(ids_are_random_and_valid),
		cmocka_unit_test(names_and_envs_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
