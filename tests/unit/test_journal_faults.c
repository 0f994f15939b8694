/*
 * journal: each of its writes, syncs and allocations fails once, in turn. What
 * returned 0 is there after a kill, what was synced after a power cut, too, and of
 * what failed nothing is, whatever came after it.
 * wrap: kv_write pwritev64 pwrite64 ftruncate64 openat64 fdatasync malloc mmap64
 */
#include "tests/unit/mount_fixture.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "fs/upper/journal_internal.h"
#include "store/base/wire.h"

#define NAME "journal/test"

/* ---- the call that fails ---- */

static atomic_int calls_left = -1; /* before the one that fails; negative: none does */
static _Thread_local bool exempt;  /* what the test itself does */

static bool fails(void)
{
	return !exempt && atomic_load(&calls_left) >= 0 && atomic_fetch_sub(&calls_left, 1) == 0;
}

int __real_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);
int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);
int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d)
{
	return fails() ? -EIO : __real_kv_write(kv, b, d);
}

ssize_t __real_pwrite64(int fd, const void *data, size_t len, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t at)
{
	/* Zeros, mostly: one write of sixteen is enough. */
	if ((at >> 16) % 16 || !fails())
		return __real_pwrite64(fd, data, len, at);
	errno = ENOSPC;
	return -1;
}

/* Half of it comes to be written. */
ssize_t __real_pwritev64(int fd, const struct iovec *iov, int n, off_t at);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t at);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t at)
{
	if (!fails())
		return __real_pwritev64(fd, iov, n, at);
	for (int i = 0; i < n; i++) {
		size_t len = i + 1 < n ? iov[i].iov_len : iov[i].iov_len / 2;

		assert_int_equal(__real_pwrite64(fd, iov[i].iov_base, len, at), len);
		at += (off_t)len;
	}
	errno = ENOSPC;
	return -1;
}

int __real_ftruncate64(int fd, off_t len);
int __wrap_ftruncate64(int fd, off_t len);
int __wrap_ftruncate64(int fd, off_t len)
{
	if (!fails())
		return __real_ftruncate64(fd, len);
	errno = EIO;
	return -1;
}

int __real_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...)
{
	va_list ap;

	va_start(ap, flags);
	int mode = flags & O_CREAT ? va_arg(ap, int) : 0;

	va_end(ap);
	if (!fails())
		return __real_openat64(dir, path, flags, mode);
	errno = EMFILE;
	return -1;
}

/* The disk has the file as it was at the last sync that did not fail. */
static uint8_t disk[2 * JOURNAL_SEGMENT];
static bool disk_has_file;

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	if (fails()) {
		errno = EIO;
		return -1;
	}
	assert_int_equal(pread(fd, disk, sizeof(disk), 0), sizeof(disk));
	disk_has_file = true;
	return 0;
}

void *__real_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	if (!fails())
		return __real_mmap64(at, len, prot, flags, fd, offset);
	errno = ENOMEM;
	return MAP_FAILED;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

/* ---- a run ---- */

#define KEYS 6
#define STATES 64

struct run {
	struct fx *fx;
	struct journal *j;
	uint8_t id[JOURNAL_ID_SIZE];
	unsigned is[STATES][KEYS]; /* values after each operation that returned 0; 0: none */
	unsigned n, synced;	   /* states */
	unsigned next;		   /* value */
	bool epoch;		   /* the change of it returned 0 */
};

static void append(struct run *r, size_t len)
{
	struct buf op CLEANUP(buf_fini_p) = BUF_INIT;
	unsigned value = ++r->next, key = value % KEYS;
	uint8_t *bytes, k[8];

	exempt = true;
	bytes = calloc(1, len);
	wire_set64be(k, 2ull << 32 | key);
	wire_set64(bytes, value);
	/* Two changes: half of an operation would show. */
	assert_int_equal(journal_change(&op, k, sizeof(k), bytes, len), 0);
	wire_set64be(k, 2ull << 32 | 0x100 | key);
	assert_int_equal(journal_change(&op, k, sizeof(k), bytes, 8), 0);
	free(bytes);
	exempt = false;
	if (journal_append(r->j, &op, 0))
		return;
	assert_true(r->n + 1 < STATES);
	memcpy(r->is[r->n + 1], r->is[r->n], sizeof(r->is[0]));
	r->is[++r->n][key] = value;
}

