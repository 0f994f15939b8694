/*
 * mount: records, checkpoints and their failures, restarts, diffs; without FUSE.
 * wrap: kv_write kv_flush_content staging_alloc staging_write
 */
#include "tests/unit/view_ops.h"

#include <semaphore.h>

#include "fs/mount/mount.h"
#include "store/kv/meta.h"

/* ---- standing in front of the store ---- */

static atomic_int writes_left = -1; /* then all fail; negative: none does */
static atomic_int writes_refused;
static void (*in_adoption)(void *arg); /* once, in the sealing thread */
static void *in_adoption_arg;
static pthread_t main_thread;
static int fail_alloc, fail_stage; /* -errno */
static _Thread_local bool stops;   /* this thread, once, before it stages what it writes */
static sem_t has_stopped, goes_on;

int __real_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);
int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);
int __real_kv_flush_content(struct kv *kv);
int __wrap_kv_flush_content(struct kv *kv);
int __real_staging_alloc(struct staging *st, uint64_t len, uint64_t *out_pos);
int __wrap_staging_alloc(struct staging *st, uint64_t len, uint64_t *out_pos);
int __real_staging_write(struct staging *st, uint64_t pos, const void *data, size_t len);
int __wrap_staging_write(struct staging *st, uint64_t pos, const void *data, size_t len);

int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d)
{
	int left = atomic_load(&writes_left);

	while (left > 0 && !atomic_compare_exchange_weak(&writes_left, &left, left - 1))
		;
	if (left)
		return __real_kv_write(kv, b, d);
	atomic_fetch_add(&writes_refused, 1);
	return -EIO;
}

int __wrap_kv_flush_content(struct kv *kv)
{
	if (in_adoption && !pthread_equal(pthread_self(), main_thread))
		STEAL(in_adoption)(in_adoption_arg);
	return __real_kv_flush_content(kv);
}

int __wrap_staging_alloc(struct staging *st, uint64_t len, uint64_t *out_pos)
{
	return fail_alloc ? fail_alloc : __real_staging_alloc(st, len, out_pos);
}

int __wrap_staging_write(struct staging *st, uint64_t pos, const void *data, size_t len)
{
	if (stops) {
		stops = false;
		sem_post(&has_stopped);
		sem_wait(&goes_on);
	}
	return fail_stage ? fail_stage : __real_staging_write(st, pos, data, len);
}

/* ---- a checkpoint that fails at any of its writes ---- */

static void do_steps(struct vm *m, unsigned n)
{
	while (n-- > 0)
		vm_step(m);
}

static void assert_none_is_building(struct mf *f, const char *id, bool must_be_ready)
{
	struct snapshot *list;
	struct error err = ERROR_INIT;
	size_t n;

	assert_int_equal(snapshots_list(f->fx.s->snapshots, &list, &n, &err), 0);
	for (size_t i = 0; i < n; i++) {
		assert_int_not_equal(list[i].status, SNAPSHOT_BUILDING);
		if (must_be_ready && strcmp(list[i].id, id) == 0)
			assert_int_equal(list[i].status, SNAPSHOT_READY);
	}
	snapshots_list_free(list, n);
}

static void checkpoint_and_verify(struct vm *m)
{
	struct snapshot snap;
	struct error err = ERROR_INIT;

	if (mount_checkpoint(m->f->m, NULL, NULL, &snap, &err))
		fail_msg("checkpoint: %s", error_text(&err));
	vm_sealed(m);
	mf_wait_sealed(m->f);
	vm_verify(m, snap.id);
	vm_check_all(m);
	snapshot_fini(&snap);
}

/* The daemon dies: what it has in memory is gone, with all that could not be written. */
static void die_and_restart(struct mf *f)
{
	mount_close(f->m);
	store_close(STEAL(f->fx.s));
	atomic_store(&writes_left, -1);
	fx_open_store(&f->fx);
	mf_load(f);
}

/*
 * After `writes` writes of a checkpoint all fail; then the daemon dies, or goes
 * on and tries again. Returns false where the checkpoint needed fewer.
 */
