/*
 * view_ops.h - random operations on a view and on its model. Some may be made to
 * fail by a test that stands in front of kv_write().
 */
#ifndef VARVE_TEST_VIEW_OPS_H
#define VARVE_TEST_VIEW_OPS_H

#include <linux/fs.h>

#include "store/gc/verify.h"
#include "store/tree/xattr.h"
#include "tests/unit/view_model.h"

/*
 * An operation returned r. True where the model is to follow: it is what the
 * model wants, and that is a success. A failure that was injected is -EIO.
 */
static inline bool vm_did(struct vm *m, int64_t r, int64_t want)
{
	if (m->was_injected && m->was_injected()) {
		assert_int_equal(r, -EIO);
		return false;
	}
	assert_int_equal(r, want);
	return want >= 0;
}

/* ---- choosing ---- */

static inline bool vm_is_any(const struct vm_inode *i)
{
	return i->ino != 0;
}

static inline bool vm_is_dir(const struct vm_inode *i)
{
	return i->ino && S_ISDIR(i->mode);
}

static inline bool vm_is_live_dir(const struct vm_inode *i)
{
	return vm_is_dir(i) && i->nlink;
}

static inline bool vm_is_file(const struct vm_inode *i)
{
	return i->ino && S_ISREG(i->mode);
}

static inline bool vm_is_linkable(const struct vm_inode *i)
{
	return i->ino && (i->nlink || i->was_tmpfile);
}

static inline struct vm_inode *vm_choose(struct vm *m, bool (*want)(const struct vm_inode *i))
{
	size_t start = mf_below(&m->random, VM_INODES);

	for (size_t k = 0; k < VM_INODES; k++) {
		struct vm_inode *i = &m->inodes[(start + k) % VM_INODES];

		if (want(i))
			return i;
	}
	return NULL;
}

static inline const char *vm_some_name(struct vm *m)
{
	static const char *const names[] = { "a", "b", "c", "d", "e", "f", "a longer name.txt" };

	return names[mf_below(&m->random, ARRAY_SIZE(names))];
}

static inline struct vm_name *vm_some_entry(struct vm *m)
{
	size_t start = mf_below(&m->random, VM_NAMES);

	for (size_t k = 0; k < VM_NAMES; k++)
		if (m->names[(start + k) % VM_NAMES].dir)
			return &m->names[(start + k) % VM_NAMES];
	return NULL;
}

/* ---- names ---- */

/* A setgid directory gives its group, and to directories its setgid. */
static inline void vm_inherit_group(struct vm_inode *i, const struct vm_inode *dir)
{
	if (!(dir->mode & S_ISGID))
		return;
	i->gid = dir->gid;
	i->mode |= S_ISDIR(i->mode) ? S_ISGID : 0;
}

static inline void vm_op_create(struct vm *m)
{
	static const uint32_t types[] = { S_IFREG, S_IFREG, S_IFREG, S_IFDIR,
					  S_IFLNK, S_IFIFO, S_IFCHR };
	struct vm_inode *dir = vm_choose(m, mf_below(&m->random, 10) ? vm_is_dir : vm_is_any);
	uint32_t mode = types[mf_below(&m->random, ARRAY_SIZE(types))] | 0644;
	const char *name = vm_some_name(m), *target = S_ISLNK(mode) ? "where/ever" : NULL;
	struct view_attr a;
	int want = !vm_is_dir(dir) ? -ENOTDIR : !dir->nlink ? -ENOENT : 0;

	if (!want && vm_find(m, dir, name))
		want = -EEXIST;
	struct vm_inode *i = want ? NULL : vm_add_inode(m, 1, mode);

	if (!want && !i)
		return;
	if (!vm_did(m, view_create(m->f->v, dir->ino, name, mode, 0x105, target, &mf_root, &a),
		    want)) {
		if (i)
			vm_free_inode(i);
		return;
	}
	i->ino = a.ino;
	i->mode = S_ISLNK(mode) ? mode : mode & ~022u;
	vm_inherit_group(i, dir);
	if (target)
		snprintf(i->target, sizeof(i->target), "%s", target);
	vm_add_name(m, dir, name, i);
}

