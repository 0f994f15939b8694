/*
 * view: reads that wait for the database, beside everything else that the mount does meanwhile.
 * wrap: kv_get
 */
#include "tests/unit/slow_kv.h"

#include <linux/falloc.h>

#include "fs/mount/mount.h"
#include "store/gc/gc.h"

/* ---- a reader of it ---- */

struct reader {
	pthread_t thread;
	struct mf *f;
	uint64_t ino;
	size_t len;
	uint8_t *bytes;
	int64_t result;
};

static void *read_slowly(void *arg)
{
	struct reader *r = arg;

	is_slow = true;
	r->result = view_read(r->f->v, r->ino, 0, r->bytes, r->len);
	return NULL;
}

static void start_reader(struct reader *r, struct mf *f, uint64_t ino, size_t len)
{
	*r = (struct reader){ .f = f, .ino = ino, .len = len, .bytes = malloc(len) };
	assert_non_null(r->bytes);
	r->thread = start_slowly(KV_CHUNK, read_slowly, r);
}

static void end_reader(struct reader *r)
{
	end_slowly(r->thread);
}

/* ---- files ---- */

#define FILE_BYTES (600u << 10)

struct file {
	uint64_t ino;
	size_t len;
	uint8_t *data;
};

static void fill(struct mf *f, struct file *x, size_t len, uint64_t seed)
{
	x->len = len;
	x->data = realloc(x->data, len);
	assert_non_null(x->data);
	mf_noise(&seed, x->data, len);
	mf_write(f, x->ino, 0, x->data, len);
}

/* A file of the base, none of which is in memory. */
static void make_cold(struct mf *f, struct file *x, size_t len)
{
	*x = (struct file){ .ino = mf_file(f, "file") };
	fill(f, x, len, 5);
	mf_checkpoint(f);
	mf_restart(f);
}

static void write_at(struct mf *f, struct file *x, size_t off, const char *text)
{
	memcpy(x->data + off, text, strlen(text));
	mf_write(f, x->ino, off, text, strlen(text));
}

/* ---- tests ---- */

static void a_slow_read_holds_up_nobody(void **state)
{
	struct mf *f = *state;
	struct file x;
	struct reader r;
	uint8_t some[64];

	make_cold(f, &x, FILE_BYTES);
	uint64_t other = mf_file(f, "other");

	start_reader(&r, f, x.ino, FILE_BYTES);
	mf_write(f, other, 0, "other", 5);
	mf_write(f, x.ino, 300000, x.data + 300000, 20000);
	assert_int_equal(view_read(f->v, x.ino, 300000, some, sizeof(some)), sizeof(some));
	assert_memory_equal(some, x.data + 300000, sizeof(some));
	assert_int_equal(view_read(f->v, x.ino, 1000, some, sizeof(some)), sizeof(some));
	assert_memory_equal(some, x.data + 1000, sizeof(some));
	mf_checkpoint(f);
	mf_write(f, x.ino, 0, x.data, 10);
	mf_swap(f);
	assert_int_equal(view_unlink(f->v, ROOT_INO, "other"), 0);
	end_reader(&r);
	assert_int_equal(r.result, FILE_BYTES);
	assert_memory_equal(r.bytes, x.data, FILE_BYTES);
	free(r.bytes);
	free(x.data);
}

/* ---- a diff ---- */

static int count_change(void *arg, const struct fsdiff_entry *e)
{
	(void)e;
	++*(unsigned *)arg;
	return 0;
}

struct differ {
	struct mf *f;
	unsigned changes;
	int result;
};

static void *diff_slowly(void *arg)
{
	struct differ *d = arg;
	struct error err = ERROR_INIT;

	is_slow = true;
	d->result = mount_diff(d->f->m, count_change, &d->changes, &err);
	return NULL;
}