static bool fail_checkpoint_after(int writes, bool dies)
{
	struct mf f;
	struct snapshot snap = { 0 };
	struct error err = ERROR_INIT;

	mf_open(&f);
	struct vm *m = vm_new(&f);

	m->random += (uint64_t)writes * 77;
	m->beside_sealing = true; /* no zeros: sealing makes no holes, whenever it is done */
	do_steps(m, 120);
	checkpoint_and_verify(m);
	do_steps(m, 120);
	atomic_store(&writes_refused, 0);
	atomic_store(&writes_left, writes);
	int taken = mount_checkpoint(f.m, NULL, NULL, &snap, &err);
	int r = taken ? taken : mount_wait_sealed(f.m, &err);
	bool refused = atomic_load(&writes_refused) > 0;

	assert_int_equal(r != 0, refused);
	vm_check_all(m);
	if (dies) {
		die_and_restart(&f);
		vm_close_all(m);
		vm_check_all(m);
		(void)!mount_wait_sealed(f.m, &err);
		/* Once it was taken, the next daemon makes it ready. */
		assert_none_is_building(&f, snap.id, taken == 0);
		vm_check_all(m);
	}
	atomic_store(&writes_left, -1);
	do_steps(m, 50);
	checkpoint_and_verify(m);
	vm_free(m);
	snapshot_fini(&snap);
	mf_close(&f);
	return refused;
}

struct late_write {
	struct mf *f;
	uint64_t ino;
	uint8_t data[8192];
	int64_t result;
};

static void *write_late(void *arg)
{
	struct late_write *w = arg;

	stops = true;
	w->result = view_write(w->f->v, w->ino, 0, w->data, sizeof(w->data), 0);
	return NULL;
}

/* The daemon dies while it seals; the next one has loaded the mount, and not gone on with that. */
static void die_while_sealing(struct mf *f)
{
	const struct mount_found found = { .fuse_fd = -1 };
	struct mount_record rec;
	struct kv_value v = { 0 };
	struct error err = ERROR_INIT;
	char id[SNAPSHOT_ID_SIZE];

	memcpy(id, f->m->rec.id, sizeof(id));
	atomic_store(&writes_left, 2); /* the records of snapshot and mount */
	mf_swap(f);
	assert_int_not_equal(mount_wait_sealed(f->m, &err), 0);
	mount_close(f->m);
	store_close(STEAL(f->fx.s));
	atomic_store(&writes_left, -1);
	fx_open_store(&f->fx);
	assert_int_equal(meta_get(f->fx.s->kv, META_MOUNT, id, &v), 0);
	assert_int_equal(mount_record_decode(v.data, v.len, &rec), 0);
	kv_value_release(&v);
	assert_int_equal(mount_new(f->fx.s, NULL, &rec, &found, &f->m, &err), 0);
	f->v = &f->m->view;
	assert_non_null(f->v->sealed);
}

/* It has its space, and is not committed, when the next daemon goes on with the seal. */
static void a_write_beside_a_seal_that_goes_on_is_kept(void **state)
{
	struct mf *f = *state;
	struct late_write w = { .f = f, .ino = mf_file(f, "late") };
	uint64_t random = 9;
	pthread_t writer;

	mf_noise(&random, w.data, sizeof(w.data));
	mf_write(f, mf_file(f, "sealed"), 0, "sealed", 6);
	die_while_sealing(f);
	assert_int_equal(sem_init(&has_stopped, 0, 0) | sem_init(&goes_on, 0, 0), 0);
	assert_int_equal(pthread_create(&writer, NULL, write_late, &w), 0);
	sem_wait(&has_stopped);
	mount_resume_seal(f->m);
	sem_post(&goes_on);
	pthread_join(writer, NULL);
	assert_int_equal(w.result, sizeof(w.data));
	mf_wait_sealed(f);
	mf_assert_content(f, w.ino, w.data, sizeof(w.data));
}

static void run_failures(bool dies)
{
	int writes = 0;

	/* Near its start every one, then some, as chunks and nodes are much alike. */
	while (fail_checkpoint_after(writes, dies))
		writes += writes < 6 ? 1 : 7;
	for (int last = 1; last < 8 && writes - last > 6; last++)
		(void)fail_checkpoint_after(writes - last, dies);
}

static void a_crash_in_a_checkpoint_loses_nothing(void **state)
{
	(void)state;
	run_failures(true);
}

static void a_failed_checkpoint_can_be_taken_again(void **state)
{
	(void)state;
	run_failures(false);
}

/* ---- snapshots that change while they are sealed ---- */

static void rename_it(void *arg)
{
	struct mf *f = arg;

	assert_int_equal(snapshots_rename(f->fx.s->snapshots, "before", "after", NULL), 0);
}

static void delete_it(void *arg)
{
	struct mf *f = arg;

	assert_int_equal(snapshots_delete(f->fx.s->snapshots, "before", NULL), 0);
}

