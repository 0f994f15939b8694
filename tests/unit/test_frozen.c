/*
 * A checkpoint that freezes: what happens while processes stand still, and how long. And who
 * waits for what it writes.
 * wrap: cgroup_freeze cgroup_thaw mount_flush kv_write
 */
#include "tests/unit/mount_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#include "fs/host/freeze.h"
#include "fs/host/freezing.h"

#define FLUSH_US 5000
/* Many times what any of these takes. */
#define WAIT_MS 20000

static char steps[16]; /* w: flush; f: freeze; t: thaw */
static bool freezes, never_flushed;
static atomic_bool is_frozen;
static atomic_uint frozen_writes; /* of the database, while they stand still */
static struct mount *shown;	  /* asked for at each write; NULL: none */
static atomic_uint shows, shows_that_waited;

int __wrap_cgroup_freeze(const char *dir, struct error *err);
int __wrap_cgroup_thaw(const char *dir);
int __wrap_mount_flush(struct mount *m, unsigned max_ms);
int __real_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);
int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);

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
	atomic_store(&is_frozen, true);
	return 0;
}

int __wrap_cgroup_thaw(const char *dir)
{
	assert_string_equal(dir, "/cgroup");
	note("t");
	atomic_store(&is_frozen, false);
	return 0;
}

int __wrap_mount_flush(struct mount *m, unsigned max_ms)
{
	(void)m;
	/* A busy mount must not hold its freeze up, nor be held up by its writes for long. */
	assert_true(!freezes || (steps[0] && !atomic_load(&is_frozen)) ||
		    max_ms < SESSION_DRAIN_MS);
	note("w");
	usleep(FLUSH_US);
	return never_flushed ? -ETIMEDOUT : 0;
}

struct show {
	pthread_t thread;
	atomic_bool done;
};

static void *show_main(void *arg)
{
	struct show *s = arg;
	struct mount_info info;

	mount_get_info(shown, &info);
	atomic_store(&s->done, true);
	return NULL;
}

/* Whoever asks how the mount is has his answer before the write is begun. */
static void show_beside(struct show *s)
{
	if (pthread_create(&s->thread, NULL, show_main, s))
		abort();
	for (unsigned i = 0; i < WAIT_MS && !atomic_load(&s->done); i++)
		usleep(1000);
	atomic_fetch_add(&shows, 1);
	if (!atomic_load(&s->done))
		atomic_fetch_add(&shows_that_waited, 1);
}

int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d)
{
	struct show s = { .done = false };
	const bool show = shown != NULL;

	if (atomic_load(&is_frozen))
		atomic_fetch_add(&frozen_writes, 1);
	if (show)
		show_beside(&s);
	int r = __real_kv_write(kv, b, d);

	/* One that waits does so for what this thread holds: it is not waited for here. */
	if (show && atomic_load(&s.done))
		pthread_join(s.thread, NULL);
	return r;
}

static int attempt(struct mf *f, const char *cgroup, struct snapshot *snap, struct error *err)
{
	int r;

	steps[0] = 0;
	freezes = cgroup;
	atomic_store(&frozen_writes, 0);
	f->m->served = true;
	r = mount_checkpoint(f->m, "point", cgroup, snap, err);
	f->m->served = false;
	return r;
}

static void take(struct mf *f, const char *cgroup)
{
	struct snapshot snap;
	struct error err = ERROR_INIT;

	if (attempt(f, cgroup, &snap, &err))
		fail_msg("checkpoint: %s", error_text(&err));
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
	assert_int_equal(atomic_load(&frozen_writes), 0); /* which others' disk may hold up */
}

static void an_unchanged_mount_is_frozen_and_let_go(void **state)
{
	struct mf *f = *state;

	take(f, "/cgroup");
	assert_string_equal(steps, "wfwt");
	assert_int_equal(atomic_load(&frozen_writes), 0);
}

static void what_is_not_flushed_is_tried_again_and_then_refused(void **state)
{
	struct mf *f = *state;
	struct snapshot snap;
	struct error err = ERROR_INIT;

	mf_file(f, "a");
	never_flushed = true;
	int r = attempt(f, "/cgroup", &snap, &err);

	never_flushed = false;
	assert_int_equal(r, -ETIMEDOUT);
	assert_non_null(strstr(error_text(&err), "stood still"));
	assert_string_equal(steps, "wfwtwfwt");
	take(f, "/cgroup"); /* the name is free, and nothing was lost */
	assert_false(f->m->sealing);
}

static void who_waits_for_long_has_frozen_none(void **state)
{
	struct freezing f;
	struct error err = ERROR_INIT;
	uint64_t ns;

	(void)state;
	steps[0] = 0;
	assert_int_equal(freezing_begin(&f, "/cgroup", 20, &err), 0);
	for (unsigned i = 0; i < WAIT_MS && !freezing_is_late(&f); i++)
		usleep(1000);
	assert_false(atomic_load(&is_frozen));
	assert_false(freezing_end(&f, &ns));
	assert_string_equal(steps, "ft"); /* once */
	assert_true(ns >= 20000000);
	steps[0] = 0;
	assert_int_equal(freezing_begin(&f, "/cgroup", WAIT_MS, &err), 0);
	assert_true(freezing_end(&f, &ns));
	assert_string_equal(steps, "ft");
}

static void a_mount_is_shown_while_a_checkpoint_is_written(void **state)
{
	struct mf *f = *state;

	mf_file(f, "a");
	shown = f->m;
	take(f, NULL);
	shown = NULL;
	assert_true(atomic_load(&shows) >= 3); /* the snapshot's, the mount's, both once more */
	assert_int_equal(atomic_load(&shows_that_waited), 0);
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
		T(an_unchanged_mount_is_frozen_and_let_go),
		T(what_is_not_flushed_is_tried_again_and_then_refused),
		T(a_mount_is_shown_while_a_checkpoint_is_written),
		cmocka_unit_test(who_waits_for_long_has_frozen_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
