/*
 * mount_backup, staging_freeze, journal_cut, kv_copy: a copy of one moment of a mount in use.
 * wrap: journal_boot_id
 */
#include "tests/unit/view_ops.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "fs/mount/mount_backup.h"
#include "store/base/copy_file.h"

static uint8_t boot = 1; /* the machine's */

void __wrap_journal_boot_id(uint8_t out[JOURNAL_BOOT_SIZE]);
void __wrap_journal_boot_id(uint8_t out[JOURNAL_BOOT_SIZE])
{
	memset(out, boot, JOURNAL_BOOT_SIZE);
}

/* A store's directory in the making. */
struct copy {
	char dir[256];
	int fd;
	struct mount_backup *mount;
};

static void copy_begin(struct copy *c)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(c->dir, sizeof(c->dir), "%s/varve-test-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(c->dir));
	c->fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(c->fd >= 0);
	assert_int_equal(mkdirat(c->fd, "journal", 0700), 0);
	assert_int_equal(mkdirat(c->fd, "staging", 0700), 0);
}

static void copy_database(struct mf *f, struct copy *c)
{
	char db[300];

	snprintf(db, sizeof(db), "%s/db", c->dir);
	assert_int_equal(kv_copy(f->fx.s->kv, db), 0);
}

static void copy_moment(struct mf *f, struct copy *c)
{
	copy_begin(c);
	assert_int_equal(kv_flush_content(f->fx.s->kv), 0);
	mount_backup_hold(f->m);
	copy_database(f, c);
	assert_int_equal(mount_backup_cut(f->m, true, &c->mount), 0);
	assert_int_equal(mount_backup_journal(c->mount, c->fd), 0);
	mount_backup_release(f->m);
}

static void copy_end(struct mf *f, struct copy *c)
{
	assert_int_equal(mount_backup_data(c->mount, c->fd, NULL), 0);
	mount_backup_free(c->mount);
	assert_int_equal(copy_file_at(f->fx.s->dir_fd, "FORMAT", c->fd, "FORMAT", NULL), 0);
	close(c->fd);
}

/* A daemon's look at it. */
static void copy_open(const struct copy *c, struct mf *out)
{
	memset(out, 0, sizeof(*out));
	snprintf(out->fx.dir, sizeof(out->fx.dir), "%s", c->dir);
	fx_open_store(&out->fx);
	mf_load(out);
}

static struct vm *vm_copy(const struct vm *m)
{
	struct vm *n = calloc(1, sizeof(*n));

	assert_non_null(n);
	*n = *m;
	for (int i = 0; i < VM_INODES; i++) {
		struct vm_inode *to = &n->inodes[i];

		if (!to->data)
			continue;
		to->data = malloc(VM_SIZE_MAX);
		to->there = malloc(VM_SIZE_MAX);
		assert_true(to->data && to->there);
		memcpy(to->data, m->inodes[i].data, VM_SIZE_MAX);
		memcpy(to->there, m->inodes[i].there, VM_SIZE_MAX);
	}
	for (int i = 0; i < VM_NAMES; i++) {
		struct vm_name *name = &n->names[i];

		if (!name->dir)
			continue;
		name->dir = &n->inodes[m->names[i].dir - m->inodes];
		name->to = &n->inodes[m->names[i].to - m->inodes];
	}
	return n;
}

static void fill(uint8_t *out, size_t len, unsigned seed)
{
	uint64_t state = seed + 1;

	mf_noise(&state, out, len);
}

#define LEN (256u << 10)

/* ---- what is done after the moment is not in the copy, and not lost either ---- */

/* ---- who pays ---- */

