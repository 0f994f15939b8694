/* view: random operations beside a model, across checkpoints and restarts. */
#include "tests/unit/view_model.h"

#include <linux/fs.h>

#include "fs/view.h"
#include "store/verify.h"

/* ---- choosing ---- */

static bool is_any(const struct vm_inode *i)
{
	return i->ino != 0;
}

static bool is_dir(const struct vm_inode *i)
{
	return i->ino && S_ISDIR(i->mode);
}

static bool is_live_dir(const struct vm_inode *i)
{
	return is_dir(i) && i->nlink;
}

static bool is_file(const struct vm_inode *i)
{
	return i->ino && S_ISREG(i->mode);
}

static bool is_linkable(const struct vm_inode *i)
{
	return i->ino && (i->nlink || i->was_tmpfile);
}

static struct vm_inode *choose(struct vm *m, bool (*want)(const struct vm_inode *i))
{
	size_t start = mf_below(&m->random, VM_INODES);

	for (size_t k = 0; k < VM_INODES; k++) {
		struct vm_inode *i = &m->inodes[(start + k) % VM_INODES];

		if (want(i))
			return i;
	}
	return NULL;
}

static const char *some_name(struct vm *m)
{
	static const char *const names[] = { "a", "b", "c", "d", "e", "f", "a longer name.txt" };

	return names[mf_below(&m->random, ARRAY_SIZE(names))];
}

static struct vm_name *some_entry(struct vm *m)
{
	size_t start = mf_below(&m->random, VM_NAMES);

	for (size_t k = 0; k < VM_NAMES; k++)
		if (m->names[(start + k) % VM_NAMES].dir)
			return &m->names[(start + k) % VM_NAMES];
	return NULL;
}

/* ---- names ---- */

/* A setgid directory gives its group, and to directories its setgid. */
static void inherit_group(struct vm_inode *i, const struct vm_inode *dir)
{
	if (!(dir->mode & S_ISGID))
		return;
	i->gid = dir->gid;
	i->mode |= S_ISDIR(i->mode) ? S_ISGID : 0;
}

static void op_create(struct vm *m)
{
	static const uint32_t types[] = { S_IFREG, S_IFREG, S_IFREG, S_IFDIR,
					  S_IFLNK, S_IFIFO, S_IFCHR };
	struct vm_inode *dir = choose(m, mf_below(&m->random, 10) ? is_dir : is_any);
	uint32_t mode = types[mf_below(&m->random, ARRAY_SIZE(types))] | 0644;
	const char *name = some_name(m), *target = S_ISLNK(mode) ? "where/ever" : NULL;
	struct view_attr a;
	int want = !is_dir(dir) ? -ENOTDIR : !dir->nlink ? -ENOENT : 0;

	if (!want && vm_find(m, dir, name))
		want = -EEXIST;
	struct vm_inode *i = want ? NULL : vm_add_inode(m, 1, mode);

	if (!want && !i)
		return;
	assert_int_equal(view_create(m->f->v, dir->ino, name, mode, 0x105, target, &mf_root, &a),
			 want);
	if (want)
		return;
	i->ino = a.ino;
	i->mode = S_ISLNK(mode) ? mode : mode & ~022u;
	inherit_group(i, dir);
	if (target)
		snprintf(i->target, sizeof(i->target), "%s", target);
	vm_add_name(m, dir, name, i);
}

static void op_tmpfile(struct vm *m)
{
	struct vm_inode *dir = choose(m, is_live_dir);
	struct vm_inode *i = vm_add_inode(m, 1, S_IFREG | 0600);
	struct view_attr a;

	if (!i)
		return;
	assert_int_equal(view_tmpfile(m->f->v, dir->ino, 0600, &mf_root, &a), 0);
	i->ino = a.ino;
	i->open = 1;
	i->was_tmpfile = true;
	inherit_group(i, dir);
}

static void op_link(struct vm *m)
{
	struct vm_inode *i = choose(m, is_linkable), *dir = choose(m, is_dir);
	const char *name = some_name(m);
	struct view_attr a;
	int want = !dir->nlink		   ? -ENOENT
		   : S_ISDIR(i->mode)	   ? -EPERM
		   : vm_find(m, dir, name) ? -EEXIST
					   : 0;

	assert_int_equal(view_link(m->f->v, i->ino, dir->ino, name, &a), want);
	if (!want)
		vm_add_name(m, dir, name, i);
}

static void op_remove(struct vm *m)
{
	struct vm_inode *dir = choose(m, is_dir);
	const char *name = some_name(m);
	struct vm_name *n = vm_find(m, dir, name);
	bool rmdir = mf_below(&m->random, 2);
	int want = 0;

	if (!n)
		want = -ENOENT;
	else if (rmdir != S_ISDIR(n->to->mode))
		want = rmdir ? -ENOTDIR : -EISDIR;
	else if (rmdir && vm_entries(m, n->to, false))
		want = -ENOTEMPTY;
	assert_int_equal(rmdir ? view_rmdir(m->f->v, dir->ino, name)
			       : view_unlink(m->f->v, dir->ino, name),
			 want);
	if (!want)
		vm_del_name(n);
}

