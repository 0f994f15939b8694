/* seal: a sealed file has the extents that an import of it would have. */
#include "tests/unit/mount_fixture.h"

#include "fs/mount/seal.h"
#include "store/tree/file_chunks.h"

#define KIB 1024u
#define EXTENTS_MAX 2048

/* ---- extents ---- */

struct extents {
	struct {
		uint64_t off;
		enum extent_kind kind;
		uint32_t len;
		struct digest digest; /* of the bytes, where they are inline */
	} list[EXTENTS_MAX];
	size_t n;
	uint64_t bytes;
};

static int collect(void *arg, uint64_t off, const struct extent_rec *e)
{
	struct extents *x = arg;

	assert_true(x->n < EXTENTS_MAX);
	x->list[x->n].off = off;
	x->list[x->n].kind = e->kind;
	x->list[x->n].len = e->len;
	if (e->kind == EXTENT_CHUNK)
		x->list[x->n].digest = e->digest;
	else
		assert_int_equal(hash_bytes(e->data, e->len, &x->list[x->n].digest), 0);
	x->n++;
	x->bytes += e->len;
	return 0;
}

static void dump(const char *title, const struct extents *x)
{
	char hex[DIGEST_HEX_SIZE];

	print_message("%s:\n", title);
	for (size_t i = 0; i < x->n; i++) {
		digest_to_hex(&x->list[i].digest, hex);
		print_message("  %9llu +%6u %s %.8s\n", (unsigned long long)x->list[i].off,
			      x->list[i].len, x->list[i].kind == EXTENT_CHUNK ? "chunk" : "inline",
			      hex);
	}
}

static void assert_same(const struct extents *is, const struct extents *want)
{
	bool same = is->n == want->n;

	for (size_t i = 0; i < is->n && same; i++)
		same = is->list[i].off == want->list[i].off &&
		       is->list[i].kind == want->list[i].kind &&
		       is->list[i].len == want->list[i].len &&
		       digest_equal(&is->list[i].digest, &want->list[i].digest);
	if (same)
		return;
	dump("sealed", is);
	dump("imported", want);
	fail_msg("the sealed file has other extents than the imported one");
}

struct feeding {
	struct mf *f;
	struct file_chunks *fc;
	uint8_t *block;
};

static int feed_piece(void *arg, const struct piece *p)
{
	struct feeding *x = arg;

	if (p->kind == PIECE_HOLE)
		return 0;
	for (uint64_t at = p->off; at < p->off + p->len;) {
		size_t n = (size_t)MIN(p->off + p->len - at, (uint64_t)(100 * KIB));

		assert_int_equal(view_read_piece(x->f->v, p, at, x->block, n), 0);
		assert_int_equal(file_chunks_feed(x->fc, at, x->block, n), 0);
		at += n;
	}
	return 0;
}

/* What an import of the file as the mount shows it now would make of it. */
static void import(struct mf *f, uint64_t ino, struct extents *out)
{
	struct file_chunks_options opt = { .chunks = f->fx.s->chunks, .emit = collect };
	struct feeding x = { f, file_chunks_new(&opt), malloc(100 * KIB) };
	uint64_t size = mf_stat(f, ino).size;
	struct guard_session guard;
	struct view_lock l;

	assert_non_null(x.fc);
	assert_non_null(x.block);
	out->n = 0;
	out->bytes = 0;
	guard_session_begin(f->fx.s->guard, &guard);
	file_chunks_begin(x.fc, out);
	view_lock(f->v, &l, false, 1, &ino);
	assert_int_equal(view_pieces_locked(f->v, 0, ino, 0, size, feed_piece, &x), 0);
	view_unlock(f->v, &l);
	assert_int_equal(file_chunks_end(x.fc, size), 0);
	guard_session_end(f->fx.s->guard, &guard);
	file_chunks_free(x.fc);
	free(x.block);
}

/* ---- a file and what it should hold ---- */

struct file {
	struct mf *f;
	uint64_t ino;
	uint8_t *data; /* max bytes */
	size_t size, max;
	uint64_t random;
	bool trace;
	struct extents *is, *want;
};

static void file_new(struct file *t, struct mf *f, const char *name, size_t max, uint64_t seed)
{
	*t = (struct file){ .f = f, .max = max, .random = seed ? seed : 1 };
	t->ino = mf_file(f, name);
	t->data = calloc(1, max);
	t->is = malloc(sizeof(*t->is));
	t->want = malloc(sizeof(*t->want));
	t->trace = getenv("VARVE_TEST_TRACE");
	assert_true(t->data && t->is && t->want);
}

static void file_end(struct file *t)
{
	free(t->data);
	free(t->is);
	free(t->want);
}

#define TRACE(t, ...)                               \
	do {                                        \
		if ((t)->trace)                     \
			print_message(__VA_ARGS__); \
	} while (0)

