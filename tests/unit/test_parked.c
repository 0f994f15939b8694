/* Mounts whose base is far away: requests wait, and nobody else does. */
#include "tests/unit/far_mount.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "fs/fuse/parked.h"
#include "store/base/clock.h"

/* ---- each operation, from cold ---- */

static size_t count_names(const struct fm *f, const char *name)
{
	DIR *d = opendir(fm_path(f, name));
	size_t n = 0;
	struct stat st;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d)); n++)
		assert_int_equal(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW), 0);
	closedir(d);
	return n;
}

static void do_read(struct fm *f)
{
	fm_check_random(f, "d/f7", 8, FM_FILE_BYTES);
}

static void do_read_big(struct fm *f)
{
	fm_check_random(f, "big", 99, 1 << 20);
}

/* Some inode is in the one node of the base, and its data in the next. */
static void do_open_all(struct fm *f)
{
	char name[32];

	for (unsigned i = 0; i < FM_FILES; i++) {
		snprintf(name, sizeof(name), "d/f%u", i);
		fm_drop(f, SOURCE_NODE, KV_NODE);
		fm_check_random(f, name, i + 1, FM_FILE_BYTES);
	}
}

static void do_list(struct fm *f)
{
	assert_int_equal(count_names(f, "d"), FM_FILES + 4);
}

static void do_stat(struct fm *f)
{
	struct stat st;

	assert_int_equal(stat(fm_path(f, "d/sub/deep"), &st), 0);
	assert_int_equal(st.st_size, 9);
	assert_int_equal(stat(fm_path(f, "d/sub/none"), &st), -1);
	assert_int_equal(errno, ENOENT);
}

static void do_readlink(struct fm *f)
{
	assert_int_equal(readlink(fm_path(f, "link"), fm_buf, sizeof(fm_buf)), 5);
}

static void do_xattr(struct fm *f)
{
	assert_int_equal(getxattr(fm_path(f, "small"), "user.test", fm_buf, 100), 8);
	assert_int_equal(getxattr(fm_path(f, "small"), "user.none", fm_buf, 100), -1);
	assert_int_equal(errno, ENODATA);
	assert_int_equal(listxattr(fm_path(f, "small"), fm_buf, 100), 10);
}

static void do_setxattr(struct fm *f)
{
	assert_int_equal(setxattr(fm_path(f, "small"), "user.more", "x", 1, 0), 0);
	assert_int_equal(getxattr(fm_path(f, "small"), "user.more", fm_buf, 100), 1);
	assert_int_equal(removexattr(fm_path(f, "small"), "user.test"), 0);
	assert_int_equal(getxattr(fm_path(f, "small"), "user.test", fm_buf, 100), -1);
}

/* In the middle, over what is here and what is not, with what is taken from a setuid file. */
static void do_write(struct fm *f)
{
	int fd = open(fm_path(f, "d/f1"), O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "12345", 5, 5000), 5);
	close(fd);
	fm_go_cold(f);
	fd = open(fm_path(f, "d/f1"), O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "abcdefghijklmno", 15, 4995), 15);
	assert_int_equal(pread(fd, fm_buf, 15, 4995), 15);
	assert_memory_equal(fm_buf, "abcdefghijklmno", 15);
	close(fd);
}

static void do_truncate(struct fm *f)
{
	struct stat st;

	assert_int_equal(truncate(fm_path(f, "big"), 100000), 0);
	assert_int_equal(stat(fm_path(f, "big"), &st), 0);
	assert_int_equal(st.st_size, 100000);
	fm_go_cold(f);
	fm_check_random(f, "big", 99, 100000);
}

static void do_seek(struct fm *f)
{
	int fd = open(fm_path(f, "d/f2"), O_RDONLY | O_CLOEXEC);

	assert_int_equal(lseek(fd, 0, SEEK_DATA), 0);
	assert_int_equal(lseek(fd, 0, SEEK_HOLE), FM_FILE_BYTES);
	close(fd);
}

static void do_fallocate(struct fm *f)
{
	int fd = open(fm_path(f, "d/f3"), O_RDWR | O_CLOEXEC);

	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096), 0);
	assert_int_equal(pread(fd, fm_buf, 2, 4096), 2);
	assert_memory_equal(fm_buf, "\0\0", 2);
	close(fd);
}

