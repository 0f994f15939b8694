#include "tools/cli/child.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void *read_lines(void *arg)
{
	struct child *c = arg;
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	FILE *f = fdopen(c->err_fd, "r");

	while (f && (n = getline(&line, &size, f)) > 0) {
		if (line[n - 1] == '\n')
			n--;
		c->on_line(c->arg, line, (size_t)n);
	}
	free(line);
	if (f)
		fclose(f);
	else
		close(c->err_fd);
	return NULL;
}

static int spawn(struct child *c, char *const *argv, int out, int diag)
{
	posix_spawn_file_actions_t actions;
	int r = posix_spawn_file_actions_init(&actions);

	if (r != 0)
		return -r;
	r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, diag, STDERR_FILENO);
	/* mmdebstrap counts on low numbers being free: dash knows no more than 9. */
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
	if (r == 0)
		r = posix_spawnp(&c->pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0)
		c->pid = 0;
	return -r;
}

int child_start(struct child *c, char *const *argv, struct error *err)
{
	int out[2], diag[2];

	c->pid = 0;
	if (pipe2(out, O_CLOEXEC) < 0)
		return error_set_errno(err, -errno, "a pipe");
	if (pipe2(diag, O_CLOEXEC) < 0) {
		int r = -errno;
		close(out[0]);
		close(out[1]);
		return error_set_errno(err, r, "a pipe");
	}
	int r = spawn(c, argv, out[1], diag[1]);
	close(out[1]);
	close(diag[1]);
	c->out_fd = out[0];
	c->err_fd = diag[0];
	if (r == 0 && (r = -pthread_create(&c->reader, NULL, read_lines, c)) == 0)
		return 0;
	close(out[0]);
	close(diag[0]);
	if (c->pid) /* gets SIGPIPE */
		waitpid(c->pid, NULL, 0);
	c->pid = 0;
	return error_set_errno(err, r, "starting %s", argv[0]);
}

int child_wait(struct child *c)
{
	int status = 0;

	close(c->out_fd);
	while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
		;
	pthread_join(c->reader, NULL);
	c->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
