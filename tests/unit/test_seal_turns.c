/*
 * How many seals run at a time, after a start that finds many of them interrupted.
 * wrap: seal_run
 */
#include "tests/unit/mount_fixture.h"

#include "fs/mount/seal.h"
#include "fs/mount/seal_turns.h"

static struct {
	atomic_bool fails, held;
	atomic_uint running, most, ended;
} seals;

int __real_seal_run(struct view *v, uint64_t next_ino, struct seal_result *out, struct error *err);
int __wrap_seal_run(struct view *v, uint64_t next_ino, struct seal_result *out, struct error *err);

int __wrap_seal_run(struct view *v, uint64_t next_ino, struct seal_result *out, struct error *err)
{
	if (atomic_load(&seals.fails))
		return error_set(err, -EIO, "it shall fail");
	unsigned now = atomic_fetch_add(&seals.running, 1) + 1, most = atomic_load(&seals.most);

	while (most < now && !atomic_compare_exchange_weak(&seals.most, &most, now))
		;
	while (atomic_load(&seals.held))
		usleep(1000);
	int r = __real_seal_run(v, next_ino, out, err);

	atomic_fetch_sub(&seals.running, 1);
	atomic_fetch_add(&seals.ended, 1);
	return r;
}

static void until_running(unsigned n)
{
	for (int i = 0; i < 60000 && atomic_load(&seals.running) < n; i++)
		usleep(1000);
	assert_int_equal(atomic_load(&seals.running), n);
}

/* A mount whose checkpoint has not been sealed. */
static void leave_interrupted(struct mf *f, const struct digest *root)
{
	struct error err = ERROR_INIT;

	mf_new_mount(f, root, 0);
	mf_write(f, mf_file(f, "f"), 0, "x", 1);
	mf_swap(f);
	assert_int_equal(mount_wait_sealed(f->m, &err), -EIO);
	mount_close(f->m);
}

static void interrupted_seals_take_turns(void **state)
{
	const unsigned n_mounts = seal_turns_max() + 3;
	struct mf *f = calloc(1, sizeof(*f));
	struct model *base = m_new();
	struct error err = ERROR_INIT;
	struct mount **list;
	size_t n;

	(void)state;
	fx_open(&f->fx);
	struct digest root = m_snapshot(f->fx.s, base, "base");

	atomic_store(&seals.fails, true);
	for (unsigned i = 0; i < n_mounts; i++)
		leave_interrupted(f, &root);
	fx_reopen(&f->fx);
	atomic_store(&seals.fails, false);
	atomic_store(&seals.held, true);
	/* The start does not wait for any of them. */
	if (mount_load_all(f->fx.s, NULL, &list, &n, &err))
		fail_msg("mount_load_all: %s", error_text(&err));
	assert_int_equal(n, n_mounts);
	until_running(seal_turns_max());
	usleep(50000); /* in which another would begin */
	assert_int_equal(atomic_load(&seals.running), seal_turns_max());
	assert_true(seal_turn_is_wanted());
	assert_false(seal_turn_try());
	atomic_store(&seals.held, false);
	for (size_t i = 0; i < n; i++) {
		if (mount_wait_sealed(list[i], &err))
			fail_msg("sealing: %s", error_text(&err));
		mount_close(list[i]);
	}
	assert_int_equal(atomic_load(&seals.ended), n_mounts);
	assert_int_equal(atomic_load(&seals.most), seal_turns_max());
	assert_false(seal_turn_is_wanted());
	free(list);
	m_free(base);
	fx_close(&f->fx);
	free(f);
}

static void *take_turn(void *arg)
{
	atomic_uint *got = arg;

	seal_turn_take();
	atomic_fetch_add(got, 1);
	return NULL;
}

static void helpers_give_way(void **state)
{
	atomic_uint got = 0;
	pthread_t waits;
	unsigned helpers = 0;

	(void)state;
	seal_turn_take();
	while (seal_turn_try())
		helpers++;
	assert_int_equal(helpers, seal_turns_max() - 1);
	assert_false(seal_turn_is_wanted());
	assert_int_equal(pthread_create(&waits, NULL, take_turn, &got), 0);
	while (!seal_turn_is_wanted())
		usleep(1000);
	assert_int_equal(atomic_load(&got), 0);
	seal_turn_give(); /* a helper sees it, and ends */
	pthread_join(waits, NULL);
	assert_int_equal(atomic_load(&got), 1);
	for (unsigned i = 0; i < seal_turns_max(); i++)
		seal_turn_give();
}

static void seals_share_their_workers(void **state)
{
	struct pool *one = seal_workers_get(), *other = seal_workers_get();

	(void)state;
	assert_non_null(one);
	assert_ptr_equal(one, other);
	seal_workers_put(one);
	assert_ptr_equal(seal_workers_get(), other);
	seal_workers_put(other);
	seal_workers_put(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(interrupted_seals_take_turns),
		cmocka_unit_test(helpers_give_way),
		cmocka_unit_test(seals_share_their_workers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
