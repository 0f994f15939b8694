#include "store/bucket/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/clock.h"

#define COMMAND_MS 60000
#define LOOK_MS 100 /* how soon a command is ended that nobody waits for any more */

extern char **environ;

/* 0 when there is something to read. */
static int wait_readable(int fd, const _Atomic bool *stop, int64_t deadline_ms, struct error *err)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (monotonic_ms() < deadline_ms) {
		if (stop && atomic_load(stop))
			return error_set(err, -ECANCELED, "nobody waits for it any more");
		if (poll(&p, 1, LOOK_MS) > 0)
			return 0;
	}
	return error_set(err, -ETIMEDOUT, "no answer in %d s", COMMAND_MS / 1000);
}

static int read_all(int fd, const _Atomic bool *stop, size_t max, struct buf *out,
		    struct error *err)
{
	const int64_t deadline_ms = monotonic_ms() + COMMAND_MS;

	for (;;) {
		int rc = wait_readable(fd, stop, deadline_ms, err);

		if (rc < 0)
			return rc;
		if (out->len > max)
			return error_set(err, -EBADMSG, "it prints too much");
		rc = buf_reserve(out, 4096);
		if (rc < 0)
			return error_set_errno(err, rc, "its output");
		ssize_t n = read(fd, out->data + out->len, 4096);
		if (n < 0 && errno != EINTR)
			return error_set_errno(err, -errno, "its output");
		if (n == 0)
			return 0;
		out->len += n > 0 ? (size_t)n : 0;
	}
}

/* In a process group of its own, so that all of it can be ended. */
static int spawn_shell(const char *command, int out_fd, pid_t *out)
{
	char *argv[] = { "sh", "-c", (char *)command, NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none;

	sigemptyset(&none);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, out_fd, 1);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
	int rc = posix_spawn(out, "/bin/sh", &fa, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	return -rc;
}

int command_output(const char *command, const _Atomic bool *stop, size_t max, struct buf *out,
		   struct error *err)
{
	int fds[2], status = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set_errno(err, -errno, "pipe");
	int rc = spawn_shell(command, fds[1], &pid);
	close(fds[1]);
	if (rc < 0) {
		close(fds[0]);
		return error_set_errno(err, rc, "it cannot be run");
	}
	rc = read_all(fds[0], stop, max, out, err);
	close(fds[0]);
	if (rc < 0)
		kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (rc == 0 && status != 0)
		rc = error_set(err, -EACCES,
			       WIFEXITED(status) ? "it exits with %d" : "it ends by signal %d",
			       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	return rc;
}

void command_wipe(struct buf *secret)
{
	if (secret->data)
		explicit_bzero(secret->data, secret->cap);
	buf_fini(secret);
}