static inline void vm_op_tmpfile(struct vm *m)
{
	struct vm_inode *dir = vm_choose(m, vm_is_live_dir);
	struct vm_inode *i = vm_add_inode(m, 1, S_IFREG | 0600);
	struct view_attr a;

	if (!i)
		return;
	if (!vm_did(m, view_tmpfile(m->f->v, dir->ino, 0600, &mf_root, &a), 0)) {
		vm_free_inode(i);
		return;
	}
	i->ino = a.ino;
	i->open = 1;
	i->was_tmpfile = true;
	vm_inherit_group(i, dir);
}

static inline void vm_op_link(struct vm *m)
{
	struct vm_inode *i = vm_choose(m, vm_is_linkable), *dir = vm_choose(m, vm_is_dir);
	const char *name = vm_some_name(m);
	struct view_attr a;
	int want = !dir->nlink		   ? -ENOENT
		   : S_ISDIR(i->mode)	   ? -EPERM
		   : vm_find(m, dir, name) ? -EEXIST
					   : 0;

	if (vm_did(m, view_link(m->f->v, i->ino, dir->ino, name, &a), want))
		vm_add_name(m, dir, name, i);
}

static inline void vm_op_remove(struct vm *m)
{
	struct vm_inode *dir = vm_choose(m, vm_is_dir);
	const char *name = vm_some_name(m);
	struct vm_name *n = vm_find(m, dir, name);
	bool rmdir = mf_below(&m->random, 2);
	int want = 0;

	if (!n)
		want = -ENOENT;
	else if (rmdir != S_ISDIR(n->to->mode))
		want = rmdir ? -ENOTDIR : -EISDIR;
	else if (rmdir && vm_entries(m, n->to, false))
		want = -ENOTEMPTY;
	if (vm_did(m,
		   rmdir ? view_rmdir(m->f->v, dir->ino, name)
			 : view_unlink(m->f->v, dir->ino, name),
		   want))
		vm_del_name(n);
}

