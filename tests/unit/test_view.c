/*
 * view: random operations beside a model, across checkpoints and restarts.
 * wrap: kv_write
 */
#include "tests/unit/view_ops.h"

#include <stdatomic.h>

#include "fs/view/view.h"

/* ---- failing writes ---- */

/* Set by the test's thread; an epoch may be sealed by another one meanwhile. */
static _Atomic bool fail_next, has_failed;

int __real_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);
int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);

int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d)
{
	if (!atomic_exchange(&fail_next, false))
		return __real_kv_write(kv, b, d);
	has_failed = true;
	return -EIO;
}

static bool was_injected(void)
{
	bool was = has_failed;

	fail_next = false;
	has_failed = false;
	return was;
}

/* ---- random runs ---- */

/* The tree of a checkpoint is one that verify finds nothing wrong with. */
static void checkpoint(struct vm *m)
{
	struct snapshot snap;
	struct error err = ERROR_INIT;

	if (m->beside_sealing && mf_below(&m->random, 5)) {
		mf_swap(m->f);
		return;
	}
	assert_int_equal(mount_checkpoint(m->f->m, NULL, NULL, &snap, &err), 0);
	vm_sealed(m);
	mf_wait_sealed(m->f);
	vm_verify(m, snap.id);
	assert_int_equal(snapshots_delete(m->f->fx.s->snapshots, snap.id, &err), 0);
	snapshot_fini(&snap);
	vm_check_all(m);
}

static void restart(struct vm *m)
{
	mf_restart(m->f);
	vm_close_all(m);
	vm_check_all(m);
}

static void step(struct vm *m)
{
	switch (mf_below(&m->random, 250)) {
	case 0:
		restart(m);
		break;
	case 1:
	case 2:
	case 3:
		checkpoint(m);
		break;
	default:
		if (m->was_injected && mf_below(&m->random, 5) == 0)
			fail_next = true;
		vm_step(m);
		(void)was_injected();
	}
}

static void run_random(struct vm *m, unsigned steps)
{
	for (unsigned i = 0; i < steps; i++) {
		step(m);
		vm_check_inode(m, vm_choose(m, vm_is_any));
		if (i % 200 == 0)
			vm_check_all(m);
	}
	checkpoint(m);
	restart(m);
	vm_free(m);
}

static void a_view_does_what_a_filesystem_does(void **state)
{
	run_random(vm_new(*state), mf_rounds(3000));
}

static void operations_go_on_while_an_epoch_is_sealed(void **state)
{
	struct vm *m = vm_new(*state);

	m->beside_sealing = true;
	run_random(m, mf_rounds(3000));
}

static void what_cannot_be_written_does_not_happen(void **state)
{
	struct vm *m = vm_new(*state);

	m->was_injected = was_injected;
	run_random(m, mf_rounds(2000));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, mf_setup, mf_teardown)
	const struct CMUnitTest tests[] = {
		T(a_view_does_what_a_filesystem_does),
		T(operations_go_on_while_an_epoch_is_sealed),
		T(what_cannot_be_written_does_not_happen),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
