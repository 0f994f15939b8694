/*
 * upper: transactions on what a mount has changed, in memory and in the database.
 * wrap: journal_append staging_free
 */
#include "tests/unit/mount_fixture.h"
#include "tests/unit/upper_dump.h"

#include "fs/upper/upper.h"
#include "store/base/wire.h"

/* ---- what goes to staging, and failures ---- */

#define SPACE (4u << 20)
static uint8_t freed[SPACE]; /* how often each byte of the staging file was */
static int fail_write;

void __real_staging_free(struct staging *st, uint64_t pos, uint64_t len);
void __wrap_staging_free(struct staging *st, uint64_t pos, uint64_t len);
int __real_journal_append(struct journal *j, const struct buf *op, uint64_t made_ino);
int __wrap_journal_append(struct journal *j, const struct buf *op, uint64_t made_ino);

void __wrap_staging_free(struct staging *st, uint64_t pos, uint64_t len)
{
	(void)st;
	assert_true(pos + len <= SPACE);
	for (uint64_t i = pos; i < pos + len; i++)
		freed[i] = 1;
}

int __wrap_journal_append(struct journal *j, const struct buf *op, uint64_t made_ino)
{
	if (fail_write) {
		fail_write--;
		return -EIO;
	}
	return __real_journal_append(j, op, made_ino);
}

static const uint8_t some_id[UPPER_ID_SIZE] = "sixteen bytes id";

struct fixture {
	struct fx fx;
	struct journal *journal;
	struct upper *up;
	uint64_t random;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	fx_open(&f->fx);
	f->journal = journal_new(f->fx.s->dir_fd, "journal/test", some_id, f->fx.s->kv);
	assert_non_null(f->journal);
	f->up = upper_new(some_id, 7);
	f->random = mf_seed();
	memset(freed, 0, sizeof(freed));
	fail_write = 0;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	upper_free(f->up);
	journal_free(f->journal);
	fx_close(&f->fx);
	free(f);
	return 0;
}

static void begin(struct fixture *f, struct upper_tx *tx)
{
	upper_tx_begin(tx, f->up, f->journal, NULL);
}

static void commit(struct upper_tx *tx)
{
	assert_int_equal(upper_tx_commit(tx), 0);
	upper_tx_end(tx);
}

static void assert_reload_is_the_same(struct fixture *f)
{
	struct upper *again = upper_new(f->up->id, f->up->epoch);
	struct error err = ERROR_INIT;
	char *is, *was = ud_dump(f->up);

	assert_int_equal(journal_settle(f->journal), 0);
	assert_int_equal(upper_load(again, f->fx.s->kv, &err), 0);
	is = ud_dump(again);
	assert_string_equal(is, was);
	free(is);
	free(was);
	upper_free(again);
}

/* ---- extents beside a map of bytes ---- */

#define FILE_MAX (64u << 10)
#define HOLE (-1)

struct file_map {
	int32_t at[FILE_MAX]; /* 0: what is below; HOLE; else 1 + place in the staging file */
};

static void check_extents(struct unode *u, const struct file_map *map)
{
	struct upper_extent x = { 0 };
	uint64_t at = 0;

	for (struct omap_entry *e = upper_extent_seek(u, 0, &x); e;
	     e = upper_extent_next(u, &x, &x)) {
		assert_true(x.off >= at);
		assert_true(x.len > 0);
		for (; at < x.off; at++)
			assert_int_equal(map->at[at], 0);
		for (; at < x.off + x.len; at++)
			assert_int_equal(map->at[at], x.kind == UPPER_HOLE
							      ? HOLE
							      : 1 + (int32_t)(x.pos + at - x.off));
	}
	for (; at < FILE_MAX; at++)
		assert_int_equal(map->at[at], 0);
	/* Seeking finds what covers a byte, or what comes after it. */
	uint64_t some = 12345;
	struct omap_entry *e = upper_extent_seek(u, some, &x);

	if (map->at[some])
		assert_true(e && x.off <= some && some < x.off + x.len);
	else
		assert_true(!e || x.off > some);
}

static void random_range(uint64_t *random, uint64_t *from, uint64_t *len)
{
	static const uint64_t lengths[] = { 5, 1000, 10000, 60000 };

	*from = mf_below(random, FILE_MAX);
	*len = 1 + mf_below(random, lengths[mf_below(random, ARRAY_SIZE(lengths))]);
	if (mf_below(random, 2)) /* so that some meet */
		*from &= ~4095ull, *len = (*len + 4095) & ~4095ull;
	*len = MIN(*len, FILE_MAX - *from);
}

