/* Builds after a daemon's death: who gets which name. */
#include "snapshotd/build/builds.h"

#include "snapshotd/build/image_cache.h"
#include "snapshotd/state/json_record.h"
#include "snapshotd/state/mounts.h"
#include "store/store.h"
#include "tests/unit/fs_fixture.h"

#define BUILD_ID "0a0b0c0d-0000-4000-8000-000000000001"

/* The next daemon looks at what there is. */
static void recover(struct fx *f)
{
	struct builds_options opt = {
		.store = f->s, .state_dir = f->dir, .default_template = "base", .goes_on = true
	};
	struct error err = ERROR_INIT;
	struct builds *b = NULL;

	assert_int_equal(mounts_open(f->s, NULL, &opt.mounts, &err), 0);
	if (builds_open(&opt, &b, &err) < 0)
		fail_msg("builds_open: %s", error_text(&err));
	builds_close(b);
	mounts_close(opt.mounts);
}

static struct snapshot image(const char *name, int64_t created_at_ms)
{
	struct snapshot s = { .status = SNAPSHOT_READY, .created_at_ms = created_at_ms };

	strcpy(s.name, name);
	strcpy(s.source, IMAGE_CACHE_SOURCE);
	return s;
}

static void put(struct fx *f, struct snapshot *s)
{
	struct error err = ERROR_INIT;

	if (snapshots_put(f->s->snapshots, s, NULL, &err) < 0)
		fail_msg("%s", error_text(&err));
}

static struct snapshot get(struct fx *f, const char *name_or_id)
{
	struct snapshot s = { 0 };

	assert_int_equal(snapshots_get(f->s->snapshots, name_or_id, &s, NULL), 0);
	snapshot_fini(&s);
	return s;
}

static void assert_holder(struct fx *f, const char *name, const char *id)
{
	assert_string_equal(get(f, name).id, id);
}

static void assert_ready(struct fx *f, const char *name, const struct digest *root)
{
	const struct snapshot s = get(f, name);

	assert_int_equal(s.status, SNAPSHOT_READY);
	assert_memory_equal(&s.root, root, sizeof(*root));
}

static void put_build(struct fx *f, const char *state, const char *snapshot_id)
{
	json_auto_t *j = json_pack("{s:s, s:s, s:s, s:I}", "id", BUILD_ID, "state", state,
				   "snapshotID", snapshot_id, "createdAtMs", (json_int_t)1000);

	assert_int_equal(json_record_put(f->s->kv, META_BUILD, BUILD_ID, j, KV_LOG), 0);
}

/* It is ready, and the daemon has died before it had its name. */
static void a_name_is_taken_from_an_older_image(void **state)
{
	struct fx *f = *state;
	struct snapshot old = image("app", 1000), s = image("", 2000);

	strcpy(s.takes, "app");
	put(f, &old);
	put(f, &s);
	recover(f);
	assert_holder(f, "app", s.id);
	assert_int_equal(snapshots_get(f->s->snapshots, old.id, &old, NULL), -ENOENT);
}

static void a_name_is_not_taken_from_a_newer_one(void **state)
{
	struct fx *f = *state;
	struct snapshot newer = image("app", 3000), s = image("", 2000);

	strcpy(s.takes, "app");
	put(f, &newer);
	put(f, &s);
	recover(f);
	assert_holder(f, "app", newer.id);
	assert_string_equal(get(f, s.id).takes, "");
}

/* Who was refused the name does not get it years later. */
static void a_name_that_was_refused_is_given_up(void **state)
{
	struct fx *f = *state;
	struct snapshot old = image("app", 1000), s = image("", 2000);

	old.pinned = true;
	strcpy(s.takes, "app");
	put(f, &old);
	put(f, &s);
	recover(f);
	assert_holder(f, "app", old.id);
	assert_int_equal(snapshots_pin(f->s->snapshots, old.id, false, 0, NULL), 0);
	recover(f);
	assert_holder(f, "app", old.id);
	assert_string_equal(get(f, s.id).takes, "");
}

/* What waits for the build: with a name, and with one that is to be taken. */
static void put_waiting(struct fx *f, struct snapshot *named, struct snapshot *taker)
{
	*named = image("named", 2000);
	*taker = image("", 2000);
	named->status = taker->status = SNAPSHOT_BUILDING;
	strcpy(named->build_id, BUILD_ID);
	strcpy(taker->build_id, BUILD_ID);
	strcpy(taker->takes, "app");
	put(f, named);
	put(f, taker);
}

/* The daemon has died after its record was written, and before anybody had the image. */
static void who_waits_for_a_build_that_was_ready_gets_its_image(void **state)
{
	struct fx *f = *state;
	struct snapshot old = image("app", 1000), named, taker, built;
	struct model *m = m_new();
	const struct digest root = m_snapshot(f->s, m, "built");

	m_free(m);
	built = get(f, "built");
	put(f, &old);
	put_waiting(f, &named, &taker);
	put_build(f, "ready", built.id);
	recover(f);
	assert_ready(f, "named", &root);
	assert_holder(f, "app", taker.id);
	assert_ready(f, "app", &root);
}

static void who_waits_for_one_that_failed_does_not(void **state)
{
	struct fx *f = *state;
	struct snapshot old = image("app", 1000), named, taker;

	put(f, &old);
	put_waiting(f, &named, &taker);
	put_build(f, "failed", "");
	recover(f);
	assert_int_equal(get(f, "named").status, SNAPSHOT_FAILED);
	assert_holder(f, "app", old.id);
	assert_int_equal(snapshots_get(f->s->snapshots, taker.id, &taker, NULL), -ENOENT);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)
	const struct CMUnitTest tests[] = {
		T(a_name_is_taken_from_an_older_image),
		T(a_name_is_not_taken_from_a_newer_one),
		T(a_name_that_was_refused_is_given_up),
		T(who_waits_for_a_build_that_was_ready_gets_its_image),
		T(who_waits_for_one_that_failed_does_not),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
