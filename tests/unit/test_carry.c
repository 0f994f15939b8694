/*
 * carry: files that are open and have no name, across checkpoints.
 * wrap: kv_flush_content kv_write
 */
#include "tests/unit/mount_fixture.h"

#include "fs/mount/carry.h"

#define KIB 1024u

/* ---- standing in the middle of an adoption ---- */

/* All in the sealing thread alone. */
static void (*before_exchange)(void *arg); /* once */
static void *before_exchange_arg;
static int fail_synced_writes; /* so many */
static pthread_t main_thread;

int __real_kv_flush_content(struct kv *kv);
int __wrap_kv_flush_content(struct kv *kv);
int __real_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);
int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);

int __wrap_kv_flush_content(struct kv *kv)
{
	int r = __real_kv_flush_content(kv);

	if (before_exchange && !pthread_equal(pthread_self(), main_thread))
		STEAL(before_exchange)(before_exchange_arg);
	return r;
}

int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d)
{
	if (fail_synced_writes && d == KV_SYNC && !pthread_equal(pthread_self(), main_thread)) {
		fail_synced_writes--;
		return -EIO;
	}
	return __real_kv_write(kv, b, d);
}

/* ---- open files ---- */

static uint64_t open_tmpfile(struct mf *f)
{
	struct view_attr a;

	assert_int_equal(view_tmpfile(f->v, ROOT_INO, 0600, &mf_root, &a), 0);
	assert_int_equal(live_count(f->v->live, a.ino), 1);
	return a.ino;
}

static void open_it(struct mf *f, uint64_t ino)
{
	assert_int_equal(live_add(f->v->live, ino, 1), 0);
}

static void assert_gone(struct mf *f, uint64_t ino)
{
	struct view_attr a;

	assert_int_equal(view_getattr(f->v, ino, &a), -ENOENT);
}

static void set_xattr(struct mf *f, uint64_t ino, const char *name, const char *value)
{
	assert_int_equal(view_setxattr(f->v, ino, name, value, strlen(value), 0, false), 0);
}

static void assert_xattr(struct mf *f, uint64_t ino, const char *name, const char *want)
{
	struct buf got CLEANUP(buf_fini_p) = BUF_INIT;
	int r = view_getxattr(f->v, ino, name, &got);

	if (!want) {
		assert_int_equal(r, -ENODATA);
		return;
	}
	assert_int_equal(r, 0);
	assert_string_equal(buf_cstr(&got), want);
}

/* ---- tests ---- */

static void an_unlinked_open_file_outlives_checkpoints(void **state)
{
	struct mf *f = *state;
	size_t len = 600 * KIB;
	uint8_t *data = malloc(len);
	uint64_t random = 5, ino = mf_file(f, "f");

	mf_noise(&random, data, len);
	mf_write(f, ino, 0, data, len);
	set_xattr(f, ino, "user.kept", "yes");
	set_xattr(f, ino, "user.removed", "yes");
	mf_checkpoint(f); /* its data is in the base now */
	open_it(f, ino);
	assert_int_equal(view_unlink(f->v, ROOT_INO, "f"), 0);
	for (int i = 0; i < 4; i++) {
		mf_checkpoint(f);
		mf_assert_content(f, ino, data, len);
		assert_int_equal(mf_stat(f, ino).nlink, 0);
		assert_xattr(f, ino, "user.kept", "yes");
		if (i == 1)
			assert_int_equal(view_removexattr(f->v, ino, "user.removed"), 0);
		assert_xattr(f, ino, "user.removed", i < 1 ? "yes" : NULL);
		memset(data + i * 100000, i, 70000);
		mf_write(f, ino, (uint64_t)i * 100000, data + i * 100000, 70000);
		if (i == 2) {
			len = 350 * KIB;
			mf_truncate(f, ino, len);
			mf_truncate(f, ino, len + 1000);
			memset(data + len, 0, 1000);
			len += 1000;
		}
		assert_int_equal(mf_stat(f, ino).alloc_bytes, mf_alloc(f, ino));
	}
	view_forget(f->v, ino, 1);
	assert_gone(f, ino);
	assert_int_equal(atomic_load(&f->v->cur->data_bytes), 0);
	mf_checkpoint(f);
	assert_gone(f, ino);
	free(data);
}

static void a_directory_that_was_removed_can_still_be_read(void **state)
{
	struct mf *f = *state;
	uint64_t dir = mf_create(f, ROOT_INO, "d", S_IFDIR | 0755);
	struct view_attr up;

	mf_checkpoint(f);
	open_it(f, dir);
	assert_int_equal(view_rmdir(f->v, ROOT_INO, "d"), 0);
	mf_checkpoint(f);
	assert_int_equal(view_parent(f->v, dir, &up), 0);
	assert_int_equal(up.ino, ROOT_INO);
	assert_int_equal(view_lookup(f->v, dir, "x", &up), -ENOENT);
	assert_int_equal(view_create(f->v, dir, "x", S_IFREG, 0, NULL, &mf_root, &up), -ENOENT);
}