static void a_snapshot_may_be_renamed_or_deleted_while_it_is_sealed(void **state)
{
	struct mf *f = *state;
	struct snapshot snap;
	struct mount_info info;
	struct error err = ERROR_INIT;

	for (int deleted = 0; deleted < 2; deleted++) {
		mf_write(f, mf_file(f, deleted ? "a" : "b"), 0, "x", 1);
		in_adoption_arg = f;
		in_adoption = deleted ? delete_it : rename_it;
		assert_int_equal(mount_checkpoint(f->m, "before", NULL, &snap, &err), 0);
		snapshot_fini(&snap);
		mf_wait_sealed(f);
		assert_null(in_adoption);
		assert_int_equal(snapshots_get(f->fx.s->snapshots, "before", &snap, NULL), -ENOENT);
		mount_get_info(f->m, &info);
		assert_string_equal(info.snapshot_name, "after"); /* the last there is */
	}
	assert_int_equal(snapshots_get(f->fx.s->snapshots, "after", &snap, &err), 0);
	assert_int_equal(snap.status, SNAPSHOT_READY);
	snapshot_fini(&snap);
}

/* ---- what a daemon finds ---- */

static bool has_file(struct mf *f, const char *dir, const char *id)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%s/%s", f->fx.dir, dir, id);
	return access(path, F_OK) == 0;
}

static bool has_staging(struct mf *f, const char *id)
{
	return has_file(f, "staging", id);
}

static void put_record(struct mf *f, const char *id, const void *text, size_t len)
{
	struct kv_batch *b = kv_batch_new();
	char key[64];

	snprintf(key, sizeof(key), "mount/%s", id);
	kv_batch_put(f->fx.s->kv, b, KV_META, key, strlen(key), text, len);
	assert_int_equal(kv_write(f->fx.s->kv, b, KV_LOG), 0);
	kv_batch_free(b);
}

static void assert_no_mounts(struct mf *f)
{
	struct mount **list;
	struct error err = ERROR_INIT;
	size_t n;

	assert_int_equal(mount_load_all(f->fx.s, NULL, &list, &n, &err), 0);
	assert_int_equal(n, 0);
	free(list);
}

static void changes_of_a_mount_whose_record_is_damaged_are_kept(void **state)
{
	struct mf *f = *state;
	uint64_t ino = mf_file(f, "f");
	char id[SNAPSHOT_ID_SIZE], key[64];
	struct kv_value good = { 0 };

	mf_write(f, ino, 0, "precious", 8);
	memcpy(id, f->m->rec.id, sizeof(id));
	snprintf(key, sizeof(key), "mount/%s", id);
	assert_int_equal(kv_get(f->fx.s->kv, KV_META, key, strlen(key), &good), 0);
	mount_close(f->m);
	put_record(f, id, "{]", 2);
	assert_no_mounts(f);
	assert_true(has_staging(f, id));
	put_record(f, id, good.data, good.len);
	kv_value_release(&good);
	fx_reopen(&f->fx);
	mf_load(f);
	mf_assert_content(f, ino, (const uint8_t *)"precious", 8);
}

static uint64_t count_upper_keys(struct mf *f)
{
	struct kv_iter *it = kv_iter_new(f->fx.s->kv, KV_UPPER);
	uint64_t n = 0;

	for (kv_iter_seek(it, "", 0); kv_iter_valid(it); kv_iter_next(it))
		n++;
	kv_iter_free(it);
	return n;
}

static void what_is_left_of_no_mount_is_removed(void **state)
{
	struct mf *f = *state;
	char id[SNAPSHOT_ID_SIZE];

	for (int discarding = 0; discarding < 2; discarding++) {
		struct kv_batch *b = kv_batch_new();

		mf_write(f, mf_file(f, "f"), 0, "x", 1);
		memcpy(id, f->m->rec.id, sizeof(id));
		assert_true(has_file(f, "journal", id));
		if (discarding) { /* the crash was after the first step of it */
			f->m->rec.discarding = true;
			assert_int_equal(mount_record_write(f->fx.s, &f->m->rec, KV_LOG), 0);
		} else {
			mount_record_del(f->fx.s, b, id);
			assert_int_equal(kv_write(f->fx.s->kv, b, KV_LOG), 0);
		}
		kv_batch_free(b);
		mount_close(f->m);
		fx_reopen(&f->fx);
		assert_no_mounts(f);
		assert_false(has_staging(f, id));
		assert_false(has_file(f, "journal", id));
		assert_int_equal(count_upper_keys(f), 0);

		struct snapshot base;

		assert_int_equal(snapshots_get(f->fx.s->snapshots, "base", &base, NULL), 0);
		mf_new_mount(f, &base.root, 0);
		snapshot_fini(&base);
	}
}