static void extents_say_what_was_written_last(void **state)
{
	struct fixture *f = *state;
	struct unode *u = upper_get(f->up, 5);
	struct file_map *map = calloc(1, sizeof(*map));
	uint8_t *used = calloc(1, SPACE);
	uint64_t end = 0, live = 0;

	for (unsigned i = 0; i < 1500 && end < SPACE - FILE_MAX; i++) {
		uint64_t from, len, kind = mf_below(&f->random, 5);
		struct upper_tx tx;

		random_range(&f->random, &from, &len);
		struct upper_extent x = { .off = from, .len = len, .kind = UPPER_DATA, .pos = end };

		begin(f, &tx);
		if (kind == 0)
			x.kind = UPPER_HOLE;
		if (kind == 1)
			upper_tx_uncover(&tx, u, from, from + len);
		else
			upper_tx_extent(&tx, u, &x);
		if (tx.n && mf_below(&f->random, 10) == 0) { /* it is not to be */
			char *is, *was = ud_dump(f->up);

			fail_write = 1;
			assert_int_equal(upper_tx_commit(&tx), -EIO);
			upper_tx_end(&tx);
			is = ud_dump(f->up);
			assert_string_equal(is, was);
			free(is);
			free(was);
			continue;
		}
		commit(&tx);
		for (uint64_t k = from; k < from + len; k++)
			map->at[k] = kind == 1	 ? 0
				     : kind == 0 ? HOLE
						 : 1 + (int32_t)(end + k - from);
		if (kind > 1) {
			memset(used + end, 1, len);
			end += len;
			/* Sometimes the next one does not follow on it. */
			end += mf_below(&f->random, 2) * 100;
		}
		check_extents(u, map);
		if (i % 100 == 0)
			assert_reload_is_the_same(f);
	}
	/* Freed is exactly what is used no more. */
	for (uint64_t k = 0; k < FILE_MAX; k++) {
		if (map->at[k] > 0) {
			live++;
			used[map->at[k] - 1] = 2;
		}
	}
	for (uint64_t k = 0; k < SPACE; k++)
		assert_int_equal(freed[k], used[k] == 1);
	assert_int_equal(atomic_load(&f->up->data_bytes), live);
	free(map);
	free(used);
}

static void a_file_written_in_order_is_one_extent(void **state)
{
	struct fixture *f = *state;
	struct unode *u = upper_get(f->up, 5);
	struct upper_extent x;

	for (unsigned i = 0; i < 20; i++) {
		struct upper_tx tx;

		x = (struct upper_extent){
			.off = i * 1000, .len = 1000, .kind = UPPER_DATA, .pos = 500 + i * 1000
		};
		begin(f, &tx);
		upper_tx_extent(&tx, u, &x);
		commit(&tx);
	}
	assert_non_null(upper_extent_seek(u, 0, &x));
	assert_int_equal(x.len, 20000);
	assert_int_equal(x.pos, 500);
	assert_null(upper_extent_next(u, &x, &x));
	for (unsigned i = 0; i < SPACE; i++)
		assert_int_equal(freed[i], 0);
	assert_reload_is_the_same(f);
}

/* ---- records and entries ---- */

static struct inode_rec some_rec(uint64_t *random)
{
	struct inode_rec r = { .mode = S_IFREG | 0600, .nlink = 1, .size = mf_below(random, 1000) };

	if (mf_below(random, 3) == 0) {
		r.mode = S_IFLNK | 0777;
		r.target = "somewhere else" + mf_below(random, 10);
		r.target_len = r.size = strlen(r.target);
	}
	return r;
}

static void stage_something(struct fixture *f, struct upper_tx *tx, struct unode *u)
{
	struct inode_rec rec = some_rec(&f->random);
	struct subkey k;
	char name[8];

	/* Few names, so that one transaction changes some key more than once. */
	snprintf(name, sizeof(name), "n%u", (unsigned)mf_below(&f->random, 4));
	subkey_xattr(&k, name, strlen(name));
	switch (mf_below(&f->random, 5)) {
	case 0:
		upper_tx_rec(tx, u, &rec);
		break;
	case 1:
		upper_tx_del(tx, u, &k, true);
		break;
	case 2:
		upper_tx_del(tx, u, &k, false);
		break;
	default:
		upper_tx_put(tx, u, &k, &f->random, mf_below(&f->random, 9));
	}
}