static void a_checkpoint_with_open_files_alone_changes_nothing(void **state)
{
	struct mf *f = *state;
	uint64_t ino = open_tmpfile(f);
	struct snapshot snap;
	struct error err = ERROR_INIT;

	mf_write(f, ino, 0, "hello", 5);
	mf_checkpoint(f);
	struct digest root = f->v->base.root;

	assert_int_equal(mount_checkpoint(f->m, NULL, NULL, &snap, &err), 0);
	assert_int_equal(snap.status, SNAPSHOT_READY);
	assert_true(digest_equal(&snap.root, &root));
	snapshot_fini(&snap);
	mf_assert_content(f, ino, (const uint8_t *)"hello", 5);
}

/* What O_TMPFILE is for: write, then link. */
static void link_tmpfile(struct mf *f, bool checkpoint_first, bool restart)
{
	uint64_t ino = open_tmpfile(f), random = 9;
	uint8_t data[100 * KIB];
	struct view_attr a;

	mf_noise(&random, data, sizeof(data));
	mf_write(f, ino, 0, data, sizeof(data));
	set_xattr(f, ino, "user.x", "1");
	if (checkpoint_first)
		mf_checkpoint(f);
	assert_int_equal(view_link(f->v, ino, ROOT_INO, "named", &a), 0);
	view_forget(f->v, ino, 1);
	if (restart)
		mf_restart(f);
	mf_assert_content(f, ino, data, sizeof(data));
	mf_checkpoint(f);
	mf_assert_content(f, ino, data, sizeof(data));
	mf_restart(f);
	mf_assert_content(f, ino, data, sizeof(data));
	assert_xattr(f, ino, "user.x", "1");
	assert_int_equal(view_lookup(f->v, ROOT_INO, "named", &a), 0);
	assert_int_equal(a.ino, ino);
	assert_int_equal(a.rec.nlink, 1);
	assert_int_equal(view_unlink(f->v, ROOT_INO, "named"), 0);
	assert_gone(f, ino);
}

static void a_tmpfile_that_is_linked_after_a_checkpoint_has_its_data(void **state)
{
	for (int i = 0; i < 4; i++)
		link_tmpfile(*state, i & 1, i & 2);
}

struct late {
	struct mf *f;
	uint64_t ino;
	uint8_t *data;
};

/* Between the swap and the adoption: changed, linked and let go of. */
static void change_and_link(void *arg)
{
	struct late *l = arg;
	struct view_attr a;

	memset(l->data + 50000, 'x', 10000);
	mf_write(l->f, l->ino, 50000, l->data + 50000, 10000);
	assert_int_equal(view_link(l->f->v, l->ino, ROOT_INO, "late", &a), 0);
	view_forget(l->f->v, l->ino, 1);
}

static void link_between(struct mf *f, void (*when_restarted)(struct mf *f))
{
	struct late l = { f, open_tmpfile(f), malloc(100 * KIB) };
	uint64_t random = 3;
	struct view_attr a;

	mf_noise(&random, l.data, 100 * KIB);
	mf_write(f, l.ino, 0, l.data, 100 * KIB);
	before_exchange_arg = &l;
	before_exchange = change_and_link;
	mf_checkpoint(f);
	assert_null(before_exchange);
	when_restarted(f);
	mf_assert_content(f, l.ino, l.data, 100 * KIB);
	assert_int_equal(view_lookup(f->v, ROOT_INO, "late", &a), 0);
	assert_int_equal(view_unlink(f->v, ROOT_INO, "late"), 0);
	free(l.data);
}

/* The copy was made; what has changed since cuts its chunks into pieces. */
static void change_in_places(void *arg)
{
	struct late *l = arg;

	for (size_t off = 0; off < 90 * KIB; off += 30 * KIB) {
		memset(l->data + off, 'y', 1000);
		mf_write(l->f, l->ino, off, l->data + off, 1000);
	}
	mf_truncate(l->f, l->ino, 95 * KIB);
	mf_truncate(l->f, l->ino, 100 * KIB);
	memset(l->data + 95 * KIB, 0, 5 * KIB);
}