static int rename_result(struct vm *m, const struct vm_name *from, const struct vm_inode *dir,
			 const struct vm_name *to, unsigned flags)
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

static void op_rename(struct vm *m)
{
	static const unsigned kinds[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
	unsigned flags = kinds[mf_below(&m->random, ARRAY_SIZE(kinds))];
	struct vm_name *from = some_entry(m), *to;
	struct vm_inode *dir = choose(m, is_dir);
	const char *name = some_name(m);

	if (!from)
		return;
	if (mf_below(&m->random, 2))
		dir = from->dir;
	to = vm_find(m, dir, name);
	/* What the kernel does not let through: rings. */
	if (vm_is_below(m, dir, from->to) || (to && vm_is_below(m, from->dir, to->to)))
		return;
	int want = rename_result(m, from, dir, to, flags);

	assert_int_equal(view_rename(m->f->v, from->dir->ino, from->name, dir->ino, name, flags),
			 want);
	if (want || (to && to->to == from->to))
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

static void op_open_or_close(struct vm *m)
{
	struct vm_inode *i = choose(m, is_any);

	if (i->open && mf_below(&m->random, 3)) {
		view_forget(m->f->v, i->ino, 1);
		i->open--;
		vm_drop(i);
	} else {
		assert_int_equal(live_add(m->f->v->live, i->ino, 1), 0);
		i->open++;
	}
}

static void op_setattr(struct vm *m)
{
	struct vm_inode *i = choose(m, is_any);
	struct view_setattr set = { .valid = VIEW_SET_MODE };
	struct view_attr a;

	if (mf_below(&m->random, 2)) {
		set.mode = (uint32_t)mf_below(&m->random, 010000);
		i->mode = (i->mode & S_IFMT) | set.mode;
	} else {
		set.valid = VIEW_SET_UID | VIEW_SET_GID | VIEW_SET_MTIME;
		i->uid = set.uid = (uint32_t)mf_below(&m->random, 5);
		i->gid = set.gid = 0xfffffff0u + (uint32_t)mf_below(&m->random, 5);
		set.mtime.tv_nsec = 999999999;
		set.mtime.tv_sec = -5;
		if (!S_ISDIR(i->mode))
			i->xattr[VM_CAPS][0] = 0;
	}
	assert_int_equal(view_setattr(m->f->v, i->ino, &set, &a), 0);
	if (set.valid & VIEW_SET_MTIME)
		assert_true(a.rec.mtime.tv_sec == -5 && a.rec.mtime.tv_nsec == 999999999);
}

static void op_xattr(struct vm *m)
{
	struct vm_inode *i = choose(m, is_any);
	size_t k = mf_below(&m->random, VM_XATTRS);
	bool has = i->xattr[k][0];
	char value[16];

	if (mf_below(&m->random, 3) == 0) {
		assert_int_equal(view_removexattr(m->f->v, i->ino, vm_xattr_names[k]),
				 has ? 0 : -ENODATA);
		i->xattr[k][0] = 0;
		return;
	}
	int flags = (int)mf_below(&m->random, 3); /* 0, XATTR_CREATE, XATTR_REPLACE */
	int want = has && flags == XATTR_CREATE	    ? -EEXIST
		   : !has && flags == XATTR_REPLACE ? -ENODATA
						    : 0;

	snprintf(value, sizeof(value), "%u", (unsigned)mf_below(&m->random, 100000));
	assert_int_equal(view_setxattr(m->f->v, i->ino, vm_xattr_names[k], value, strlen(value),
				       flags, false),
			 want);
	if (!want)
		memcpy(i->xattr[k], value, sizeof(value));
}

/* ---- data ---- */

static size_t some_offset(struct vm *m, const struct vm_inode *i)
{
	static const size_t near[] = { 0, 512, 4096, 65536, 131072 };

	if (mf_below(&m->random, 3) == 0)
		return MIN(near[mf_below(&m->random, ARRAY_SIZE(near))] + mf_below(&m->random, 2),
			   (size_t)VM_SIZE_MAX);
	return mf_below(&m->random, MIN(i->size + 10000, (size_t)VM_SIZE_MAX));
}

static size_t some_length(struct vm *m, size_t off)
{
	static const size_t lengths[] = { 10, 600, 5000, 66000, 140000 };
	size_t len = mf_below(&m->random, lengths[mf_below(&m->random, ARRAY_SIZE(lengths))]);

	return MIN(len, VM_SIZE_MAX - off);
}

static void op_write(struct vm *m)
{
	struct vm_inode *i = choose(m, is_file);

	if (!i)
		return;
	size_t off = some_offset(m, i), len = some_length(m, off);

	if (!m->beside_sealing && mf_below(&m->random, 4) == 0)
		memset(i->data + off, 0, len);
	else
		mf_noise(&m->random, i->data + off, len);
	memset(i->there + off, 1, len);
	assert_int_equal(view_write(m->f->v, i->ino, off, i->data + off, len,
				    mf_below(&m->random, 2) ? VIEW_WRITE_CACHED : 0),
			 len);
	if (len) {
		i->size = MAX(i->size, off + len);
		i->xattr[VM_CAPS][0] = 0;
	}
}

static void clear(struct vm_inode *i, size_t from, size_t to)
{
	if (from < to) {
		memset(i->data + from, 0, to - from);
		memset(i->there + from, 0, to - from);
	}
}

static void op_truncate(struct vm *m)
{
	struct vm_inode *i = choose(m, is_file);

	if (!i)
		return;
	size_t size = some_offset(m, i);

	mf_truncate(m->f, i->ino, size);
	clear(i, size, i->size);
	i->size = size;
	i->xattr[VM_CAPS][0] = 0;
}

static void op_fallocate(struct vm *m)
{
	/* PUNCH_HOLE with KEEP_SIZE; ZERO_RANGE, with KEEP_SIZE; plain; KEEP_SIZE */
	static const int modes[] = { 3, 16, 17, 0, 1 };
	struct vm_inode *i = choose(m, is_file);
	int mode = modes[mf_below(&m->random, ARRAY_SIZE(modes))];

	if (!i)
		return;
	size_t off = some_offset(m, i), len = some_length(m, off);

	assert_int_equal(view_fallocate(m->f->v, i->ino, mode, off, len, 0), len ? 0 : -EINVAL);
	if (!len)
		return;
	if (mode & ~1)
		clear(i, off, MIN(off + len, i->size));
	if (!(mode & 1))
		i->size = MAX(i->size, off + len);
	i->xattr[VM_CAPS][0] = 0;
}

/* ---- the mount ---- */

static void report(void *arg, const char *snapshot, const char *path, const char *problem)
{
	(void)arg;
	print_message("%s: %s: %s\n", snapshot, path, problem);
}

/* The tree of a checkpoint is one that verify finds nothing wrong with. */
static void op_checkpoint(struct vm *m)
{
	struct verify_result res;
	struct snapshot snap;
	struct error err = ERROR_INIT;

	if (m->beside_sealing && mf_below(&m->random, 5)) {
		mf_swap(m->f);
		return;
	}
	assert_int_equal(mount_checkpoint(m->f->m, NULL, NULL, &snap, &err), 0);
	vm_sealed(m);
	mf_wait_sealed(m->f);
	assert_int_equal(verify_run(m->f->fx.s, snap.id, NULL, report, NULL, &res, &err), 0);
	assert_int_equal(res.damaged, 0);
	assert_int_equal(snapshots_delete(m->f->fx.s->snapshots, snap.id, &err), 0);
	snapshot_fini(&snap);
	vm_check_all(m);
}

static void op_restart(struct vm *m)
{
	mf_restart(m->f);
	for (int i = 0; i < VM_INODES; i++) {
		m->inodes[i].open = 0;
		vm_drop(&m->inodes[i]);
	}
	vm_check_all(m);
}

static const struct {
	void (*run)(struct vm *m);
	unsigned weight;
} ops[] = {
	{ op_create, 60 }, { op_tmpfile, 8 },	{ op_link, 30 },      { op_remove, 50 },
	{ op_rename, 60 }, { op_setattr, 10 },	{ op_xattr, 30 },     { op_open_or_close, 40 },
	{ op_write, 40 },  { op_truncate, 15 }, { op_fallocate, 15 }, { op_checkpoint, 5 },
	{ op_restart, 2 },
};

static void step(struct vm *m)
{
	uint64_t sum = 0, at;

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		sum += ops[i].weight;
	at = mf_below(&m->random, sum);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		if (at < ops[i].weight) {
			ops[i].run(m);
			return;
		}
		at -= ops[i].weight;
	}
}

static void run_random(struct mf *f, bool beside_sealing)
{
	struct vm *m = vm_new(f);

	m->beside_sealing = beside_sealing;
	for (unsigned i = 0; i < mf_rounds(4000); i++) {
		struct vm_inode *some;

		step(m);
		some = choose(m, is_any);
		vm_check_inode(m, some);
		if (i % 200 == 0)
			vm_check_all(m);
	}
	op_checkpoint(m);
	op_restart(m);
	vm_free(m);
}

static void a_view_does_what_a_filesystem_does(void **state)
{
	run_random(*state, false);
}

static void operations_go_on_while_an_epoch_is_sealed(void **state)
{
	run_random(*state, true);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, mf_setup, mf_teardown)
	const struct CMUnitTest tests[] = {
		T(a_view_does_what_a_filesystem_does),
		T(operations_go_on_while_an_epoch_is_sealed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
