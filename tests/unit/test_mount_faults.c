/*
 * A mount while each call that can fail fails once, in turn: writes, syncs, punches,
 * allocations, batches of the database. What returned 0 is there after a kill, what was
 * synced or sealed after a power cut, too; of what failed nothing is; and all goes on.
 * wrap: kv_write kv_flush_content kv_sync_log pwritev64 pwrite64 ftruncate64 openat64
 * wrap: fdatasync fallocate64 malloc calloc realloc journal_boot_id
 */
#include "tests/unit/mount_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/uio.h>

#include "fs/upper/journal_internal.h"
#include "store/gc/verify.h"

/* ---- the call that fails ---- */

enum kind { DISK, MEMORY };

static atomic_int calls_left = -1; /* before the one that fails; negative: none does */
static enum kind failing;
static bool failing_for_good;	  /* all calls from then on */
static _Thread_local bool exempt; /* what the test itself does */

static bool fails(enum kind kind)
{
	if (exempt || kind != failing || atomic_load(&calls_left) < 0)
		return false;
	if (failing_for_good && atomic_load(&calls_left) == 0)
		return true;
	return atomic_fetch_sub(&calls_left, 1) == 0;
}

static int fail_with(int error)
{
	errno = error;
	return -1;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
	return fails(MEMORY) ? NULL : __real_malloc(n);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
	return fails(MEMORY) ? NULL : __real_calloc(n, size);
}

void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n)
{
	return fails(MEMORY) ? NULL : __real_realloc(p, n);
}

int __real_ftruncate64(int fd, off_t len);
int __wrap_ftruncate64(int fd, off_t len);
int __wrap_ftruncate64(int fd, off_t len)
{
	return fails(DISK) ? fail_with(EIO) : __real_ftruncate64(fd, len);
}

int __real_fallocate64(int fd, int mode, off_t off, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t len)
{
	return fails(DISK) ? fail_with(EIO) : __real_fallocate64(fd, mode, off, len);
}

int __real_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...)
{
	va_list ap;

	va_start(ap, flags);
	int mode = flags & O_CREAT ? va_arg(ap, int) : 0;

	va_end(ap);
	return fails(DISK) ? fail_with(EMFILE) : __real_openat64(dir, path, flags, mode);
}

/* Half of it comes to be written. */
ssize_t __real_pwrite64(int fd, const void *data, size_t len, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t at)
{
	if (!fails(DISK))
		return __real_pwrite64(fd, data, len, at);
	(void)!__real_pwrite64(fd, data, len / 2, at);
	return fail_with(ENOSPC);
}

ssize_t __real_pwritev64(int fd, const struct iovec *iov, int n, off_t at);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t at);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int n, off_t at)
{
	if (!fails(DISK))
		return __real_pwritev64(fd, iov, n, at);
	for (int i = 0; i < n; i++) {
		size_t len = i + 1 < n ? iov[i].iov_len : iov[i].iov_len / 2;

		assert_int_equal(__real_pwrite64(fd, iov[i].iov_base, len, at), len);
		at += (off_t)len;
	}
	return fail_with(ENOSPC);
}

/* ---- what the disk has: each part as it was when it was synced last ---- */

static const char *disk_of; /* the store's directory while its disk is kept; else NULL */
static uint8_t boots;

void __wrap_journal_boot_id(uint8_t out[JOURNAL_BOOT_SIZE]);
void __wrap_journal_boot_id(uint8_t out[JOURNAL_BOOT_SIZE])
{
	memset(out, boots, JOURNAL_BOOT_SIZE);
}

