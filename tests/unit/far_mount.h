/*
 * far_mount.h - real mounts whose base is far away: a store with the content, and another one
 * that has it as its far source. The other one's caches keep nothing, and its database is emptied
 * by fm_go_cold; so each operation is sent for what it needs.
 */
#ifndef VARVE_TEST_FAR_MOUNT_H
#define VARVE_TEST_FAR_MOUNT_H

#include "tests/unit/mount_fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "fs/fuse/session_internal.h"
#include "store/kv/meta.h"
#include "tests/unit/far_source.h"

#define FM_FILES 64
#define FM_FILE_BYTES (20u << 10)

struct fm {
	struct fx origin, fx;
	struct source *behind;
	struct far *far;
	struct session_pool *pool;
	struct shared_files *files;
	enum mount_cache cache; /* of the far mount */
	struct snapshot far_snap, near_snap;
	struct mount *m, *other; /* of the far base; of one that is here */
	char dir[300], other_dir[300];
};

/* Directory d with files f0 ... of a chunk each, and some of everything else. */
static inline struct model *fm_model(void)
{
	struct model *m = m_new();
	char path[32];

	m_dir(m, "d");
	for (unsigned i = 0; i < FM_FILES; i++) {
		snprintf(path, sizeof(path), "d/f%u", i);
		m_random_file(m, path, i + 1, FM_FILE_BYTES);
	}
	m_random_file(m, "big", 99, 1 << 20);
	m_file(m, "small", "a few bytes");
	m_symlink(m, "link", "small");
	m_hardlink(m, "small", "d/second");
	m_dir(m, "empty");
	m_dir(m, "d/sub");
	m_file(m, "d/sub/deep", "deep down");
	snprintf(m_at(m, "small")->xattr, sizeof(m->inode[0].xattr), "of small");
	return m;
}

static inline void fm_open_store(struct fm *f)
{
	/* A byte keeps nothing. */
	static const struct store_options opt = { .node_cache_bytes = 1,
						  .chunk_cache_bytes = 1,
						  .reserve_bytes = SPACE_RESERVE_MIN };
	struct error err = ERROR_INIT;

	store_close(STEAL(f->fx.s));
	if (store_open(f->fx.dir, &opt, &f->fx.s, &err))
		fail_msg("store_open: %s", error_text(&err));
	store_set_far(f->fx.s, &f->far->source);
}

static inline void fm_mount(struct fm *f, const struct snapshot *snap, const char *dir,
			    struct mount **out)
{
	const struct mount_options opt = { .mountpoint = dir, .cache = f->cache };
	struct error err = ERROR_INIT;

	if (mount_create(f->fx.s, f->pool, snap, &opt, out, &err))
		fail_msg("mount_create: %s", error_text(&err));
}

static inline int fm_setup_cache(void **state, enum mount_cache cache)
{
	struct fm *f = calloc(1, sizeof(*f));
	struct model *far = fm_model(), *near = m_new();
	struct error err = ERROR_INIT;

	assert_non_null(f);
	f->cache = cache;
	fx_open(&f->origin);
	fx_open(&f->fx);
	f->behind = source_kv_new(f->origin.s->kv);
	assert_non_null(f->behind);
	f->far = far_new(f->behind);
	fm_open_store(f);
	/* As of a store with a bucket. */
	assert_int_equal(meta_put(f->fx.s->kv, META_REMOTE, "far", "{}", 2, KV_LOG), 0);
	m_file(near, "here", "near");
	m_snapshot(f->fx.s, near, "near");
	f->far_snap.status = SNAPSHOT_READY;
	f->far_snap.has_root = true;
	f->far_snap.root = m_snapshot(f->origin.s, far, "far");
	snprintf(f->far_snap.name, sizeof(f->far_snap.name), "far");
	if (snapshots_put(f->fx.s->snapshots, &f->far_snap, NULL, &err))
		fail_msg("snapshots_put: %s", error_text(&err));
	assert_int_equal(snapshots_get(f->fx.s->snapshots, "near", &f->near_snap, &err), 0);
	m_free(far);
	m_free(near);
	f->pool = session_pool_new(8, &err);
	assert_non_null(f->pool);
	if (shared_files_open(f->fx.s, 0, &f->files, &err))
		fail_msg("%s", error_text(&err));
	session_pool_share(f->pool, f->files);
	snprintf(f->dir, sizeof(f->dir), "%s/far", f->fx.dir);
	snprintf(f->other_dir, sizeof(f->other_dir), "%s/near", f->fx.dir);
	assert_int_equal(mkdir(f->dir, 0755), 0);
	assert_int_equal(mkdir(f->other_dir, 0755), 0);
	fm_mount(f, &f->far_snap, f->dir, &f->m);
	fm_mount(f, &f->near_snap, f->other_dir, &f->other);
	*state = f;
	return 0;
}

