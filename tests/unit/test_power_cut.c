/*
 * What a disk may have after a power cut: the database, the journal and the
 * staging file as they were at different moments. What was synced is there, in
 * one piece, and nothing that no epoch knows of comes up later.
 * wrap: seal_run journal_append_epoch journal_boot_id pread64 lseek64
 */
#include "tests/unit/view_ops.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "fs/upper/journal_internal.h"
#include "fs/mount/seal.h"
#include "store/base/wire.h"

static bool seal_fails;
static void (*before_epoch)(struct mf *f);
static void (*before_seal)(struct mf *f);
static struct mf *before_epoch_arg, *before_seal_arg;
static uint8_t boots;

int __real_seal_run(struct view *v, uint64_t next_ino, struct seal_result *out, struct error *err);
int __wrap_seal_run(struct view *v, uint64_t next_ino, struct seal_result *out, struct error *err);
int __wrap_seal_run(struct view *v, uint64_t next_ino, struct seal_result *out, struct error *err)
{
	if (before_seal)
		STEAL(before_seal)(before_seal_arg);
	return seal_fails ? error_set(err, -EIO, "not now")
			  : __real_seal_run(v, next_ino, out, err);
}

int __real_journal_append_epoch(struct journal *j, const struct journal_epoch *e);
int __wrap_journal_append_epoch(struct journal *j, const struct journal_epoch *e);
int __wrap_journal_append_epoch(struct journal *j, const struct journal_epoch *e)
{
	if (before_epoch)
		STEAL(before_epoch)(before_epoch_arg);
	return __real_journal_append_epoch(j, e);
}

void __wrap_journal_boot_id(uint8_t out[JOURNAL_BOOT_SIZE]);
void __wrap_journal_boot_id(uint8_t out[JOURNAL_BOOT_SIZE])
{
	memset(out, boots, JOURNAL_BOOT_SIZE);
}

/* ---- a disk ---- */

static void shell(struct mf *f, const char *command)
{
	char line[1024];

	snprintf(line, sizeof(line), "cd '%s' && %s", f->fx.dir, command);
	assert_int_equal(system(line), 0);
}

static void keep_database(struct mf *f)
{
	shell(f, "rm -rf db.old && cp -a db db.old");
}

static void keep_journal(struct mf *f)
{
	shell(f, "rm -rf journal.old && cp -a journal journal.old");
}

/* The power goes: what memory had is gone. `command` makes of the disk what it had. */
static void cut_power(struct mf *f, const char *command)
{
	mount_join_seal(f->m);
	mount_free(f->m);
	store_close(STEAL(f->fx.s));
	shell(f, command);
	seal_fails = false;
	boots++;
	fx_open_store(&f->fx);
	mf_load(f);
}

/* Take a checkpoint that is not sealed before the power goes. */
static void swap_only(struct mf *f, struct snapshot *snap)
{
	struct error err = ERROR_INIT;

	seal_fails = true;
	if (mount_checkpoint(f->m, "cut", NULL, snap, &err))
		fail_msg("checkpoint: %s", error_text(&err));
	mount_join_seal(f->m);
}

static void steps(struct vm *m, unsigned n)
{
	while (n-- > 0)
		vm_step(m);
}

static bool has_name(struct mf *f, const char *name)
{
	struct view_attr a;
	int r = view_lookup(f->v, ROOT_INO, name, &a);

	assert_true(r == 0 || r == -ENOENT);
	return r == 0;
}

static void assert_all_there(struct mf *f, struct vm *m)
{
	struct snapshot snap;
	struct error err = ERROR_INIT;

	vm_close_all(m);
	vm_check_all(m);
	mf_wait_sealed(f);
	vm_check_all(m);
	/* Whatever was in the database and did not show would show now. */
	mf_restart(f);
	vm_check_all(m);
	steps(m, 30);
	if (mount_checkpoint(f->m, NULL, NULL, &snap, &err))
		fail_msg("checkpoint: %s", error_text(&err));
	vm_sealed(m);
	mf_wait_sealed(f);
	vm_verify(m, snap.id);
	vm_check_all(m);
	snapshot_fini(&snap);
}

/* ---- the cases ---- */

