/*
 * space: a reserve of the disk is kept from what clients and guests make grow. What the
 * filesystem says is made up here, and the looks at it are counted.
 * wrap: fstatvfs64 seal_run
 */
#include "tests/unit/mount_fixture.h"

#include <sys/statvfs.h>

#include "fs/mount/mount.h"
#include "fs/mount/seal.h"
#include "store/import/ingest.h"
#include "store/gc/recompress.h"

#define MIB (1ull << 20)
#define SIZE (4096 * MIB)

static _Atomic uint64_t free_now = UINT64_MAX; /* bytes; as much: what is */
static atomic_uint looks;

int __real_fstatvfs64(int fd, struct statvfs *out);
int __wrap_fstatvfs64(int fd, struct statvfs *out);
int __wrap_fstatvfs64(int fd, struct statvfs *out)
{
	int r = __real_fstatvfs64(fd, out);

	atomic_fetch_add(&looks, 1);
	if (atomic_load(&free_now) == UINT64_MAX)
		return r;
	out->f_frsize = 4096;
	out->f_blocks = SIZE / 4096;
	out->f_bavail = out->f_bfree = atomic_load(&free_now) / 4096;
	return r;
}

/* As everybody is to see it from now on. */
static void set_free(struct space *sp, uint64_t bytes)
{
	atomic_store(&free_now, bytes);
	(void)space_free(sp);
}

/* Another program fills the disk between a checkpoint's swap and its seal. */
static atomic_bool full_before_seal;

int __real_seal_run(struct view *v, uint64_t next_ino, struct seal_result *out, struct error *err);
int __wrap_seal_run(struct view *v, uint64_t next_ino, struct seal_result *out, struct error *err);
int __wrap_seal_run(struct view *v, uint64_t next_ino, struct seal_result *out, struct error *err)
{
	if (atomic_load(&full_before_seal))
		set_free(&v->store->space, v->store->space.reserve_bytes / 2);
	return __real_seal_run(v, next_ino, out, err);
}

static void the_reserve_is_a_part_of_the_disk_within_bounds(void **state)
{
	struct space sp = { 0 };

	(void)state;
	atomic_store(&free_now, SIZE);
	assert_int_equal(space_init(&sp, 0, SPACE_RESERVE_DEFAULT), 0);
	assert_int_equal(sp.reserve_bytes, SIZE / 20);
	assert_int_equal(space_init(&sp, 0, 7 * MIB), 0);
	assert_int_equal(sp.reserve_bytes, 7 * MIB);
	assert_int_equal(space_init(&sp, 0, SPACE_RESERVE_NONE), 0);
	set_free(&sp, 0);
	assert_int_equal(space_take(&sp, SPACE_GROWTH, 1), 0);
	atomic_store(&free_now, UINT64_MAX);
}

static void the_daemon_may_use_half_of_it(void **state)
{
	struct space sp = { 0 };

	(void)state;
	atomic_store(&free_now, SIZE);
	assert_int_equal(space_init(&sp, 0, 100 * MIB), 0);
	set_free(&sp, 100 * MIB + 4096);
	assert_int_equal(space_room(&sp), 4096);
	assert_int_equal(space_take(&sp, SPACE_GROWTH, 4097), -ENOSPC);
	assert_int_equal(space_take(&sp, SPACE_GROWTH, 4096), 0);
	set_free(&sp, 100 * MIB);
	assert_int_equal(space_take(&sp, SPACE_GROWTH, 1), -ENOSPC);
	assert_int_equal(space_take(&sp, SPACE_OWN, 1), 0);
	set_free(&sp, 50 * MIB);
	assert_int_equal(space_take(&sp, SPACE_OWN, 1), -ENOSPC);
	atomic_store(&free_now, UINT64_MAX);
}