static void database_and_memory_say_the_same(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 2000; i++) {
		uint64_t ino = 2 + mf_below(&f->random, 30);
		struct unode *u = upper_get(f->up, ino);
		char *is, *was = ud_dump(f->up);
		struct upper_tx tx;

		begin(f, &tx);
		if (!u->has_rec && !u->gone && !u->entries.count)
			u->fresh = ino & 1;
		if (u->has_rec && mf_below(&f->random, 8) == 0)
			upper_tx_drop(&tx, u);
		else if (!u->gone)
			for (uint64_t n = 1 + mf_below(&f->random, 5); n > 0; n--)
				stage_something(f, &tx, u);
		if (mf_below(&f->random, 5) == 0) { /* given up, or failing */
			fail_write = (int)mf_below(&f->random, 2);
			if (fail_write && tx.n)
				assert_int_equal(upper_tx_commit(&tx), -EIO);
			fail_write = 0;
			upper_tx_end(&tx);
			is = ud_dump(f->up);
			assert_string_equal(is, was);
			free(is);
		} else {
			commit(&tx);
		}
		free(was);
		if (i % 50 == 0) {
			/* fresh is kept with a record: without one it is not reloaded */
			u = upper_find(f->up, ino);
			if (u && !u->has_rec && !u->gone && u->entries.count) {
				struct inode_rec rec = some_rec(&f->random);

				begin(f, &tx);
				upper_tx_rec(&tx, u, &rec);
				commit(&tx);
			}
		}
	}
	/* Every inode with entries gets a record, as operations do it. */
	for (uint64_t ino = 2; ino < 32; ino++) {
		struct unode *u = upper_find(f->up, ino);
		struct inode_rec rec = some_rec(&f->random);
		struct upper_tx tx;

		if (!u || u->gone)
			continue;
		begin(f, &tx);
		upper_tx_rec(&tx, u, &rec);
		commit(&tx);
	}
	assert_reload_is_the_same(f);
}

static void a_dropped_inode_leaves_what_it_must(void **state)
{
	struct fixture *f = *state;
	struct inode_rec rec = { .mode = S_IFREG, .nlink = 1 };
	struct upper_extent x = { .len = 5000, .kind = UPPER_DATA, .pos = 100 };

	for (int fresh = 0; fresh < 2; fresh++) {
		struct unode *u = upper_get(f->up, 9u + (unsigned)fresh);
		struct upper_tx tx;

		u->fresh = fresh;
		begin(f, &tx);
		upper_tx_rec(&tx, u, &rec);
		upper_tx_extent(&tx, u, &x);
		commit(&tx);
		assert_int_equal(atomic_load(&f->up->data_bytes), 5000);
		memset(freed, 0, sizeof(freed));
		begin(f, &tx);
		upper_tx_drop(&tx, u);
		commit(&tx);
		assert_int_equal(atomic_load(&f->up->data_bytes), 0);
		for (unsigned i = 0; i < SPACE; i++)
			assert_int_equal(freed[i], i >= 100 && i < 5100);
		u = upper_find(f->up, 9u + (unsigned)fresh);
		if (fresh)
			assert_null(u);
		else
			assert_true(u->gone && !u->has_rec && !u->entries.count);
		assert_reload_is_the_same(f);
	}
}

/* ---- epochs and damage ---- */

static void epochs_and_mounts_are_apart(void **state)
{
	static const uint8_t other[UPPER_ID_SIZE] = "sixteen bytes ie";
	struct fixture *f = *state;
	struct inode_rec rec = { .mode = S_IFREG, .nlink = 1 };
	struct kv_batch *b = kv_batch_new();
	static const struct {
		const uint8_t *id;
		uint32_t epoch;
		bool left[2]; /* after one epoch is deleted, after all are */
	} cases[] = {
		{ some_id, 6, { true, false } }, { some_id, 7, { false, false } },
		{ some_id, 8, { true, false } }, { some_id, 0xfffffffe, { true, false } },
		{ other, 7, { true, true } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct upper *up = upper_new(cases[i].id, cases[i].epoch);
		struct journal *j =
			journal_new(f->fx.s->dir_fd, "journal/other", cases[i].id, f->fx.s->kv);
		struct upper_tx tx;

		upper_tx_begin(&tx, up, j, NULL);
		upper_tx_rec(&tx, upper_get(up, UINT64_MAX - 1), &rec);
		upper_tx_rec(&tx, upper_get(up, 1), &rec);
		commit(&tx);
		assert_int_equal(journal_settle(j), 0);
		journal_free(j);
		upper_free(up);
	}
	for (int all = 0; all < 2; all++) {
		kv_batch_clear(b);
		upper_delete_range(f->fx.s->kv, b, some_id, 7, all);
		assert_int_equal(kv_write(f->fx.s->kv, b, KV_LOG), 0);
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			struct upper *up = upper_new(cases[i].id, cases[i].epoch);
			struct error err = ERROR_INIT;

			assert_int_equal(upper_load(up, f->fx.s->kv, &err), 0);
			assert_int_equal(atomic_load(&up->n_unodes), cases[i].left[all] ? 2 : 0);
			assert_int_equal(atomic_load(&up->changed), cases[i].left[all]);
			upper_free(up);
		}
	}
	kv_batch_free(b);
}