static void do_chmod(struct fm *f)
{
	assert_int_equal(chmod(fm_path(f, "d/f4"), 0600), 0);
	assert_int_equal(chown(fm_path(f, "d/f4"), 1, 1), 0);
}

static void do_names(struct fm *f)
{
	struct stat st;
	int fd = open(fm_path(f, "d/new"), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(mkdir(fm_path(f, "d/newdir"), 0755), 0);
	assert_int_equal(symlink("x", fm_path(f, "d/newlink")), 0);
	assert_int_equal(link(fm_path(f, "d/f5"), fm_path(f, "d/f5b")), 0);
	assert_int_equal(stat(fm_path(f, "d/f5b"), &st), 0);
	assert_int_equal(st.st_nlink, 2);
}

static void do_tmpfile(struct fm *f)
{
	int fd = open(fm_path(f, "d"), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static void do_rename(struct fm *f)
{
	assert_int_equal(rename(fm_path(f, "d/f8"), fm_path(f, "d/f9")), 0);
	fm_check_random(f, "d/f9", 9, FM_FILE_BYTES);
	fm_go_cold(f);
	assert_int_equal(rename(fm_path(f, "d/newdir"), fm_path(f, "empty")), 0);
}

static void do_remove(struct fm *f)
{
	assert_int_equal(unlink(fm_path(f, "small")), 0);
	assert_int_equal(unlink(fm_path(f, "d/second")), 0);
	assert_int_equal(rmdir(fm_path(f, "d")), -1);
	assert_int_equal(errno, ENOTEMPTY);
	assert_int_equal(unlink(fm_path(f, "d/sub/deep")), 0);
	fm_go_cold(f);
	assert_int_equal(rmdir(fm_path(f, "d/sub")), 0);
}

static int count_change(void *arg, const struct fsdiff_entry *e)
{
	(void)e;
	++*(unsigned *)arg;
	return 0;
}

static void do_diff(struct fm *f)
{
	struct error err = ERROR_INIT;
	unsigned changes = 0;

	if (mount_diff(f->m, count_change, &changes, &err))
		fail_msg("diff: %s", error_text(&err));
	assert_in_range(changes, 10, 100);
}

static void do_statfs(struct fm *f)
{
	struct statvfs st;

	assert_int_equal(statvfs(f->dir, &st), 0);
}

static void every_operation_waits_for_what_it_needs(void **state)
{
	static void (*const all[])(struct fm * f) = {
		do_read,     do_read_big, do_open_all, do_list, do_stat,      do_readlink, do_xattr,
		do_setxattr, do_write,	  do_truncate, do_seek, do_fallocate, do_chmod,	   do_names,
		do_tmpfile,  do_rename,	  do_remove,   do_diff, do_statfs,
	};
	struct fm *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		fm_go_cold(f);
		unsigned before = f->far->calls;

		all[i](f);
		if (f->far->calls == before)
			fail_msg("operation %zu needed nothing from afar", i);
	}
	assert_int_equal(f->far->calls_of[FAR_SERVING], 0);
	assert_int_equal(f->far->calls_of[FAR_SHARING], 0);
	while (fm_parked(f)) /* answered, and not yet let go of */
		usleep(1000);
}

/* ---- waiting ---- */

struct reader {
	pthread_t thread;
	const struct fm *f;
	unsigned i;
	int result; /* 0: its bytes came; or errno */
	char bytes[FM_FILE_BYTES];
};

static void *read_one(void *arg)
{
	struct reader *r = arg;
	char name[32];

	snprintf(name, sizeof(name), "d/f%u", r->i);
	int fd = open(fm_path(r->f, name), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : pread(fd, r->bytes, sizeof(r->bytes), 0);

	r->result = n == sizeof(r->bytes) ? 0 : n < 0 ? errno : EBADMSG;
	if (fd >= 0)
		close(fd);
	return NULL;
}

static struct reader *start_readers(const struct fm *f, unsigned n)
{
	struct reader *r = calloc(n, sizeof(*r));

	assert_non_null(r);
	for (unsigned i = 0; i < n; i++) {
		r[i].f = f;
		r[i].i = i;
		assert_int_equal(pthread_create(&r[i].thread, NULL, read_one, &r[i]), 0);
	}
	return r;
}

static void join_readers(struct reader *r, unsigned n, int want)
{
	for (unsigned i = 0; i < n; i++) {
		pthread_join(r[i].thread, NULL);
		assert_int_equal(r[i].result, want);
	}
	free(r);
}

/* Names and attributes are here, data is not. */
static void go_cold_for_data(struct fm *f)
{
	fm_go_cold(f);
	count_names(f, "");
	count_names(f, "d");
	count_names(f, "d/sub");
	close(open(fm_path(f, "own"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	fm_drop(f, SOURCE_CHUNK, KV_CHUNK);
}

static void reads_that_wait_hold_up_nobody(void **state)
{
	struct fm *f = *state;
	struct error err = ERROR_INIT;
	struct snapshot snap;
	struct mount *forked;
	struct stat st;

	go_cold_for_data(f);
	far_hold(f->far, true);
	struct reader *r = start_readers(f, FM_FILES);

	fm_await_parked(f, FM_FILES);
	fm_use_neighbour(f);
	/* Others in the same mount. */
	assert_int_equal(stat(fm_path(f, "d/f1"), &st), 0);
	int fd = open(fm_path(f, "own"), O_RDWR | O_CLOEXEC);

	assert_int_equal(pwrite(fd, "mine", 4, 0), 4);
	assert_int_equal(pread(fd, fm_buf, 4, 0), 4);
	assert_int_equal(fsync(fd), 0);
	close(fd);
	/* A checkpoint, and a fork of it. */
	if (mount_checkpoint(f->m, "point", NULL, &snap, &err) || mount_wait_sealed(f->m, &err))
		fail_msg("checkpoint: %s", error_text(&err));
	snapshot_fini(&snap);
	assert_int_equal(snapshots_get(f->fx.s->snapshots, "point", &snap, &err), 0);
	snprintf(fm_buf, sizeof(fm_buf), "%s/fork", f->fx.dir);
	assert_int_equal(mkdir(fm_buf, 0755), 0);
	fm_mount(f, &snap, fm_buf, &forked);
	snapshot_fini(&snap);
	mount_close(forked);
	assert_true(fm_parked(f) >= FM_FILES);
	/* One mount has half of the threads at most, and a call fetches what many wait for. */
	pthread_mutex_lock(&f->far->lock);
	assert_in_range(f->far->waiting, 1, PARKED_THREADS / 2);
	pthread_mutex_unlock(&f->far->lock);
	far_hold(f->far, false);
	for (unsigned i = 0; i < FM_FILES; i++) {
		pthread_join(r[i].thread, NULL);
		assert_int_equal(r[i].result, 0);
	}
	free(r);
	for (unsigned i = 0; i < FM_FILES; i++) {
		snprintf(fm_buf, sizeof(fm_buf), "d/f%u", i);
		fm_check_random(f, fm_buf, i + 1, FM_FILE_BYTES);
	}
}

#define DELAY_MS 60000u /* whoever waits for one has failed; else far_hurry ends it soon */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define USES 200u
#else
#define USES 1000u
#endif
#define ROUNDS 8u
#define SLACK_NS 500000

static int by_time(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* 99 of 100 uses of the neighbour took no longer, in ns. */
static int64_t neighbour_p99(struct fm *f)
{
	static int64_t took[USES];
	struct stat st;
	char path[400];

	snprintf(path, sizeof(path), "%s/here", f->other_dir);
	for (unsigned n = 0; n < USES; n++) {
		int64_t start = monotonic_ns();
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);

		assert_true(fd >= 0);
		assert_int_equal(pread(fd, fm_buf, 4, 0), 4);
		close(fd);
		assert_int_equal(chmod(path, n % 2 ? 0600 : 0644), 0);
		assert_int_equal(stat(path, &st), 0);
		took[n] = monotonic_ns() - start;
	}
	qsort(took, USES, sizeof(*took), by_time);
	return took[USES - 1 - USES / 100];
}

/*
 * The same while reads wait for the source, DELAY_MS each. INT64_MAX: it was no longer beside all
 * of them.
 */
static int64_t neighbour_p99_beside_readers(struct fm *f)
{
	f->far->delay_ms = DELAY_MS;
	struct reader *r = start_readers(f, FM_FILES);

	fm_await_parked(f, FM_FILES);
	const int64_t p99 = neighbour_p99(f);
	const bool all_wait = fm_parked(f) >= FM_FILES;

	far_hurry(f->far);
	join_readers(r, FM_FILES, 0);
	return all_wait ? p99 : INT64_MAX;
}

/*
 * Who waited for the source, for a lock or a thread of who does, would take a minute. The host has
 * other work, too: the worst round without readers is compared with the best one beside them.
 */
static void reads_that_wait_slow_nobody_down(void **state)
{
	struct fm *f = *state;
	int64_t alone = 0, beside = INT64_MAX;

	for (unsigned i = 0; i < ROUNDS && beside > 2 * alone + SLACK_NS; i++) {
		go_cold_for_data(f);
		alone = MAX(alone, neighbour_p99(f));
		int64_t p99 = neighbour_p99_beside_readers(f);

		assert_true(p99 < INT64_MAX); /* else it had to wait until readers had gone */
		beside = MIN(beside, p99);
	}
	if (beside > 2 * alone + SLACK_NS)
		fail_msg("99 of 100 uses of the neighbour take %lld us, and %lld us alone",
			 (long long)beside / 1000, (long long)alone / 1000);
}

static void a_mount_ends_while_requests_wait(void **state)
{
	struct fm *f = *state;
	struct error err = ERROR_INIT;

	go_cold_for_data(f);
	far_hold(f->far, true);
	struct reader *r = start_readers(f, 8);

	fm_await_parked(f, 8);
	far_await_waiting(f->far, 1);
	if (mount_detach(f->m, MOUNT_FORCED, MOUNT_DETACH, &err))
		fail_msg("detach: %s", error_text(&err));
	for (unsigned i = 0; i < 8; i++) {
		pthread_join(r[i].thread, NULL);
		assert_int_not_equal(r[i].result, 0);
	}
	free(r);
	/* It goes on, though the call for those requests has not come back. */
	far_await_waiting(f->far, 1);
	if (mount_attach(f->m, NULL, &err))
		fail_msg("attach: %s", error_text(&err));
	far_hold(f->far, false);
	do_read(f);
}

/* The daemon ends: nobody comes back from a source that does not answer, unless it is stopped. */
static void the_end_waits_for_no_source(void **state)
{
	struct fm *f = *state;

	go_cold_for_data(f);
	far_hold(f->far, true);
	struct reader *r = start_readers(f, 8);

	fm_await_parked(f, 8);
	far_await_waiting(f->far, 1);
	store_stop_far(f->fx.s);
	join_readers(r, 8, EIO);
}

/* ---- interrupts ---- */

/* What a program may be at, of a name that is far away. 0, or errno. */
static int call_stat(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? 0 : errno;
}

static int call_getxattr(const char *path)
{
	char value[100];

	return getxattr(path, "user.test", value, sizeof(value)) >= 0 ? 0 : errno;
}

static int call_readlink(const char *path)
{
	char text[100];

	return readlink(path, text, sizeof(text)) >= 0 ? 0 : errno;
}

static int call_open(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC) >= 0 ? 0 : errno;
}

static int call_list(const char *path)
{
	char names[4096];
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 && getdents64(fd, names, sizeof(names)) > 0 ? 0 : errno;
}

static int call_read(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && pread(fd, fm_buf, 4096, 0) > 0 ? 0 : errno;
}

/* Past the kernel's cache. */
static int call_read_direct(const char *path)
{
	static char aligned[8192] __attribute__((aligned(4096)));
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);

	return fd >= 0 && pread(fd, aligned, sizeof(aligned), 0) > 0 ? 0 : errno;
}

static int call_fault(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	const volatile char *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

	return p != MAP_FAILED && (*p | 1) ? 0 : errno;
}

static int call_truncate(const char *path)
{
	return truncate(path, 5) == 0 ? 0 : errno;
}

struct call {
	const char *what, *path;
	int (*run)(const char *path);
	bool names;  /* also these are far away */
	bool killed; /* the kernel waits for a page: a signal that is caught does not end it */
};
static const struct call calls[] = {
	{ "stat", "d/sub/deep", call_stat, true, false },
	{ "getxattr", "small", call_getxattr, true, false },
	{ "readlink", "link", call_readlink, true, false },
	{ "open", "d/f1", call_open, true, false },
	{ "truncate", "big", call_truncate, true, false },
	{ "a listing", "d", call_list, true, false },
	{ "a direct read", "d/f7", call_read_direct, false, false },
	{ "a read", "d/f7", call_read, false, true },
	{ "a page fault", "d/f7", call_fault, false, true },
};

static void caught(int sig)
{
	(void)sig;
}

/* A child that calls it; never returns. */
static pid_t start_call(const struct call *c, const char *path, bool handler)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	struct sigaction sa = { .sa_handler = handler ? caught : SIG_DFL };

	sigaction(SIGUSR1, &sa, NULL);
	_exit(c->run(path));
}

/* Its status; it ends at once, as the signal was sent, though the source does not answer. */
static int await_end(struct fm *f, const char *what, pid_t pid)
{
	int status = 0;

	for (int i = 0; waitpid(pid, &status, WNOHANG) != pid; i++) {
		if (i > 10000) {
			far_hold(f->far, false);
			waitpid(pid, &status, 0);
			fail_msg("%s goes on after a signal", what);
		}
		usleep(1000);
	}
	return status;
}

/* Begin a call from cold, and have it wait. */
static pid_t start_waiting(struct fm *f, const struct call *c, bool handler)
{
	if (c->names)
		fm_go_cold(f);
	else
		go_cold_for_data(f);
	far_hold(f->far, true);
	pid_t pid = start_call(c, fm_path(f, c->path), handler);

	for (int i = 0; !fm_parked(f); i++) {
		if (i > 10000)
			fail_msg("%s does not wait", c->what);
		usleep(1000);
	}
	far_await_waiting(f->far, 1);
	return pid;
}

static void end_waiting(struct fm *f, const char *what)
{
	for (int i = 0; fm_parked(f); i++) {
		if (i > 10000)
			fail_msg("%s has ended, and is waited for", what);
		usleep(1000);
	}
	far_hold(f->far, false);
	do_stat(f);
}

static void a_waiting_program_can_be_killed(void **state)
{
	struct fm *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		const struct call *c = &calls[i];
		pid_t pid = start_waiting(f, c, false);

		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_true(WIFSIGNALED(await_end(f, c->what, pid)));
		if (!c->killed) /* what reads a page goes on for whoever comes next */
			end_waiting(f, c->what);
		far_hold(f->far, false);
	}
}

static void an_interrupted_program_gets_eintr(void **state)
{
	struct fm *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		const struct call *c = &calls[i];

		if (c->killed)
			continue;
		pid_t pid = start_waiting(f, c, true);

		assert_int_equal(kill(pid, SIGUSR1), 0);
		int status = await_end(f, c->what, pid);

		if (!WIFEXITED(status) || WEXITSTATUS(status) != EINTR)
			fail_msg("%s ended with %x", c->what, status);
		end_waiting(f, c->what);
	}
}

/* ---- sources that err ---- */

static void a_source_that_errs_is_eio(void **state)
{
	static const enum far_mode modes[] = { FAR_FAILS, FAR_LIES, FAR_CUTS, FAR_LOSES };
	struct fm *f = *state;
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		go_cold_for_data(f);
		f->far->mode = modes[i];
		join_readers(start_readers(f, 4), 4, EIO);
		fm_go_cold(f);
		assert_int_equal(stat(fm_path(f, "d/sub/deep"), &st), -1);
		assert_int_equal(errno, EIO);
		fm_use_neighbour(f);
		f->far->mode = FAR_WELL;
		do_stat(f);
		join_readers(start_readers(f, 4), 4, 0);
		fm_check_random(f, "d/f2", 3, FM_FILE_BYTES);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fm_setup, fm_teardown)
		cmocka_unit_test_setup_teardown(every_operation_waits_for_what_it_needs,
						fm_setup_shared, fm_teardown),
		T(every_operation_waits_for_what_it_needs),
		T(reads_that_wait_hold_up_nobody),
		T(reads_that_wait_slow_nobody_down),
		T(a_mount_ends_while_requests_wait),
		T(the_end_waits_for_no_source),
		T(a_waiting_program_can_be_killed),
		T(an_interrupted_program_gets_eintr),
		T(a_source_that_errs_is_eio),
#undef T
	};

	if (!fm_can_mount())
		return 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
