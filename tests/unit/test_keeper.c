/* keeper: what it is told, by whom it is kept, and what a successor finds. */
#include "fs/host/keeper.h"
#include "fs/host/keeper_box.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "snapshotd/heritage.h"

static void set_number(const char *name, int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", value);
	assert_int_equal(setenv(name, text, 1), 0);
}

/* One datagram, and the descriptor with it or -1. */
static int receive(int from, char *text, size_t size)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { text, size - 1 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(from, &msg, MSG_DONTWAIT);
	int fd = -1;

	assert_true(n > 0);
	text[n] = 0;
	if (CMSG_FIRSTHDR(&msg))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static void assert_stores(struct keeper *k, int end)
{
	struct stat a, b;
	char text[256];
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), got;

	assert_int_equal(keeper_put(k, "a-name", fd), 0);
	got = receive(end, text, sizeof(text));
	assert_string_equal(text, "FDSTORE=1\nFDNAME=a-name");
	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(fstat(got, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	close(got);
	close(fd);
	keeper_drop(k, "a-name");
	assert_int_equal(receive(end, text, sizeof(text)), -1);
	assert_string_equal(text, "FDSTOREREMOVE=1\nFDNAME=a-name");
	keeper_ready(k);
	assert_int_equal(receive(end, text, sizeof(text)), -1);
	assert_string_equal(text, "READY=1");
}

/* What only our own keeper understands. */
static void say_what_is_ours(struct keeper *k)
{
	keeper_writes(k);
	keeper_adopted(k);
	keeper_stopping(k);
}

static void assert_told(int end, const char *want)
{
	char text[256];
	int fd = receive(end, text, sizeof(text));

	assert_string_equal(text, want);
	if (fd >= 0)
		close(fd);
}

/* It would keep both of a name. */
static void assert_has_one_of_a_name(struct keeper *k, int end)
{
	const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct keeper_counts n;

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(keeper_put(k, "a-name", fd), 0);
		if (i)
			assert_told(end, "FDSTOREREMOVE=1\nFDNAME=a-name");
		assert_told(end, "FDSTORE=1\nFDNAME=a-name");
	}
	close(fd);
	keeper_get_counts(k, &n);
	assert_int_equal(n.kept, 1);
}

static void a_supervisor_keeps_what_it_is_given(void **state)
{
	static const char *const lines[] = { "WRITES=1", "ADOPTED=1", "STOPPING=1" };
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	set_number("VARVE_KEEPER", pair[1]);
	set_number("VARVE_GENERATION", 7);
	struct keeper *k = keeper_open();

	assert_non_null(k);
	assert_int_equal(keeper_generation(k), 7);
	assert_null(getenv("VARVE_KEEPER")); /* nothing for children */
	assert_int_equal(keeper_take(k, "a-name"), -ENOENT);
	assert_stores(k, pair[0]);
	say_what_is_ours(k);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		assert_told(pair[0], lines[i]);
	json_t *file = json_pack("{s:s}", "apiKey", "0123456789abcdef");

	heritage_leave_config(k, file);
	assert_told(pair[0], "FDSTORE=1\nFDNAME=daemon-config");
	json_decref(file);
	keeper_close(k);
	close(pair[0]);
}

/* The keeper does not answer: what it has is known by what it was told. */
static void what_is_beyond_the_limit_is_refused(void **state)
{
	const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct keeper_counts n;
	char text[256], name[16];
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	set_number("VARVE_KEEPER", pair[1]);
	assert_int_equal(setenv("VARVE_TAKEOVERS", "1 20 0 3 4 ", 1), 0);
	struct keeper *k = keeper_open();

	assert_non_null(k);
	assert_null(getenv("VARVE_TAKEOVERS"));
	for (unsigned i = 0; i < KEEPER_FDS_MAX; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		assert_int_equal(keeper_put(k, name, fd), 0);
		close(receive(pair[0], text, sizeof(text)));
	}
	assert_int_equal(keeper_put(k, "one-more", fd), -ENOBUFS);
	assert_int_equal(recv(pair[0], text, sizeof(text), MSG_DONTWAIT), -1);
	assert_int_equal(keeper_put(k, "n7", fd), 0); /* in its place */
	close(receive(pair[0], text, sizeof(text)));
	keeper_get_counts(k, &n);
	assert_int_equal(n.kept, KEEPER_FDS_MAX);
	assert_int_equal(n.limit, KEEPER_FDS_MAX);
	assert_int_equal(n.refused, 1);
	assert_int_equal(n.takeovers[KEEPER_KILL], 20);
	assert_int_equal(n.takeovers[KEEPER_START], 4);
	keeper_drop(k, "n0");
	assert_int_equal(receive(pair[0], text, sizeof(text)), -1);
	assert_int_equal(keeper_put(k, "one-more", fd), 0);
	close(receive(pair[0], text, sizeof(text)));
	assert_int_equal(keeper_put(k, "and-another", fd), -ENOBUFS);
	keeper_close(k);
	close(pair[0]);
	close(fd);
}

static void a_service_manager_does_too(void **state)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int end = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char name[64], text[256];

	(void)state;
	snprintf(name, sizeof(name), "@varve-test-keeper-%d", (int)getpid());
	memcpy(addr.sun_path + 1, name + 1, strlen(name) - 1);
	assert_int_equal(bind(end, (struct sockaddr *)&addr,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
			 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	assert_null(keeper_open()); /* it stores no descriptors */
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	set_number("FDSTORE", 100);
	struct keeper *k = keeper_open();

	assert_non_null(k);
	assert_int_equal(keeper_generation(k), 1);
	assert_stores(k, end);
	say_what_is_ours(k);
	json_t *file = json_pack("{s:s}", "apiKey", "0123456789abcdef");

	heritage_leave_config(k, file); /* but for what older versions have left */
	assert_told(end, "FDSTOREREMOVE=1\nFDNAME=daemon-config");
	json_decref(file);
	assert_has_one_of_a_name(k, end);
	assert_int_equal(recv(end, text, sizeof(text), MSG_DONTWAIT), -1);
	keeper_close(k);
	close(end);
}

/* In a process of its own: a store, and a socket unit's socket among what is in it. */
static int served_by_a_unit(const char *manager)
{
	struct sockaddr_un any = { .sun_family = AF_UNIX };
	const socklen_t len = sizeof(sa_family_t); /* the kernel names it */
	int pipes[2];

	for (int fd = 3; fd <= 4; fd++) {
		int s = socket(AF_UNIX, SOCK_STREAM, 0);

		if (bind(s, (struct sockaddr *)&any, len) || listen(s, 1) || dup2(s, fd) < 0)
			return 1;
	}
	if (pipe(pipes) || dup2(pipes[0], 5) < 0)
		return 1;
	setenv("NOTIFY_SOCKET", manager, 1);
	set_number("FDSTORE", 100);
	set_number("LISTEN_PID", getpid());
	set_number("LISTEN_FDS", 3);
	setenv("LISTEN_FDNAMES", "snapshotd.socket:http-unix:a-mount", 1);
	struct keeper *k = keeper_open();

	if (!k || keeper_take(k, "snapshotd.socket") != -ENOENT)
		return 2;
	keeper_drop_untaken(k);
	if (fcntl(4, F_GETFD) >= 0 || fcntl(5, F_GETFD) >= 0)
		return 3;
	return fcntl(3, F_GETFD) >= 0 ? 0 : 4;
}

static void what_a_socket_unit_listens_on_is_left_alone(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(served_by_a_unit("@varve-test-nobody"));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int count_one(void *arg, const char *name, int fd)
{
	(void)name;
	*(int *)arg += fd >= 3;
	return 0;
}

static int refuse_second(void *arg, const char *name, int fd)
{
	(void)arg;
	(void)fd;
	return strcmp(name, "second") == 0 ? -EPROTO : 0;
}

/* In a process of its own, whose descriptors from 3 on are those that were kept. */
static int successor(int keeper)
{
	int above = fcntl(keeper, F_DUPFD, 100), pipes[2], fd, seen = 0;
	char byte = 0;

	if (pipe(pipes) || dup2(pipes[0], 90) < 0 || dup2(pipes[1], 91) < 0 || dup2(90, 3) < 0 ||
	    dup2(91, 4) < 0)
		return 1;
	set_number("VARVE_KEEPER", above);
	set_number("LISTEN_PID", getpid());
	set_number("LISTEN_FDS", 2);
	set_number("VARVE_TRIAL", 1);
	setenv("LISTEN_FDNAMES", "first:second", 1);
	struct keeper *k = keeper_open();

	if (!keeper_is_trial(k) || keeper_each(k, count_one, &seen) || seen != 2 ||
	    keeper_each(k, refuse_second, NULL) != -EPROTO)
		return 5;
	fd = keeper_take(k, "second");
	if (fd != 4 || !(fcntl(fd, F_GETFD) & FD_CLOEXEC) || write(fd, "x", 1) != 1 ||
	    read(90, &byte, 1) != 1 || byte != 'x')
		return 2;
	if (keeper_take(k, "second") != -ENOENT)
		return 3;
	keeper_drop_untaken(k); /* tells of the first */
	return fcntl(3, F_GETFD) < 0 && fcntl(4, F_GETFD) >= 0 ? 0 : 4;
}

static void a_successor_gets_each_once(void **state)
{
	int pair[2], status;
	char text[256];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	pid_t pid = fork();

	if (pid == 0)
		_exit(successor(pair[1]));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(receive(pair[0], text, sizeof(text)), -1);
	assert_string_equal(text, "FDSTOREREMOVE=1\nFDNAME=first");
	close(pair[0]);
	close(pair[1]);
}

static void without_a_keeper_nothing_is_kept(void **state)
{
	(void)state;
	assert_null(keeper_open());
	assert_int_equal(keeper_take(NULL, "a"), -ENOENT);
	assert_int_equal(keeper_put(NULL, "a", 0), -ENOTSUP);
	keeper_drop(NULL, "a");
	keeper_ready(NULL);
	keeper_drop_untaken(NULL);
	keeper_close(NULL);
	assert_int_equal(keeper_generation(NULL), 1);
	assert_int_equal(keeper_box_put(NULL, "a", "x", 1, (int[]){ 0 }, 1), -ENOTSUP);
	assert_int_equal(keeper_take_any(NULL, "a", NULL), -ENOENT);
}

/* Its other ends are closed, and it is opened more than once. */
static void a_box_holds_several(void **state)
{
	int pair[2], pipes[2], fds[2], box;
	char text[256], data[4], byte = 0;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe(pipes), 0);
	set_number("VARVE_KEEPER", pair[1]);
	struct keeper *k = keeper_open();

	assert_non_null(k);
	assert_int_equal(keeper_box_put(k, "box", "data", 4, pipes, 9), -EINVAL);
	assert_int_equal(keeper_box_put(k, "box", "data", 4, pipes, 2), 0);
	box = receive(pair[0], text, sizeof(text));
	assert_string_equal(text, "FDSTORE=1\nFDNAME=box");
	close(pipes[0]);
	close(pipes[1]);
	assert_int_equal(keeper_box_open(box, data, 3, fds, 2), -EBADMSG);
	assert_int_equal(keeper_box_open(box, data, 4, fds, 1), -EBADMSG);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(keeper_box_open(box, data, 4, fds, 2), 0);
		assert_memory_equal(data, "data", 4);
		assert_int_equal(write(fds[1], "y", 1), 1);
		assert_int_equal(read(fds[0], &byte, 1), 1);
		assert_int_equal(byte, 'y');
		close(fds[0]);
		close(fds[1]);
	}
	keeper_close(k);
	close(box);
	close(pair[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_supervisor_keeps_what_it_is_given),
		cmocka_unit_test(what_is_beyond_the_limit_is_refused),
		cmocka_unit_test(a_service_manager_does_too),
		cmocka_unit_test(what_a_socket_unit_listens_on_is_left_alone),
		cmocka_unit_test(a_successor_gets_each_once),
		cmocka_unit_test(without_a_keeper_nothing_is_kept),
		cmocka_unit_test(a_box_holds_several),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