static void sync_it(struct run *r)
{
	unsigned n = r->n;

	if (journal_sync(r->j) == 0)
		r->synced = n;
}

static unsigned value_of(struct run *r, unsigned key)
{
	uint8_t k[JOURNAL_ID_SIZE + 8];
	struct kv_value v = { 0 };
	unsigned value = 0;

	memcpy(k, r->id, JOURNAL_ID_SIZE);
	wire_set64be(k + JOURNAL_ID_SIZE, 2ull << 32 | key);
	if (kv_get(r->fx->s->kv, KV_UPPER, k, sizeof(k), &v) == 0)
		value = (unsigned)wire_get64(v.data);
	kv_value_release(&v);
	return value;
}

/* Which state the database is in; both changes of each operation are there. */
static unsigned find_state(struct run *r)
{
	unsigned now[KEYS];

	for (unsigned key = 0; key < KEYS; key++) {
		now[key] = value_of(r, key);
		assert_int_equal(value_of(r, 0x100 | key), now[key]);
	}
	for (unsigned i = r->n + 1; i-- > 0;)
		if (memcmp(now, r->is[i], sizeof(now)) == 0)
			return i;
	fail_msg("the database is in a state that never was");
	return 0;
}

/* Everything that a journal does, with what comes after it. */
static void work(struct run *r)
{
	const struct journal_epoch change = { .ended = 1, .begun = 2, .snapshot_id = "some" };

	append(r, 100);
	sync_it(r);
	r->epoch = journal_append_epoch(r->j, &change) == 0;
	append(r, 100);
	append(r, JOURNAL_SEGMENT / 4 + 8); /* to the database at once */
	append(r, 100);
	sync_it(r);
	append(r, 100);
	for (unsigned i = 0; i < 5; i++) /* a segment and more */
		append(r, JOURNAL_SEGMENT / 4 - 100);
	sync_it(r);
	append(r, 100);
	append(r, JOURNAL_SEGMENT / 4 + 8);
	append(r, 100);
	sync_it(r);
	sync_it(r);
	append(r, 100);
}

static void restore_disk(int dir_fd)
{
	(void)!unlinkat(dir_fd, NAME, 0);
	if (!disk_has_file)
		return;
	int fd = openat(dir_fd, NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, disk, sizeof(disk)), sizeof(disk));
	close(fd);
}

/* False where fewer calls were made. */
static bool run(struct fx *fx, int calls, bool power)
{
	static uint8_t number;
	struct run *r = calloc(1, sizeof(*r));
	const struct journal_epochs known = { 1, 2 };
	struct journal_epoch change;
	struct error err = ERROR_INIT;

	r->fx = fx;
	r->id[0] = ++number;
	r->id[1] = power;
	r->j = journal_new(fx->s->dir_fd, NAME, r->id, fx->s->kv);
	disk_has_file = false;
	atomic_store(&calls_left, calls);
	work(r);
	bool failed = atomic_load(&calls_left) < 0;

	atomic_store(&calls_left, -1);
	journal_free(r->j);
	if (power)
		restore_disk(fx->s->dir_fd);
	r->j = journal_new(fx->s->dir_fd, NAME, r->id, fx->s->kv);
	if (journal_recover(r->j, &known, &change, &err))
		fail_msg("journal_recover: %s", error_text(&err));
	unsigned state = find_state(r);

	if (state < (power ? r->synced : r->n))
		fail_msg(
			"call %d fails, then %s: of %u operations, %u of them synced, %u are there",
			calls, power ? "a power cut" : "a kill", r->n, r->synced, state);
	assert_true(change.begun == 0 || r->epoch);
	if (r->epoch && state > 1)
		assert_int_equal(change.begun, 2);
	/* It goes on as ever. */
	unsigned before = r->n = state;

	append(r, 100);
	assert_int_equal(r->n, before + 1);
	assert_int_equal(journal_settle(r->j), 0);
	assert_int_equal(find_state(r), r->n);
	journal_free(r->j);
	free(r);
	return failed;
}

static void a_call_that_fails_loses_nothing_else(void **state)
{
	struct fx *fx = *state;

	for (int power = 0; power < 2; power++) {
		int calls = power % CALL_STRIDE;

		while (run(fx, calls, power))
			calls += CALL_STRIDE;
		assert_true(calls > 20);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_call_that_fails_loses_nothing_else, fx_setup,
						fx_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