static inline int fm_setup(void **state)
{
	return fm_setup_cache(state, MOUNT_CACHE_PRIVATE);
}

static inline int fm_setup_shared(void **state)
{
	return fm_setup_cache(state, MOUNT_CACHE_SHARED);
}

static inline int fm_teardown(void **state)
{
	struct fm *f = *state;

	far_hold(f->far, false);
	mount_close(f->m);
	mount_close(f->other);
	session_pool_free(f->pool);
	shared_files_close(f->files);
	snapshot_fini(&f->near_snap);
	fx_close(&f->fx);
	source_free(&f->far->source);
	source_free(f->behind);
	fx_close(&f->origin);
	free(f);
	return 0;
}

/* Path of a name in the far mount; the next call but three overwrites it. */
static inline const char *fm_path(const struct fm *f, const char *name)
{
	static _Thread_local char path[4][400];
	static _Thread_local unsigned n;
	char *p = path[n++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", f->dir, name);
	return p;
}

/* Forget what came from afar of one kind. */
static inline void fm_drop(struct fm *f, enum source_kind kind, enum kv_family family)
{
	chunk_store_flush_kept(f->fx.s->chunks);
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	CLEANUP(kv_iter_free_p) struct kv_iter *it = kv_iter_new_heads(f->fx.s->kv, family);
	struct digest d;
	size_t len;

	for (kv_iter_seek(it, "", 0); kv_iter_valid(it); kv_iter_next(it)) {
		memcpy(d.b, kv_iter_key(it, &len), DIGEST_SIZE);
		if (source_has(f->behind, kind, &d) == 1)
			kv_batch_del(f->fx.s->kv, b, family, d.b, DIGEST_SIZE);
	}
	assert_int_equal(kv_write(f->fx.s->kv, b, KV_NO_LOG), 0);
}

/* Mount it again, so that the kernel knows nothing of it, and forget what came from afar. */
static inline void fm_go_cold(struct fm *f)
{
	struct error err = ERROR_INIT;

	if (mount_detach(f->m, MOUNT_GENTLY, MOUNT_DETACH, &err) || mount_attach(f->m, NULL, &err))
		fail_msg("%s", error_text(&err));
	fm_drop(f, SOURCE_NODE, KV_NODE);
	fm_drop(f, SOURCE_CHUNK, KV_CHUNK);
}

/* Requests of the far mount that are parked. */
static inline unsigned fm_parked(struct fm *f)
{
	unsigned n;

	pthread_mutex_lock(&f->pool->parked.lock);
	n = f->m->session->parked.n;
	pthread_mutex_unlock(&f->pool->parked.lock);
	return n;
}

static inline void fm_await_parked(struct fm *f, unsigned n)
{
	for (int i = 0; fm_parked(f) < n; i++) {
		if (i > 30000)
			fail_msg("%u of %u requests are parked", fm_parked(f), n);
		usleep(1000);
	}
}

/* ---- use of the mounts ---- */

static char fm_buf[1 << 20];

static inline __attribute__((unused)) void fm_read_all(const struct fm *f, const char *name,
						       size_t len)
{
	int fd = open(fm_path(f, name), O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	for (size_t at = 0; at < len;) {
		ssize_t n = pread(fd, fm_buf + at, len - at, (off_t)at);

		assert_true(n > 0);
		at += (size_t)n;
	}
	close(fd);
}

/* The bytes of a file of fm_model. */
static inline __attribute__((unused)) void fm_check_random(const struct fm *f, const char *name,
							   uint64_t seed, size_t len)
{
	struct model *m = m_new();

	m_random_file(m, "x", seed, len);
	fm_read_all(f, name, len);
	assert_memory_equal(fm_buf, m_at(m, "x")->data, len);
	m_free(m);
}

/* All of this would wait for ever behind a held lock or without a serving thread. */
static inline __attribute__((unused)) void fm_use_neighbour(const struct fm *f)
{
	char path[400];
	struct stat st;

	for (int i = 0; i < 50; i++) {
		snprintf(path, sizeof(path), "%s/new%d", f->other_dir, i);
		int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);

		assert_true(fd >= 0);
		assert_int_equal(pwrite(fd, "12345", 5, 0), 5);
		assert_int_equal(pread(fd, fm_buf, 5, 0), 5);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(fsync(fd), 0);
		close(fd);
		assert_int_equal(unlink(path), 0);
	}
}

/*
 * A mount namespace of its own: a runtime that starts a container elsewhere copies all mounts that
 * it sees, and then a mount is not gone, nor its pages, when it is detached. False: skip.
 */
static inline bool fm_can_mount(void)
{
	if (geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	    access("/dev/fuse", R_OK | W_OK) == 0)
		return true;
	printf("1..0 # SKIP needs root and /dev/fuse\n");
	return false;
}

#endif
