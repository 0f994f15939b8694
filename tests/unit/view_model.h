/*
 * view_model.h - a filesystem in memory, as simple as can be, that a view is
 * compared with: what each operation returns, and all that can be seen.
 */
#ifndef VARVE_TEST_VIEW_MODEL_H
#define VARVE_TEST_VIEW_MODEL_H

#include <sys/xattr.h>

#include "tests/unit/mount_fixture.h"

#define VM_INODES 120
#define VM_NAMES 400
#define VM_SIZE_MAX (200u << 10)
#define VM_XATTRS 4

static const char *const vm_xattr_names[VM_XATTRS] = { "user.a", "user.bb", "trusted.c",
						       "security.capability" };
#define VM_CAPS 3

struct vm_inode {
	uint64_t ino; /* 0: free */
	uint32_t mode, uid, gid;
	unsigned nlink; /* names; directories: 1 while they have theirs */
	unsigned open;	/* lookups that the kernel holds */
	bool was_tmpfile;
	char target[64];
	uint8_t *data, *there; /* VM_SIZE_MAX; there: 1 where there is no hole */
	size_t size;
	char xattr[VM_XATTRS][16]; /* "" : none */
};

struct vm_name {
	struct vm_inode *dir, *to; /* dir NULL: free */
	char name[32];
};

struct vm {
	struct mf *f;
	uint64_t random;
	/* Has a failure been injected since the last call? NULL: there are none. */
	bool (*was_injected)(void);
	bool beside_sealing; /* checkpoints are not waited for; then no zeros are written */
	struct vm_inode inodes[VM_INODES]; /* the first is the root */
	struct vm_name names[VM_NAMES];
};

static inline struct vm *vm_new(struct mf *f)
{
	struct vm *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->f = f;
	m->random = mf_seed();
	m->inodes[0] = (struct vm_inode){ .ino = ROOT_INO, .mode = S_IFDIR | 0755, .nlink = 1 };
	return m;
}

static inline void vm_free_inode(struct vm_inode *i)
{
	free(i->data);
	free(i->there);
	memset(i, 0, sizeof(*i));
}

static inline void vm_free(struct vm *m)
{
	for (int i = 0; i < VM_INODES; i++)
		vm_free_inode(&m->inodes[i]);
	free(m);
}

static inline struct vm_name *vm_find(struct vm *m, const struct vm_inode *dir, const char *name)
{
	for (int i = 0; i < VM_NAMES; i++)
		if (m->names[i].dir == dir && strcmp(m->names[i].name, name) == 0)
			return &m->names[i];
	return NULL;
}

/* The name of a directory, or one of a file's. */
static inline struct vm_name *vm_name_of(struct vm *m, const struct vm_inode *i)
{
	for (int n = 0; n < VM_NAMES; n++)
		if (m->names[n].dir && m->names[n].to == i)
			return &m->names[n];
	return NULL;
}

static inline unsigned vm_entries(struct vm *m, const struct vm_inode *dir, bool dirs_only)
{
	unsigned n = 0;

	for (int i = 0; i < VM_NAMES; i++)
		n += m->names[i].dir == dir && (!dirs_only || S_ISDIR(m->names[i].to->mode));
	return n;
}

static inline bool vm_is_below(struct vm *m, const struct vm_inode *i, const struct vm_inode *dir)
{
	while (i && i != dir) {
		struct vm_name *n = vm_name_of(m, i);

		i = n ? n->dir : NULL;
	}
	return i != NULL;
}

static inline void vm_add_name(struct vm *m, struct vm_inode *dir, const char *name,
			       struct vm_inode *to)
{
	for (int i = 0; i < VM_NAMES; i++) {
		if (m->names[i].dir)
			continue;
		m->names[i].dir = dir;
		m->names[i].to = to;
		snprintf(m->names[i].name, sizeof(m->names[i].name), "%s", name);
		to->nlink++;
		return;
	}
	fail_msg("too many names");
}

/* Gone where nothing holds it any more. */
static inline void vm_drop(struct vm_inode *i)
{
	if (i->ino && !i->nlink && !i->open)
		vm_free_inode(i);
}

static inline void vm_del_name(struct vm_name *n)
{
	struct vm_inode *to = n->to;

	memset(n, 0, sizeof(*n));
	to->nlink--;
	vm_drop(to);
}

static inline struct vm_inode *vm_add_inode(struct vm *m, uint64_t ino, uint32_t mode)
{
	for (int i = 1; i < VM_INODES; i++) {
		struct vm_inode *n = &m->inodes[i];

		if (n->ino)
			continue;
		*n = (struct vm_inode){ .ino = ino, .mode = mode };
		if (S_ISREG(mode)) {
			n->data = calloc(1, VM_SIZE_MAX);
			n->there = calloc(1, VM_SIZE_MAX);
			assert_true(n->data && n->there);
		}
		return n;
	}
	return NULL;
}

/* Sealing makes holes of aligned blocks that are data and all zeros. */
static inline void vm_sealed(struct vm *m)
{
	for (int k = 0; k < VM_INODES; k++) {
		struct vm_inode *i = &m->inodes[k];

		if (!i->ino || !S_ISREG(i->mode) || !i->nlink)
			continue;
		for (size_t at = 0; at + CHUNK_ZERO_RUN <= i->size; at += CHUNK_ZERO_RUN)
			if (!memchr(i->there + at, 0, CHUNK_ZERO_RUN) &&
			    chunker_is_zero(i->data + at, CHUNK_ZERO_RUN))
				memset(i->there + at, 0, CHUNK_ZERO_RUN);
	}
}

