/*
 * view: operations that wait for tree nodes of the database, beside the rest of the mount.
 * wrap: kv_get
 */
#include "tests/unit/slow_kv.h"

#include <linux/falloc.h>
#include <sys/xattr.h>

#include "fs/mount/mount.h"

struct operation {
	struct mf *f;
	uint64_t dir, ino, last;
	int64_t (*run)(const struct operation *o);
	int64_t result;
};

static int64_t op_read(const struct operation *o)
{
	char some[8] = { 0 };
	int64_t n = view_read(o->f->v, o->ino, 0, some, sizeof(some));

	return n == 5 && memcmp(some, "inode", 5) == 0 ? 0 : n < 0 ? n : -EBADMSG;
}

static int64_t op_lookup(const struct operation *o)
{
	struct view_attr a;
	int r = view_lookup(o->f->v, o->dir, "n500", &a);

	return r ? r : a.ino == o->ino ? 0 : -EBADMSG;
}

static int64_t op_getattr(const struct operation *o)
{
	struct view_attr a;

	return view_getattr(o->f->v, o->ino, &a);
}

static int count_name(void *arg, uint64_t cookie, const struct dirent_rec *e)
{
	(void)cookie, (void)e;
	++*(unsigned *)arg;
	return 0;
}

#define NAMES 1500

static int64_t op_readdir(const struct operation *o)
{
	unsigned n = 0;
	int r = view_readdir(o->f->v, o->dir, 0, count_name, &n);

	return r ? r : n == NAMES ? 0 : -EBADMSG;
}

static int64_t op_getxattr(const struct operation *o)
{
	struct buf out CLEANUP(buf_fini_p) = BUF_INIT;

	return view_getxattr(o->f->v, o->ino, "user.x", &out);
}

static int64_t op_listxattr(const struct operation *o)
{
	struct buf out CLEANUP(buf_fini_p) = BUF_INIT;
	int r = view_listxattr(o->f->v, o->ino, true, &out);

	return r ? r : out.len == sizeof("user.x") ? 0 : -EBADMSG;
}

static int64_t op_seek(const struct operation *o)
{
	return view_seek(o->f->v, o->ino, 0, SEEK_DATA);
}

static int64_t op_write(const struct operation *o)
{
	return view_write(o->f->v, o->ino, 1, "n", 1, 0) - 1;
}

static int64_t op_truncate(const struct operation *o)
{
	struct view_setattr set = { .valid = VIEW_SET_SIZE, .size = 5 };
	struct view_attr a;

	return view_setattr(o->f->v, o->ino, &set, &a);
}

static int64_t op_fallocate(const struct operation *o)
{
	return view_fallocate(o->f->v, o->ino, FALLOC_FL_KEEP_SIZE, 0, 10, 0);
}

static int64_t op_create(const struct operation *o)
{
	struct view_attr a;

	return view_create(o->f->v, o->dir, "made", S_IFREG | 0644, 0, NULL, &mf_root, &a);
}

static int64_t op_link(const struct operation *o)
{
	struct view_attr a;

	return view_link(o->f->v, o->ino, o->dir, "linked", &a);
}

static int64_t op_unlink(const struct operation *o)
{
	return view_unlink(o->f->v, o->dir, "made");
}

static int64_t op_rename(const struct operation *o)
{
	return view_rename(o->f->v, o->dir, "linked", o->dir, "moved", 0);
}

static int64_t op_setxattr(const struct operation *o)
{
	return view_setxattr(o->f->v, o->ino, "user.z", "y", 1, XATTR_CREATE, false);
}

static int64_t op_removexattr(const struct operation *o)
{
	return view_removexattr(o->f->v, o->ino, "user.z");
}

static int64_t op_base_file(const struct operation *o)
{
	struct view_base_file b;

	return MIN(view_base_file(o->f->v, o->ino, &b), 0);
}

static int64_t op_names(const struct operation *o)
{
	struct buf out CLEANUP(buf_fini_p) = BUF_INIT;

	return view_names(o->f->v, o->ino, &out);
}

static int64_t op_statfs(const struct operation *o)
{
	struct statvfs st;

	return view_statfs(o->f->v, &st);
}

static int ignore_change(void *arg, const struct fsdiff_entry *e)
{
	(void)arg, (void)e;
	return 0;
}