static void a_discarded_mount_leaves_nothing(void **state)
{
	struct mf *f = *state;
	char id[SNAPSHOT_ID_SIZE];
	struct error err = ERROR_INIT;
	struct snapshot base;

	mf_write(f, mf_file(f, "f"), 0, "x", 1);
	mf_swap(f); /* and what is being sealed */
	memcpy(id, f->m->rec.id, sizeof(id));
	assert_int_equal(mount_discard(f->m, &err), 0);
	assert_false(has_staging(f, id));
	assert_false(has_file(f, "journal", id));
	assert_int_equal(count_upper_keys(f), 0);
	assert_no_mounts(f);
	assert_int_equal(snapshots_get(f->fx.s->snapshots, "base", &base, NULL), 0);
	mf_new_mount(f, &base.root, 0);
	snapshot_fini(&base);
}

static void a_record_is_read_as_it_was_written(void **state)
{
	static const char *const bad[] = { "", "{}", "[]", "{\"version\":2}" };
	struct mf *f = *state;
	struct mount_record r = { .read_only = true,
				  .container_root = true,
				  .limits = { .allow_suid = true,
					      .no_exec = true,
					      .quota_bytes = 1ull << 40,
					      .quota_inodes = 77 },
				  .detached_at_ms = 88,
				  .epoch = 4000000000u,
				  .sealing_epoch = 3999999999u,
				  .sealing_next_ino = 1ull << 60 };
	struct kv_value v = { 0 };
	char key[64];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct mount_record got;

		assert_int_equal(mount_record_decode(bad[i], strlen(bad[i]), &got), -EBADMSG);
	}
	struct mount_record got;

	id_random(r.id);
	id_random(r.sealing_snapshot);
	r.base = f->m->rec.base;
	r.mountpoint = strdup("/some \"where\"\\\xe9");
	r.fsname = strdup("caf\xc3\xa9");
	assert_int_equal(mount_record_write(f->fx.s, &r, KV_LOG), 0);
	snprintf(key, sizeof(key), "mount/%s", r.id);
	assert_int_equal(kv_get(f->fx.s->kv, KV_META, key, strlen(key), &v), 0);
	assert_int_equal(mount_record_decode(v.data, v.len, &got), 0);
	assert_string_equal(got.mountpoint, r.mountpoint);
	assert_string_equal(got.fsname, r.fsname);
	assert_string_equal(got.sealing_snapshot, r.sealing_snapshot);
	assert_true(got.read_only && got.container_root && !got.is_volatile);
	assert_true(got.limits.allow_suid && got.limits.no_exec && !got.limits.allow_dev);
	assert_int_equal(got.limits.quota_bytes, r.limits.quota_bytes);
	assert_int_equal(got.limits.quota_inodes, r.limits.quota_inodes);
	assert_int_equal(got.detached_at_ms, r.detached_at_ms);
	assert_int_equal(got.epoch, r.epoch);
	assert_int_equal(got.sealing_epoch, r.sealing_epoch);
	assert_int_equal(got.sealing_next_ino, r.sealing_next_ino);
	kv_value_release(&v);
	mount_record_fini(&got);
	mount_record_fini(&r);
}

/* ---- no room ---- */

static void a_full_disk_or_quota_leaves_the_mount_usable(void **state)
{
	struct mf *f = *state;
	uint8_t data[10000], more[10000];
	uint64_t ino = mf_file(f, "f"), random = 1;
	struct mount_info info;

	mf_noise(&random, data, sizeof(data));
	mf_noise(&random, more, sizeof(more));
	mf_write(f, ino, 0, data, sizeof(data));
	for (int i = 0; i < 3; i++) {
		int want = i ? -ENOSPC : -EDQUOT;

		f->v->quota_bytes = i == 0 ? 15000 : 0;
		fail_alloc = i == 1 ? want : 0;
		fail_stage = i == 2 ? want : 0;
		assert_int_equal(view_write(f->v, ino, 10000, more, sizeof(more), 0), want);
		mf_assert_content(f, ino, data, sizeof(data));
		assert_int_equal(mf_stat(f, ino).alloc_bytes, sizeof(data));
		fail_stage = 0;
		/* What is there can be written over, read and deleted. */
		data[100]++;
		mf_write(f, ino, 100, data + 100, 1);
		(void)mf_file(f, "g");
		assert_int_equal(view_unlink(f->v, ROOT_INO, "g"), 0);
		mf_assert_content(f, ino, data, sizeof(data));
	}
	fail_alloc = 0;
	f->v->quota_bytes = 15000;
	mount_get_info(f->m, &info);
	assert_int_equal(info.upper_bytes, 10000);
	mf_checkpoint(f); /* and then there is room again */
	mf_write(f, ino, 10000, more, sizeof(more));
	mount_get_info(f->m, &info);
	assert_int_equal(info.upper_bytes, 10000);
}

