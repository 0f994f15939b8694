/*
 * fs_fixture.h - a store in a temporary directory, and filesystems made by hand
 * to put into it: a model in memory, changed by path, written as a whole tree.
 */
#ifndef VARVE_TEST_FS_FIXTURE_H
#define VARVE_TEST_FS_FIXTURE_H

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/chunk/chunker.h"
#include "store/store.h"

/*
 * For tests that let each call fail in turn: a sanitizer makes them ten times slower (every one
 * has a store of its own), so its build takes one call in so many. The others take them all.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CALL_STRIDE 3
#else
#define CALL_STRIDE 1
#endif

/* ---- store ---- */

struct fx {
	char dir[256];
	struct store *s;
};

static inline int fx_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void fx_open_store(struct fx *f)
{
	static const struct store_options opt = { .node_cache_bytes = 4 << 20,
						  .chunk_cache_bytes = 4 << 20,
						  .block_cache_bytes = 4 << 20,
						  .reserve_bytes = SPACE_RESERVE_MIN };
	struct error err = ERROR_INIT;
	if (store_open(f->dir, &opt, &f->s, &err) != 0)
		fail_msg("store_open: %s", error_text(&err));
}

static inline void fx_open(struct fx *f)
{
	const char *tmp = getenv("TMPDIR");
	memset(f, 0, sizeof(*f));
	snprintf(f->dir, sizeof(f->dir), "%s/varve-test-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	fx_open_store(f);
}

static inline void fx_reopen(struct fx *f)
{
	store_close(STEAL(f->s));
	fx_open_store(f);
}

static inline void fx_close(struct fx *f)
{
	store_close(f->s);
	assert_int_equal(nftw(f->dir, fx_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static inline __attribute__((unused)) int fx_setup(void **state)
{
	struct fx *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	fx_open(f);
	*state = f;
	return 0;
}

static inline __attribute__((unused)) int fx_teardown(void **state)
{
	fx_close(*state);
	free(*state);
	return 0;
}

/* ---- model of a filesystem ---- */

#define M_INODES 4096
#define M_LINKS 4096

struct m_inode {
	uint32_t mode; /* 0: free */
	uint32_t uid, gid;
	int64_t mtime;
	uint64_t rdev;
	uint64_t size; /* >= data_len: the rest is a hole */
	char *data;    /* owned; of a file, or a symlink's target */
	size_t data_len;
	uint64_t data_at; /* where data starts: a hole before it */
	char xattr[32];	  /* value of user.test, or "" */
};

struct m_link {
	uint64_t dir, ino; /* ino 0: free */
	char name[256];
};

/* inode[i] has number i. */
struct model {
	struct m_inode inode[M_INODES];
	struct m_link link[M_LINKS];
	uint64_t next_ino;
};

static inline struct model *m_new(void)
{
	struct model *m = calloc(1, sizeof(*m));
	assert_non_null(m);
	m->inode[ROOT_INO] = (struct m_inode){ .mode = S_IFDIR | 0755, .mtime = 1000 };
	m->next_ino = 2;
	return m;
}

static inline void m_free(struct model *m)
{
	for (size_t i = 0; i < M_INODES; i++)
		free(m->inode[i].data);
	free(m);
}

static inline struct model *m_copy(const struct model *m)
{
	struct model *c = malloc(sizeof(*c));
	assert_non_null(c);
	memcpy(c, m, sizeof(*c));
	for (size_t i = 0; i < M_INODES; i++) {
		if (!m->inode[i].data)
			continue;
		c->inode[i].data = malloc(m->inode[i].data_len + 1);
		assert_non_null(c->inode[i].data);
		memcpy(c->inode[i].data, m->inode[i].data, m->inode[i].data_len + 1);
	}
	return c;
}

static inline struct m_link *m_find(struct model *m, uint64_t dir, const char *name, size_t len)
{
	for (size_t i = 0; i < M_LINKS; i++) {
		if (m->link[i].ino && m->link[i].dir == dir && strlen(m->link[i].name) == len &&
		    memcmp(m->link[i].name, name, len) == 0)
			return &m->link[i];
	}
	return NULL;
}

/* The directory that a path is in; *name: its last component. */
static inline uint64_t m_parent(struct model *m, const char *path, const char **name)
{
	uint64_t dir = ROOT_INO;
	const char *slash;
	while ((slash = strchr(path, '/'))) {
		const struct m_link *l = m_find(m, dir, path, (size_t)(slash - path));
		assert_non_null(l);
		dir = l->ino;
		path = slash + 1;
	}
	*name = path;
	return dir;
}

static inline struct m_link *m_link_of(struct model *m, const char *path)
{
	const char *name;
	uint64_t dir = m_parent(m, path, &name);
	struct m_link *l = m_find(m, dir, name, strlen(name));
	assert_non_null(l);
	return l;
}

static inline uint64_t m_ino(struct model *m, const char *path)
{
	return path[0] ? m_link_of(m, path)->ino : ROOT_INO;
}

static inline struct m_inode *m_at(struct model *m, const char *path)
{
	return &m->inode[m_ino(m, path)];
}

static inline void m_add_link(struct model *m, const char *path, uint64_t ino)
{
	const char *name;
	uint64_t dir = m_parent(m, path, &name);
	assert_null(m_find(m, dir, name, strlen(name)));
	for (size_t i = 0; i < M_LINKS; i++) {
		if (m->link[i].ino)
			continue;
		m->link[i].dir = dir;
		m->link[i].ino = ino;
		snprintf(m->link[i].name, sizeof(m->link[i].name), "%s", name);
		return;
	}
	fail_msg("too many links");
}

static inline uint64_t m_make(struct model *m, const char *path, uint32_t mode)
{
	uint64_t ino = m->next_ino++;
	assert_true(ino < M_INODES);
	m->inode[ino] = (struct m_inode){ .mode = mode, .mtime = 1000 + (int64_t)ino };
	m_add_link(m, path, ino);
	return ino;
}

static inline void m_dir(struct model *m, const char *path)
{
	m_make(m, path, S_IFDIR | 0755);
}

static inline void m_set(struct model *m, const char *path, const void *data, size_t len)
{
	struct m_inode *i = m_at(m, path);
	free(i->data);
	i->data = malloc(len + 1);
	assert_non_null(i->data);
	memcpy(i->data, data, len);
	i->data[len] = '\0';
	i->data_len = len;
	i->size = i->data_at + len;
	i->mtime += 1000000;
}

static inline void m_file(struct model *m, const char *path, const char *content)
{
	m_make(m, path, S_IFREG | 0644);
	m_set(m, path, content, strlen(content));
}

/* A file of len bytes that do not compress, other ones for each seed. */
static inline void m_random_file(struct model *m, const char *path, uint64_t seed, size_t len)
{
	uint8_t *data = malloc(len + 8);
	assert_non_null(data);
	seed = seed * 0x9e3779b97f4a7c15ull + 1;
	for (size_t i = 0; i < len; i += 8) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		memcpy(data + i, &seed, 8);
	}
	m_make(m, path, S_IFREG | 0644);
	m_set(m, path, data, len);
	free(data);
}

/* Words in a random order: a better compressor makes less of them. */
static inline __attribute__((unused)) void m_text_file(struct model *m, const char *path,
						       uint64_t seed, size_t len)
{
	static const char *const words[] = { "sand",	"gravel",  "clay",   "silt",  "varve ",
					     "of the ", " layer",  "summer", "lake ", ", and ",
					     ".\n",	"winter ", "1882",   "depth" };
	char *data = malloc(len + 16);
	assert_non_null(data);
	seed = seed * 0x9e3779b97f4a7c15ull + 1;
	for (size_t n = 0; n < len;) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		const char *w = words[(seed >> 33) % ARRAY_SIZE(words)];
		memcpy(data + n, w, strlen(w));
		n += strlen(w);
	}
	m_make(m, path, S_IFREG | 0644);
	m_set(m, path, data, len);
	free(data);
}

static inline void m_symlink(struct model *m, const char *path, const char *target)
{
	m_make(m, path, S_IFLNK | 0777);
	m_set(m, path, target, strlen(target));
}

static inline void m_hardlink(struct model *m, const char *old, const char *path)
{
	m_add_link(m, path, m_ino(m, old));
}

static inline uint32_t m_nlink(const struct model *m, uint64_t ino)
{
	uint32_t n = S_ISDIR(m->inode[ino].mode) ? 2 : 0;
	for (size_t i = 0; i < M_LINKS; i++) {
		const struct m_link *l = &m->link[i];
		if (!l->ino)
			continue;
		if (S_ISDIR(m->inode[ino].mode))
			n += l->dir == ino && S_ISDIR(m->inode[l->ino].mode);
		else
			n += l->ino == ino;
	}
	return n;
}

/* Remove a name, and the inode with its last one; of a directory, all that is in it. */
static inline void m_remove(struct model *m, const char *path)
{
	struct m_link *l = m_link_of(m, path);
	uint64_t ino = l->ino;
	if (S_ISDIR(m->inode[ino].mode)) {
		for (size_t i = 0; i < M_LINKS; i++) {
			char child[1024];
			if (!m->link[i].ino || m->link[i].dir != ino)
				continue;
			snprintf(child, sizeof(child), "%s/%s", path, m->link[i].name);
			m_remove(m, child);
		}
	}
	l->ino = 0;
	if (S_ISDIR(m->inode[ino].mode) || m_nlink(m, ino) == 0)
		m->inode[ino].mode = 0;
}

/* Rename to a name that is free. */
static inline void m_rename(struct model *m, const char *from, const char *to)
{
	uint64_t ino = m_ino(m, from);
	m_link_of(m, from)->ino = 0;
	m_add_link(m, to, ino);
}

/* ---- from the model to a tree ---- */

static inline void m_put(struct tree_batch *b, const struct key *k, struct buf *value)
{
	assert_int_equal(tree_batch_put(b, k->bytes, k->len, value->data, value->len), 0);
	buf_clear(value);
}

static inline void m_emit_data(struct store *s, struct tree_batch *b, uint64_t ino,
			       const struct m_inode *i, struct buf *value)
{
	struct extent_rec e = { .kind = EXTENT_INLINE };
	struct key k;
	if (!S_ISREG(i->mode) || !i->data_len)
		return;
	if (i->data_len <= INLINE_MAX) {
		e.len = (uint32_t)i->data_len;
		e.data = (uint8_t *)i->data;
		key_extent(&k, ino, i->data_at);
		assert_int_equal(extent_encode(&e, value), 0);
		m_put(b, &k, value);
		return;
	}
	for (size_t at = 0, len; at < i->data_len; at += len) {
		struct chunk_put_result put;
		len = i->data_len <= CHUNK_AVG
			      ? i->data_len
			      : chunker_cut((uint8_t *)i->data + at, i->data_len - at);
		assert_int_equal(chunk_store_put(s->chunks, i->data + at, len, &put), 0);
		e = (struct extent_rec){ EXTENT_CHUNK, (uint32_t)len, put.digest, NULL };
		key_extent(&k, ino, i->data_at + at);
		assert_int_equal(extent_encode(&e, value), 0);
		m_put(b, &k, value);
	}
}

static inline void m_emit_inode(struct store *s, struct tree_batch *b, const struct model *m,
				uint64_t ino, struct buf *value)
{
	const struct m_inode *i = &m->inode[ino];
	struct inode_rec r = {
		.mode = i->mode,
		.uid = i->uid,
		.gid = i->gid,
		.nlink = m_nlink(m, ino),
		.rdev = i->rdev,
		.size = S_ISREG(i->mode) || S_ISLNK(i->mode) ? i->size : 0,
		.alloc_bytes = S_ISREG(i->mode) ? i->data_len : 0,
		.atime = { 1000, 0 },
		.mtime = { i->mtime, 500 },
		.ctime = { i->mtime, 500 },
		.parent = ino == ROOT_INO ? ROOT_INO : 0,
	};
	struct key k;
	if (S_ISLNK(i->mode)) {
		r.target = i->data;
		r.target_len = i->data_len;
	}
	bool single = S_ISDIR(i->mode) || r.nlink == 1;
	for (size_t n = 0; n < M_LINKS; n++) {
		const struct m_link *l = &m->link[n];
		if (l->ino != ino)
			continue;
		uint64_t hash = name_hash(l->name, strlen(l->name));
		if (single) {
			r.parent = l->dir;
			r.name_hash = hash;
			continue;
		}
		key_backref(&k, ino, l->dir, hash);
		assert_int_equal(buf_append_str(value, l->name), 0);
		m_put(b, &k, value);
	}
	key_inode(&k, ino);
	assert_int_equal(inode_encode(&r, value), 0);
	m_put(b, &k, value);
	if (i->xattr[0]) {
		key_xattr(&k, ino, "user.test", strlen("user.test"));
		assert_int_equal(buf_append_str(value, i->xattr), 0);
		m_put(b, &k, value);
	}
	m_emit_data(s, b, ino, i, value);
}

static inline void m_emit_links(struct tree_batch *b, const struct model *m, struct buf *value)
{
	struct key k;
	for (size_t n = 0; n < M_LINKS; n++) {
		const struct m_link *l = &m->link[n];
		if (!l->ino)
			continue;
		struct dirent_rec e = {
			.ino = l->ino,
			.type = mode_to_dtype(m->inode[l->ino].mode),
			.name_len = (uint8_t)strlen(l->name),
			.name = l->name,
		};
		key_dirent(&k, l->dir, name_hash(l->name, e.name_len));
		assert_int_equal(dirent_list_put(NULL, 0, &e, value), 0);
		m_put(b, &k, value);
	}
}

/* All keys of the model's tree; the caller may add damage before it applies them. */
static inline void m_emit(struct store *s, const struct model *m, struct tree_batch *b)
{
	CLEANUP(buf_fini_p) struct buf value = BUF_INIT;
	struct super_rec super = { .next_ino = m->next_ino };
	struct key k;
	for (uint64_t ino = 1; ino < M_INODES; ino++) {
		if (!m->inode[ino].mode)
			continue;
		super.inode_count++;
		super.data_bytes += S_ISREG(m->inode[ino].mode) ? m->inode[ino].size : 0;
		m_emit_inode(s, b, m, ino, &value);
	}
	m_emit_links(b, m, &value);
	key_super(&k);
	assert_int_equal(super_encode(&super, &value), 0);
	m_put(b, &k, &value);
}

static inline struct digest m_apply(struct store *s, struct tree_batch *b)
{
	struct digest root;
	assert_int_equal(tree_empty(s->nodes, &root), 0);
	assert_int_equal(tree_apply(s->nodes, &root, b, &root, NULL), 0);
	return root;
}

static inline struct digest m_tree(struct store *s, const struct model *m)
{
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	assert_non_null(b);
	m_emit(s, m, b);
	return m_apply(s, b);
}

/* Store the model as a snapshot, within a session. */
static inline struct digest m_snapshot(struct store *s, const struct model *m, const char *name)
{
	struct snapshot snap = { .status = SNAPSHOT_READY, .has_root = true };
	struct guard_session session;
	struct error err = ERROR_INIT;
	snprintf(snap.name, sizeof(snap.name), "%s", name);
	guard_session_begin(s->guard, &session);
	snap.root = m_tree(s, m);
	if (snapshots_put(s->snapshots, &snap, NULL, &err) != 0)
		fail_msg("snapshots_put: %s", error_text(&err));
	guard_session_end(s->guard, &session);
	return snap.root;
}

#endif
