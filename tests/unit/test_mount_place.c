/*
 * Mounts in the kernel: whatever step of an attach fails leaves nothing.
 * wrap: kernel_mount_new kernel_mount_place passthrough_new session_arm kv_write
 * wrap: staging_open journal_new live_new upper_new mountinfo_read
 */
#include "tests/unit/mount_fixture.h"

#include <dirent.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "fs/host/mountinfo.h"
#include "fs/fuse/session_internal.h"

/* The step that fails, counted in calls of this thread to what follows; 0: none. */
static _Thread_local unsigned fail_at, calls;

static bool fails_now(void)
{
	return ++calls == fail_at;
}

/* Let NAME(ARGS) give FAILURE at its turn, and be what it is otherwise. */
#define STEP(type, name, failure, params, args)                      \
	type __real_##name params;                                   \
	type __wrap_##name params;                                   \
	type __wrap_##name params                                    \
	{                                                            \
		return fails_now() ? (failure) : __real_##name args; \
	}

STEP(int, kernel_mount_new, -EMFILE,
     (int fd, const struct kernel_mount_options *o, int *out_fd, struct kernel_mount *out),
     (fd, o, out_fd, out))
STEP(int, kernel_mount_place, -ENOSPC, (int fd, const char *mountpoint), (fd, mountpoint))
STEP(struct passthrough *, passthrough_new, NULL,
     (struct view * v, struct shared_files *sf, int fd), (v, sf, fd))
STEP(int, session_arm, -ENOSPC, (struct session * s, int op), (s, op))
STEP(int, kv_write, -EIO, (struct kv * kv, struct kv_batch *b, enum kv_durability d), (kv, b, d))
STEP(int, staging_open, -EMFILE,
     (int dir, const char *name, bool fresh, struct journal *j, struct staging **out,
      struct error *err),
     (dir, name, fresh, j, out, err))
STEP(struct journal *, journal_new, NULL,
     (int dir, const char *name, const uint8_t *id, struct kv *kv), (dir, name, id, kv))
STEP(struct live *, live_new, NULL, (void), ())
STEP(struct upper *, upper_new, NULL, (const uint8_t *id, uint32_t epoch), (id, epoch))

/* How often this thread has read the list of all mounts. */
static _Thread_local unsigned lists_read;

int __real_mountinfo_read(const char *file, struct mountinfo *out);
int __wrap_mountinfo_read(const char *file, struct mountinfo *out);
int __wrap_mountinfo_read(const char *file, struct mountinfo *out)
{
	lists_read++;
	return __real_mountinfo_read(file, out);
}

struct pf {
	struct fx fx;
	struct session_pool *pool;
	struct shared_files *files;
	struct snapshot snap;
	char dir[64], other[64]; /* to mount upon */
};