/* ---- diff ---- */

static int print_change(void *arg, const struct fsdiff_entry *e)
{
	return buf_printf(arg, "%s %s%s%s\n", fsdiff_change_name(e->change), e->path,
			  e->from ? " from " : "", e->from ? e->from : "");
}

static void assert_diff(struct mf *f, const char *want)
{
	struct buf got CLEANUP(buf_fini_p) = BUF_INIT;
	struct error err = ERROR_INIT;

	if (mount_diff(f->m, print_change, &got, &err))
		fail_msg("diff: %s", error_text(&err));
	assert_string_equal(buf_cstr(&got), want);
}

/* Needs the mount's lock, and the layers'. */
static int checkpoint_meanwhile(void *arg, const struct fsdiff_entry *e)
{
	(void)e;
	mf_checkpoint(arg);
	return 0;
}

static void who_is_told_a_diff_holds_nothing_up(void **state)
{
	struct mf *f = *state;
	struct error err = ERROR_INIT;

	(void)mf_file(f, "new");
	alarm(120); /* for a deadlock */
	assert_int_equal(mount_diff(f->m, checkpoint_meanwhile, f, &err), 0);
	alarm(0);
	assert_diff(f, "");
}

static void a_diff_tells_what_has_changed(void **state)
{
	struct mf *f = *state;
	uint64_t dir = mf_create(f, ROOT_INO, "dir", S_IFDIR | 0755), linked;
	uint64_t kept = mf_create(f, dir, "kept", S_IFREG | 0644);
	uint64_t cut = mf_file(f, "cut"), mode = mf_file(f, "mode");
	struct view_attr a;

	(void)mf_file(f, "gone");
	(void)mf_file(f, "moved");
	linked = mf_file(f, "linked");
	assert_int_equal(view_link(f->v, linked, dir, "link", &a), 0);
	mf_write(f, kept, 0, "kept", 4);
	mf_write(f, cut, 0, "0123456789", 10);
	mf_checkpoint(f);
	assert_diff(f, "");
	/* What comes to the same as before is no change, whatever was done. */
	mf_write(f, kept, 0, "xxxx", 4);
	mf_write(f, kept, 0, "kept", 4);
	struct view_setattr set = { .valid = VIEW_SET_MTIME };
	struct view_rec was;

	assert_int_equal(view_rec_at(f->v, 2, kept, &was), 0);
	set.mtime = was.rec.mtime;
	view_rec_fini(&was);
	assert_int_equal(view_setattr(f->v, kept, &set, &a), 0);
	assert_diff(f, "");
	mf_truncate(f, cut, 5);
	mf_write(f, linked, 0, "x", 1);
	assert_int_equal(view_unlink(f->v, ROOT_INO, "gone"), 0);
	assert_int_equal(view_rename(f->v, ROOT_INO, "moved", dir, "here", 0), 0);
	set = (struct view_setattr){ .valid = VIEW_SET_MODE, .mode = 0600 };
	assert_int_equal(view_setattr(f->v, mode, &set, &a), 0);
	(void)mf_create(f, dir, "new", S_IFDIR | 0755);
	static const char want[] = "modified cut\n"
				   "renamed dir/here from moved\n"
				   "modified dir/link\n"
				   "added dir/new\n"
				   "removed gone\n"
				   "modified linked\n"
				   "meta mode\n";
	assert_diff(f, want);
	mf_restart(f);
	assert_diff(f, want);
	mf_checkpoint(f);
	assert_diff(f, "");
}

int main(void)
{
	main_thread = pthread_self();
#define T(name) cmocka_unit_test_setup_teardown(name, mf_setup, mf_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_crash_in_a_checkpoint_loses_nothing),
		cmocka_unit_test(a_failed_checkpoint_can_be_taken_again),
		T(a_write_beside_a_seal_that_goes_on_is_kept),
		T(a_snapshot_may_be_renamed_or_deleted_while_it_is_sealed),
		T(changes_of_a_mount_whose_record_is_damaged_are_kept),
		T(what_is_left_of_no_mount_is_removed),
		T(a_discarded_mount_leaves_nothing),
		T(a_record_is_read_as_it_was_written),
		T(a_full_disk_or_quota_leaves_the_mount_usable),
		T(a_diff_tells_what_has_changed),
		T(who_is_told_a_diff_holds_nothing_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
