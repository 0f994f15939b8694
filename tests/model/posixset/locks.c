/* locks.c - locks between processes, file handles, notification, sockets. */
#include "tests/model/posixset/posixset.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Exit status of fn run in a child with a descriptor of its own on "f". */
static int in_child(int (*fn)(int fd))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		int fd = open("f", O_RDWR);
		_exit(fd < 0 ? 100 : fn(fd));
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 101;
}

static int try_flock(int fd)
{
	return flock(fd, LOCK_EX | LOCK_NB) ? errno : 0;
}
static int try_flock_shared(int fd)
{
	return flock(fd, LOCK_SH | LOCK_NB) ? errno : 0;
}

static int flock_holds_between_processes(void)
{
	CHECK(put_text("f", ""));
	int fd = open("f", O_RDWR);
	CHECK(!flock(fd, LOCK_SH));
	CHECK(in_child(try_flock) == EWOULDBLOCK && in_child(try_flock_shared) == 0);
	CHECK(!flock(fd, LOCK_EX) && in_child(try_flock_shared) == EWOULDBLOCK);
	CHECK(!flock(fd, LOCK_UN) && in_child(try_flock) == 0);
	CHECK(!flock(fd, LOCK_EX) && !close(fd) && in_child(try_flock) == 0);
	return CASE_PASS;
}

static struct flock range(short type, off_t start, off_t len)
{
	return (struct flock){
		.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len
	};
}

static int try_lock_low(int fd)
{
	struct flock l = range(F_WRLCK, 0, 10);
	return fcntl(fd, F_SETLK, &l) ? errno : 0;
}
static int try_lock_high(int fd)
{
	struct flock l = range(F_WRLCK, 100, 10);
	return fcntl(fd, F_SETLK, &l) ? errno : 0;
}
static int who_locks(int fd)
{
	struct flock l = range(F_WRLCK, 5, 1);
	return !fcntl(fd, F_GETLK, &l) && l.l_type == F_WRLCK && l.l_pid == getppid() ? 0 : 1;
}

static int fcntl_locks_hold_between_processes(void)
{
	CHECK(put_text("f", ""));
	int fd = open("f", O_RDWR);
	struct flock l = range(F_WRLCK, 0, 50);
	CHECK(!fcntl(fd, F_SETLK, &l));
	int rc = in_child(try_lock_low);
	CHECK((rc == EAGAIN || rc == EACCES) && in_child(try_lock_high) == 0);
	CHECK(in_child(who_locks) == 0);
	l = range(F_WRLCK, 0, 0);
	CHECK(!fcntl(fd, F_OFD_SETLK, &l) || errno == EAGAIN);
	CHECK(!close(open("f", O_RDONLY)) && in_child(try_lock_low) == 0); /* POSIX: any close */
	return CASE_PASS;
}

static int wait_for_lock(int fd)
{
	struct flock l = range(F_WRLCK, 0, 0);
	return fcntl(fd, F_SETLKW, &l) ? errno : 0;
}

static int waiting_for_a_lock_can_be_ended(void)
{
	int status;
	CHECK(put_text("f", ""));
	int fd = open("f", O_RDWR);
	struct flock l = range(F_WRLCK, 0, 0);
	CHECK(!fcntl(fd, F_SETLK, &l));
	pid_t killed = fork();
	if (!killed)
		_exit(wait_for_lock(open("f", O_RDWR)));
	pid_t waiter = fork();
	if (!waiter)
		_exit(wait_for_lock(open("f", O_RDWR)));
	usleep(100000);
	CHECK(!kill(killed, SIGKILL) && waitpid(killed, &status, 0) == killed);
	CHECK(WIFSIGNALED(status));
	l.l_type = F_UNLCK;
	CHECK(!fcntl(fd, F_SETLK, &l) && waitpid(waiter, &status, 0) == waiter && status == 0);
	return CASE_PASS;
}

struct handle {
	struct file_handle h;
	char room[MAX_HANDLE_SZ];
};