/* What is no hole. */
static void copy_file(int from_dir, int to_dir, const char *name)
{
	static uint8_t bytes[256 << 10];
	int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC);
	int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct stat st;

	assert_true(from >= 0 && to >= 0 && fstat(from, &st) == 0);
	assert_int_equal(ftruncate(to, st.st_size), 0);
	for (off_t at = 0; (at = lseek(from, at, SEEK_DATA)) >= 0;) {
		off_t end = lseek(from, at, SEEK_HOLE);

		for (ssize_t n; at < end; at += n) {
			n = pread(from, bytes, MIN((size_t)(end - at), sizeof(bytes)), at);
			assert_true(n > 0);
			assert_int_equal(pwrite(to, bytes, (size_t)n, at), n);
		}
	}
	close(from);
	close(to);
}

/* The directory `part` of the store, as "part.disk" beside it, if there is one. */
static void keep_part(const char *dir, const char *part)
{
	char from[512], to[512];
	struct dirent *e;

	snprintf(from, sizeof(from), "%s/%s", dir, part);
	snprintf(to, sizeof(to), "%s/%s.disk", dir, part);
	if (access(to, F_OK) == 0)
		assert_int_equal(nftw(to, fx_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	assert_int_equal(mkdir(to, 0700), 0);
	DIR *a = opendir(from), *b = opendir(to);

	assert_true(a && b);
	while ((e = readdir(a)))
		if (e->d_type == DT_REG && strcmp(e->d_name, "LOCK") != 0)
			copy_file(dirfd(a), dirfd(b), e->d_name);
	closedir(a);
	closedir(b);
}

static int note_sync(int r, const char *part)
{
	bool was = exempt;

	exempt = true;
	if (r == 0 && disk_of)
		keep_part(disk_of, part);
	exempt = was;
	return r;
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	char link[64], path[512] = "";

	if (fails(DISK))
		return fail_with(EIO);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	(void)!readlink(link, path, sizeof(path) - 1);
	return note_sync(__real_fdatasync(fd), strstr(path, "/journal/") ? "journal" : "staging");
}

int __real_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);
int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d);
int __wrap_kv_write(struct kv *kv, struct kv_batch *b, enum kv_durability d)
{
	int r = fails(DISK) ? -EIO : __real_kv_write(kv, b, d);

	return d == KV_SYNC ? note_sync(r, "db") : r;
}

int __real_kv_flush_content(struct kv *kv);
int __wrap_kv_flush_content(struct kv *kv);
int __wrap_kv_flush_content(struct kv *kv)
{
	return note_sync(fails(DISK) ? -ENOSPC : __real_kv_flush_content(kv), "db");
}

int __real_kv_sync_log(struct kv *kv);
int __wrap_kv_sync_log(struct kv *kv);
int __wrap_kv_sync_log(struct kv *kv)
{
	return note_sync(fails(DISK) ? -EIO : __real_kv_sync_log(kv), "db");
}

/* ---- a run and its model ---- */

#define FILES 4
#define PIECES 6
#define STATES 64
#define LEN_MAX (80u << 10)

struct piece_of { /* bytes of a file that one operation wrote */
	unsigned op, len;
};
struct file_is {
	bool there;
	unsigned n, xattr;
	struct piece_of p[PIECES];
};
struct state {
	struct file_is f[FILES];
};

struct run {
	struct mf f;
	struct state is[STATES]; /* after each operation that returned 0 */
	unsigned n, synced;
	unsigned op, synced_op; /* number of the last operation; and of the last one synced */
	uint64_t open_ino;	/* of a file without a name that is open; 0: none */
	struct file_is open_is;
	char sealed[SNAPSHOT_ID_SIZE]; /* the last checkpoint that became ready; "": none */
};

static uint8_t byte_of(unsigned op, unsigned i)
{
	return (uint8_t)(1 + (op * 31 + i * 7) % 255); /* never 0 */
}

static void name_of(unsigned k, char out[8])
{
	snprintf(out, 8, "f%u", k);
}

static unsigned len_of(const struct file_is *f)
{
	unsigned len = 0;

	for (unsigned i = 0; i < f->n; i++)
		len += f->p[i].len;
	return len;
}

