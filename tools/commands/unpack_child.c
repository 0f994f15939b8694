#include "tools/commands/unpack_child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/cli/store_program.h"

extern char **environ;

struct unpack_child {
	pid_t pid;
	int fd; /* a socket: it reads the archive from it, and says there why it fails */
};

static int open_empty_dir(const char *path, int *out_fd, struct error *err)
{
	struct dirent *e;

	if (mkdir(path, 0777) < 0 && errno != EEXIST)
		return error_set_errno(err, -errno, "making %s", path);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : opendir(path);
	if (!d) {
		int code = -errno;
		if (fd >= 0)
			close(fd);
		return error_set_errno(err, code, "%s", path);
	}
	int entries = 0;
	while ((e = readdir(d)))
		entries += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	closedir(d);
	if (entries) {
		close(fd);
		return error_set(err, -ENOTEMPTY, "%s is not empty", path);
	}
	*out_fd = fd;
	return 0;
}

static int spawn(const char *path, int dir_fd, int end, pid_t *out)
{
	char *argv[] = { (char *)(uintptr_t)STORE_PROGRAM_CALLER, (char *)"__unpack", NULL };
	posix_spawn_file_actions_t actions;
	int r = posix_spawn_file_actions_init(&actions);

	if (r != 0)
		return -r;
	r = posix_spawn_file_actions_addfchdir_np(&actions, dir_fd);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, end, STDIN_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, end, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawn(out, path, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static int start(struct unpack_child *u, const char *path, int dir_fd, struct error *err)
{
	int pair[2];

	/* A socket pair and not a pipe: writing to it can do without SIGPIPE. */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set_errno(err, -errno, "a socket pair");
	int r = spawn(path, dir_fd, pair[1], &u->pid);
	close(pair[1]);
	u->fd = pair[0];
	if (r == 0)
		return 0;
	close(pair[0]);
	return error_set_errno(err, r, "starting %s", path);
}

int unpack_child_start(const char *dir, struct unpack_child **out, struct error *err)
{
	struct unpack_child *u = calloc(1, sizeof(*u));
	char *path = NULL;
	int dir_fd = -1;

	int r = u ? store_program_find(&path, err) : -ENOMEM;
	if (r == 0)
		r = open_empty_dir(dir, &dir_fd, err);
	if (r == 0) {
		r = start(u, path, dir_fd, err);
		close(dir_fd);
	}
	free(path);
	if (r < 0)
		free(u);
	else
		*out = u;
	return r;
}

int unpack_child_write(void *child, const void *data, size_t len)
{
	const struct unpack_child *u = child;
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(u->fd, p, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -EPIPE; /* or ECONNRESET, where it has left bytes unread */
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int unpack_child_finish(struct unpack_child *u, struct error *err)
{
	char said[sizeof(err->msg)];
	size_t len = 0;
	int status = 0, r = 0;

	shutdown(u->fd, SHUT_WR);
	while (len < sizeof(said) - 1) {
		ssize_t n = recv(u->fd, said + len, sizeof(said) - 1 - len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	said[len] = '\0';
	close(u->fd);
	while (waitpid(u->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		r = error_set(err, -EIO, "varve-store was ended by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		r = error_set(err, -EIO, "%s", len ? said : "varve-store has failed");
	free(u);
	return r;
}
