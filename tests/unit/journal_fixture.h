/*
 * journal_fixture.h - a journal on a store in a temporary directory, and what its keys should
 * be; for programs that wrap kv_write and journal_boot_id.
 */
#ifndef VARVE_TEST_JOURNAL_FIXTURE_H
#define VARVE_TEST_JOURNAL_FIXTURE_H

#include "tests/unit/mount_fixture.h"

#include <stdatomic.h>

#include "fs/upper/journal_internal.h"
#include "store/base/wire.h"

static const uint8_t some_id[JOURNAL_ID_SIZE] = "sixteen bytes id";
static const char *const name = "journal/test";
static int fail_writes;
static atomic_uint failed_writes;

int __real_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);
int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);

int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d)
{
	if (!fail_writes)
		return __real_kv_write(kv, b, d);
	atomic_fetch_add(&failed_writes, 1);
	return -EIO;
}

static uint8_t boots; /* how often the machine was started */
void __wrap_journal_boot_id(uint8_t out[JOURNAL_BOOT_SIZE]);
void __wrap_journal_boot_id(uint8_t out[JOURNAL_BOOT_SIZE])
{
	memset(out, boots, JOURNAL_BOOT_SIZE);
}

#define KEYS 200
#define EPOCHS 2

struct fixture {
	struct fx fx;
	struct journal *j;
	uint64_t random;
	/* Expected: value of each key, a number and a length; 0: none. */
	uint64_t is[EPOCHS][KEYS];
	struct journal_epoch change; /* what the last recovery found */
};

static inline struct journal *open_journal(struct fixture *f)
{
	struct journal *j = journal_new(f->fx.s->dir_fd, name, some_id, f->fx.s->kv);

	assert_non_null(j);
	return j;
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	journal_free(f->j);
	fx_close(&f->fx);
	free(f);
	return 0;
}

static inline size_t make_key(uint32_t epoch, unsigned key, uint8_t out[8])
{
	wire_set64be(out, (uint64_t)epoch << 32 | key);
	return 8;
}

/* Lengths that make segments fill up within some thousand operations. */
static inline size_t length_of(uint64_t value)
{
	return 8 + value % 3001;
}

/* An operation of a few changes, not yet appended; `now` becomes what it leads to. */
static inline void make_operation(struct fixture *f, struct buf *op, uint64_t now[EPOCHS][KEYS])
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

static inline void append_some(struct fixture *f, unsigned n)
{
	uint64_t now[EPOCHS][KEYS];

	while (n--) {
		struct buf op CLEANUP(buf_fini_p) = BUF_INIT;

		make_operation(f, &op, now);
		assert_int_equal(journal_append(f->j, &op, 0), 0);
		memcpy(f->is, now, sizeof(now));
	}
}

/* The process ends without a word, and another one begins. */
static inline void recover(struct fixture *f, uint32_t min_epoch)
{
	const struct journal_epochs known = { min_epoch, 9 };
	struct error err = ERROR_INIT;

	if (journal_recover(f->j, &known, &f->change, &err))
		fail_msg("journal_recover: %s", error_text(&err));
}

static inline void crash(struct fixture *f, uint32_t min_epoch)
{
	journal_free(f->j);
	fx_reopen(&f->fx);
	f->j = open_journal(f);
	recover(f, min_epoch);
}

static inline void assert_database(struct fixture *f, uint32_t epoch)
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

#endif