static inline int vm_rename_result(struct vm *m, const struct vm_name *from,
				   const struct vm_inode *dir, const struct vm_name *to,
				   unsigned flags)
{
	bool from_dir = S_ISDIR(from->to->mode), to_dir = to && S_ISDIR(to->to->mode);

	if (!dir->nlink)
		return -ENOENT;
	if (to && from->to == to->to)
		return 0;
	if (to && flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (flags & RENAME_EXCHANGE)
		return to ? 0 : -ENOENT;
	if (to && from_dir != to_dir)
		return from_dir ? -ENOTDIR : -EISDIR;
	return to_dir && vm_entries(m, to->to, false) ? -ENOTEMPTY : 0;
}

static inline void vm_op_rename(struct vm *m)
{
	static const unsigned kinds[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
	unsigned flags = kinds[mf_below(&m->random, ARRAY_SIZE(kinds))];
	struct vm_name *from = vm_some_entry(m), *to;
	struct vm_inode *dir = vm_choose(m, vm_is_dir);
	const char *name = vm_some_name(m);

	if (!from)
		return;
	if (mf_below(&m->random, 2))
		dir = from->dir;
	to = vm_find(m, dir, name);
	/* What the kernel does not let through: rings. */
	if (vm_is_below(m, dir, from->to) || (to && vm_is_below(m, from->dir, to->to)))
		return;
	int want = vm_rename_result(m, from, dir, to, flags);

	if (!vm_did(m, view_rename(m->f->v, from->dir->ino, from->name, dir->ino, name, flags),
		    want) ||
	    (to && to->to == from->to))
		return;
	struct vm_inode *moved = from->to;

	if (flags & RENAME_EXCHANGE) {
		from->to = to->to;
		to->to = moved;
		return;
	}
	if (to)
		vm_del_name(to);
	vm_add_name(m, dir, name, moved);
	vm_del_name(from);
}

/* ---- attributes ---- */

static inline void vm_op_open_or_close(struct vm *m)
{
	struct vm_inode *i = vm_choose(m, vm_is_any);

	if (i->open && mf_below(&m->random, 3)) {
		view_forget(m->f->v, i->ino, 1);
		i->open--;
		vm_drop(i);
	} else {
		assert_int_equal(live_add(m->f->v->live, i->ino, 1), 0);
		i->open++;
	}
}

static inline void vm_op_chmod(struct vm *m)
{
	struct vm_inode *i = vm_choose(m, vm_is_any);
	struct view_setattr set = { .valid = VIEW_SET_MODE,
				    .mode = (uint32_t)mf_below(&m->random, 010000) };
	struct view_attr a;

	if (vm_did(m, view_setattr(m->f->v, i->ino, &set, &a), 0))
		i->mode = (i->mode & S_IFMT) | set.mode;
}

static inline void vm_op_chown(struct vm *m)
{
	struct vm_inode *i = vm_choose(m, vm_is_any);
	struct view_setattr set = { .valid = VIEW_SET_UID | VIEW_SET_GID | VIEW_SET_MTIME,
				    .uid = (uint32_t)mf_below(&m->random, 5),
				    .gid = 0xfffffff0u + (uint32_t)mf_below(&m->random, 5),
				    .mtime = { -5, 999999999 } };
	struct view_attr a;

	if (!vm_did(m, view_setattr(m->f->v, i->ino, &set, &a), 0))
		return;
	i->uid = set.uid;
	i->gid = set.gid;
	if (!S_ISDIR(i->mode))
		i->xattr[VM_CAPS][0] = 0;
	assert_true(a.rec.mtime.tv_sec == -5 && a.rec.mtime.tv_nsec == 999999999);
}

static inline void vm_op_xattr(struct vm *m)
{
	struct vm_inode *i = vm_choose(m, vm_is_any);
	size_t k = mf_below(&m->random, VM_XATTRS);
	char value[16];

	/* The kernel lets none other through. */
	while (!xattr_is_shown(vm_xattr_names[k], strlen(vm_xattr_names[k]), i->mode))
		k = (k + 1) % VM_XATTRS;
	bool has = i->xattr[k][0];

	if (mf_below(&m->random, 3) == 0) {
		if (vm_did(m, view_removexattr(m->f->v, i->ino, vm_xattr_names[k]),
			   has ? 0 : -ENODATA))
			i->xattr[k][0] = 0;
		return;
	}
	int flags = (int)mf_below(&m->random, 3); /* 0, XATTR_CREATE, XATTR_REPLACE */
	int want = has && flags == XATTR_CREATE	    ? -EEXIST
		   : !has && flags == XATTR_REPLACE ? -ENODATA
						    : 0;

	snprintf(value, sizeof(value), "%u", (unsigned)mf_below(&m->random, 100000));
	if (vm_did(m,
		   view_setxattr(m->f->v, i->ino, vm_xattr_names[k], value, strlen(value), flags,
				 false),
		   want))
		memcpy(i->xattr[k], value, sizeof(value));
}

/* ---- data ---- */

static inline size_t vm_some_offset(struct vm *m, const struct vm_inode *i)
{
	static const size_t near[] = { 0, 512, 4096, 65536, 131072 };

	if (mf_below(&m->random, 3) == 0)
		return MIN(near[mf_below(&m->random, ARRAY_SIZE(near))] + mf_below(&m->random, 2),
			   (size_t)VM_SIZE_MAX);
	return mf_below(&m->random, MIN(i->size + 10000, (size_t)VM_SIZE_MAX));
}

static inline size_t vm_some_length(struct vm *m, size_t off)
{
	static const size_t lengths[] = { 10, 600, 5000, 66000, 140000 };
	size_t len = mf_below(&m->random, lengths[mf_below(&m->random, ARRAY_SIZE(lengths))]);

	return MIN(len, VM_SIZE_MAX - off);
}

/* A failed write may have changed, in place, what it was to change. */
static inline void vm_take_over(struct vm *m, struct vm_inode *i, size_t off, const uint8_t *data,
				size_t len)
{
	uint8_t *is = malloc(len + 1);

	assert_non_null(is);
	len = off < i->size ? MIN(len, i->size - off) : 0;
	assert_int_equal(view_read(m->f->v, i->ino, off, is, len), len);
	for (size_t k = 0; k < len; k++) {
		if (is[k] == i->data[off + k])
			continue;
		assert_int_equal(is[k], data[k]);
		assert_true(i->there[off + k]);
		i->data[off + k] = data[k];
	}
	free(is);
}

static inline void vm_op_write(struct vm *m)
{
	struct vm_inode *i = vm_choose(m, vm_is_file);

	if (!i)
		return;
	size_t off = vm_some_offset(m, i), len = vm_some_length(m, off);

	uint8_t *data = calloc(1, len + 1);
	int64_t n;

	assert_non_null(data);
	if (m->beside_sealing || mf_below(&m->random, 4))
		mf_noise(&m->random, data, len);
	n = view_write(m->f->v, i->ino, off, data, len,
		       mf_below(&m->random, 2) ? VIEW_WRITE_CACHED : 0);
	/* What could be written in place counts, where new space failed. */
	if (n > 0 && n < (int64_t)len) {
		assert_true(m->was_injected && m->was_injected());
		len = (size_t)n;
	}
	if (vm_did(m, n, (int64_t)len) && len) {
		memcpy(i->data + off, data, len);
		memset(i->there + off, 1, len);
		i->size = MAX(i->size, off + len);
		i->xattr[VM_CAPS][0] = 0;
	} else {
		vm_take_over(m, i, off, data, len);
	}
	free(data);
}

static inline void vm_clear(struct vm_inode *i, size_t from, size_t to)
{
	if (from < to) {
		memset(i->data + from, 0, to - from);
		memset(i->there + from, 0, to - from);
	}
}

static inline void vm_op_truncate(struct vm *m)
{
	struct vm_inode *i = vm_choose(m, vm_is_file);

	if (!i)
		return;
	size_t size = vm_some_offset(m, i);
	struct view_setattr set = { .valid = VIEW_SET_SIZE, .size = size };
	struct view_attr a;

	if (!vm_did(m, view_setattr(m->f->v, i->ino, &set, &a), 0))
		return;
	vm_clear(i, size, i->size);
	i->size = size;
	i->xattr[VM_CAPS][0] = 0;
}

static inline void vm_op_fallocate(struct vm *m)
{
	/* PUNCH_HOLE with KEEP_SIZE; ZERO_RANGE, with KEEP_SIZE; plain; KEEP_SIZE */
	static const int modes[] = { 3, 16, 17, 0, 1 };
	struct vm_inode *i = vm_choose(m, vm_is_file);
	int mode = modes[mf_below(&m->random, ARRAY_SIZE(modes))];

	if (!i)
		return;
	size_t off = vm_some_offset(m, i), len = vm_some_length(m, off);

	if (!vm_did(m, view_fallocate(m->f->v, i->ino, mode, off, len, 0), len ? 0 : -EINVAL))
		return;
	if (mode & ~1)
		vm_clear(i, off, MIN(off + len, i->size));
	if (!(mode & 1))
		i->size = MAX(i->size, off + len);
	i->xattr[VM_CAPS][0] = 0;
}

typedef void (*vm_op)(struct vm *m);
static const struct {
	vm_op run;
	unsigned weight;
} vm_ops[] = {
	{ vm_op_create, 60 }, { vm_op_tmpfile, 8 },   { vm_op_link, 30 },
	{ vm_op_remove, 50 }, { vm_op_rename, 60 },   { vm_op_chmod, 5 },
	{ vm_op_chown, 5 },   { vm_op_xattr, 30 },    { vm_op_open_or_close, 40 },
	{ vm_op_write, 40 },  { vm_op_truncate, 15 }, { vm_op_fallocate, 15 },
};

static inline void vm_step(struct vm *m)
{
	uint64_t sum = 0, at;
	size_t i = 0;

	for (size_t k = 0; k < ARRAY_SIZE(vm_ops); k++)
		sum += vm_ops[k].weight;
	at = mf_below(&m->random, sum);
	while (at >= vm_ops[i].weight)
		at -= vm_ops[i++].weight;
	vm_ops[i].run(m);
}

/* ---- the mount ---- */

static inline void vm_report(void *arg, const char *snapshot, const char *path, const char *problem)
{
	(void)arg;
	print_message("%s: %s: %s\n", snapshot, path, problem);
}

/* Nothing is wrong with the tree of a snapshot. */
static inline void vm_verify(struct vm *m, const char *id)
{
	struct verify_result res;
	struct error err = ERROR_INIT;

	assert_int_equal(verify_run(m->f->fx.s, id, NULL, vm_report, NULL, &res, &err), 0);
	assert_int_equal(res.damaged, 0);
}

/* Nobody has anything open any more. */
static inline void vm_close_all(struct vm *m)
{
	for (int i = 0; i < VM_INODES; i++) {
		m->inodes[i].open = 0;
		vm_drop(&m->inodes[i]);
	}
}

#endif