/* An operation returned r: where that is 0, `change` of what is now is what is next. */
static struct state *did(struct run *r, int64_t result)
{
	if (result < 0)
		return NULL;
	assert_true(r->n + 1 < STATES);
	r->is[r->n + 1] = r->is[r->n];
	return &r->is[++r->n];
}

static uint64_t find(struct run *r, unsigned k)
{
	struct view_attr a;
	char name[8];

	name_of(k, name);
	return view_lookup(r->f.v, ROOT_INO, name, &a) == 0 ? a.ino : 0;
}

static void make(struct run *r, unsigned k)
{
	struct view_attr a;
	struct state *s;
	char name[8];

	name_of(k, name);
	r->op++;
	s = did(r, view_create(r->f.v, ROOT_INO, name, S_IFREG | 0644, 0, NULL, &mf_root, &a));
	if (s)
		s->f[k] = (struct file_is){ .there = true };
}

static void append(struct run *r, unsigned k, unsigned len)
{
	static uint8_t bytes[LEN_MAX];
	const unsigned op = ++r->op;
	const struct file_is *f = &r->is[r->n].f[k];
	uint64_t ino = find(r, k);
	struct state *s;

	if (!ino)
		return;
	for (unsigned i = 0; i < len; i++)
		bytes[i] = byte_of(op, i);
	int64_t n = view_write(r->f.v, ino, len_of(f), bytes, len, 0);

	if (n >= 0)
		assert_int_equal(n, len);
	s = did(r, n);
	if (s)
		s->f[k].p[s->f[k].n++] = (struct piece_of){ op, len };
}

static void cut(struct run *r, unsigned k)
{
	struct view_setattr set = { .valid = VIEW_SET_SIZE, .size = 0 };
	uint64_t ino = find(r, k);
	struct view_attr a;
	struct state *s;

	r->op++;
	s = ino ? did(r, view_setattr(r->f.v, ino, &set, &a)) : NULL;
	if (s)
		s->f[k].n = 0;
}

static void set_xattr(struct run *r, unsigned k)
{
	uint64_t ino = find(r, k);
	unsigned value = ++r->op;
	struct state *s;

	s = ino ? did(r, view_setxattr(r->f.v, ino, "user.v", &value, sizeof(value), 0, false))
		: NULL;
	if (s)
		s->f[k].xattr = value;
}

static void rename_to(struct run *r, unsigned from, unsigned to)
{
	char a[8], b[8];
	struct state *s;

	name_of(from, a);
	name_of(to, b);
	r->op++;
	s = did(r, view_rename(r->f.v, ROOT_INO, a, ROOT_INO, b, 0));
	if (s) {
		s->f[to] = s->f[from];
		s->f[from] = (struct file_is){ 0 };
	}
}

static void unlink_it(struct run *r, unsigned k, bool keep_open)
{
	const struct file_is was = r->is[r->n].f[k];
	uint64_t ino = find(r, k);
	struct state *s;
	char name[8];

	name_of(k, name);
	r->op++;
	if (keep_open && ino && live_add(r->f.v->live, ino, 1))
		keep_open = false;
	s = did(r, view_unlink(r->f.v, ROOT_INO, name));
	if (s)
		s->f[k] = (struct file_is){ 0 };
	if (s && keep_open) {
		r->open_ino = ino;
		r->open_is = was;
	}
}

static void sync_it(struct run *r)
{
	if (view_sync(r->f.v))
		return;
	r->synced = r->n;
	r->synced_op = r->op;
}

static void checkpoint(struct run *r)
{
	struct error err = ERROR_INIT;
	struct snapshot snap;

	if (mount_checkpoint(r->f.m, NULL, NULL, &snap, &err))
		return;
	if (mount_wait_sealed(r->f.m, &err) == 0) {
		r->synced = r->n;
		r->synced_op = r->op;
		memcpy(r->sealed, snap.id, sizeof(r->sealed));
	}
	snapshot_fini(&snap);
}

