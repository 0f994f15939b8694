/* Checkpoints, diffs and unmounts of a mount whose base is far away: nobody waits for them. */
#include "tests/unit/far_mount.h"

#include <signal.h>

#include "fs/mount/mount.h"
#include "store/chunk/guard.h"

static int ignore_change(void *arg, const struct fsdiff_entry *e)
{
	(void)arg, (void)e;
	return 0;
}

static void *diff_far(void *arg)
{
	struct fm *f = arg;
	struct error err = ERROR_INIT;

	return (void *)(intptr_t)mount_diff(f->m, ignore_change, NULL, &err);
}

static void *checkpoint_far(void *arg)
{
	struct fm *f = arg;
	struct error err = ERROR_INIT;
	struct snapshot snap;
	int r = mount_checkpoint(f->m, NULL, NULL, &snap, &err);

	if (!r)
		snapshot_fini(&snap);
	return (void *)(intptr_t)r;
}

static void checkpoint_other(struct fm *f)
{
	struct error err = ERROR_INIT;
	struct snapshot snap;

	if (mount_checkpoint(f->other, NULL, NULL, &snap, &err) ||
	    mount_wait_sealed(f->other, &err))
		fail_msg("checkpoint: %s", error_text(&err));
	snapshot_fini(&snap);
}

/* Every file has changed, so its inode is asked for. */
static void change_all(struct fm *f)
{
	char name[32];

	for (unsigned i = 0; i < FM_FILES; i++) {
		snprintf(name, sizeof(name), "d/f%u", i);
		int fd = open(fm_path(f, name), O_WRONLY | O_CLOEXEC);

		assert_int_equal(pwrite(fd, "changed", 7, 0), 7);
		close(fd);
	}
	fm_drop(f, SOURCE_NODE, KV_NODE);
}

/* With all of its helpers it has every turn, which it lends. */
static void a_seal_that_waits_holds_up_nobody(void **state)
{
	struct fm *f = *state;
	struct error err = ERROR_INIT;
	pthread_t second;
	void *result;

	change_all(f);
	far_hold(f->far, true);
	alarm(120); /* for what would wait for ever */
	assert_null(checkpoint_far(f));
	far_await_waiting(f->far, 1);
	fm_use_neighbour(f);
	checkpoint_other(f);
	/* A collection waits for the sessions that were before it. */
	assert_int_equal(guard_collect_begin(f->fx.s->guard, 1 << 16), 0);
	guard_collect_wait(f->fx.s->guard);
	guard_collect_end(f->fx.s->guard);
	/* Another checkpoint waits for this one, and nobody for it. */
	assert_int_equal(pthread_create(&second, NULL, checkpoint_far, f), 0);
	usleep(20000); /* in which it would begin */
	if (mount_detach(f->m, MOUNT_GENTLY, MOUNT_DETACH, &err) || mount_attach(f->m, NULL, &err))
		fail_msg("%s", error_text(&err));
	alarm(0);
	far_hold(f->far, false);
	pthread_join(second, &result);
	assert_null(result);
	assert_int_equal(mount_wait_sealed(f->m, &err), 0);
	fm_read_all(f, "d/f3", FM_FILE_BYTES);
	assert_memory_equal(fm_buf, "changed", 7);
}

static void a_seal_whose_source_fails_is_done_again(void **state)
{
	struct fm *f = *state;
	struct error err = ERROR_INIT;

	change_all(f);
	f->far->mode = FAR_FAILS;
	assert_null(checkpoint_far(f));
	assert_int_equal(mount_wait_sealed(f->m, &err), -EIO);
	assert_int_equal((intptr_t)checkpoint_far(f), -EIO);
	f->far->mode = FAR_WELL;
	assert_null(checkpoint_far(f));
	assert_int_equal(mount_wait_sealed(f->m, &err), 0);
	fm_go_cold(f);
	fm_read_all(f, "d/f3", FM_FILE_BYTES);
	assert_memory_equal(fm_buf, "changed", 7);
}

static void a_diff_that_waits_holds_up_nobody(void **state)
{
	struct fm *f = *state;
	struct error err = ERROR_INIT;
	pthread_t thread;
	void *result;

	change_all(f);
	fm_drop(f, SOURCE_CHUNK, KV_CHUNK);
	far_hold(f->far, true);
	alarm(120);
	assert_int_equal(pthread_create(&thread, NULL, diff_far, f), 0);
	far_await_waiting(f->far, 1);
	checkpoint_other(f);
	assert_null(checkpoint_far(f)); /* the swap; its seal waits for the source as well */
	if (mount_detach(f->m, MOUNT_GENTLY, MOUNT_DETACH, &err) || mount_attach(f->m, NULL, &err))
		fail_msg("%s", error_text(&err));
	alarm(0);
	far_hold(f->far, false);
	pthread_join(thread, &result);
	assert_null(result);
	assert_int_equal(mount_wait_sealed(f->m, &err), 0);
}

static void a_diff_whose_source_fails_says_so(void **state)
{
	struct fm *f = *state;
	struct error err = ERROR_INIT;

	change_all(f);
	f->far->mode = FAR_FAILS;
	assert_int_equal(mount_diff(f->m, ignore_change, NULL, &err), -EIO);
	assert_non_null(strstr(error_text(&err), "cannot compare the mount with its base"));
	f->far->mode = FAR_WELL;
	assert_null(diff_far(f));
}

/* The current epoch has an inode without a record, of which only the far base knows its name. */
static void an_unmount_waits_for_no_source(void **state)
{
	struct fm *f = *state;
	struct error err = ERROR_INIT;
	struct view *v = &f->m->view;
	struct stat st;

	assert_int_equal(stat(fm_path(f, "d/f9"), &st), 0);
	/* A lookup that was run again may still be at it. */
	pthread_rwlock_wrlock(&v->stripes[upper_shard(st.st_ino)]);
	assert_non_null(upper_get(v->cur, st.st_ino));
	pthread_rwlock_unlock(&v->stripes[upper_shard(st.st_ino)]);
	fm_drop(f, SOURCE_NODE, KV_NODE);
	far_hold(f->far, true);
	alarm(120);
	if (mount_detach(f->m, MOUNT_GENTLY, MOUNT_DETACH, &err) || mount_attach(f->m, NULL, &err))
		fail_msg("%s", error_text(&err));
	alarm(0);
	far_hold(f->far, false);
	fm_check_random(f, "d/f9", 10, FM_FILE_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fm_setup, fm_teardown)
		T(a_seal_that_waits_holds_up_nobody), T(a_seal_whose_source_fails_is_done_again),
		T(a_diff_that_waits_holds_up_nobody), T(a_diff_whose_source_fails_says_so),
		T(an_unmount_waits_for_no_source),
#undef T
	};

	if (!fm_can_mount())
		return 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