static void a_slow_diff_holds_up_nobody(void **state)
{
	struct mf *f = *state;
	struct differ d = { .f = f };
	struct file x;

	make_cold(f, &x, FILE_BYTES);
	write_at(f, &x, 1000, "changed");
	pthread_t thread = start_slowly(KV_CHUNK, diff_slowly, &d);

	write_at(f, &x, 2000, "again");
	mf_checkpoint(f);
	write_at(f, &x, 3000, "and");
	(void)mf_file(f, "new");
	end_slowly(thread);
	assert_int_equal(d.result, 0);
	assert_int_equal(d.changes, 2); /* against the new base */
	free(x.data);
}

#define MORE_THAN_IS_CACHED (5u << 20)

/* A name without its inode: as if it went before the diff had asked for it. */
static void a_diff_reads_no_data_while_it_holds_operations_up(void **state)
{
	struct mf *f = *state;
	struct error err = ERROR_INIT;
	struct file x;
	unsigned changes = 0;

	make_cold(f, &x, MORE_THAN_IS_CACHED);
	mf_write(f, x.ino, 0, x.data, x.len - 1);
	uint64_t gone = mf_file(f, "gone");

	upper_find(f->v->cur, gone)->gone = true;
	slow_kv_watch(KV_CHUNK, f->v);
	assert_int_equal(mount_diff(f->m, count_change, &changes, &err), -EBADMSG);
	upper_find(f->v->cur, gone)->gone = false;
	assert_true(slow.reads > 0);
	assert_int_equal(slow.locked, 0);
	slow_kv_watch(KV_CHUNK, NULL);
	free(x.data);
}

