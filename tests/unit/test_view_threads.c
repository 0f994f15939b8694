/* view: threads that work in one mount while it is sealed, compared and looked at. */
#include "tests/unit/view_ops.h"

#include "fs/mount/mount.h"

#define WORKERS 3

struct worker {
	struct vm *m;
	uint64_t shared; /* a directory that all of them work in */
	unsigned steps;
	pthread_t thread;
};

static struct vm *new_world(struct mf *f, const char *name, uint64_t seed)
{
	struct vm *m = vm_new(f);

	/* A world of its own, below a directory. */
	m->inodes[0].ino = mf_create(f, ROOT_INO, name, S_IFDIR | 0755);
	m->random = seed * 0x9e3779b97f4a7c15ull + 1;
	m->beside_sealing = true;
	return m;
}

/* Names that the others take, too: anything may come out of it but damage. */
static void work_in_shared(struct worker *w)
{
	struct vm *m = w->m;
	const char *a = vm_some_name(m), *b = vm_some_name(m);
	struct view_attr attr;
	int r = 0;

	switch (mf_below(&m->random, 7)) {
	case 0:
		r = view_create(m->f->v, w->shared, a, S_IFREG | 0600, 0, NULL, &mf_root, &attr);
		break;
	case 1:
		r = view_unlink(m->f->v, w->shared, a);
		break;
	case 2:
		r = view_rename(m->f->v, w->shared, a, w->shared, b, 0);
		break;
	case 3:
		r = view_rename(m->f->v, w->shared, a, w->shared, b, RENAME_EXCHANGE);
		break;
	case 4:
		r = view_lookup(m->f->v, w->shared, a, &attr);
		if (!r)
			r = view_link(m->f->v, attr.ino, w->shared, b, &attr);
		break;
	case 5:
		r = view_lookup(m->f->v, w->shared, a, &attr);
		if (!r && view_write(m->f->v, attr.ino, mf_below(&m->random, 100000), a, 1, 0) < 0)
			r = -ENOENT;
		break;
	default:
		r = view_lookup(m->f->v, w->shared, a, &attr);
	}
	/* cmocka tells nothing of other threads' failures. */
	if (r && r != -ENOENT && r != -EEXIST && r != -EAGAIN)
		fprintf(stderr, "%s, %s: %s\n", a, b, strerror(-r));
	assert_true(r == 0 || r == -ENOENT || r == -EEXIST || r == -EAGAIN);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < w->steps; i++) {
		if (i % 3)
			vm_step(w->m);
		else
			work_in_shared(w);
		if (i % 7 == 0)
			vm_check_inode(w->m, vm_choose(w->m, vm_is_any));
	}
	vm_check_all(w->m);
	return NULL;
}

static int count_changes(void *arg, const struct fsdiff_entry *e)
{
	(void)e;
	++*(unsigned *)arg;
	return 0;
}

static void look_at(struct mf *f, unsigned i)
{
	struct error err = ERROR_INIT;
	struct mount_info info;
	struct statvfs st;
	unsigned changes = 0;

	mount_get_info(f->m, &info);
	assert_int_equal(view_statfs(f->v, &st), 0);
	assert_int_equal(view_sync(f->v), 0);
	if (i % 3 == 0 && mount_diff(f->m, count_changes, &changes, &err))
		fail_msg("diff: %s", error_text(&err));
}

static void threads_work_while_checkpoints_are_taken(void **state)
{
	struct mf *f = *state;
	uint64_t shared = mf_create(f, ROOT_INO, "shared", S_IFDIR | 0777);
	struct worker w[WORKERS];
	struct snapshot snap;
	struct error err = ERROR_INIT;

	for (unsigned i = 0; i < WORKERS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "w%u", i);
		w[i] = (struct worker){ new_world(f, name, mf_seed() + i), shared, mf_rounds(1500),
					0 };
		assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
	}
	for (unsigned i = 0; i < 20; i++) {
		mf_swap(f);
		look_at(f, i);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(w[i].thread, NULL);
	assert_int_equal(mount_checkpoint(f->m, NULL, NULL, &snap, &err), 0);
	mf_wait_sealed(f);
	vm_verify(w[0].m, snap.id);
	snapshot_fini(&snap);
	for (unsigned i = 0; i < WORKERS; i++)
		vm_check_all(w[i].m);
	mf_restart(f);
	for (unsigned i = 0; i < WORKERS; i++) {
		vm_close_all(w[i].m);
		vm_check_all(w[i].m);
		vm_free(w[i].m);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, mf_setup, mf_teardown)
	const struct CMUnitTest tests[] = {
		T(threads_work_while_checkpoints_are_taken),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