static int64_t op_diff(const struct operation *o)
{
	struct error err = ERROR_INIT;

	return mount_diff(o->f->m, ignore_change, NULL, &err);
}

/* The current epoch has an inode without a record: the base knows that it has a name. */
static int64_t op_orphans(const struct operation *o)
{
	assert_non_null(upper_get(o->f->v->cur, o->ino));
	return view_drop_orphans(o->f->v) ?: op_getattr(o);
}

static int64_t (*const operations[])(const struct operation *o) = {
	op_read,  op_lookup,   op_getattr, op_readdir,	 op_getxattr,	 op_listxattr, op_seek,
	op_write, op_truncate, op_diff,	   op_fallocate, op_base_file,	 op_names,     op_create,
	op_link,  op_unlink,   op_rename,  op_setxattr,	 op_removexattr, op_statfs,    op_orphans,
};

static void *operate_slowly(void *arg)
{
	struct operation *o = arg;

	is_slow = true;
	o->result = o->run(o);
	return NULL;
}

/* A tree of several levels. */
static void make_many(struct operation *o)
{
	struct mf *f = o->f;

	o->dir = mf_create(f, ROOT_INO, "dir", S_IFDIR | 0755);
	for (unsigned i = 0; i < NAMES; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%u", i);
		uint64_t ino = mf_create(f, o->dir, name, S_IFREG | 0644);

		o->ino = i == 500 ? ino : o->ino;
		o->last = ino;
	}
	mf_write(f, o->ino, 0, "inode", 5);
	assert_int_equal(view_setxattr(f->v, o->ino, "user.x", "y", 1, 0, false), 0);
	mf_checkpoint(f);
}

/* No node is in memory. */
static void forget_nodes(struct mf *f)
{
	struct store *s = f->fx.s;

	node_store_free(s->nodes);
	s->nodes = node_store_new(s->kv, s->guard, 1, 4 << 20);
	assert_non_null(s->nodes);
	f->v->base.nodes = s->nodes;
}

static void slow_nodes_hold_up_nobody(void **state)
{
	struct operation o = { .f = *state };

	make_many(&o);
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		mf_checkpoint(o.f);
		mf_write(o.f, o.last, 0, "changed", 7);
		forget_nodes(o.f);
		o.run = operations[i];
		pthread_t thread = start_slowly(KV_NODE, operate_slowly, &o);

		mf_write(o.f, o.ino, 4, "e", 1);
		mf_write(o.f, mf_file(o.f, "new"), 0, "x", 1);
		mf_checkpoint(o.f);
		assert_int_equal(view_unlink(o.f->v, ROOT_INO, "new"), 0);
		end_slowly(thread);
		if (o.result)
			fail_msg("operation %zu: %s", i, strerror((int)-o.result));
	}
}

static void nodes_are_read_without_a_lock(void **state)
{
	struct operation o = { .f = *state };

	make_many(&o);
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		mf_checkpoint(o.f);
		mf_write(o.f, o.last, 0, "changed", 7);
		forget_nodes(o.f);
		slow_kv_watch(KV_NODE, o.f->v);
		int64_t r = operations[i](&o);

		if (r || !slow.reads || slow.locked)
			fail_msg("operation %zu: %s, %u nodes read, %u of them with a lock", i,
				 strerror((int)-r), slow.reads, slow.locked);
		slow_kv_watch(KV_NODE, NULL);
	}
}

static void a_node_that_is_missing_is_told(void **state)
{
	struct operation o = { .f = *state };
	struct view_attr a;

	make_many(&o);
	mf_restart(o.f);
	slow_kv_drop(o.f, KV_NODE);
	assert_int_equal(view_getattr(o.f->v, o.ino, &a), -ENODATA);
	assert_int_equal(view_lookup(o.f->v, o.dir, "n500", &a), -ENODATA);
	assert_int_equal(view_seek(o.f->v, o.ino, 0, SEEK_DATA), -ENODATA);
	assert_int_equal(op_readdir(&o), -ENODATA);
	assert_int_equal(op_read(&o), -ENODATA);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, mf_setup, mf_teardown)
	const struct CMUnitTest tests[] = {
		T(slow_nodes_hold_up_nobody),
		T(nodes_are_read_without_a_lock),
		T(a_node_that_is_missing_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