static void do_write(struct file *t, size_t off, size_t len)
{
	if (off >= t->max)
		return;
	len = MIN(len, t->max - off);
	TRACE(t, "write(%zu, %zu)\n", off, len);
	for (size_t at = 0; at < len;) {
		size_t n = MIN(len - at, (size_t)1 << 20);

		mf_write(t->f, t->ino, off + at, t->data + off + at, n);
		at += n;
	}
	t->size = MAX(t->size, off + len);
}

static void do_truncate(struct file *t, size_t size)
{
	TRACE(t, "truncate(%zu)\n", size);
	mf_truncate(t->f, t->ino, size);
	if (size < t->size)
		memset(t->data + size, 0, t->size - size);
	t->size = size;
}

static void do_punch(struct file *t, size_t off, size_t len)
{
	if (!len)
		return;
	TRACE(t, "punch(%zu, %zu)\n", off, len);
	/* FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE */
	assert_int_equal(view_fallocate(t->f->v, t->ino, 3, off, len, 0), 0);
	if (off < t->size)
		memset(t->data + off, 0, MIN(len, t->size - off));
}

/* The extents as sealed are those of an import, and so are bytes and sizes. */
static void seal_and_check(struct file *t)
{
	struct mf *f = t->f;

	mf_assert_content(f, t->ino, t->data, t->size);
	assert_int_equal(mf_stat(f, t->ino).alloc_bytes, mf_alloc(f, t->ino));
	import(f, t->ino, t->want);
	TRACE(t, "seal %zu\n", t->size);
	mf_checkpoint(f);
	t->is->n = 0;
	t->is->bytes = 0;
	assert_int_equal(tree_fs_extents(&f->v->base, t->ino, 0, UINT64_MAX, collect, t->is), 0);
	assert_same(t->is, t->want);
	mf_assert_content(f, t->ino, t->data, t->size);
	assert_int_equal(mf_stat(f, t->ino).alloc_bytes, t->is->bytes);
}

/* ---- random edits ---- */

static size_t some_offset(struct file *t)
{
	static const size_t near[] = { 0,	  512,	     64 * KIB,	128 * KIB,
				       192 * KIB, 256 * KIB, 512 * KIB, 1024 * KIB };
	uint64_t *r = &t->random;
	size_t at;

	switch (mf_below(r, 4)) {
	case 0:
		at = near[mf_below(r, ARRAY_SIZE(near))];
		break;
	case 1: /* a block's edge */
		at = mf_below(r, t->max / (64 * KIB) + 1) * 64 * KIB;
		break;
	case 2:
		at = t->size;
		break;
	default:
		return mf_below(r, t->size + t->size / 16 + 2) % (t->max + 1);
	}
	at += mf_below(r, 3); /* on it or beside it */
	return MIN(at ? at - 1 : 0, t->max);
}

static size_t some_length(struct file *t)
{
	static const size_t lengths[] = { 1, 100, 512, 4096, 64 * KIB, 128 * KIB, 300 * KIB };

	if (mf_below(&t->random, 3) == 0)
		return 64 * KIB + mf_below(&t->random, 3) - 1;
	return 1 + mf_below(&t->random, lengths[mf_below(&t->random, ARRAY_SIZE(lengths))]);
}

static void fill(struct file *t, size_t off, size_t len)
{
	len = off < t->max ? MIN(len, t->max - off) : 0;
	switch (mf_below(&t->random, 7)) {
	case 0:
		memset(t->data + off, 0, len);
		break;
	case 1:
	case 3: /* no cut but the longest */
		memset(t->data + off, 'a', len);
		break;
	case 2: /* what is there already */
		break;
	default:
		mf_noise(&t->random, t->data + off, len);
	}
}

static void edit(struct file *t)
{
	size_t off = some_offset(t), len = some_length(t);

	switch (mf_below(&t->random, 10)) {
	case 0:
		do_truncate(t, off);
		break;
	case 1:
		do_punch(t, off, len);
		break;
	case 2:
		len = t->max / 2;
		/* fallthrough */
	default:
		fill(t, off, len);
		do_write(t, off, len);
	}
}

static void random_edits(struct mf *f, const char *name, size_t max, unsigned rounds)
{
	struct file t;

	file_new(&t, f, name, max, mf_seed());
	for (unsigned i = 0; i < rounds; i++) {
		for (uint64_t n = 1 + mf_below(&t.random, 4); n > 0; n--)
			edit(&t);
		TRACE(&t, "round %u ", i);
		seal_and_check(&t);
		if (i % 40 == 39) /* begin again with another file's shape */
			do_truncate(&t, mf_below(&t.random, 2) ? 0 : max / 3);
	}
	file_end(&t);
}

static void small_files_are_sealed_as_imported(void **state)
{
	random_edits(*state, "f", 1500, mf_rounds(100));
}

static void files_of_some_chunks_are_sealed_as_imported(void **state)
{
	random_edits(*state, "f", 400 * KIB, mf_rounds(120));
}

static void files_of_many_chunks_are_sealed_as_imported(void **state)
{
	random_edits(*state, "f", 3000 * KIB, mf_rounds(60));
}

/* Beyond 4 MiB chunks are stored by a pool. */
static void large_files_are_sealed_as_imported(void **state)
{
	random_edits(*state, "f", 7000 * KIB, mf_rounds(15));
}

