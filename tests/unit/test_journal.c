/*
 * journal: what was appended is in the database after a restart, whatever ended
 * the process: its last value for each key, in order, up to where the file ends.
 * wrap: kv_write journal_boot_id fdatasync
 */
#include "tests/unit/journal_fixture.h"

#include <fcntl.h>
#include <pthread.h>

#include "fs/upper/staging.h"

/* The data file as the disk has it: what it was at the last sync of it. */
#define DATA_SIZE (1u << 20)
static int data_fd = -1;
static uint8_t on_disk[DATA_SIZE];
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	struct stat a, b;

	if (data_fd >= 0 && fstat(fd, &a) == 0 && fstat(data_fd, &b) == 0 && a.st_ino == b.st_ino)
		assert_int_equal(pread(fd, on_disk, DATA_SIZE, 0), DATA_SIZE);
	return __real_fdatasync(fd);
}

static bool has_file(struct fixture *f)
{
	return faccessat(f->fx.s->dir_fd, name, F_OK, 0) == 0;
}

static void what_was_appended_is_there_after_a_crash(void **state)
{
	struct fixture *f = *state;

	assert_false(has_file(f));
	for (unsigned i = 0; i < mf_rounds(12); i++) {
		append_some(f, (unsigned)mf_below(&f->random, 6000));
		if (mf_below(&f->random, 2))
			assert_int_equal(journal_sync(f->j), 0);
		if (mf_below(&f->random, 3) == 0) {
			assert_int_equal(journal_settle(f->j), 0);
			assert_false(has_file(f));
		}
		append_some(f, (unsigned)mf_below(&f->random, 100));
		crash(f, 1);
		assert_false(has_file(f));
		assert_database(f, 1);
		assert_database(f, 2);
	}
}

static void large_operations_keep_their_place(void **state)
{
	struct fixture *f = *state;
	uint8_t k[8], *large = calloc(1, 3 << 20);
	size_t klen = make_key(1, 7, k);

	for (unsigned i = 0; i < 6; i++) {
		struct buf op CLEANUP(buf_fini_p) = BUF_INIT;
		uint8_t k2[8];

		append_some(f, i * 300);
		/* A value that fits no segment beside others, and one that others change, too. */
		make_key(9, i, k2);
		assert_int_equal(journal_change(&op, k2, 8, large, 3 << 20), 0);
		f->is[0][7] = 8 * 3001 + i;
		wire_set64(large, f->is[0][7]);
		assert_int_equal(journal_change(&op, k, klen, large, length_of(f->is[0][7])), 0);
		assert_int_equal(journal_append(f->j, &op, 0), 0);
		append_some(f, i % 3 * 5);
		if (i % 2)
			crash(f, 1);
	}
	crash(f, 1);
	assert_database(f, 1);
	assert_database(f, 2);
	free(large);
}

/* Epochs that are over leave nothing, whichever way they would come. */
static void old_epochs_are_left_out(void **state)
{
	struct fixture *f = *state;
	struct kv_batch *b = kv_batch_new();
	uint8_t from[JOURNAL_ID_SIZE + 4], to[JOURNAL_ID_SIZE + 4];

	memcpy(from, some_id, JOURNAL_ID_SIZE);
	memcpy(to, some_id, JOURNAL_ID_SIZE);
	for (int by_crash = 0; by_crash < 2; by_crash++) {
		append_some(f, 3000);
		journal_hold(f->j);
		for (int i = 0; i < 4; i++) {
			from[JOURNAL_ID_SIZE + i] = i == 3;
			to[JOURNAL_ID_SIZE + i] = i == 3 ? 2 : 0;
		}
		kv_batch_clear(b);
		kv_batch_del_range(f->fx.s->kv, b, KV_UPPER, from, sizeof(from), to, sizeof(to));
		assert_int_equal(kv_write(f->fx.s->kv, b, KV_SYNC), 0);
		journal_release(f->j, by_crash ? 0 : 2);
		memset(f->is[0], 0, sizeof(f->is[0]));
		if (by_crash)
			crash(f, 2);
		else
			assert_int_equal(journal_settle(f->j), 0);
		assert_database(f, 1);
		assert_database(f, 2);
	}
	kv_batch_free(b);
}