/* An extent as it stands in the database. */
struct stored {
	uint64_t off, len, pos;
	uint32_t chunk_off;
	uint8_t kind;
	size_t cut; /* bytes that are missing */
};

static void put_stored(struct kv *kv, struct kv_batch *b, const struct stored *x)
{
	uint8_t key[UPPER_ID_SIZE + 4 + 17] = { 0 }, v[1 + UPPER_EXTENT_SIZE] = { 1, x->kind };

	memcpy(key, some_id, UPPER_ID_SIZE);
	key[UPPER_ID_SIZE + 3] = 7;
	wire_set64be(key + UPPER_ID_SIZE + 4, 5);
	key[UPPER_ID_SIZE + 12] = KEY_EXTENT;
	wire_set64be(key + UPPER_ID_SIZE + 13, x->off);
	wire_set64(v + 2, x->len);
	wire_set64(v + 10, x->pos);
	wire_set32(v + 18, x->chunk_off);
	kv_batch_put(kv, b, KV_UPPER, key, sizeof(key), v, sizeof(v) - x->cut);
}

static void a_damaged_extent_is_refused(void **state)
{
	static const struct stored cases[][2] = {
		{ { .len = 0, .kind = UPPER_DATA } },
		{ { .len = 1, .kind = 0 } },
		{ { .len = 1, .kind = 9 } },
		{ { .len = 1, .kind = UPPER_DATA, .cut = 1 } },
		{ { .off = 10, .len = UINT64_MAX - 5, .kind = UPPER_HOLE } },
		{ { .off = 10, .len = INT64_MAX, .kind = UPPER_HOLE } },
		{ { .len = 10, .pos = INT64_MAX - 5, .kind = UPPER_DATA } },
		{ { .len = CHUNK_MAX + 1, .kind = UPPER_CHUNK } },
		{ { .len = 2, .chunk_off = CHUNK_MAX - 1, .kind = UPPER_CHUNK } },
		{ { .len = 100, .kind = UPPER_DATA }, { .off = 99, .len = 5, .kind = UPPER_HOLE } },
	};
	static const struct stored fine[2] = { { .len = 99, .kind = UPPER_DATA },
					       { .off = 99, .len = 5, .kind = UPPER_HOLE } };
	struct fixture *f = *state;

	for (size_t i = 0; i <= ARRAY_SIZE(cases); i++) {
		const struct stored *c = i < ARRAY_SIZE(cases) ? cases[i] : fine;
		struct upper *up = upper_new(some_id, 7);
		struct kv_batch *b = kv_batch_new();
		struct error err = ERROR_INIT;

		upper_delete_range(f->fx.s->kv, b, some_id, 7, false);
		for (int k = 0; k < 2 && c[k].kind + c[k].len; k++)
			put_stored(f->fx.s->kv, b, &c[k]);
		assert_int_equal(kv_write(f->fx.s->kv, b, KV_LOG), 0);
		assert_int_equal(upper_load(up, f->fx.s->kv, &err), c == fine ? 0 : -EBADMSG);
		/* Of epoch 7 and inode 5, by the whole key. */
		if (c != fine)
			assert_non_null(strstr(error_text(&err), "000000070000000000000005"));
		kv_batch_free(b);
		upper_free(up);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(extents_say_what_was_written_last), T(a_file_written_in_order_is_one_extent),
		T(database_and_memory_say_the_same),  T(a_dropped_inode_leaves_what_it_must),
		T(epochs_and_mounts_are_apart),	      T(a_damaged_extent_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
