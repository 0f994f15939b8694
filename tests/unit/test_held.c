/* held: what a daemon stores with keeper.h, from the keeper's side. */
#include "snapshotd/held.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
	struct held held;
	int ours, theirs;
	char lines[1024]; /* what else was said */
} f;

static int setup(void **state)
{
	int pair[2];

	(void)state;
	memset(&f, 0, sizeof(f));
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	f.ours = pair[0];
	f.theirs = pair[1];
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	while (f.held.n)
		held_drop(&f.held, f.held.fds[0].name);
	close(f.ours);
	if (f.theirs >= 0)
		close(f.theirs);
	return 0;
}

static void note(void *arg, const char *line)
{
	(void)arg;
	strncat(f.lines, line, sizeof(f.lines) - strlen(f.lines) - 2);
	strcat(f.lines, ";");
}

static void receive_all(void)
{
	f.lines[0] = 0;
	while (held_receive(&f.held, f.ours, note, NULL))
		;
}

static void assert_names(const char *expected)
{
	char *names = held_names(&f.held);

	assert_non_null(names);
	assert_string_equal(names, expected);
	free(names);
}

static struct keeper *keeper_of_theirs(void)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", f.theirs);
	assert_int_equal(setenv("VARVE_KEEPER", text, 1), 0);
	struct keeper *k = keeper_open();

	assert_non_null(k);
	return k;
}

static void what_a_daemon_stores_is_held(void **state)
{
	struct keeper *k = keeper_of_theirs();
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	f.theirs = -1; /* the keeper's to close */
	assert_names("");
	assert_int_equal(keeper_put(k, "one", fd), 0);
	assert_int_equal(keeper_put(k, "two", fd), 0);
	assert_int_equal(keeper_put(k, "three", fd), 0);
	close(fd);
	keeper_ready(k);
	receive_all();
	assert_names("one:two:three");
	assert_string_equal(f.lines, "READY=1;");
	keeper_drop(k, "one");
	keeper_drop(k, "none");
	receive_all();
	assert_names("three:two");
	/* What was sent before the daemon died counts. */
	fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	assert_int_equal(keeper_put(k, "two", fd), 0);
	close(fd);
	keeper_close(k);
	receive_all();
	assert_names("three:two"); /* another, under the same name */
	char byte = 1;

	assert_int_equal(read(f.held.fds[1].fd, &byte, 1), 1);
	assert_int_equal(byte, 0);
}

/* text, and a descriptor with it. */
static void send_raw(const char *text)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS,
				.cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct iovec iov = { (void *)text, strlen(text) };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	const int fd = STDIN_FILENO;

	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(fd));
	assert_int_equal(sendmsg(f.theirs, &msg, 0), strlen(text));
}

static int count_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void what_makes_no_sense_is_not_held(void **state)
{
	char long_name[128] = "FDSTORE=1\nFDNAME=";
	const int before = count_open();

	(void)state;
	memset(long_name + strlen(long_name), 'x', KEEPER_NAME_MAX + 1);
	send_raw("FDSTORE=1\nFDNAME=a/b");
	send_raw("FDSTORE=1\nFDNAME=a:b");
	send_raw("FDSTORE=1\nFDNAME=");
	send_raw("FDSTORE=1");
	send_raw("FDNAME=name");
	send_raw("FDSTOREREMOVE=1\nFDNAME=name");
	send_raw(long_name);
	send_raw("anything=else\nREADY=1");
	receive_all();
	assert_string_equal(f.lines, "anything=else;READY=1;");
	assert_names("");
	assert_int_equal(count_open(), before); /* and none leaks */
}

static void there_is_a_limit(void **state)
{
	char name[32];

	(void)state;
	for (unsigned i = 0; i < KEEPER_FDS_MAX; i++) {
		snprintf(name, sizeof(name), "name-%u", i);
		held_put(&f.held, name, -1);
	}
	held_put(&f.held, "another", dup(STDIN_FILENO));
	assert_int_equal(f.held.n, KEEPER_FDS_MAX);
	held_put(&f.held, "name-0", -1); /* in the place of one of them */
	assert_int_equal(f.held.n, KEEPER_FDS_MAX);
	f.held.n = 0;
}

/* In a process of its own. */
static int become_daemon(void)
{
	char byte;

	/* The first is where the second is to be. */
	if (dup2(open("/dev/zero", O_RDONLY), 11) != 11 ||
	    dup2(open("/dev/full", O_RDWR), 12) != 12)
		return 1;
	held_put(&f.held, "first", 12);
	held_put(&f.held, "second", 11);
	if (held_lay_out(&f.held, 11, 50) < 0)
		return 2;
	if (write(11, "x", 1) != -1 || errno != ENOSPC || read(12, &byte, 1) != 1 || byte != 0)
		return 3;
	return fcntl(11, F_GETFD) & FD_CLOEXEC ? 4 : 0;
}

static void a_daemon_gets_them_in_the_order_of_their_names(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(become_daemon());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define MANY 100
#define FIRST 11
#define LIMIT (FIRST + MANY + 12)

/* Each a file of a size of its own, at odd numbers in an odd order, where there is no room for two.
 */
static int become_crowded(void)
{
	const struct rlimit few = { LIMIT, LIMIT };
	int fds[MANY];
	char name[16];
	struct stat st;

	for (int i = 0; i < MANY; i++) {
		fds[i] = memfd_create("test", MFD_CLOEXEC);
		if (fds[i] < 0 || ftruncate(fds[i], i) < 0)
			return 1;
	}
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		held_put(&f.held, name, fds[i * 37 % MANY]);
	}
	if (setrlimit(RLIMIT_NOFILE, &few) < 0)
		return 2;
	if (held_lay_out(&f.held, FIRST, FIRST + MANY + 1) < 0)
		return 3;
	for (int i = 0; i < MANY; i++)
		if (fstat(FIRST + i, &st) < 0 || st.st_size != i * 37 % MANY ||
		    fcntl(FIRST + i, F_GETFD) & FD_CLOEXEC)
			return 4;
	return 0;
}

static void it_takes_no_room_for_two_of_each(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(become_crowded());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_a_daemon_stores_is_held, setup, teardown),
		cmocka_unit_test_setup_teardown(what_makes_no_sense_is_not_held, setup, teardown),
		cmocka_unit_test_setup_teardown(there_is_a_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(a_daemon_gets_them_in_the_order_of_their_names,
						setup, teardown),
		cmocka_unit_test_setup_teardown(it_takes_no_room_for_two_of_each, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
