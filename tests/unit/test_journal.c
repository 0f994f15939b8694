/*
 * journal: what was appended is in the database after a restart, whatever ended
 * the process: its last value for each key, in order, up to where the file ends.
 * wrap: kv_write
 */
#include "tests/unit/mount_fixture.h"

#include <fcntl.h>

#include "fs/journal.h"
#include "store/base/wire.h"

static const uint8_t some_id[JOURNAL_ID_SIZE] = "sixteen bytes id";
static const char *const name = "journal/test";
static int fail_writes;

int __real_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);
int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);

int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d)
{
	return fail_writes ? -EIO : __real_kv_write(kv, b, d);
}

#define KEYS 200
#define EPOCHS 2

struct fixture {
	struct fx fx;
	struct journal *j;
	uint64_t random;
	/* Expected: value of each key, a number and a length; 0: none. */
	uint64_t is[EPOCHS][KEYS];
};

static struct journal *open_journal(struct fixture *f)
{
	struct journal *j = journal_new(f->fx.s->dir_fd, name, some_id, f->fx.s->kv);

	assert_non_null(j);
	return j;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	fx_open(&f->fx);
	f->j = open_journal(f);
	f->random = mf_seed();
	fail_writes = 0;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	journal_free(f->j);
	fx_close(&f->fx);
	free(f);
	return 0;
}

static size_t make_key(uint32_t epoch, unsigned key, uint8_t out[8])
{
	wire_set64be(out, (uint64_t)epoch << 32 | key);
	return 8;
}

/* Lengths that make segments fill up within some thousand operations. */
static size_t length_of(uint64_t value)
{
	return 8 + value % 3001;
}

/* An operation of a few changes, not yet appended; `now` becomes what it leads to. */
static void make_operation(struct fixture *f, struct buf *op, uint64_t now[EPOCHS][KEYS])
{
	static uint8_t bytes[4096];

	memcpy(now, f->is, sizeof(f->is));
	for (uint64_t n = 1 + mf_below(&f->random, 4); n > 0; n--) {
		uint32_t epoch = (uint32_t)mf_below(&f->random, EPOCHS);
		unsigned key = (unsigned)mf_below(&f->random, KEYS);
		uint64_t value = mf_below(&f->random, 5) ? 1 + mf_random(&f->random) : 0;
		uint8_t k[8];
		size_t klen = make_key(epoch + 1, key, k);

		wire_set64(bytes, value);
		assert_int_equal(journal_change(op, k, klen, value ? bytes : NULL,
						value ? length_of(value) : 0),
				 0);
		now[epoch][key] = value;
	}
}

static void append_some(struct fixture *f, unsigned n)
{
	uint64_t now[EPOCHS][KEYS];

	while (n--) {
		struct buf op CLEANUP(buf_fini_p) = BUF_INIT;

		make_operation(f, &op, now);
		assert_int_equal(journal_append(f->j, &op), 0);
		memcpy(f->is, now, sizeof(now));
	}
}

/* The process ends without a word, and another one begins. */
static void crash(struct fixture *f, uint32_t min_epoch)
{
	struct error err = ERROR_INIT;

	journal_free(f->j);
	fx_reopen(&f->fx);
	f->j = open_journal(f);
	if (journal_recover(f->j, min_epoch, &err))
		fail_msg("journal_recover: %s", error_text(&err));
}

static void assert_database(struct fixture *f, uint32_t epoch)
{
	for (unsigned key = 0; key < KEYS; key++) {
		uint64_t want = f->is[epoch - 1][key];
		struct kv_value v = { 0 };
		uint8_t k[JOURNAL_ID_SIZE + 8];

		memcpy(k, some_id, JOURNAL_ID_SIZE);
		make_key(epoch, key, k + JOURNAL_ID_SIZE);
		int r = kv_get(f->fx.s->kv, KV_UPPER, k, sizeof(k), &v);

		assert_int_equal(r, want ? 0 : -ENOENT);
		if (want) {
			assert_int_equal(v.len, length_of(want));
			assert_int_equal(wire_get64(v.data), want);
		}
		kv_value_release(&v);
	}
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
		assert_int_equal(journal_append(f->j, &op), 0);
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
	for (unsigned i = 0; i < 8000; i++) {
		struct buf op CLEANUP(buf_fini_p) = BUF_INIT;

		make_operation(f, &op, now);
		if (journal_append(f->j, &op))
			failed++;
		else
			memcpy(f->is, now, sizeof(now));
	}
	assert_true(failed > 0);
	assert_int_equal(journal_settle(f->j), -EIO);
	fail_writes = 0;
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
	size_t used = 32;

	/* Segment 1 is at the second place. */
	for (unsigned i = 0; i < 100; i++) {
		buf_clear(&op);
		make_operation(f, &op, now);
		assert_int_equal(journal_append(f->j, &op), 0);
		if (i == 60)
			memcpy(before, f->is, sizeof(before));
		if (i < 60)
			used += (8 + op.len + 7) & ~(size_t)7;
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
	flip(f, 8 + 3); /* it is number 2 */
	memcpy(f->is, before, sizeof(before));
	crash(f, 1);
	assert_database(f, 1);
	assert_database(f, 2);
	append_some(f, 10);
	crash(f, 1);
	assert_database(f, 1);
	assert_database(f, 2);
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
		assert_int_equal(journal_append(f->j, &op), 0);
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

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_was_appended_is_there_after_a_crash),
		T(large_operations_keep_their_place),
		T(old_epochs_are_left_out),
		T(failures_lose_nothing),
		T(what_follows_damage_does_not_count),
		T(threads_append_beside_each_other),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