static int handle_get(const char *path, struct handle *h)
{
	int mount_id;

	h->h.handle_bytes = MAX_HANDLE_SZ;
	return name_to_handle_at(AT_FDCWD, path, &h->h, &mount_id, 0);
}

static bool drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	bool good = fd >= 0 && write(fd, "2", 1) == 1;

	if (fd >= 0)
		close(fd);
	return good;
}

static int handles_outlive_caches_and_renames(void)
{
	struct handle file, dir, gone;
	char buf[8] = "";
	CHECK(!mkdir("d", 0755) && !mkdir("d/e", 0755) && put_text("d/e/f", "by handle") &&
	      put_text("gone", ""));
	CHECK(!handle_get("d/e/f", &file) && !handle_get("d/e", &dir) &&
	      !handle_get("gone", &gone));
	ino_t ino = stat_of("d/e/f").st_ino;
	int mount = open("/", O_RDONLY | O_DIRECTORY);
	CHECK(!rename("d", "moved") && !unlink("gone"));
	close(mount);
	mount = open(".", O_RDONLY | O_DIRECTORY);
	for (int again = 0; again < 2; again++) {
		int fd = open_by_handle_at(mount, &file.h, O_RDONLY);
		struct stat st;
		CHECK(fd >= 0 && !fstat(fd, &st) && st.st_ino == ino);
		CHECK(pread(fd, buf, 2, 0) == 2 && !strcmp(buf, "by") && !close(fd));
		fd = open_by_handle_at(mount, &dir.h, O_RDONLY | O_DIRECTORY);
		CHECK(fd >= 0 && !fstatat(fd, "f", &st, 0) && st.st_ino == ino);
		CHECK(!fstatat(fd, "..", &st, 0) && st.st_ino == stat_of("moved").st_ino);
		CHECK(!close(fd) && drop_caches());
	}
	CHECK_ERR(open_by_handle_at(mount, &gone.h, O_RDONLY), ESTALE);
	return CASE_PASS;
}

static int numbers_outlive_caches(void)
{
	CHECK(put_text("f", "x") && !mkdir("d", 0755));
	ino_t f = stat_of("f").st_ino, d = stat_of("d").st_ino;
	for (int i = 0; i < 3; i++) {
		CHECK(drop_caches());
		CHECK(stat_of("f").st_ino == f && stat_of("d").st_ino == d && has_text("f", "x"));
	}
	return CASE_PASS;
}

static int inotify_tells_of_changes(void)
{
	char buf[4096];
	int fd = inotify_init1(IN_NONBLOCK);
	CHECK(fd >= 0 && inotify_add_watch(fd, ".", IN_CREATE | IN_DELETE | IN_MOVED_TO) >= 0);
	CHECK(put_text("a", "") && !rename("a", "b") && !unlink("b"));
	uint32_t mask = 0;
	ssize_t n = read(fd, buf, sizeof(buf));
	for (ssize_t at = 0; at < n;) {
		struct inotify_event e;
		memcpy(&e, buf + at, sizeof(e));
		mask |= e.mask;
		at += (ssize_t)(sizeof(e) + e.len);
	}
	CHECK((mask & (IN_CREATE | IN_DELETE | IN_MOVED_TO)) ==
	      (IN_CREATE | IN_DELETE | IN_MOVED_TO));
	return CASE_PASS;
}

static int sockets_can_be_bound(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int s = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(!bind(s, (struct sockaddr *)&a, sizeof(a)) && !listen(s, 1));
	CHECK(!connect(c, (struct sockaddr *)&a, sizeof(a)));
	CHECK_ERR(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&a, sizeof(a)),
		  EADDRINUSE);
	CHECK(S_ISSOCK(stat_of("sock").st_mode) && !unlink("sock"));
	return CASE_PASS;
}

const struct posix_case locks_cases[] = {
	CASE(flock_holds_between_processes),
	CASE(fcntl_locks_hold_between_processes),
	CASE(waiting_for_a_lock_can_be_ended),
	CASE(handles_outlive_caches_and_renames),
	CASE(numbers_outlive_caches),
	CASE(inotify_tells_of_changes),
	CASE(sockets_can_be_bound),
	{ NULL, NULL },
};