static void run_old_database(bool at_epoch)
{
	struct snapshot snap, now;
	struct mf f;

	mf_open(&f);
	struct vm *m = vm_new(&f);

	m->beside_sealing = true;
	steps(m, 150);
	mf_checkpoint(&f);
	vm_sealed(m);
	steps(m, 150);
	before_epoch_arg = &f;
	before_epoch = at_epoch ? keep_database : NULL;
	if (!at_epoch)
		keep_database(&f);
	swap_only(&f, &snap);
	steps(m, 150);
	assert_int_equal(view_sync(f.v), 0);
	cut_power(&f, "rm -rf db && mv db.old db");
	assert_all_there(&f, m);
	/* Where the checkpoint's record is there, nobody knows whether all of it is. */
	int r = snapshots_get(f.fx.s->snapshots, snap.id, &now, NULL);

	assert_int_equal(r, at_epoch ? 0 : -ENOENT);
	if (!r) {
		assert_int_equal(now.status, SNAPSHOT_FAILED);
		snapshot_fini(&now);
	}
	snapshot_fini(&snap);
	vm_free(m);
	mf_close(&f);
}

static void a_change_of_epoch_that_only_the_journal_has_is_finished(void **state)
{
	(void)state;
	run_old_database(false);
	run_old_database(true);
}

static void an_epoch_whose_change_is_lost_leaves_nothing(void **state)
{
	struct snapshot snap;
	struct mf f;

	(void)state;
	mf_open(&f);
	struct vm *m = vm_new(&f);

	m->beside_sealing = true;
	steps(m, 150);
	assert_int_equal(view_sync(f.v), 0);
	keep_journal(&f);
	swap_only(&f, &snap);
	mf_file(&f, "ghost");
	cut_power(&f, "rm -rf journal && mv journal.old journal");
	assert_false(has_name(&f, "ghost"));
	assert_all_there(&f, m);
	assert_false(has_name(&f, "ghost"));
	snapshot_fini(&snap);
	vm_free(m);
	mf_close(&f);
}

/* The mount's record may reach the disk before what the checkpoint is to have. */
static void a_checkpoint_of_what_is_lost_is_not_ready(void **state)
{
	struct snapshot snap, now;
	struct error err = ERROR_INIT;
	struct mf f;

	(void)state;
	mf_open(&f);
	mf_file(&f, "before");
	assert_int_equal(view_sync(f.v), 0);
	keep_journal(&f);
	mf_file(&f, "lost");
	before_seal_arg = &f;
	before_seal = keep_database;
	swap_only(&f, &snap);
	cut_power(&f, "rm -rf db journal && mv db.old db && mv journal.old journal");
	assert_true(has_name(&f, "before"));
	assert_false(has_name(&f, "lost"));
	(void)!mount_wait_sealed(f.m, &err);
	assert_int_equal(snapshots_get(f.fx.s->snapshots, snap.id, &now, NULL), 0);
	assert_int_equal(now.status, SNAPSHOT_FAILED);
	assert_non_null(strstr(now.error, "the machine stopped"));
	snapshot_fini(&now);
	/* What is there is in the next one. */
	mf_restart(&f);
	mf_checkpoint(&f);
	assert_true(has_name(&f, "before"));
	snapshot_fini(&snap);
	mf_close(&f);
}

/* Names n0, n1, ... in two epochs; the journal is cut at some place. */
#define NAMES 40
static unsigned count_prefix(struct mf *f)
{
	char name[16];
	unsigned n = 0;

	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		if (!has_name(f, name))
			continue;
		assert_int_equal(n, i);
		n++;
	}
	return n;
}