/* ---- comparing ---- */

static inline void vm_check_holes(struct vm *m, const struct vm_inode *i)
{
	uint64_t alloc = 0;

	for (size_t at = 0; at < i->size;) {
		bool data = i->there[at];
		size_t end = at;

		while (end < i->size && i->there[end] == data)
			end++;
		alloc += data ? end - at : 0;
		assert_int_equal(view_seek(m->f->v, i->ino, at, SEEK_DATA), data ? (int64_t)at
									    : end < i->size
										    ? (int64_t)end
										    : -ENXIO);
		assert_int_equal(view_seek(m->f->v, i->ino, at, SEEK_HOLE), data ? end : at);
		at = end;
	}
	assert_int_equal(view_seek(m->f->v, i->ino, i->size, SEEK_HOLE), -ENXIO);
	assert_int_equal(mf_stat(m->f, i->ino).alloc_bytes, alloc);
}

static inline void vm_check_xattrs(struct vm *m, const struct vm_inode *i)
{
	struct buf names CLEANUP(buf_fini_p) = BUF_INIT;
	size_t len = 0;

	for (int k = 0; k < VM_XATTRS; k++) {
		struct buf got CLEANUP(buf_fini_p) = BUF_INIT;
		int r = view_getxattr(m->f->v, i->ino, vm_xattr_names[k], &got);

		assert_int_equal(r, i->xattr[k][0] ? 0 : -ENODATA);
		if (r == 0)
			assert_string_equal(buf_cstr(&got), i->xattr[k]);
		len += i->xattr[k][0] ? strlen(vm_xattr_names[k]) + 1 : 0;
	}
	assert_int_equal(view_listxattr(m->f->v, i->ino, true, &names), 0);
	assert_int_equal(names.len, len);
}

struct vm_listing {
	struct vm *m;
	const struct vm_inode *dir;
	unsigned seen, left; /* left: to give before the reply is full */
	uint64_t cookie;
};

static inline int vm_list_one(void *arg, uint64_t cookie, const struct dirent_rec *e)
{
	struct vm_listing *l = arg;
	char name[256];

	if (!l->left)
		return 1;
	assert_true(cookie > l->cookie);
	memcpy(name, e->name, e->name_len);
	name[e->name_len] = 0;
	struct vm_name *n = vm_find(l->m, l->dir, name);

	if (!n)
		fail_msg("%s is listed and should not be there", name);
	assert_int_equal(n->to->ino, e->ino);
	assert_int_equal(mode_to_dtype(n->to->mode), e->type);
	l->cookie = cookie;
	l->seen++;
	l->left--;
	return 0;
}

static inline void vm_check_dir(struct vm *m, const struct vm_inode *i)
{
	struct vm_listing l = { .m = m, .dir = i };
	unsigned before;

	do {
		before = l.seen;
		l.left = 1 + (unsigned)mf_below(&m->random, 5);
		assert_int_equal(view_readdir(m->f->v, i->ino, l.cookie, vm_list_one, &l), 0);
	} while (l.seen > before);
	assert_int_equal(l.seen, vm_entries(m, i, false));
}

static inline void vm_check_inode(struct vm *m, const struct vm_inode *i)
{
	struct vm_name *name = vm_name_of(m, i);
	struct inode_rec rec = mf_stat(m->f, i->ino);
	struct view_attr up;

	assert_int_equal(rec.mode, i->mode);
	assert_int_equal(rec.uid, i->uid);
	assert_int_equal(rec.gid, i->gid);
	vm_check_xattrs(m, i);
	if (S_ISDIR(i->mode)) {
		assert_int_equal(rec.nlink, i->nlink ? 2 + vm_entries(m, i, true) : 0);
		if (name) {
			assert_int_equal(view_parent(m->f->v, i->ino, &up), 0);
			assert_int_equal(up.ino, name->dir->ino);
		}
		vm_check_dir(m, i);
		return;
	}
	assert_int_equal(rec.nlink, i->nlink);
	if (S_ISREG(i->mode)) {
		mf_assert_content(m->f, i->ino, i->data, i->size);
		vm_check_holes(m, i);
	} else if (S_ISLNK(i->mode)) {
		struct buf target CLEANUP(buf_fini_p) = BUF_INIT;

		assert_int_equal(view_readlink(m->f->v, i->ino, &target), 0);
		assert_string_equal(buf_cstr(&target), i->target);
	}
}

static inline void vm_check_all(struct vm *m)
{
	struct view_attr a;

	for (int i = 0; i < VM_INODES; i++)
		if (m->inodes[i].ino)
			vm_check_inode(m, &m->inodes[i]);
	for (int i = 0; i < VM_NAMES; i++) {
		struct vm_name *n = &m->names[i];

		if (!n->dir)
			continue;
		assert_int_equal(view_lookup(m->f->v, n->dir->ino, n->name, &a), 0);
		assert_int_equal(a.ino, n->to->ino);
	}
}

#endif
