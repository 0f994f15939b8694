/*
 * mount_fixture.h - a mount without FUSE: its view, checkpoints and restarts on
 * a store in a temporary directory.
 */
#ifndef VARVE_TEST_MOUNT_FIXTURE_H
#define VARVE_TEST_MOUNT_FIXTURE_H

#include "tests/unit/fs_fixture.h"

#include "fs/mount/mount_internal.h"

struct mf {
	struct fx fx;
	struct mount *m;
	struct view *v; /* of m */
};

static const struct view_cred mf_root = { 0, 0, 022 };

/* ---- random ---- */

static inline uint64_t mf_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 11;
}

/* 0 .. n - 1 */
static inline uint64_t mf_below(uint64_t *state, uint64_t n)
{
	return mf_random(state) % n;
}

static inline void mf_noise(uint64_t *state, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i += 4) {
		uint64_t r = mf_random(state);

		memcpy(out + i, &r, MIN(len - i, (size_t)4));
	}
}

/* As many rounds as the sanitizer's build has time for. VARVE_TEST_ROUNDS multiplies. */
static inline unsigned mf_rounds(unsigned n)
{
	const char *times = getenv("VARVE_TEST_ROUNDS");

	return times ? n * (unsigned)atoi(times) : n;
}

static inline uint64_t mf_seed(void)
{
	const char *seed = getenv("VARVE_TEST_SEED");

	return seed ? strtoull(seed, NULL, 10) * 0x9e3779b97f4a7c15ull + 1 : 88172645463325252ull;
}

/* ---- the mount ---- */

static inline void mf_new_mount(struct mf *f, const struct digest *root, uint64_t quota_bytes)
{
	struct mount_record rec = { .epoch = 1, .limits.quota_bytes = quota_bytes };
	struct error err = ERROR_INIT;

	id_random(rec.id);
	rec.base = *root;
	snprintf(rec.snapshot_name, sizeof(rec.snapshot_name), "base");
	rec.mountpoint = strdup("/nowhere/at/all");
	rec.fsname = strdup("test");
	assert_int_equal(mount_record_write(f->fx.s, &rec, KV_LOG), 0);
	if (mount_new(f->fx.s, NULL, &rec, NULL, &f->m, &err))
		fail_msg("mount_new: %s", error_text(&err));
	f->v = &f->m->view;
}

static inline void mf_open_on(struct mf *f, const struct model *base)
{
	struct digest root;

	fx_open(&f->fx);
	root = m_snapshot(f->fx.s, base, "base");
	mf_new_mount(f, &root, 0);
}

/* On a filesystem with nothing but its root. */
static inline void mf_open(struct mf *f)
{
	struct model *base = m_new();

	mf_open_on(f, base);
	m_free(base);
}

static inline void mf_load(struct mf *f)
{
	struct error err = ERROR_INIT;
	struct mount **list;
	size_t n;

	if (mount_load_all(f->fx.s, NULL, &list, &n, &err))
		fail_msg("mount_load_all: %s", error_text(&err));
	assert_int_equal(n, 1);
	f->m = list[0];
	f->v = &f->m->view;
	free(list);
}

/* The daemon ends, orderly, and starts again. */
static inline void mf_restart(struct mf *f)
{
	mount_close(f->m);
	fx_reopen(&f->fx);
	mf_load(f);
}

static inline void mf_close(struct mf *f)
{
	mount_close(f->m);
	fx_close(&f->fx);
}

static inline void mf_wait_sealed(struct mf *f)
{
	struct error err = ERROR_INIT;

	if (mount_wait_sealed(f->m, &err))
		fail_msg("sealing: %s", error_text(&err));
}

/* Begin a checkpoint; sealing goes on. */
static inline void mf_swap(struct mf *f)
{
	struct snapshot snap;
	struct error err = ERROR_INIT;

	if (mount_checkpoint(f->m, NULL, NULL, &snap, &err))
		fail_msg("checkpoint: %s", error_text(&err));
	snapshot_fini(&snap);
}

static inline void mf_checkpoint(struct mf *f)
{
	mf_swap(f);
	mf_wait_sealed(f);
}

static inline __attribute__((unused)) int mf_setup(void **state)
{
	struct mf *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	mf_open(f);
	*state = f;
	return 0;
}

static inline __attribute__((unused)) int mf_teardown(void **state)
{
	mf_close(*state);
	free(*state);
	return 0;
}

/* ---- short forms of operations; they succeed ---- */

static inline uint64_t mf_create(struct mf *f, uint64_t dir, const char *name, uint32_t mode)
{
	struct view_attr a;

	assert_int_equal(view_create(f->v, dir, name, mode, 0, NULL, &mf_root, &a), 0);
	return a.ino;
}

static inline uint64_t mf_file(struct mf *f, const char *name)
{
	return mf_create(f, ROOT_INO, name, S_IFREG | 0644);
}

static inline void mf_write(struct mf *f, uint64_t ino, uint64_t off, const void *data, size_t len)
{
	assert_int_equal(view_write(f->v, ino, off, data, len, 0), len);
}

static inline void mf_truncate(struct mf *f, uint64_t ino, uint64_t size)
{
	struct view_setattr set = { .valid = VIEW_SET_SIZE, .size = size };
	struct view_attr a;

	assert_int_equal(view_setattr(f->v, ino, &set, &a), 0);
	assert_int_equal(a.rec.size, size);
}

static inline struct inode_rec mf_stat(struct mf *f, uint64_t ino)
{
	struct view_attr a;

	assert_int_equal(view_getattr(f->v, ino, &a), 0);
	return a.rec;
}

/* The file has these bytes. */
static inline void mf_assert_content(struct mf *f, uint64_t ino, const uint8_t *want, size_t len)
{
	uint8_t *got = malloc(len + 1);

	assert_non_null(got);
	assert_int_equal(mf_stat(f, ino).size, len);
	assert_int_equal(view_read(f->v, ino, 0, got, len + 1), len);
	for (size_t i = 0; i < len; i++)
		if (got[i] != want[i])
			fail_msg("inode %llu, byte %zu of %zu: %02x, not %02x",
				 (unsigned long long)ino, i, len, got[i], want[i]);
	free(got);
}

/* ---- bytes that a file holds, beside holes ---- */

static inline int mf_add_alloc(void *arg, const struct piece *p)
{
	*(uint64_t *)arg += p->kind == PIECE_HOLE ? 0 : p->len;
	return 0;
}

static inline uint64_t mf_alloc(struct mf *f, uint64_t ino)
{
	uint64_t sum = 0, size = mf_stat(f, ino).size;
	struct view_lock l;

	view_lock(f->v, &l, false, 1, &ino);
	assert_int_equal(view_pieces_locked(f->v, 0, ino, 0, size, mf_add_alloc, &sum), 0);
	view_unlock(f->v, &l);
	return sum;
}

#endif