static void a_torn_journal_gives_what_precedes_the_tear(void **state)
{
	unsigned last = 0;

	(void)state;
	for (unsigned cut = 0; cut <= 8; cut++) {
		struct snapshot snap;
		struct mf f;
		char name[16], command[128];

		mf_open(&f);
		for (unsigned i = 0; i < NAMES; i++) {
			snprintf(name, sizeof(name), "n%u", i);
			if (i == NAMES / 2) {
				keep_database(&f);
				swap_only(&f, &snap);
			}
			mf_file(&f, name);
		}
		/* Segment 1 is at the second place. */
		snprintf(command, sizeof(command),
			 "truncate -s %zu journal/*; truncate -s %u journal/*; %s",
			 JOURNAL_SEGMENT + cut * f.m->view.journal->at / 8, 2 * JOURNAL_SEGMENT,
			 cut % 2 ? "rm -rf db && mv db.old db" : ":");
		cut_power(&f, command);
		unsigned n = count_prefix(&f);

		assert_true(n >= last);
		last = n;
		mf_wait_sealed(&f);
		assert_int_equal(count_prefix(&f), n);
		mf_restart(&f);
		assert_int_equal(count_prefix(&f), n);
		mf_checkpoint(&f);
		assert_int_equal(count_prefix(&f), n);
		snapshot_fini(&snap);
		mf_close(&f);
	}
	assert_int_equal(last, NAMES);
}

/* ---- versions ---- */