static void an_open_file_may_be_changed_while_it_is_carried(void **state)
{
	struct mf *f = *state;
	struct late l = { f, mf_file(f, "f"), malloc(100 * KIB) };
	uint64_t random = 8;

	mf_noise(&random, l.data, 100 * KIB);
	mf_write(f, l.ino, 0, l.data, 100 * KIB);
	mf_checkpoint(f);
	open_it(f, l.ino);
	assert_int_equal(view_unlink(f->v, ROOT_INO, "f"), 0);
	for (int i = 0; i < 2; i++) {
		before_exchange_arg = &l;
		before_exchange = change_in_places;
		mf_checkpoint(f);
		assert_null(before_exchange);
		mf_assert_content(f, l.ino, l.data, 100 * KIB);
		assert_int_equal(mf_stat(f, l.ino).alloc_bytes, mf_alloc(f, l.ino));
	}
	free(l.data);
}

static void checkpoint_and_restart(struct mf *f)
{
	mf_checkpoint(f);
	mf_restart(f);
}

static void stay(struct mf *f)
{
	(void)f;
}

static void a_tmpfile_may_be_linked_while_its_epoch_is_sealed(void **state)
{
	link_between(*state, stay);
	link_between(*state, mf_restart);
	link_between(*state, checkpoint_and_restart);
}

/* Writes fail: that of the new base, and, if both, the one that says so as well. */
static void fail_adoption(struct mf *f, bool both)
{
	uint64_t ino = open_tmpfile(f), kept = mf_file(f, both ? "kept" : "keep"), random = 4;
	uint8_t data[200 * KIB] = { 0 };
	struct error err = ERROR_INIT;

	mf_noise(&random, data, sizeof(data));
	mf_write(f, kept, 0, data, sizeof(data));
	mf_write(f, ino, 0, data, sizeof(data));
	struct snapshot snap, after;

	fail_synced_writes = both ? 2 : 1;
	assert_int_equal(mount_checkpoint(f->m, NULL, NULL, &snap, &err), 0);
	assert_int_equal(mount_wait_sealed(f->m, &err), -EIO);
	assert_int_equal(fail_synced_writes, 0);
	mf_assert_content(f, ino, data, sizeof(data));
	mf_assert_content(f, kept, data, sizeof(data));
	/* Cut off what a second attempt would bring back if it merged again. */
	mf_truncate(f, ino, 1000);
	mf_truncate(f, ino, sizeof(data));
	memset(data + 1000, 0, sizeof(data) - 1000);
	mf_assert_content(f, ino, data, sizeof(data));
	mf_checkpoint(f);
	assert_null(f->v->sealed);
	mf_assert_content(f, ino, data, sizeof(data));
	mf_checkpoint(f);
	mf_assert_content(f, ino, data, sizeof(data));
	assert_int_equal(snapshots_get(f->fx.s->snapshots, snap.id, &after, &err), 0);
	assert_int_equal(after.status, both ? SNAPSHOT_READY : SNAPSHOT_FAILED);
	snapshot_fini(&after);
	snapshot_fini(&snap);
}

static void a_failed_adoption_is_made_up_for(void **state)
{
	fail_adoption(*state, false);
	fail_adoption(*state, true);
}