static void to_ask_is_cheap(void **state)
{
	struct space sp = { 0 };
	unsigned refused = 0;

	(void)state;
	atomic_store(&free_now, SIZE);
	assert_int_equal(space_init(&sp, 0, 100 * MIB), 0);
	struct timespec begin, end;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	atomic_store(&looks, 0);
	for (int i = 0; i < 4096; i++)
		assert_int_equal(space_take(&sp, SPACE_GROWTH, 4096), 0);
	set_free(&sp, 50 * MIB);
	for (int i = 0; i < 4096; i++)
		refused += space_take(&sp, SPACE_GROWTH, 0) == -ENOSPC;
	clock_gettime(CLOCK_MONOTONIC, &end);
	assert_int_equal(refused, 4096);
	/* By the time that it took, which is short unless the machine is busy. */
	long ms = (end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000;

	assert_true(atomic_load(&looks) <= 4 + (unsigned)ms / 10);
	atomic_store(&free_now, UINT64_MAX);
}

/* ---- a mount ---- */

static int make(struct mf *f, const char *name, uint64_t *out_ino)
{
	struct view_attr a;
	int r = view_create(f->v, ROOT_INO, name, S_IFREG | 0644, 0, NULL, &mf_root, &a);

	if (!r && out_ino)
		*out_ino = a.ino;
	return r;
}

static void below_it_a_mount_grows_no_more_and_can_be_emptied(void **state)
{
	struct mf *f = *state;
	struct space *sp = &f->fx.s->space;
	struct view_setattr cut = { .valid = VIEW_SET_SIZE, .size = 1 };
	struct view_attr a;
	struct statvfs v;
	uint64_t ino = 0;

	assert_int_equal(make(f, "a", &ino), 0);
	assert_int_equal(make(f, "b", NULL), 0);
	assert_int_equal(view_write(f->v, ino, 0, "abcd", 4, 0), 4);
	assert_int_equal(view_setxattr(f->v, ino, "user.a", "1", 1, 0, false), 0);
	set_free(sp, sp->reserve_bytes - MIB);
	assert_int_equal(view_statfs(f->v, &v), 0);
	assert_int_equal(v.f_bavail, 0);
	assert_int_equal(make(f, "c", NULL), -ENOSPC);
	assert_int_equal(view_write(f->v, ino, 100, "abcd", 4, 0), -ENOSPC);
	assert_int_equal(view_fallocate(f->v, ino, 0, 0, MIB, 0), -ENOSPC);
	assert_int_equal(view_setxattr(f->v, ino, "user.b", "1", 1, 0, false), -ENOSPC);
	assert_int_equal(view_link(f->v, ino, ROOT_INO, "d", &a), -ENOSPC);
	/* What is there can be changed in place, and goes. */
	assert_int_equal(view_write(f->v, ino, 0, "efgh", 4, 0), 4);
	assert_int_equal(view_setattr(f->v, ino, &cut, &a), 0);
	assert_int_equal(view_removexattr(f->v, ino, "user.a"), 0);
	assert_int_equal(view_rename(f->v, ROOT_INO, "a", ROOT_INO, "b", 0), 0);
	assert_int_equal(view_unlink(f->v, ROOT_INO, "b"), 0);
	assert_int_equal(view_sync(f->v), 0);
	assert_true(atomic_load(&f->v->no_space) >= 4);
	set_free(sp, UINT64_MAX);
	assert_int_equal(make(f, "c", NULL), 0);
}

static void a_checkpoint_is_refused_before_it_could_fail_halfway(void **state)
{
	static const uint8_t much[1 << 20];
	struct mf *f = *state;
	struct space *sp = &f->fx.s->space;
	struct error err = ERROR_INIT;
	struct snapshot snap;
	uint64_t ino = 0;

	assert_int_equal(make(f, "a", &ino), 0);
	assert_int_equal(view_write(f->v, ino, 0, "abcd", 4, 0), 4);
	set_free(sp, sp->reserve_bytes / 2 - MIB);
	assert_int_equal(mount_checkpoint(f->m, "one", NULL, &snap, &err), -ENOSPC);
	assert_non_null(strstr(error_text(&err), "nearly full"));
	assert_null(f->v->sealed);
	/* For four bytes it would do, for what it may come to not. */
	set_free(sp, UINT64_MAX);
	mf_truncate(f, ino, 0);
	assert_int_equal(view_write(f->v, ino, 0, much, sizeof(much), 0), sizeof(much));
	set_free(sp, sp->reserve_bytes / 2 + sizeof(much));
	assert_int_equal(mount_checkpoint(f->m, "one", NULL, &snap, &err), -ENOSPC);
	assert_null(f->v->sealed);
	/* Guests may have no more, but a checkpoint may. */
	set_free(sp, sp->reserve_bytes - MIB);
	assert_int_equal(mount_checkpoint(f->m, "one", NULL, &snap, &err), 0);
	snapshot_fini(&snap);
	assert_int_equal(mount_wait_sealed(f->m, &err), 0);
	set_free(sp, UINT64_MAX);
}

static void a_seal_that_finds_the_disk_full_is_done_again(void **state)
{
	struct mf *f = *state;
	struct space *sp = &f->fx.s->space;
	struct error err = ERROR_INIT;
	struct snapshot snap;
	uint64_t ino = 0;

	assert_int_equal(make(f, "a", &ino), 0);
	assert_int_equal(view_write(f->v, ino, 0, "abcd", 4, 0), 4);
	atomic_store(&full_before_seal, true);
	assert_int_equal(mount_checkpoint(f->m, "one", NULL, &snap, &err), 0);
	snapshot_fini(&snap);
	assert_int_equal(mount_wait_sealed(f->m, &err), -ENOSPC);
	atomic_store(&full_before_seal, false);
	set_free(sp, UINT64_MAX);
	assert_int_equal(mount_checkpoint(f->m, "two", NULL, &snap, &err), 0);
	snapshot_fini(&snap);
	assert_int_equal(mount_wait_sealed(f->m, &err), 0);
	assert_null(f->v->sealed);
}

static void imports_are_refused(void **state)
{
	struct mf *f = *state;
	struct space *sp = &f->fx.s->space;
	struct recompress_result again;
	struct error err = ERROR_INIT;
	struct ingest_result res;

	set_free(sp, sp->reserve_bytes - 1);
	assert_int_equal(ingest_dir(f->fx.s, f->fx.dir, NULL, NULL, &res, &err), -ENOSPC);
	assert_non_null(strstr(error_text(&err), "diskReserveBytes"));
	assert_int_equal(recompress_run(f->fx.s, NULL, NULL, &again, &err), -ENOSPC);
	set_free(sp, UINT64_MAX);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, mf_setup, mf_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_reserve_is_a_part_of_the_disk_within_bounds),
		cmocka_unit_test(the_daemon_may_use_half_of_it),
		cmocka_unit_test(to_ask_is_cheap),
		T(below_it_a_mount_grows_no_more_and_can_be_emptied),
		T(a_checkpoint_is_refused_before_it_could_fail_halfway),
		T(a_seal_that_finds_the_disk_full_is_done_again),
		T(imports_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