/* No snapshot keeps what the mount has left behind. Chunks that were removed. */
static uint64_t collect(struct mf *f)
{
	struct error err = ERROR_INIT;
	struct gc_result res;
	struct snapshot *list;
	size_t n;

	assert_int_equal(snapshots_list(f->fx.s->snapshots, &list, &n, &err), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(snapshots_delete(f->fx.s->snapshots, list[i].id, &err), 0);
	snapshots_list_free(list, n);
	if (gc_run(f->fx.s, NULL, NULL, &res, &err))
		fail_msg("gc: %s", error_text(&err));
	return res.removed_chunks;
}

static void what_was_collected_meanwhile_is_not_missed(void **state)
{
	struct mf *f = *state;
	struct file x;
	struct reader r;

	make_cold(f, &x, FILE_BYTES);
	start_reader(&r, f, x.ino, FILE_BYTES);
	mf_truncate(f, x.ino, 0);
	fill(f, &x, FILE_BYTES / 2, 6);
	mf_checkpoint(f);
	assert_true(collect(f) > 1);
	end_reader(&r);
	assert_int_equal(r.result, x.len);
	assert_memory_equal(r.bytes, x.data, x.len);
	free(r.bytes);
	free(x.data);
}

static void a_file_that_goes_meanwhile_is_not_read(void **state)
{
	struct mf *f = *state;
	struct file x;
	struct reader r;

	make_cold(f, &x, FILE_BYTES);
	start_reader(&r, f, x.ino, FILE_BYTES);
	mf_truncate(f, x.ino, 1000);
	assert_int_equal(view_unlink(f->v, ROOT_INO, "file"), 0);
	view_forget(f->v, x.ino, 1);
	mf_checkpoint(f);
	end_reader(&r);
	assert_int_equal(r.result, -ENOENT);
	free(r.bytes);
	free(x.data);
}

static void a_read_ends_where_the_file_was_cut(void **state)
{
	struct mf *f = *state;
	struct file x;
	struct reader r;
	uint8_t some[10];

	make_cold(f, &x, FILE_BYTES);
	/* Its first chunk is in memory. */
	assert_int_equal(view_read(f->v, x.ino, 0, some, sizeof(some)), sizeof(some));
	start_reader(&r, f, x.ino, FILE_BYTES);
	mf_truncate(f, x.ino, 1000);
	end_reader(&r);
	assert_int_equal(r.result, 1000);
	assert_memory_equal(r.bytes, x.data, 1000);
	free(r.bytes);
	free(x.data);
}

static void a_long_read_has_every_piece_in_its_place(void **state)
{
	const size_t len = 6u << 20; /* more than the cache of chunks holds */
	struct mf *f = *state;
	struct file x;
	struct reader r;

	make_cold(f, &x, len);
	for (size_t at = 5000; at + 5 < len; at += 70001)
		write_at(f, &x, at, "piece");
	assert_int_equal(view_fallocate(f->v, x.ino, 3, 1000000, 300000, 0), 0);
	memset(x.data + 1000000, 0, 300000);
	start_reader(&r, f, x.ino, len);
	end_reader(&r);
	assert_int_equal(r.result, len);
	assert_memory_equal(r.bytes, x.data, len);
	/* A chunk that several pieces lie in was asked for once. */
	assert_in_range(slow.asked, 65, len / CHUNK_MIN / 2);
	free(r.bytes);
	free(x.data);
}

static void a_chunk_that_is_missing_is_told(void **state)
{
	struct mf *f = *state;
	struct file x;
	uint8_t some[10];

	make_cold(f, &x, FILE_BYTES);
	slow_kv_drop(f, KV_CHUNK);
	assert_int_equal(view_read(f->v, x.ino, 0, some, sizeof(some)), -ENODATA);
	free(x.data);
}

/* ---- readers beside writers, truncations, checkpoints and collections ---- */

/*
 * Each block of a file has versions; which bytes one has is known from its number, so a reader
 * says of every byte whether it is of a version that was there while it read.
 */
#define BLOCK 4096u
#define BLOCKS 768u /* two files: more than the cache of chunks holds */
#define FILES 2
#define READERS 2

struct shared_file {
	uint64_t ino;
	_Atomic unsigned begun[BLOCKS], ended[BLOCKS];
};

struct stress {
	struct mf *f;
	struct shared_file files[FILES];
	_Atomic bool stop;
	unsigned rounds;
	_Atomic unsigned bad;
};

struct stress_thread {
	struct stress *s;
	unsigned i;
	pthread_t thread;
};

enum { ZERO = 7 }; /* a version with this remainder by 8 is a hole */

static uint8_t byte_of(const struct shared_file *x, size_t off, unsigned version)
{
	uint64_t h = (x->ino << 40) + ((uint64_t)version << 20) + off / 8;

	h *= 0x9e3779b97f4a7c15ull;
	return version % 8 == ZERO ? 0 : (uint8_t)((h >> 40) + off);
}

/* Versions of n blocks begin, all of the same kind. */
static void begin(struct shared_file *x, unsigned block, unsigned n, bool zero)
{
	for (unsigned i = block; i < block + n; i++) {
		unsigned version = x->ended[i] + 1;

		while ((version % 8 == ZERO) != zero)
			version++;
		x->begun[i] = version;
	}
}

static void end(struct shared_file *x, unsigned block, unsigned n)
{
	for (unsigned i = block; i < block + n; i++)
		x->ended[i] = x->begun[i];
}

static void write_blocks(struct stress *s, struct shared_file *x, unsigned block, unsigned n)
{
	const size_t from = (size_t)block * BLOCK, len = (size_t)n * BLOCK;
	uint8_t *data = malloc(len);

	assert_non_null(data);
	begin(x, block, n, false);
	for (size_t k = 0; k < len; k++)
		data[k] = byte_of(x, from + k, x->begun[block + k / BLOCK]);
	if (view_write(s->f->v, x->ino, from, data, len, 0) != (int64_t)len)
		s->bad++;
	end(x, block, n);
	free(data);
}

static void set_size(struct stress *s, struct shared_file *x, size_t size)
{
	struct view_setattr set = { .valid = VIEW_SET_SIZE, .size = size };
	struct view_attr a;

	if (view_setattr(s->f->v, x->ino, &set, &a))
		s->bad++;
}

static void *write_much(void *arg)
{
	struct stress_thread *t = arg;
	struct stress *s = t->s;
	struct shared_file *x = &s->files[t->i];
	uint64_t random = mf_seed() + t->i;

	while (!s->stop) {
		unsigned block = (unsigned)mf_below(&random, BLOCKS);
		unsigned n = MIN(1 + (unsigned)mf_below(&random, 16), BLOCKS - block);

		if (mf_below(&random, 4)) {
			write_blocks(s, x, block, n);
		} else if (mf_below(&random, 4)) {
			begin(x, block, n, true);
			if (view_fallocate(s->f->v, x->ino, 3, (uint64_t)block * BLOCK,
					   (uint64_t)n * BLOCK, 0))
				s->bad++;
			end(x, block, n);
		} else {
			block = BLOCKS - n;
			begin(x, block, n, true);
			set_size(s, x, (size_t)block * BLOCK);
			set_size(s, x, BLOCKS * BLOCK);
			end(x, block, n);
		}
		usleep(500);
	}
	return NULL;
}

/* Is it a byte of a version from `low` to `high`? */
static bool is_of_versions(const struct shared_file *x, size_t off, uint8_t byte, unsigned low,
			   unsigned high)
{
	for (unsigned v = low; v <= high; v++)
		if (byte_of(x, off, v) == byte)
			return true;
	/* A size that grows again shows zeros before its blocks' version has ended. */
	return high > low && byte == 0;
}

static void read_once(struct stress *s, uint64_t *random, uint8_t *bytes)
{
	const struct shared_file *x = &s->files[mf_below(random, FILES)];
	unsigned block = (unsigned)mf_below(random, BLOCKS), low[256];
	unsigned n = MIN(1 + (unsigned)mf_below(random, ARRAY_SIZE(low)), BLOCKS - block);
	const size_t from = (size_t)block * BLOCK;

	for (unsigned i = 0; i < n; i++)
		low[i] = x->ended[block + i];
	int64_t len = view_read(s->f->v, x->ino, from, bytes, (size_t)n * BLOCK);

	if (len < 0 || len % BLOCK)
		s->bad++;
	for (int64_t k = 0; k < len && !s->bad; k++) {
		unsigned i = (unsigned)(k / BLOCK);

		if (!is_of_versions(x, from + (size_t)k, bytes[k], low[i], x->begun[block + i]))
			s->bad++;
	}
	/* Short while it is truncated, and then only. */
	for (unsigned i = (unsigned)(MAX(len, 0) / BLOCK); i < n; i++)
		if (x->begun[block + i] == low[i])
			s->bad++;
}

static void *read_much(void *arg)
{
	struct stress_thread *t = arg;
	uint8_t *bytes = malloc(256 * BLOCK);
	uint64_t random = mf_seed() + 100 + t->i;

	while (bytes && !t->s->stop)
		read_once(t->s, &random, bytes);
	free(bytes);
	return NULL;
}

static void readers_see_what_was_there_while_they_read(void **state)
{
	struct stress *s = calloc(1, sizeof(*s));
	struct stress_thread t[FILES + READERS];

	assert_non_null(s);
	s->f = *state;
	for (unsigned i = 0; i < FILES; i++) {
		s->files[i].ino = mf_file(s->f, i ? "a" : "b");
		write_blocks(s, &s->files[i], 0, BLOCKS);
	}
	mf_checkpoint(s->f);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		t[i] = (struct stress_thread){ .s = s, .i = i };
		assert_int_equal(pthread_create(&t[i].thread, NULL,
						i < FILES ? write_much : read_much, &t[i]),
				 0);
	}
	for (unsigned i = 0; i < mf_rounds(10); i++) {
		mf_checkpoint(s->f);
		if (i % 2)
			(void)collect(s->f);
	}
	s->stop = true;
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i].thread, NULL);
	assert_int_equal(s->bad, 0);
	free(s);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, mf_setup, mf_teardown)
	const struct CMUnitTest tests[] = {
		T(a_slow_read_holds_up_nobody),
		T(a_slow_diff_holds_up_nobody),
		T(a_diff_reads_no_data_while_it_holds_operations_up),
		T(what_was_collected_meanwhile_is_not_missed),
		T(a_file_that_goes_meanwhile_is_not_read),
		T(a_read_ends_where_the_file_was_cut),
		T(a_long_read_has_every_piece_in_its_place),
		T(a_chunk_that_is_missing_is_told),
		T(readers_see_what_was_there_while_they_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