static uint64_t staging_blocks(struct mf *f)
{
	char path[600];
	struct stat st;

	snprintf(path, sizeof(path), "%s/staging/%s", f->fx.dir, f->m->rec.id);
	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* One file that stays open must not keep the space of all that is written. */
static void staged_space_is_freed_beside_open_files(void **state)
{
	struct mf *f = *state;
	uint64_t ino = open_tmpfile(f), random = 6;
	uint8_t *data = malloc(1024 * KIB);

	mf_noise(&random, data, 1024 * KIB);
	mf_write(f, ino, 0, data, 50000);
	for (int i = 0; i < 4; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		mf_write(f, mf_file(f, name), 0, data, 1024 * KIB);
		mf_checkpoint(f);
		mf_assert_content(f, ino, data, 50000);
		assert_true(staging_blocks(f) < 100000);
	}
	free(data);
}

/* ---- random ---- */

#define FILES 6
#define SIZE_MAX_RANDOM (300 * KIB)

struct open_file {
	uint64_t ino; /* 0: none */
	bool linked, open, is_tmpfile;
	char name[16];
	uint8_t data[SIZE_MAX_RANDOM];
	size_t size;
};

struct world {
	struct mf *f;
	uint64_t random;
	unsigned names;
	struct open_file files[FILES];
};

static void open_one(struct world *w, struct open_file *o)
{
	memset(o, 0, sizeof(*o));
	o->open = true;
	o->is_tmpfile = mf_below(&w->random, 2);
	if (o->is_tmpfile) {
		o->ino = open_tmpfile(w->f);
		return;
	}
	snprintf(o->name, sizeof(o->name), "n%u", w->names++);
	o->ino = mf_file(w->f, o->name);
	o->linked = true;
	open_it(w->f, o->ino);
}

static void write_one(struct world *w, struct open_file *o)
{
	size_t off = mf_below(&w->random, SIZE_MAX_RANDOM - 1);
	size_t len = 1 + mf_below(&w->random, MIN(SIZE_MAX_RANDOM - off, (size_t)70000));

	mf_noise(&w->random, o->data + off, len);
	mf_write(w->f, o->ino, off, o->data + off, len);
	o->size = MAX(o->size, off + len);
}

static void cut_one(struct world *w, struct open_file *o)
{
	size_t size = mf_below(&w->random, SIZE_MAX_RANDOM);

	mf_truncate(w->f, o->ino, size);
	if (size < o->size)
		memset(o->data + size, 0, o->size - size);
	o->size = size;
}

static void toggle_name(struct world *w, struct open_file *o)
{
	struct view_attr a;

	if (o->linked) {
		assert_int_equal(view_unlink(w->f->v, ROOT_INO, o->name), 0);
	} else if (o->is_tmpfile) {
		snprintf(o->name, sizeof(o->name), "n%u", w->names++);
		assert_int_equal(view_link(w->f->v, o->ino, ROOT_INO, o->name, &a), 0);
	} else {
		return;
	}
	o->linked = !o->linked;
	if (!o->linked && !o->open)
		o->ino = 0;
}

static void close_one(struct world *w, struct open_file *o)
{
	if (o->open)
		view_forget(w->f->v, o->ino, 1);
	o->open = false;
	if (!o->linked) {
		assert_gone(w->f, o->ino);
		o->ino = 0;
	}
}

static void restart_all(struct world *w)
{
	mf_restart(w->f);
	for (int i = 0; i < FILES; i++) {
		struct open_file *o = &w->files[i];

		o->open = false;
		if (o->ino && !o->linked) {
			assert_gone(w->f, o->ino);
			o->ino = 0;
		}
	}
}

static void step(struct world *w, struct open_file *o)
{
	switch (mf_below(&w->random, 20)) {
	case 0:
		restart_all(w);
		break;
	case 1:
	case 2:
		mf_checkpoint(w->f);
		break;
	case 3:
	case 4:
		mf_swap(w->f);
		break;
	case 5:
	case 6:
	case 7:
		toggle_name(w, o);
		break;
	case 8:
		close_one(w, o);
		break;
	case 9:
	case 10:
	case 11:
		cut_one(w, o);
		break;
	default:
		write_one(w, o);
	}
}

static void open_files_keep_their_bytes(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	w->f = *state;
	w->random = mf_seed();
	for (unsigned i = 0; i < mf_rounds(400); i++) {
		struct open_file *o = &w->files[mf_below(&w->random, FILES)];

		if (!o->ino)
			open_one(w, o);
		else
			step(w, o);
		o = &w->files[mf_below(&w->random, FILES)];
		if (o->ino) {
			mf_assert_content(w->f, o->ino, o->data, o->size);
			assert_int_equal(mf_stat(w->f, o->ino).nlink, o->linked);
			assert_int_equal(mf_stat(w->f, o->ino).alloc_bytes, mf_alloc(w->f, o->ino));
		}
	}
	free(w);
}

/* The former daemon has told the kernel of it: it may be open. */
static void after_a_takeover_what_has_no_name_is_kept(void **state)
{
	struct mf *f = *state;
	uint8_t data[5000];
	uint64_t random = 6, ino = mf_file(f, "f");

	mf_noise(&random, data, sizeof(data));
	mf_write(f, ino, 0, data, sizeof(data));
	f->v->others_told = true;
	assert_int_equal(view_unlink(f->v, ROOT_INO, "f"), 0);
	for (int i = 0; i < 2; i++) {
		mf_checkpoint(f);
		mf_assert_content(f, ino, data, sizeof(data));
	}
	view_forget(f->v, ino, 1);
	assert_gone(f, ino);
	f->v->others_told = false;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, mf_setup, mf_teardown)
	main_thread = pthread_self();
	const struct CMUnitTest tests[] = {
		T(after_a_takeover_what_has_no_name_is_kept),
		T(an_unlinked_open_file_outlives_checkpoints),
		T(a_directory_that_was_removed_can_still_be_read),
		T(a_checkpoint_with_open_files_alone_changes_nothing),
		T(a_tmpfile_that_is_linked_after_a_checkpoint_has_its_data),
		T(a_tmpfile_may_be_linked_while_its_epoch_is_sealed),
		T(an_open_file_may_be_changed_while_it_is_carried),
		T(a_failed_adoption_is_made_up_for),
		T(staged_space_is_freed_beside_open_files),
		T(open_files_keep_their_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
