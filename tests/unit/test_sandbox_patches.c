/*
 * Patches: their order and number, what a power cut leaves of them, and those whose snapshot is
 * gone.
 * wrap: kv_sync_log kv_write
 */
#include "snapshotd/sandbox/sandbox_patches.h"

#include "snapshotd/sandbox/sandboxes_internal.h"
#include "tests/unit/fs_fixture.h"

#define GONE "0a0b0c0d-0000-4000-8000-000000000001"

static bool synced; /* all that was logged so far */

int __real_kv_sync_log(struct kv *kv);
int __wrap_kv_sync_log(struct kv *kv);
int __wrap_kv_sync_log(struct kv *kv)
{
	synced = true;
	return __real_kv_sync_log(kv);
}

int __real_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);
int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);
int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d)
{
	synced = d == KV_SYNC;
	return __real_kv_write(kv, b, d);
}

static void patch(struct fx *f, const char *snapshot_id, const char *id)
{
	char key[2 * SNAPSHOT_ID_SIZE + 1];

	snprintf(key, sizeof(key), "%s/%s", snapshot_id, id);
	assert_int_equal(record_put(f->s->kv, META_PATCH, key, strdup("{}"), KV_LOG), 0);
}

static int count(void *arg, const char *rest, const void *text, size_t len)
{
	(void)text;
	(void)len;
	++*(unsigned *)arg;
	assert_ptr_not_equal(strstr(rest, "kept"), NULL);
	return 0;
}

static void a_sweep_removes_patches_of_what_is_gone(void **state)
{
	struct fx *f = *state;
	struct sandboxes ss = { .store = f->s };
	struct snapshot s = { .status = SNAPSHOT_READY };
	struct error err = ERROR_INIT;
	unsigned left = 0;

	strcpy(s.source, "checkpoint");
	assert_int_equal(snapshots_put(f->s->snapshots, &s, NULL, &err), 0);
	patch(f, s.id, "kept-1");
	patch(f, s.id, "kept-2");
	patch(f, GONE, "1");
	patch(f, GONE, "2");
	assert_int_equal(patches_sweep(&ss, &err), 0);
	assert_int_equal(meta_each(f->s->kv, META_PATCH, "", count, &left), 0);
	assert_int_equal(left, 2);
}

static const char *const one_to_three[] = { "first", "second", "third" };

static int in_order(void *arg, const char *id, const json_t *j)
{
	unsigned *n = arg;

	assert_string_equal(json_string_value(json_object_get(j, "id")), id);
	assert_string_equal(json_string_value(json_object_get(j, "script")), one_to_three[*n]);
	return ++*n == 2;
}

static void patches_are_bounded_and_in_order(void **state)
{
	struct fx *f = *state;
	struct sandboxes ss = { .store = f->s, .patch_limit = 3 };
	struct snapshot s = { .status = SNAPSHOT_READY };
	struct error err = ERROR_INIT;
	char first[SNAPSHOT_ID_SIZE] = "";
	unsigned n = 0;
	json_t *j;

	pthread_mutex_init(&ss.patch_lock, NULL);
	strcpy(s.source, "checkpoint");
	assert_int_equal(snapshots_put(f->s->snapshots, &s, NULL, &err), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(patches_add(&ss, s.id, one_to_three[i], "", &j, &err), 0);
		assert_int_equal(json_integer_value(json_object_get(j, "sequence")), i + 1);
		assert_true(synced);
		if (i == 0)
			strcpy(first, json_string_value(json_object_get(j, "id")));
		json_decref(j);
	}
	assert_int_equal(patches_each(&ss, s.id, in_order, &n, &err), 1);
	assert_int_equal(n, 2);
	assert_int_equal(patches_add(&ss, s.id, "fourth", "", &j, &err), -EBUSY);
	assert_non_null(strstr(error_text(&err), "patchLimit allows 3"));
	assert_int_equal(patches_delete(&ss, s.id, "nothing", &err), -ENOENT);
	assert_int_equal(patches_delete(&ss, s.id, first, &err), 0);
	assert_true(synced);
	assert_int_equal(patches_delete(&ss, s.id, first, &err), -ENOENT);
	assert_int_equal(patches_add(&ss, s.id, "fourth", "", &j, &err), 0);
	assert_int_equal(json_integer_value(json_object_get(j, "sequence")), 4);
	json_decref(j);
	pthread_mutex_destroy(&ss.patch_lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_sweep_removes_patches_of_what_is_gone, fx_setup,
						fx_teardown),
		cmocka_unit_test_setup_teardown(patches_are_bounded_and_in_order, fx_setup,
						fx_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