static int setup(void **state)
{
	struct pf *f = calloc(1, sizeof(*f));
	struct model *base = m_new();
	struct error err = ERROR_INIT;

	assert_non_null(f);
	fail_at = 0;
	fx_open(&f->fx);
	m_snapshot(f->fx.s, base, "base");
	m_free(base);
	assert_int_equal(snapshots_get(f->fx.s->snapshots, "base", &f->snap, &err), 0);
	f->pool = session_pool_new(2, &err);
	assert_non_null(f->pool);
	assert_int_equal(shared_files_open(f->fx.s, 0, &f->files, &err), 0);
	session_pool_share(f->pool, f->files);
	snprintf(f->dir, sizeof(f->dir), "%s/at", f->fx.dir);
	snprintf(f->other, sizeof(f->other), "%s/other", f->fx.dir);
	assert_int_equal(mkdir(f->dir, 0755), 0);
	assert_int_equal(mkdir(f->other, 0755), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct pf *f = *state;

	session_pool_free(f->pool);
	shared_files_close(f->files);
	snapshot_fini(&f->snap);
	fx_close(&f->fx);
	free(f);
	return 0;
}

/* Mounts below the store's directory. */
static unsigned count_mounts(const struct pf *f)
{
	struct mountinfo mi;
	unsigned n = 0;

	assert_int_equal(mountinfo_read("/proc/self/mountinfo", &mi), 0);
	for (size_t i = 0; i < mi.n; i++)
		n += path_is_within(mi.entries[i].mountpoint, f->fx.dir);
	mountinfo_fini(&mi);
	return n;
}

static unsigned count_files(const struct pf *f, const char *name)
{
	char path[128];
	unsigned n = 0;

	snprintf(path, sizeof(path), "%s/%s", f->fx.s->dir, name);
	DIR *d = opendir(path);

	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

static unsigned count_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static unsigned count_records(struct pf *f)
{
	struct kv_iter *it = kv_iter_new(f->fx.s->kv, KV_META);
	unsigned n = 0;
	size_t len;

	for (kv_iter_seek(it, "mount/", 6); kv_iter_valid(it); kv_iter_next(it)) {
		const uint8_t *key = kv_iter_key(it, &len);

		n += len > 6 && memcmp(key, "mount/", 6) == 0;
	}
	kv_iter_free(it);
	return n;
}

static int make(struct pf *f, struct mount **out)
{
	const struct mount_options opt = { .mountpoint = f->dir, .cache = MOUNT_CACHE_SHARED };
	struct error err = ERROR_INIT;

	return mount_create(f->fx.s, f->pool, &f->snap, &opt, out, &err);
}

static bool can_mount(struct pf *f)
{
	struct mount *m = NULL;
	struct error err = ERROR_INIT;

	if (make(f, &m))
		return false;
	assert_int_equal(mount_detach(m, MOUNT_GENTLY, MOUNT_DETACH_DISCARD, &err), 0);
	assert_int_equal(mount_discard(m, &err), 0);
	return true;
}

static void a_mount_that_fails_at_any_step_leaves_nothing(void **state)
{
	struct pf *f = *state;
	struct error err = ERROR_INIT;
	struct mount *m = NULL;
	unsigned steps = 0, before;
	int r;

	if (!can_mount(f))
		skip();
	before = count_descriptors();
	do {
		calls = 0;
		fail_at = ++steps;
		r = make(f, &m);
		fail_at = 0;
		if (r == 0)
			break;
		assert_int_equal(count_mounts(f), 0);
		assert_int_equal(count_records(f), 0);
		assert_int_equal(count_files(f, "staging") + count_files(f, "journal"), 0);
		assert_int_equal(count_descriptors(), before);
	} while (steps < 100);
	assert_in_range(steps, 9, 99); /* all of them have failed once */
	assert_int_equal(count_mounts(f), 1);
	assert_int_equal(mount_detach(m, MOUNT_GENTLY, MOUNT_DETACH, &err), 0);
	assert_int_equal(mount_discard(m, &err), 0);
}

static void an_attach_that_fails_at_any_step_changes_nothing(void **state)
{
	struct pf *f = *state;
	struct error err = ERROR_INIT;
	struct mount_info info;
	struct mount *m = NULL;
	unsigned steps = 0;
	int r;

	if (make(f, &m))
		skip();
	assert_int_equal(mount_detach(m, MOUNT_GENTLY, MOUNT_DETACH, &err), 0);
	do {
		calls = 0;
		fail_at = ++steps;
		r = mount_attach(m, f->other, &err);
		fail_at = 0;
		mount_get_info(m, &info);
		assert_int_equal(info.attached, r == 0);
		assert_int_equal(count_mounts(f), r == 0);
		assert_string_equal(info.mountpoint, r ? f->dir : f->other);
		assert_int_equal(m->rec.attached, r == 0);
		assert_false(info.held);
	} while (r && steps < 100);
	assert_in_range(steps, 5, 99);
	assert_int_equal(mount_detach(m, MOUNT_GENTLY, MOUNT_DETACH, &err), 0);
	assert_int_equal(mount_discard(m, &err), 0);
}

static void write_text(const char *dir, const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *out = fopen(path, "w");

	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

static void assert_text(const char *dir, const char *name, const char *want)
{
	char path[128], got[64] = "";

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *in = fopen(path, "r");

	if (!in)
		fail_msg("%s: %s", path, strerror(errno));
	assert_non_null(fgets(got, sizeof(got), in));
	assert_string_equal(got, want);
	fclose(in);
}

static void assert_state(struct mount *m, bool attached, bool held)
{
	struct mount_info info;

	mount_get_info(m, &info);
	assert_int_equal(info.attached, attached);
	assert_int_equal(info.held, held);
}

/* Mounted elsewhere as well: each command works, or says who has it. */
static void what_others_hold_can_be_attached_or_cut_off(void **state)
{
	struct pf *f = *state;
	struct error err = ERROR_INIT;
	struct mount *m = NULL;

	if (make(f, &m))
		skip();
	assert_int_equal(mount(f->dir, f->other, NULL, MS_BIND, NULL), 0);
	assert_int_equal(mount_detach(m, MOUNT_GENTLY, MOUNT_DETACH, &err), 0);
	assert_state(m, false, true);
	assert_int_equal(mount_detach(m, MOUNT_GENTLY, MOUNT_DETACH, &err), -EBUSY);
	assert_non_null(strstr(error_text(&err), f->other));
	assert_int_equal(mount_discard(m, &err), -EBUSY);
	assert_non_null(strstr(error_text(&err), f->other));
	/* Attached anew it is the same for both. */
	assert_int_equal(mount_attach(m, NULL, &err), 0);
	assert_state(m, true, false);
	write_text(f->other, "file", "through the other");
	assert_text(f->dir, "file", "through the other");
	/* Cut off, it has what was written, though not synced by anyone. */
	assert_int_equal(mount_detach(m, MOUNT_LAZILY, MOUNT_DETACH, &err), 0);
	assert_state(m, false, true);
	write_text(f->other, "late", "written late");
	assert_int_equal(mount_detach(m, MOUNT_FORCED, MOUNT_DETACH, &err), 0);
	assert_state(m, false, false);
	assert_int_equal(umount2(f->other, MNT_DETACH), 0);
	assert_int_equal(mount_attach(m, f->other, &err), 0);
	assert_text(f->other, "file", "through the other");
	assert_text(f->other, "late", "written late");
	assert_int_equal(mount_detach(m, MOUNT_GENTLY, MOUNT_DETACH, &err), 0);
	assert_int_equal(mount_discard(m, &err), 0);
}

/* Others unmount it, while a bind mount holds it: the next start does not attach it. */
static void that_one_is_cut_off_is_recorded(void **state)
{
	struct pf *f = *state;
	struct error err = ERROR_INIT;
	struct kv_value v = { 0 };
	struct mount_info info;
	struct mount *m = NULL;
	char key[64];

	if (make(f, &m))
		skip();
	assert_int_equal(mount(f->dir, f->other, NULL, MS_BIND, NULL), 0);
	assert_int_equal(umount2(f->dir, 0), 0);
	mount_cut_off(m);
	assert_state(m, false, false);
	mount_get_info(m, &info);
	snprintf(key, sizeof(key), "mount/%s", info.id);
	assert_int_equal(kv_get(f->fx.s->kv, KV_META, key, strlen(key), &v), 0);
	json_t *record = json_loadb((const char *)v.data, v.len, 0, NULL);

	assert_true(json_is_false(json_object_get(record, "attached")));
	json_decref(record);
	kv_value_release(&v);
	assert_int_equal(umount2(f->other, MNT_DETACH), 0);
	assert_int_equal(mount_discard(m, &err), 0);
}

/* Others unmount it, while a bind mount holds it. */
static void what_was_unmounted_behind_our_back_is_noticed(void **state)
{
	struct pf *f = *state;
	struct error err = ERROR_INIT;
	struct mount *m = NULL;

	if (make(f, &m))
		skip();
	assert_int_equal(mount(f->dir, f->other, NULL, MS_BIND, NULL), 0);
	assert_int_equal(umount2(f->dir, 0), 0);
	assert_int_equal(mount_discard(m, &err), -EBUSY);
	assert_state(m, false, true);
	assert_int_equal(mount_attach(m, NULL, &err), 0);
	assert_int_equal(umount2(f->dir, 0), 0);
	assert_int_equal(mount_attach(m, NULL, &err), 0);
	assert_int_equal(umount2(f->other, 0), 0);
	assert_int_equal(mount_detach(m, MOUNT_GENTLY, MOUNT_DETACH, &err), 0);
	assert_int_equal(mount_discard(m, &err), 0);
}

/* With a thousand mounts, the list of them would cost more than the rest of an unmount. */
static void an_unmount_reads_the_list_of_mounts_only_where_it_is_needed(void **state)
{
	struct pf *f = *state;
	struct error err = ERROR_INIT;
	struct mount *m = NULL;

	if (make(f, &m))
		skip();
	lists_read = 0;
	assert_int_equal(mount_detach(m, MOUNT_GENTLY, MOUNT_DETACH, &err), 0);
	assert_int_equal(lists_read, 0);
	assert_state(m, false, false);
	/* Where others have unmounted it already, a detach is what they began. */
	assert_int_equal(mount_attach(m, NULL, &err), 0);
	assert_int_equal(mount(f->dir, f->other, NULL, MS_BIND, NULL), 0);
	assert_int_equal(umount2(f->dir, 0), 0);
	lists_read = 0;
	assert_int_equal(mount_detach(m, MOUNT_GENTLY, MOUNT_DETACH, &err), 0);
	assert_int_equal(lists_read, 1);
	assert_state(m, false, true);
	assert_int_equal(umount2(f->other, 0), 0);
	assert_int_equal(mount_detach(m, MOUNT_FORCED, MOUNT_DETACH, &err), 0);
	assert_int_equal(mount_discard(m, &err), 0);
}

/* Over the mount, and over a directory above it: neither is taken away, nor flushed for it. */
static void what_others_mount_over_it_stays(void **state)
{
	struct pf *f = *state;
	struct error err = ERROR_INIT;
	struct snapshot snap;
	struct mount *m = NULL;

	if (make(f, &m))
		skip();
	write_text(f->dir, "below", "below");
	for (int over = 0; over < 2; over++) {
		const char *place = over ? f->fx.dir : f->dir;

		assert_int_equal(mount("others", place, "tmpfs", 0, NULL), 0);
		write_text(place, "theirs", "theirs");
		for (int how = MOUNT_GENTLY; how <= MOUNT_FORCED; how++) {
			assert_int_equal(mount_detach(m, how, MOUNT_DETACH, &err), -EEXIST);
			assert_non_null(strstr(error_text(&err), "tmpfs (others)"));
			assert_state(m, true, false);
		}
		assert_text(place, "theirs", "theirs");
		assert_int_equal(umount2(place, 0), 0);
	}
	/* A checkpoint has what the kernel had not written back. */
	write_text(f->dir, "dirty", "dirty");
	assert_int_equal(mount("others", f->dir, "tmpfs", 0, NULL), 0);
	assert_int_equal(mount_checkpoint(m, NULL, NULL, &snap, &err), 0);
	snapshot_fini(&snap);
	assert_int_equal(mount_wait_sealed(m, &err), 0);
	mount_close(m);
	assert_int_equal(count_mounts(f), 2); /* the end of the daemon takes nothing, either */
	assert_int_equal(umount2(f->dir, 0), 0);
	assert_int_equal(umount2(f->dir, 0), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_mount_that_fails_at_any_step_leaves_nothing),
		T(an_attach_that_fails_at_any_step_changes_nothing),
		T(what_others_hold_can_be_attached_or_cut_off),
		T(that_one_is_cut_off_is_recorded),
		T(what_was_unmounted_behind_our_back_is_noticed),
		T(an_unmount_reads_the_list_of_mounts_only_where_it_is_needed),
		T(what_others_mount_over_it_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