static void the_copy_fails_before_a_write_does(void **state)
{
	static uint8_t before[LEN], after[LEN];
	struct mf *f = *state;
	struct copy c;
	uint64_t ino = mf_file(f, "a"), end;

	fill(before, LEN, 1);
	memcpy(after, before, LEN);
	mf_write(f, ino, 0, before, LEN);
	f->v->metadata_bytes = upper_bytes(f->v->cur) - LEN + 4096;
	copy_moment(f, &c);
	for (size_t i = 0; i < LEN; i += 64) {
		memset(after + i, 'x', 16);
		mf_write(f, ino, i, after + i, 16);
	}
	end = staging_end(f->v->staging);
	mf_write(f, ino, 32, after, 16);
	memcpy(after + 32, after, 16);
	assert_int_equal(staging_end(f->v->staging), end);
	assert_int_equal(mount_backup_data(c.mount, c.fd, NULL), -EOVERFLOW);
	mount_backup_free(c.mount);
	close(c.fd);
	mf_assert_content(f, ino, after, LEN);
	assert_int_equal(atomic_load(&f->v->no_space), 0);
	assert_int_equal(nftw(c.dir, fx_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void what_a_copy_costs_is_not_of_the_quota(void **state)
{
	static uint8_t data[LEN];
	struct mf *f = *state;
	struct copy c;
	uint64_t ino = mf_file(f, "a"), other = mf_file(f, "b");

	fill(data, LEN, 1);
	mf_write(f, ino, 0, data, LEN);
	mf_write(f, other, 0, data, 10000);
	f->v->quota_bytes = upper_bytes(f->v->cur); /* it is full */
	copy_moment(f, &c);
	for (size_t i = 0; i < LEN; i += 4096)
		mf_write(f, ino, i, data + 1, 100);
	copy_end(f, &c);
	assert_int_equal(nftw(c.dir, fx_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	assert_true(upper_bytes(f->v->cur) > f->v->quota_bytes);
	/* What is given back is there to be used again. */
	mf_truncate(f, other, 0);
	mf_write(f, other, 0, data, 10000);
	assert_true(view_write(f->v, other, 20000, data, 10000, 0) == -EDQUOT);
}

/* What a copy of a file that is overwritten at `n` places costs. */
static uint64_t cost_of_copy(struct mf *f, uint64_t ino, size_t from, size_t n)
{
	const uint64_t before = atomic_load(&f->v->cur->copy_bytes);
	static uint8_t data[16];
	struct copy c;

	copy_moment(f, &c);
	for (size_t i = 0; i < n; i++)
		mf_write(f, ino, from + i * 64, data, sizeof(data));
	copy_end(f, &c);
	assert_int_equal(nftw(c.dir, fx_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	return atomic_load(&f->v->cur->copy_bytes) - before;
}

/* Each has a bound of its own; what they cost is known after a restart, and goes with the file. */
static void what_copies_cost_is_kept_and_given_back(void **state)
{
	static uint8_t data[LEN];
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "a"), other = mf_file(f, "b"), cost, all = 0;

	mf_write(f, ino, 0, data, LEN);
	cost = cost_of_copy(f, ino, 0, 100);
	assert_true(cost >= 100 * UPPER_ENTRY_PRICE);
	f->v->metadata_bytes = 8 * (cost + 1000);
	for (size_t i = 1; i < 4; i++)
		all += cost_of_copy(f, ino, i * 100 * 64, 100);
	assert_true(all >= 3 * 100 * UPPER_ENTRY_PRICE);
	all += cost;
	assert_int_equal(atomic_load(&f->v->cur->copy_bytes), all);
	mf_restart(f);
	assert_int_equal(atomic_load(&f->v->cur->copy_bytes), all);
	f->v->quota_bytes = upper_bytes(f->v->cur) - all; /* it is full, but for these */
	/* What the mount itself does with such extents is its own. */
	mf_write(f, ino, 0, data, 64);
	assert_true(atomic_load(&f->v->cur->copy_bytes) <= all);
	assert_true(view_write(f->v, other, 0, data, 8192, 0) == -EDQUOT);
	f->v->quota_bytes = 0;
	mf_truncate(f, ino, 0);
	assert_int_equal(atomic_load(&f->v->cur->copy_bytes), 0);
}

static void what_is_overwritten_stays_in_the_copy(void **state)
{
	static uint8_t before[LEN], after[LEN];
	struct mf *f = *state, g;
	struct copy c;
	uint64_t ino = mf_file(f, "a"), end;
	struct view_attr a;

	fill(before, LEN, 1);
	fill(after, LEN, 2);
	mf_write(f, ino, 0, before, LEN);
	copy_moment(f, &c);
	end = staging_end(f->v->staging);
	/* From the start, in the middle of what is new by then, and beyond it. */
	mf_write(f, ino, 0, after, 1000);
	mf_write(f, ino, 500, after + 500, 5000);
	mf_write(f, ino, 5500, after + 5500, LEN - 5500);
	assert_true(staging_end(f->v->staging) > end);
	end = staging_end(f->v->staging);
	mf_write(f, ino, 100, after + 100, LEN - 200); /* which is no part of the copy */
	assert_int_equal(staging_end(f->v->staging), end);
	assert_int_equal(mf_alloc(f, ino), LEN);
	mf_file(f, "b");
	copy_end(f, &c);
	mf_assert_content(f, ino, after, LEN);
	copy_open(&c, &g);
	mf_assert_content(&g, ino, before, LEN);
	assert_int_equal(view_lookup(g.v, ROOT_INO, "b", &a), -ENOENT);
	mf_close(&g);
	mf_restart(f);
	mf_assert_content(f, ino, after, LEN);
}

/* What an fsync has logged is older than what the copy has in its place, on another host, too. */
static void what_was_logged_does_not_come_back(void **state)
{
	static uint8_t old[4096], new[4096];
	struct mf *f = *state, g;
	struct copy c;
	uint64_t ino = mf_file(f, "a");

	fill(old, sizeof(old), 1);
	fill(new, sizeof(new), 2);
	mf_write(f, ino, 0, old, sizeof(old));
	assert_int_equal(view_sync(f->v), 0);
	mf_write(f, ino, 0, new, sizeof(new));
	copy_moment(f, &c);
	copy_end(f, &c);
	boot++;
	copy_open(&c, &g);
	mf_assert_content(&g, ino, new, sizeof(new));
	mf_close(&g);
	boot--;
}

static void what_is_deleted_stays_until_it_is_copied(void **state)
{
	static uint8_t data[LEN];
	struct mf *f = *state, g;
	struct copy c;
	struct stat st;
	uint64_t ino = mf_file(f, "a");
	char name[320];

	fill(data, LEN, 1);
	mf_write(f, ino, 0, data, LEN);
	copy_moment(f, &c);
	mf_truncate(f, ino, 0);
	staging_reclaim(f->v->staging);
	mf_write(f, ino, 0, "new", 3);
	mf_checkpoint(f); /* which punches what the epoch had */
	copy_end(f, &c);
	copy_open(&c, &g);
	mf_assert_content(&g, ino, data, LEN);
	mf_close(&g);
	/* Then it goes, with the next that dies. */
	snprintf(name, sizeof(name), "%s/staging/%s", f->fx.dir, f->m->rec.id);
	assert_int_equal(stat(name, &st), 0);
	assert_true(st.st_blocks * 512 >= (blkcnt_t)LEN);
	staging_reclaim(f->v->staging);
	assert_int_equal(stat(name, &st), 0);
	assert_true(st.st_blocks * 512 < (blkcnt_t)LEN);
	mf_assert_content(f, ino, (const uint8_t *)"new", 3);
}

static void a_full_quota_can_be_overwritten_meanwhile(void **state)
{
	static uint8_t data[LEN];
	struct mf *f = *state;
	struct copy c;
	uint64_t ino = mf_file(f, "a");

	f->v->quota_bytes = LEN + 4096;
	mf_write(f, ino, 0, data, LEN);
	copy_moment(f, &c);
	fill(data, LEN, 3);
	mf_write(f, ino, 0, data, LEN);
	assert_int_equal(view_write(f->v, ino, LEN, data, 8192, 0), -EDQUOT);
	copy_end(f, &c);
	mf_assert_content(f, ino, data, LEN);
	assert_int_equal(nftw(c.dir, fx_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void one_copy_at_a_time(void **state)
{
	struct mf *f = *state;
	struct mount_backup *b = NULL;
	struct copy c;

	copy_moment(f, &c);
	mount_backup_hold(f->m);
	assert_int_equal(mount_backup_cut(f->m, true, &b), -EBUSY);
	mount_backup_release(f->m);
	assert_null(b);
	copy_end(f, &c);
	assert_int_equal(nftw(c.dir, fx_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	copy_moment(f, &c);
	copy_end(f, &c);
	assert_int_equal(nftw(c.dir, fx_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void a_mount_may_go_before_it_is_copied(void **state)
{
	static uint8_t data[LEN];
	struct mf *f = *state, g;
	struct error err = ERROR_INIT;
	struct digest root = f->m->rec.base;
	struct copy c;
	uint64_t ino = mf_file(f, "a");

	fill(data, LEN, 1);
	mf_write(f, ino, 0, data, LEN);
	copy_moment(f, &c);
	assert_int_equal(mount_discard(f->m, &err), 0);
	mf_new_mount(f, &root, 0);
	copy_end(f, &c);
	copy_open(&c, &g);
	mf_assert_content(&g, ino, data, LEN);
	mf_close(&g);
}

/* Younger than the database's copy: all of it is in the journal, or another copy is needed. */
static void a_mount_that_the_database_does_not_know_yet(void **state)
{
	struct mf *f = *state;
	struct mount_backup *b = NULL;

	mf_file(f, "a");
	mount_backup_hold(f->m);
	assert_int_equal(mount_backup_cut(f->m, false, &b), 0);
	mount_backup_release(f->m);
	mount_backup_free(STEAL(b));
	assert_int_equal(journal_settle(f->v->journal), 0);
	mount_backup_hold(f->m);
	assert_int_equal(mount_backup_cut(f->m, false, &b), -EAGAIN);
	mount_backup_release(f->m);
	assert_null(b);
}

/* Nor may it have adopted an epoch whose data has been punched since. */
static void a_mount_that_has_adopted_before_the_database_knew_it(void **state)
{
	struct mf *f = *state;
	struct mount_backup *b = NULL;

	mf_write(f, mf_file(f, "a"), 0, "x", 1);
	mf_checkpoint(f);
	mount_backup_hold(f->m);
	assert_int_equal(mount_backup_cut(f->m, false, &b), -EAGAIN);
	mount_backup_release(f->m);
	assert_null(b);
}

/* ---- random moments ---- */

static void random_moments(void **state)
{
	struct mf *f = *state, g;
	struct vm *m = vm_new(f), *then;
	struct copy c;

	for (unsigned round = 0; round < mf_rounds(8); round++) {
		for (unsigned n = 300 + (unsigned)mf_below(&m->random, 600); n > 0; n--)
			vm_step(m);
		if (mf_below(&m->random, 3) == 0) {
			mf_checkpoint(f);
			vm_sealed(m);
		}
		if (mf_below(&m->random, 3) == 0)
			assert_int_equal(view_sync(f->v), 0);
		copy_moment(f, &c);
		then = vm_copy(m);
		for (unsigned n = (unsigned)mf_below(&m->random, 600); n > 0; n--)
			vm_step(m);
		staging_reclaim(f->v->staging);
		if (mf_below(&m->random, 3) == 0) {
			mf_checkpoint(f);
			vm_sealed(m);
		}
		copy_end(f, &c);
		vm_check_all(m);
		const uint8_t here = boot;

		boot = (uint8_t)(1 + mf_below(&m->random, 2)); /* maybe another machine */
		copy_open(&c, &g);
		then->f = &g;
		vm_close_all(then);
		vm_check_all(then);
		mf_checkpoint(&g);
		vm_sealed(then);
		vm_check_all(then);
		mf_close(&g);
		boot = here;
		vm_free(then);
	}
	vm_free(m);
}

/* ---- beside writers ---- */

#define PAGES 64u
#define PAGE 4096u

struct writers {
	struct mf *f;
	uint64_t log, pages;
	atomic_bool stop;
};

/* As a database: what a page says is in the log before. */
static void *write_main(void *arg)
{
	struct writers *w = arg;
	uint64_t n = 0, page[PAGE / sizeof(uint64_t)];

	while (!atomic_load(&w->stop)) {
		n++;
		for (size_t i = 0; i < ARRAY_SIZE(page); i++)
			page[i] = n;
		if (view_write(w->f->v, w->log, (n - 1) * sizeof(n), &n, sizeof(n), 0) !=
			    (int64_t)sizeof(n) ||
		    view_write(w->f->v, w->pages, n % PAGES * PAGE, page, PAGE, 0) != PAGE)
			abort();
	}
	return NULL;
}

static void check_database(struct mf *g, const struct writers *w)
{
	uint64_t entries = mf_stat(g, w->log).size / sizeof(uint64_t), n, newest = 0;
	static uint64_t pages[PAGES * PAGE / sizeof(uint64_t)];
	const int64_t got = view_read(g->v, w->pages, 0, pages, sizeof(pages));

	for (uint64_t i = 0; i < entries; i++) {
		assert_int_equal(view_read(g->v, w->log, i * sizeof(n), &n, sizeof(n)), sizeof(n));
		assert_int_equal(n, i + 1);
	}
	assert_true(got >= 0);
	for (size_t i = 0; i < (size_t)got / sizeof(n); i++)
		newest = MAX(newest, pages[i]);
	assert_true(newest <= entries);
	/* And it is of the moment: the last entry's page, or at most its own is missing. */
	assert_true(newest + 1 >= entries);
}

static void pages_are_no_newer_than_their_log(void **state)
{
	struct mf *f = *state, g;
	struct writers w = { .f = f };
	struct copy c;
	pthread_t thread;

	w.log = mf_file(f, "log");
	w.pages = mf_file(f, "pages");
	assert_int_equal(pthread_create(&thread, NULL, write_main, &w), 0);
	for (unsigned i = 0; i < mf_rounds(8); i++) {
		usleep(20000);
		copy_moment(f, &c);
		usleep(20000);
		copy_end(f, &c);
		copy_open(&c, &g);
		check_database(&g, &w);
		mf_close(&g);
	}
	atomic_store(&w.stop, true);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_copy_fails_before_a_write_does, mf_setup,
						mf_teardown),
		cmocka_unit_test_setup_teardown(what_a_copy_costs_is_not_of_the_quota, mf_setup,
						mf_teardown),
		cmocka_unit_test_setup_teardown(what_copies_cost_is_kept_and_given_back, mf_setup,
						mf_teardown),
		cmocka_unit_test_setup_teardown(what_is_overwritten_stays_in_the_copy, mf_setup,
						mf_teardown),
		cmocka_unit_test_setup_teardown(what_is_deleted_stays_until_it_is_copied, mf_setup,
						mf_teardown),
		cmocka_unit_test_setup_teardown(a_full_quota_can_be_overwritten_meanwhile, mf_setup,
						mf_teardown),
		cmocka_unit_test_setup_teardown(one_copy_at_a_time, mf_setup, mf_teardown),
		cmocka_unit_test_setup_teardown(a_mount_may_go_before_it_is_copied, mf_setup,
						mf_teardown),
		cmocka_unit_test_setup_teardown(a_mount_that_the_database_does_not_know_yet,
						mf_setup, mf_teardown),
		cmocka_unit_test_setup_teardown(
			a_mount_that_has_adopted_before_the_database_knew_it, mf_setup,
			mf_teardown),
		cmocka_unit_test_setup_teardown(what_was_logged_does_not_come_back, mf_setup,
						mf_teardown),
		cmocka_unit_test_setup_teardown(random_moments, mf_setup, mf_teardown),
		cmocka_unit_test_setup_teardown(pages_are_no_newer_than_their_log, mf_setup,
						mf_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
