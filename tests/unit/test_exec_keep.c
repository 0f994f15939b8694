/* What is kept of a program: each byte once, whichever daemon has moved it. */
#include "snapshotd/container/exec_keep.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct exec_keep *keep_new(struct keeper *keeper, const char *id)
{
	struct error err = ERROR_INIT;
	struct exec_keep *k;

	assert_int_equal(exec_keep_new(keeper, id, "sb-1", &k, &err), 0);
	return k;
}

static void output_is_moved_in_order(void **state)
{
	struct exec_keep *k = keep_new(NULL, "one");
	char room[16] = "";
	int pipes[2];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(exec_keep_move(k, 1, pipes[0], 10), -EAGAIN);
	assert_int_equal(write(pipes[1], "abcdef", 6), 6);
	assert_int_equal(exec_keep_move(k, 1, pipes[0], 4), 4);
	assert_int_equal(exec_keep_len(k, 1), 4);
	assert_int_equal(exec_keep_move(k, 1, pipes[0], 10), 2);
	assert_int_equal(exec_keep_note(k, 1, "note", 4), 0);
	assert_int_equal(exec_keep_len(k, 2), 0);
	assert_int_equal(exec_keep_read(k, 1, 2, room, sizeof(room)), 8);
	assert_string_equal(room, "cdefnote");
	close(pipes[1]);
	assert_int_equal(exec_keep_move(k, 1, pipes[0], 10), 0);
	close(pipes[0]);
	exec_keep_free(k);
	exec_keep_free(NULL);
}

static void set_number(const char *name, int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", value);
	assert_int_equal(setenv(name, text, 1), 0);
}

/* The last descriptor that a keeper has got. */
static int box_of(int from)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char text[256];
	int fd = -1;

	for (;;) {
		struct iovec iov = { text, sizeof(text) };
		struct msghdr msg = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = &control,
				      .msg_controllen = sizeof(control) };

		if (recvmsg(from, &msg, MSG_DONTWAIT) < 0)
			return fd;
		if (!CMSG_FIRSTHDR(&msg))
			continue;
		if (fd >= 0)
			close(fd);
		memcpy(&fd, CMSG_DATA(&control.head), sizeof(fd));
	}
}

/* In a process of its own. 0: it finds what is expected. */
static int successor(int keeper, int box, bool done)
{
	int above = fcntl(keeper, F_DUPFD, 100);
	char room[16] = "";

	if (dup2(box, 3) < 0)
		return 1;
	set_number("VARVE_KEEPER", above);
	set_number("LISTEN_PID", getpid());
	set_number("LISTEN_FDS", 1);
	setenv("LISTEN_FDNAMES", "exec-two", 1);
	struct exec_keep *k = exec_keep_next(keeper_open());

	if (!k || strcmp(k->state->owner, "sb-1") != 0 || strcmp(k->name, "exec-two") != 0)
		return 2;
	if (k->state->done != done || (k->sock >= 0) == done)
		return 3;
	/* Notes of which nobody knows whether they are whole are gone. */
	if (exec_keep_len(k, 1) != (done ? 7 : 3))
		return 4;
	return exec_keep_read(k, 1, 0, room, sizeof(room)) < 3 || memcmp(room, "out", 3) != 0;
}

