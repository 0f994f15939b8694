/*
 * A checkpoint that freezes: what happens while processes stand still, and how long.
 * wrap: cgroup_freeze cgroup_thaw mount_flush
 */
#include "tests/unit/mount_fixture.h"

#include "fs/freeze.h"

#define FLUSH_US 5000

static char steps[16]; /* w: flush; f: freeze; t: thaw */
static bool freezes;

int __wrap_cgroup_freeze(const char *dir, struct error *err);
int __wrap_cgroup_thaw(const char *dir);
void __wrap_mount_flush(struct mount *m, unsigned max_ms);

static void note(const char *step)
{
	assert_true(strlen(steps) + 1 < sizeof(steps));
	strcat(steps, step);
}

int __wrap_cgroup_freeze(const char *dir, struct error *err)
{
	(void)err;
	assert_string_equal(dir, "/cgroup");
	note("f");
	return 0;
}

int __wrap_cgroup_thaw(const char *dir)
{
	assert_string_equal(dir, "/cgroup");
	note("t");
	return 0;
}

void __wrap_mount_flush(struct mount *m, unsigned max_ms)
{
	(void)m;
	/* A busy mount must not hold its freeze up. */
	assert_true(!freezes || steps[0] || max_ms < SESSION_DRAIN_MS);
	note("w");
	usleep(FLUSH_US);
}

static void take(struct mf *f, const char *cgroup)
{
	struct snapshot snap;
	struct error err = ERROR_INIT;

	steps[0] = 0;
	freezes = cgroup;
	f->m->served = true;
	if (mount_checkpoint(f->m, NULL, cgroup, &snap, &err))
		fail_msg("checkpoint: %s", error_text(&err));
	f->m->served = false;
	snapshot_fini(&snap);
	mf_wait_sealed(f);
}

static void most_is_flushed_before_the_freeze_and_the_rest_is_counted(void **state)
{
	struct mf *f = *state;

	mf_file(f, "a");
	take(f, "/cgroup");
	assert_string_equal(steps, "wfwt");
	assert_true(mount_last_frozen_ns(f->m) >= FLUSH_US * 1000ull);
}

static void without_a_cgroup_nothing_is_frozen(void **state)
{
	struct mf *f = *state;

	mf_file(f, "a");
	take(f, NULL);
	assert_string_equal(steps, "w");
	assert_int_equal(mount_last_frozen_ns(f->m), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, mf_setup, mf_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(most_is_flushed_before_the_freeze_and_the_rest_is_counted),
		T(without_a_cgroup_nothing_is_frozen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