static void work(struct run *r)
{
	make(r, 0);
	append(r, 0, 5000);
	sync_it(r);
	make(r, 1);
	append(r, 1, LEN_MAX); /* too much to be logged */
	set_xattr(r, 0);
	sync_it(r);
	checkpoint(r);
	append(r, 0, 100);
	cut(r, 1);
	make(r, 2);
	append(r, 2, 9000);
	sync_it(r);
	unlink_it(r, 2, true);
	append(r, 1, 20000);
	checkpoint(r); /* what is open without a name is carried */
	append(r, 0, 70000);
	rename_to(r, 1, 3);
	staging_reclaim(r->f.v->staging);
	make(r, 1);
	append(r, 1, 300);
	sync_it(r);
	unlink_it(r, 0, false);
	checkpoint(r);
	append(r, 3, 70000); /* too much, again */
	sync_it(r);
	append(r, 1, 10);
}

/* ---- checking ---- */

/* 0: as it is to be, or where it may be lost (a power cut before a sync) zeros. */
static int compare(struct run *r, uint64_t ino, const struct file_is *f, unsigned synced_op)
{
	static uint8_t got[PIECES * LEN_MAX];
	int64_t len = view_read(r->f.v, ino, 0, got, sizeof(got));
	unsigned at = 0;

	if (len != len_of(f))
		return -1;
	for (unsigned i = 0; i < f->n; at += f->p[i++].len)
		for (unsigned k = 0; k < f->p[i].len; k++)
			if (got[at + k] != byte_of(f->p[i].op, k) &&
			    (got[at + k] || f->p[i].op <= synced_op))
				return -1;
	return 0;
}

static bool is_file(struct run *r, unsigned k, const struct file_is *f, unsigned synced_op)
{
	struct buf value CLEANUP(buf_fini_p) = BUF_INIT;
	uint64_t ino = find(r, k);
	unsigned xattr = 0;

	if (!ino || !f->there)
		return !ino && !f->there;
	if (view_getxattr(r->f.v, ino, "user.v", &value) == 0)
		memcpy(&xattr, value.data, sizeof(xattr));
	return xattr == f->xattr && compare(r, ino, f, synced_op) == 0;
}

/* Which of the states the mount is in, from the last one back to `from`; -1: none. */
static int find_state(struct run *r, unsigned from, unsigned synced_op)
{
	for (unsigned i = r->n + 1; i-- > from;) {
		bool same = true;

		for (unsigned k = 0; k < FILES && same; k++)
			same = is_file(r, k, &r->is[i].f[k], synced_op);
		if (same)
			return (int)i;
	}
	return -1;
}