static int status_of(int keeper, int box, bool done)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(successor(keeper, box, done));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void a_successor_finds_it(void **state)
{
	int pair[2], sock[2], pipes[2], box;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock), 0);
	assert_int_equal(pipe(pipes), 0);
	set_number("VARVE_KEEPER", pair[1]);
	struct keeper *keeper = keeper_open();
	struct exec_keep *k = keep_new(keeper, "two");

	k->sock = sock[0];
	k->pipes[0] = pipes[0];
	k->pipes[1] = dup(pipes[0]);
	exec_keep_put(k);
	assert_int_equal(write(pipes[1], "out", 3), 3);
	assert_int_equal(exec_keep_move(k, 1, pipes[0], 10), 3);
	k->state->noted_at[0] = 3;
	k->state->noted = true;
	assert_int_equal(exec_keep_note(k, 1, "no", 2), 0);
	box = box_of(pair[0]);
	assert_int_equal(exec_keep_check(box), 0);
	k->state->version++;
	assert_int_equal(exec_keep_check(box), -EPROTO);
	k->state->version--;
	assert_int_equal(exec_keep_check(pipes[0]), -ENOTSOCK);
	assert_int_equal(status_of(pair[1], box, false), 0);

	/* Killed before the keeper has let the pipes go: the successor tells it. */
	assert_int_equal(exec_keep_note(k, 1, "note", 4), 0);
	k->state->done = true;
	assert_int_equal(box_of(pair[0]), -1);
	assert_int_equal(status_of(pair[1], box, true), 0);
	close(box);
	box = box_of(pair[0]);
	assert_true(box >= 0);
	assert_int_equal(status_of(pair[1], box, true), 0);
	assert_int_equal(box_of(pair[0]), -1);
	close(box);
	exec_keep_done(k);
	box = box_of(pair[0]);
	assert_int_equal(status_of(pair[1], box, true), 0);
	close(box);
	exec_keep_close(k);
	exec_keep_free(k);
	assert_int_equal(box_of(pair[0]), -1);
	/* Nobody has its pipes any more. */
	assert_int_equal(write(pipes[1], "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	close(pipes[1]);
	close(sock[1]);
	keeper_close(keeper);
	close(pair[0]);
}

static void give(int pipe, size_t len)
{
	char *data = malloc(len);

	assert_non_null(data);
	memset(data, 'x', len);
	assert_int_equal(write(pipe, data, len), len);
	free(data);
}

#define MIB (1u << 20)

/* To where nobody asks any more a stream is a hole; what is left stays at its place. */
static void a_window_of_an_attached_one_moves_along(void **state)
{
	struct exec_keep *k = keep_new(NULL, "three");
	struct error err = ERROR_INIT;
	char room[4] = "";
	struct stat st;
	int pipes[2];

	(void)state;
	assert_int_equal(exec_keep_attach(k, &err), 0);
	assert_int_equal(pipe(pipes), 0);
	for (int i = 0; i < 8 * 16; i++) {
		give(pipes[1], MIB / 16);
		assert_int_equal(exec_keep_move(k, 1, pipes[0], MIB), MIB / 16);
	}
	assert_int_equal(exec_keep_note(k, 1, "end", 3), 0);
	assert_int_equal(exec_keep_ahead(k, 1), 8 * MIB + 3);
	exec_keep_trim(k, 1, 0); /* nothing has been sent */
	assert_int_equal(exec_keep_held(k), 8 * MIB + 3);

	assert_false(exec_keep_note_sent(k, 1, 5 * MIB));
	atomic_store(&k->stalled, true);
	assert_false(exec_keep_note_sent(k, 1, 4 * MIB)); /* somebody who is behind */
	assert_int_equal(exec_keep_ahead(k, 1), 3 * MIB + 3);
	assert_true(exec_keep_note_sent(k, 1, 6 * MIB));
	assert_false(atomic_load(&k->stalled));
	exec_keep_trim(k, 1, 2 * MIB);
	assert_int_equal(exec_keep_held(k), 4 * MIB + 3);
	assert_int_equal(exec_keep_read(k, 1, 4 * MIB - 1, room, 1), -ENODATA);
	assert_int_equal(exec_keep_read(k, 1, 4 * MIB, room, 1), 1);
	assert_int_equal(room[0], 'x');
	assert_int_equal(exec_keep_read(k, 1, 8 * MIB, room, 4), 3);
	assert_memory_equal(room, "end", 3);
	assert_int_equal(exec_keep_len(k, 1), 8 * MIB + 3);
	assert_int_equal(fstat(k->spool[0], &st), 0);
	assert_in_range(st.st_blocks, 1, 5 * MIB / 512);
	close(pipes[0]);
	close(pipes[1]);
	exec_keep_free(k);
}

/* One that does not know of windows would let it grow, and run on. */
static void an_attached_one_has_another_format(void **state)
{
	struct exec_keep *k = keep_new(NULL, "four");
	struct error err = ERROR_INIT;
	struct stat plain, attached;
	uint32_t version = k->state->version;

	(void)state;
	assert_false(k->state->attached);
	assert_int_equal(fstat(k->memory, &plain), 0);
	assert_int_equal(k->state->size, plain.st_size);
	assert_int_equal(exec_keep_attach(k, &err), 0);
	assert_true(k->state->attached);
	assert_int_not_equal(k->state->version, version);
	assert_int_equal(fstat(k->memory, &attached), 0);
	assert_int_equal(k->state->size, attached.st_size);
	assert_true(attached.st_size > plain.st_size);
	exec_keep_free(k);
}

static void programs_leave_names_to_others(void **state)
{
	unsigned n = 0;

	(void)state;
	exec_keep_add_name();
	while (exec_keep_take_name())
		n++;
	assert_int_equal(n, EXEC_KEEP_NAMES_MAX - 1);
	exec_keep_give_name();
	assert_true(exec_keep_take_name());
	assert_false(exec_keep_take_name());
	for (n = 0; n < EXEC_KEEP_NAMES_MAX; n++)
		exec_keep_give_name();
}

/* It stays what it is, here; the keeper has room for another. */
static void what_is_let_go_leaves_its_name(void **state)
{
	unsigned n = 0;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	set_number("VARVE_KEEPER", pair[1]);
	struct keeper *keeper = keeper_open();
	struct exec_keep *a = keep_new(keeper, "five"), *b = keep_new(keeper, "six");

	assert_true(exec_keep_reserve(a));
	while (exec_keep_take_name())
		n++;
	assert_int_equal(n, EXEC_KEEP_NAMES_MAX - 1);
	assert_false(exec_keep_reserve(b));
	assert_true(exec_keep_reserve(a));
	assert_int_equal(exec_keep_note(a, 1, "note", 4), 0);
	exec_keep_done(a);
	assert_true(a->is_kept);
	exec_keep_let_go(a);
	assert_false(a->is_kept);
	assert_true(exec_keep_reserve(b));
	assert_int_equal(exec_keep_len(a, 1), 4);
	exec_keep_free(a);
	assert_false(exec_keep_take_name());
	exec_keep_free(b);
	assert_true(exec_keep_take_name());
	for (n = 0; n < EXEC_KEEP_NAMES_MAX; n++)
		exec_keep_give_name();
	keeper_close(keeper);
	close(pair[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_is_moved_in_order),
		cmocka_unit_test(a_successor_finds_it),
		cmocka_unit_test(a_window_of_an_attached_one_moves_along),
		cmocka_unit_test(an_attached_one_has_another_format),
		cmocka_unit_test(programs_leave_names_to_others),
		cmocka_unit_test(what_is_let_go_leaves_its_name),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