static int open_journal_file(struct mf *f)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "journal/%s", f->m->rec.id);
	fd = openat(f->fx.s->dir_fd, path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void put_v1_record(struct buf *b, uint64_t number, const uint8_t *payload, size_t len)
{
	const struct journal_head h = { .number = number, .version = 1 };
	uint8_t head[JOURNAL_RECORD];

	wire_set32(head, (uint32_t)len);
	wire_set32(head + 4, journal_record_crc(journal_seed(&h), payload, len, NULL, 0));
	assert_int_equal(buf_append(b, head, sizeof(head)), 0);
	assert_int_equal(buf_append(b, payload, len), 0);
	while (b->len % 8)
		assert_int_equal(wire_put_u8(b, 0), 0);
}

/* Write the only segment again as a program of the time of version 1 would have. */
static void make_version_1(struct mf *f)
{
	struct journal *j = f->v->journal;
	struct journal_segment s = { .len = j->at, .number = j->number, .version = 2 };
	struct buf b CLEANUP(buf_fini_p) = BUF_INIT;
	struct journal_head h = { .number = j->number, .version = 1 };
	struct journal_record rec;
	uint8_t *data = malloc(JOURNAL_SEGMENT);
	size_t at = JOURNAL_HEAD, from;
	int fd = open_journal_file(f);

	assert_int_equal(j->number, 1);
	assert_int_equal(journal_read_segment(fd, 1, data, JOURNAL_SEGMENT), 0);
	s.data = data;
	assert_int_equal(buf_append(&b, data, JOURNAL_HEAD), 0);
	b.data[6] = '1';
	wire_set32(b.data + 40, (uint32_t)journal_record_crc(0, b.data, 40, NULL, 0));
	wire_set32(b.data + 44, 0);
	assert_int_equal(journal_head_get(b.data, &h), 0);
	for (from = at; journal_record_next(&s, &at, &rec) == 1; from = at) {
		if (rec.kind == JOURNAL_OP)
			put_v1_record(&b, 1, rec.body, rec.len);
		else if (rec.kind != JOURNAL_EPOCH)
			put_v1_record(&b, 1, data + from + 8, wire_get32(data + from));
	}
	memset(data, 0, JOURNAL_SEGMENT);
	memcpy(data, b.data, b.len);
	assert_int_equal(pwrite(fd, data, JOURNAL_SEGMENT, JOURNAL_SEGMENT), JOURNAL_SEGMENT);
	close(fd);
	free(data);
}

static void journals_of_version_1_are_recovered(void **state)
{
	(void)state;
	for (int old_database = 0; old_database < 2; old_database++) {
		struct snapshot snap;
		struct mf f;

		mf_open(&f);
		struct vm *m = vm_new(&f);

		m->beside_sealing = true;
		steps(m, 150);
		keep_database(&f);
		swap_only(&f, &snap);
		steps(m, 150);
		assert_int_equal(view_sync(f.v), 0);
		make_version_1(&f);
		cut_power(&f, old_database ? "rm -rf db && mv db.old db" : ":");
		assert_all_there(&f, m);
		snapshot_fini(&snap);
		vm_free(m);
		mf_close(&f);
	}
}

static void newer_journals_are_refused_untouched(void **state)
{
	struct mf *f = *state;
	struct error err = ERROR_INIT;

	mf_file(f, "here");
	int fd = open_journal_file(f);

	assert_int_equal(pwrite(fd, "VARVEJ3", 8, JOURNAL_SEGMENT), 8);
	mount_free(f->m);
	store_close(STEAL(f->fx.s));
	shell(f, "cp -a journal journal.old");
	fx_open_store(&f->fx);
	assert_int_equal(mount_check_formats(f->fx.s, &err), -EINVAL);
	assert_non_null(strstr(error_text(&err), "version 3"));
	store_close(STEAL(f->fx.s));
	shell(f, "diff -r journal journal.old");
	/* With a program that knows it, all goes on. */
	assert_int_equal(pwrite(fd, "VARVEJ2", 8, JOURNAL_SEGMENT), 8);
	close(fd);
	fx_open_store(&f->fx);
	mf_load(f);
	assert_true(has_name(f, "here"));
}

/* ---- what is read of the file ---- */

static size_t bytes_read;
static bool knows_no_holes;

ssize_t __real_pread64(int fd, void *out, size_t len, off_t at);
ssize_t __wrap_pread64(int fd, void *out, size_t len, off_t at);
ssize_t __wrap_pread64(int fd, void *out, size_t len, off_t at)
{
	ssize_t n = __real_pread64(fd, out, len, at);

	bytes_read += (size_t)MAX(n, 0);
	return n;
}

off_t __real_lseek64(int fd, off_t at, int whence);
off_t __wrap_lseek64(int fd, off_t at, int whence);
off_t __wrap_lseek64(int fd, off_t at, int whence)
{
	if (knows_no_holes && (whence == SEEK_DATA || whence == SEEK_HOLE)) {
		errno = EINVAL;
		return -1;
	}
	return __real_lseek64(fd, at, whence);
}

/* What a segment reads as, and how many bytes that takes. */
static size_t assert_reads(int fd, const uint8_t *want)
{
	uint8_t *data = calloc(1, JOURNAL_SEGMENT);

	assert_non_null(data);
	bytes_read = 0;
	assert_int_equal(journal_read_written(fd, 1, data), 0);
	assert_memory_equal(data, want, JOURNAL_SEGMENT);
	free(data);
	return bytes_read;
}

static void holes_are_zeros_that_are_not_read(void **state)
{
	static const size_t at[] = { 0, (1 << 20) + 5, JOURNAL_SEGMENT - 9 };
	uint8_t *want = calloc(1, JOURNAL_SEGMENT);
	int fd = memfd_create("journal", MFD_CLOEXEC);

	(void)state;
	assert_non_null(want);
	assert_int_equal(ftruncate(fd, 2l * JOURNAL_SEGMENT), 0);
	assert_int_equal(assert_reads(fd, want), 0);
	assert_int_equal(pwrite(fd, "neighbour", 9, JOURNAL_SEGMENT - 9), 9);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		memcpy(want + at[i], "something", 9);
		assert_int_equal(pwrite(fd, "something", 9, (off_t)(JOURNAL_SEGMENT + at[i])), 9);
	}
	assert_in_range(assert_reads(fd, want), 27, JOURNAL_SEGMENT / 4);
	knows_no_holes = true;
	assert_int_equal(assert_reads(fd, want), JOURNAL_SEGMENT);
	knows_no_holes = false;
	/* A file that ends early. */
	assert_int_equal(ftruncate(fd, JOURNAL_SEGMENT + (off_t)at[1] + 4), 0);
	memset(want + at[1] + 4, 0, JOURNAL_SEGMENT - at[1] - 4);
	assert_in_range(assert_reads(fd, want), 13, JOURNAL_SEGMENT / 4);
	knows_no_holes = true;
	assert_int_equal(assert_reads(fd, want), at[1] + 4);
	knows_no_holes = false;
	close(fd);
	free(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holes_are_zeros_that_are_not_read),
		cmocka_unit_test(a_change_of_epoch_that_only_the_journal_has_is_finished),
		cmocka_unit_test(an_epoch_whose_change_is_lost_leaves_nothing),
		cmocka_unit_test(a_checkpoint_of_what_is_lost_is_not_ready),
		cmocka_unit_test(a_torn_journal_gives_what_precedes_the_tear),
		cmocka_unit_test(journals_of_version_1_are_recovered),
		cmocka_unit_test_setup_teardown(newer_journals_are_refused_untouched, mf_setup,
						mf_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