/* Where the database cannot be written, appends go on as long as there is room. */
static void failures_lose_nothing(void **state)
{
	struct fixture *f = *state;
	uint64_t now[EPOCHS][KEYS];
	unsigned failed = 0;

	fail_writes = 1;
	for (unsigned i = 0; i < 8000 && failed < 50; i++) {
		struct buf op CLEANUP(buf_fini_p) = BUF_INIT;

		make_operation(f, &op, now);
		if (journal_append(f->j, &op, 0))
			failed++;
		else
			memcpy(f->is, now, sizeof(now));
	}
	assert_true(failed > 0);
	assert_int_equal(journal_settle(f->j), -EIO);
	fail_writes = 0;
	assert_int_equal(journal_settle(f->j), 0); /* at once */
	append_some(f, 500);
	crash(f, 1);
	assert_database(f, 1);
	assert_database(f, 2);
}

/* To read a segment back for each append would hold up all others. */
static void a_database_that_fails_is_not_asked_for_every_append(void **state)
{
	struct fixture *f = *state;
	uint64_t now[EPOCHS][KEYS];
	struct timespec begin, end;
	unsigned failed = 0;

	fail_writes = 1;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	atomic_store(&failed_writes, 0);
	for (unsigned i = 0; i < 8000 && failed < 500; i++) {
		struct buf op CLEANUP(buf_fini_p) = BUF_INIT;

		make_operation(f, &op, now);
		if (journal_append(f->j, &op, 0))
			failed++;
		else
			memcpy(f->is, now, sizeof(now));
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	assert_int_equal(failed, 500);
	/* The thread's, and those for which time has passed. */
	assert_true(atomic_load(&failed_writes) <=
		    2 + (unsigned)((end.tv_sec - begin.tv_sec + 1) * 1000 / 200));
	fail_writes = 0;
	usleep(250000); /* after which the database is asked again */
	append_some(f, 500);
	crash(f, 1);
	assert_database(f, 1);
	assert_database(f, 2);
}

/* ---- damage ---- */

static void flip(struct fixture *f, off_t at)
{
	int fd = openat(f->fx.s->dir_fd, name, O_RDWR);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

/* As after a power cut: what follows the first thing that is missing does not count. */
static void what_follows_damage_does_not_count(void **state)
{
	struct fixture *f = *state;
	uint64_t before[EPOCHS][KEYS];
	struct buf op CLEANUP(buf_fini_p) = BUF_INIT;
	uint64_t now[EPOCHS][KEYS];
	size_t used = JOURNAL_HEAD;

	/* Segment 1 is at the second place. */
	for (unsigned i = 0; i < 100; i++) {
		buf_clear(&op);
		make_operation(f, &op, now);
		assert_int_equal(journal_append(f->j, &op, 0), 0);
		if (i == 60)
			memcpy(before, f->is, sizeof(before));
		if (i < 60)
			used += journal_align(JOURNAL_RECORD + JOURNAL_OPERATION + op.len);
		memcpy(f->is, now, sizeof(now));
	}
	flip(f, (off_t)(JOURNAL_SEGMENT + used + 8 + 3));
	memcpy(f->is, before, sizeof(before));
	crash(f, 1);
	assert_database(f, 1);
	assert_database(f, 2);
	/* A head that is damaged: nothing of it. */
	memcpy(before, f->is, sizeof(before));
	append_some(f, 10);
	flip(f, JOURNAL_SEGMENT + 8 + 3); /* number 3: recovery took 1 and 2 */
	memcpy(f->is, before, sizeof(before));
	crash(f, 1);
	assert_database(f, 1);
	assert_database(f, 2);
	append_some(f, 10);
	crash(f, 1);
	assert_database(f, 1);
	assert_database(f, 2);
}

/* ---- data ---- */

struct data_model {
	uint8_t now[DATA_SIZE], synced[DATA_SIZE];
	struct staging *st;
};

static void open_data(struct fixture *f, struct data_model *d)
{
	struct error err = ERROR_INIT;

	if (staging_open(f->fx.s->dir_fd, "staging/test", false, f->j, &d->st, &err))
		fail_msg("staging_open: %s", error_text(&err));
}

static void write_some(struct fixture *f, struct data_model *d)
{
	static const unsigned lengths[] = { 10, 500, 5000, 100000 };
	static uint8_t bytes[100000];
	uint64_t len = 1 + mf_below(&f->random, lengths[mf_below(&f->random, 4)]);
	/* Few places, so that some are written again and again. */
	uint64_t pos = mf_below(&f->random, 8) * 100000;

	mf_noise(&f->random, bytes, len);
	assert_int_equal(staging_write(d->st, pos, bytes, len), 0);
	memcpy(d->now + pos, bytes, len);
}

/* The machine goes down (or just the process), and everything starts again. */
static void data_crash(struct fixture *f, struct data_model *d, bool power)
{
	static uint8_t is[DATA_SIZE];

	staging_close(d->st);
	journal_free(f->j);
	fx_reopen(&f->fx);
	if (power) {
		boots++;
		assert_int_equal(pwrite(data_fd, on_disk, DATA_SIZE, 0), DATA_SIZE);
	}
	f->j = open_journal(f);
	open_data(f, d);
	recover(f, 1);
	assert_int_equal(pread(data_fd, is, DATA_SIZE, 0), DATA_SIZE);
	for (size_t i = 0; i < DATA_SIZE; i++) {
		/* Most pages are as they were; to look at each byte is slow in a sanitized build.
		 */
		if (i % 4096 == 0 && memcmp(is + i, d->now + i, 4096) == 0 &&
		    memcmp(on_disk + i, d->now + i, 4096) == 0) {
			i += 4095;
			continue;
		}
		if (is[i] != d->now[i] && (!power || is[i] != d->synced[i]))
			fail_msg("byte %zu is %02x, was %02x, synced %02x", i, is[i], d->now[i],
				 d->synced[i]);
		/* What a recovery leaves is on disk, or the next power cut would lose it. */
		if (d->now[i] == d->synced[i] && on_disk[i] != d->now[i])
			fail_msg("byte %zu is %02x on disk, not %02x", i, on_disk[i], d->now[i]);
	}
	memcpy(d->now, is, DATA_SIZE);
	memcpy(d->synced, is, DATA_SIZE);
	memcpy(on_disk, is, DATA_SIZE);
}

static void what_was_synced_survives_a_power_cut(void **state)
{
	struct fixture *f = *state;
	struct data_model *d = calloc(1, sizeof(*d));

	open_data(f, d);
	data_fd = openat(f->fx.s->dir_fd, "staging/test", O_RDWR);
	assert_true(data_fd >= 0);
	assert_int_equal(ftruncate(data_fd, DATA_SIZE), 0);
	memset(on_disk, 0, sizeof(on_disk));
	for (unsigned i = 0; i < mf_rounds(60); i++) {
		for (uint64_t n = mf_below(&f->random, 60); n > 0; n--) {
			write_some(f, d);
			if (mf_below(&f->random, 3))
				continue;
			assert_int_equal(staging_sync(d->st), 0);
			assert_int_equal(journal_sync(f->j), 0);
			memcpy(d->synced, d->now, DATA_SIZE);
		}
		/* Sometimes segments go to the database meanwhile. */
		append_some(f, mf_below(&f->random, 4) ? 0 : 2000);
		data_crash(f, d, mf_below(&f->random, 2));
		assert_database(f, 1);
	}
	staging_close(d->st);
	close(data_fd);
	data_fd = -1;
	free(d);
}

/* ---- threads ---- */

static void *append_own_keys(void *arg)
{
	struct fixture *f = *(struct fixture **)arg;
	unsigned me = (unsigned)(((struct fixture **)arg)[1] != NULL);

	for (unsigned i = 1; i <= 4000; i++) {
		struct buf op CLEANUP(buf_fini_p) = BUF_INIT;
		uint8_t k[8], v[1500] = { 0 };
		unsigned key = 2 * (i % 50) + me;

		make_key(1, key, k);
		wire_set64(v, 3001u * i + 1488); /* length_of: 1496 */
		assert_int_equal(journal_change(&op, k, 8, v, length_of(wire_get64(v))), 0);
		assert_int_equal(journal_append(f->j, &op, 0), 0);
		if (i % 500 == 0)
			assert_int_equal(journal_sync(f->j), 0);
		f->is[0][key] = wire_get64(v);
	}
	return NULL;
}

static void threads_append_beside_each_other(void **state)
{
	struct fixture *f = *state;
	struct fixture *args[2][2] = { { f, NULL }, { f, f } };
	pthread_t t[2];

	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, append_own_keys, args[i]), 0);
	for (int i = 0; i < 50; i++) {
		journal_hold(f->j);
		usleep(500);
		journal_release(f->j, 0);
		usleep(500);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	crash(f, 1);
	assert_database(f, 1);
}

/* ---- a change of epoch ---- */

/* Many times what any of these takes. */
#define WAIT_MS 20000
/* So little that what is left of a segment then has no room for a change of epoch. */
#define FILL_LEN 1u

static atomic_bool filled, changed;

static void *fill_on(void *journal)
{
	static const uint8_t bytes[FILL_LEN];

	while (!atomic_load(&filled)) {
		struct buf op CLEANUP(buf_fini_p) = BUF_INIT;
		uint8_t key[8];

		if (journal_change(&op, key, make_key(1, 1, key), bytes, sizeof(bytes)) ||
		    journal_append(journal, &op, 0))
			abort();
	}
	return NULL;
}

static void *change_epoch(void *journal)
{
	const struct journal_epoch e = { .ended = 1, .begun = 2 };

	if (journal_append_epoch(journal, &e))
		abort();
	atomic_store(&changed, true);
	return NULL;
}

static size_t room_in(struct journal *j)
{
	pthread_mutex_lock(&j->lock);
	const size_t room = JOURNAL_SEGMENT - j->at;

	pthread_mutex_unlock(&j->lock);
	return room;
}

static void a_change_of_epoch_waits_for_no_segment(void **state)
{
	struct fixture *f = *state;
	pthread_t filler, changer;
	size_t room;

	atomic_store(&filled, false);
	atomic_store(&changed, false);
	journal_hold(f->j); /* as while the database takes the segment before */
	assert_int_equal(pthread_create(&filler, NULL, fill_on, f->j), 0);
	while ((room = room_in(f->j)) > 200 || room != room_in(f->j))
		usleep(10000);
	assert_int_equal(pthread_create(&changer, NULL, change_epoch, f->j), 0);
	for (unsigned i = 0; i < WAIT_MS && !atomic_load(&changed); i++)
		usleep(1000);
	bool waited = !atomic_load(&changed);

	atomic_store(&filled, true);
	journal_release(f->j, 0);
	pthread_join(filler, NULL);
	pthread_join(changer, NULL);
	assert_false(waited);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_was_appended_is_there_after_a_crash),
		T(large_operations_keep_their_place),
		T(old_epochs_are_left_out),
		T(failures_lose_nothing),
		T(a_database_that_fails_is_not_asked_for_every_append),
		T(what_follows_damage_does_not_count),
		T(what_was_synced_survives_a_power_cut),
		T(threads_append_beside_each_other),
		T(a_change_of_epoch_waits_for_no_segment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