/* ---- cases ---- */

/*
 * Bytes without a place to cut at: after a change, the new cuts meet no old one
 * before the next change.
 */
static void changes_meet_where_cuts_never_do(void **state)
{
	static const struct {
		size_t write_at, punch_at, punch_len;
	} cases[] = {
		{ 100 * KIB, 1500 * KIB, 70 * KIB },
		{ 100 * KIB, 1500 * KIB, 300 * KIB },
		{ 10, 2500 * KIB, 100 },
		{ 1000 * KIB, 1300 * KIB, 10 },
	};
	struct file t;

	file_new(&t, *state, "f", 3000 * KIB, 7);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		do_truncate(&t, 0);
		memset(t.data, 'a', t.max);
		do_write(&t, 0, t.max);
		seal_and_check(&t);
		mf_noise(&t.random, t.data + cases[i].write_at, 1000);
		do_write(&t, cases[i].write_at, 1000);
		do_punch(&t, cases[i].punch_at, cases[i].punch_len);
		seal_and_check(&t);
	}
	file_end(&t);
}

static void a_file_that_only_grew_or_shrank_is_sealed(void **state)
{
	static const size_t sizes[] = {
		0,	   1,	       511,	 512,	       513, 64 * KIB, 64 * KIB + 1,
		256 * KIB, 1024 * KIB, 65 * KIB, 64 * KIB - 1, 600, 512,      5,
		0
	};
	struct file t;

	for (int grow = 0; grow < 2; grow++) {
		file_new(&t, *state, grow ? "grow" : "write", 1024 * KIB, 3);
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
			if (sizes[i] < t.size || grow) {
				do_truncate(&t, sizes[i]);
			} else {
				mf_noise(&t.random, t.data + t.size, sizes[i] - t.size);
				do_write(&t, t.size, sizes[i] - t.size);
			}
			seal_and_check(&t);
		}
		file_end(&t);
	}
}

/* The record is that of before the seal, which makes holes of zeros. */
static void a_mode_changed_during_a_seal_keeps_the_seals_count(void **state)
{
	struct view_setattr set = { .valid = VIEW_SET_MODE, .mode = 0600 };
	struct mf *f = *state;
	struct inode_rec rec;
	struct tree_value pin;
	struct view_attr a;
	struct file t;

	file_new(&t, f, "f", 16000 * KIB, 5);
	mf_noise(&t.random, t.data, t.max - 1000 * KIB);
	do_write(&t, 0, t.max);
	mf_swap(f);
	assert_int_equal(view_setattr(f->v, t.ino, &set, &a), 0);
	mf_wait_sealed(f);
	mf_checkpoint(f);
	t.is->bytes = t.is->n = 0;
	assert_int_equal(tree_fs_extents(&f->v->base, t.ino, 0, UINT64_MAX, collect, t.is), 0);
	assert_int_equal(tree_fs_inode(&f->v->base, t.ino, &rec, &pin), 0);
	assert_int_equal(rec.mode, S_IFREG | 0600);
	assert_int_equal(rec.alloc_bytes, t.is->bytes);
	tree_value_release(&pin);
	file_end(&t);
}

/* A checkpoint costs what changed: most chunks of a large file are kept. */
static void a_small_change_rechunks_little(void **state)
{
	struct mf *f = *state;
	struct seal_result res;
	struct error err = ERROR_INIT;
	struct guard_session guard;
	struct file t;

	file_new(&t, f, "f", 3000 * KIB, 11);
	mf_noise(&t.random, t.data, t.max);
	do_write(&t, 0, t.max);
	seal_and_check(&t);
	t.data[1500 * KIB] ^= 1;
	t.data[2800 * KIB] ^= 1;
	do_write(&t, 1500 * KIB, 1);
	do_write(&t, 2800 * KIB, 1);
	/* As a checkpoint does it, to see what is stored. */
	guard_session_begin(f->fx.s->guard, &guard);
	struct upper *next = upper_new(f->v->cur->id, 1000);

	f->v->sealed = f->v->cur;
	f->v->cur = next;
	assert_int_equal(seal_run(f->v, 1000, &res, &err), 0);
	f->v->cur = f->v->sealed;
	f->v->sealed = NULL;
	upper_free(next);
	guard_session_end(f->fx.s->guard, &guard);
	assert_true(res.new_bytes > 2);
	assert_true(res.new_bytes < 1200 * KIB);
	seal_and_check(&t);
	file_end(&t);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, mf_setup, mf_teardown)
	const struct CMUnitTest tests[] = {
		T(small_files_are_sealed_as_imported),
		T(files_of_some_chunks_are_sealed_as_imported),
		T(files_of_many_chunks_are_sealed_as_imported),
		T(large_files_are_sealed_as_imported),
		T(changes_meet_where_cuts_never_do),
		T(a_file_that_only_grew_or_shrank_is_sealed),
		T(a_mode_changed_during_a_seal_keeps_the_seals_count),
		T(a_small_change_rechunks_little),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