static void put_part(const char *dir, const char *part)
{
	char from[512], to[512];

	snprintf(from, sizeof(from), "%s/%s.disk", dir, part);
	snprintf(to, sizeof(to), "%s/%s", dir, part);
	assert_int_equal(nftw(to, fx_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	assert_int_equal(rename(from, to), 0);
}

/* The process ends without a word, or the machine; and another one begins. */
static void restart(struct run *r, bool power)
{
	static const char *const parts[] = { "db", "journal", "staging" };
	const char *dir = r->f.fx.dir;

	mount_join_seal(r->f.m);
	disk_of = NULL;
	for (unsigned i = 0; !power && i < ARRAY_SIZE(parts); i++)
		keep_part(dir, parts[i]);
	mount_free(r->f.m);
	store_close(STEAL(r->f.fx.s));
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
		put_part(dir, parts[i]);
	boots += power;
	fx_open_store(&r->f.fx);
	mf_load(&r->f);
	mf_wait_sealed(&r->f);
}

static void report(void *arg, const char *snapshot, const char *path, const char *problem)
{
	(void)arg;
	print_message("%s: %s: %s\n", snapshot, path, problem);
}

static void goes_on(struct run *r)
{
	struct verify_result res;
	struct error err = ERROR_INIT;
	if (r->is[r->n].f[2].there)
		unlink_it(r, 2, false);
	unsigned n = r->n;

	make(r, 2);
	append(r, 2, 4000);
	assert_int_equal(r->n, n + 2);
	checkpoint(r);
	assert_int_equal(r->synced, r->n);
	assert_int_equal(find_state(r, r->n, r->op), (int)r->n);
	if (verify_run(r->f.fx.s, NULL, NULL, report, NULL, &res, &err))
		fail_msg("verify: %s", error_text(&err));
	assert_int_equal(res.damaged, 0);
}

/* False where fewer calls were made. */
static bool run(int calls, enum kind kind, bool power)
{
	struct run *r = __real_calloc(1, sizeof(*r));
	struct snapshot snap;

	mf_open(&r->f);
	disk_of = power ? r->f.fx.dir : NULL;
	for (unsigned i = 0; power && i < 3; i++)
		note_sync(0, (const char *[]){ "db", "journal", "staging" }[i]);
	failing = kind;
	atomic_store(&calls_left, calls);
	work(r);
	mount_join_seal(r->f.m);
	bool failed = atomic_load(&calls_left) < !!failing_for_good;

	atomic_store(&calls_left, -1);
	/* Whatever failed, it shows what it should now and after it was ended. */
	if (find_state(r, r->n, r->op) < 0)
		fail_msg("%s call %d fails: the mount is not as it was left",
			 kind ? "memory" : "disk", calls);
	if (r->open_ino && compare(r, r->open_ino, &r->open_is, r->op))
		fail_msg("%s call %d fails: an open file is not as it was left",
			 kind ? "memory" : "disk", calls);
	restart(r, power);
	int state = find_state(r, power ? r->synced : r->n, power ? r->synced_op : r->op);

	if (state < 0)
		fail_msg("%s call %d fails, then %s: of %u operations, %u of them synced, not all "
			 "are there, or more",
			 kind ? "memory" : "disk", calls, power ? "a power cut" : "a kill", r->n,
			 r->synced);
	r->n = (unsigned)state;
	if (r->sealed[0]) {
		assert_int_equal(snapshots_get(r->f.fx.s->snapshots, r->sealed, &snap, NULL), 0);
		assert_int_equal(snap.status, SNAPSHOT_READY);
		snapshot_fini(&snap);
	}
	r->open_ino = 0;
	goes_on(r);
	mf_close(&r->f);
	free(r);
	return failed;
}

/* A stride: as every call takes a mount of its own, each of them is one in so many. */
static void fail_all(enum kind kind, bool power, int first, int stride)
{
	int calls = first;

	while (run(calls, kind, power))
		calls += stride * CALL_STRIDE;
	print_message("%s calls: about %d\n", kind ? "memory" : "disk", calls);
	assert_true(calls > 20);
}

static void a_failure_of_the_disk_loses_nothing_else(void **state)
{
	(void)state;
	fail_all(DISK, false, 1, 3);
}

static void nor_does_a_power_cut_after_it(void **state)
{
	(void)state;
	fail_all(DISK, true, 0, 2);
}

static void a_disk_that_fails_for_good_loses_nothing_else(void **state)
{
	(void)state;
	failing_for_good = true;
	fail_all(DISK, false, 0, 5);
	fail_all(DISK, true, 2, 9);
	failing_for_good = false;
}

static void nor_does_memory_that_is_short(void **state)
{
	(void)state;
	fail_all(MEMORY, false, 0, 23);
	fail_all(MEMORY, true, 4, 61);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failure_of_the_disk_loses_nothing_else),
		cmocka_unit_test(nor_does_a_power_cut_after_it),
		cmocka_unit_test(a_disk_that_fails_for_good_loses_nothing_else),
		cmocka_unit_test(nor_does_memory_that_is_short),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
