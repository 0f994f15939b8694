#include "tools/cli/out_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/write_all.h"

#define PIPE_BYTES (1 << 20)

/* The file to remove when a signal ends us. */
static const char *volatile unfinished;

static const int ending_signals[] = { SIGINT, SIGTERM, SIGHUP };

static void remove_unfinished(int sig)
{
	const char *path = unfinished;

	if (path)
		unlink(path);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void catch_signals(void)
{
	struct sigaction catching = { .sa_handler = remove_unfinished }, old;

	for (size_t i = 0; i < ARRAY_SIZE(ending_signals); i++) {
		/* What is ignored (nohup) stays so. */
		if (sigaction(ending_signals[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			sigaction(ending_signals[i], &catching, NULL);
	}
}

static mode_t default_mode(void)
{
	mode_t mask = umask(0);

	umask(mask);
	return 0666 & ~mask;
}

/* A new file beside f->path. */
static int open_temporary(struct out_file *f, mode_t mode, struct error *err)
{
	if (asprintf(&f->temporary, "%s.XXXXXX", f->path) < 0) {
		f->temporary = NULL;
		return -ENOMEM;
	}
	/* Before it is there, so that no signal comes between; mkostemp fills the name in. */
	unfinished = f->temporary;
	catch_signals();
	f->fd = mkostemp(f->temporary, O_CLOEXEC);
	if (f->fd < 0) {
		int code = -errno;
		unfinished = NULL;
		free(STEAL(f->temporary));
		return error_set_errno(err, code, "%s", f->path);
	}
	if (fchmod(f->fd, mode) < 0)
		return error_set_errno(err, -errno, "%s", f->temporary);
	return 0;
}

/* What reads a pipe is mostly slower woken than served. Beyond a user's limit it stays small. */
static void pipe_grow(int fd)
{
	if (fcntl(fd, F_GETPIPE_SZ) < PIPE_BYTES)
		(void)fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
}

int out_file_open(struct out_file *f, const char *path, struct error *err)
{
	struct stat st;

	*f = (struct out_file)OUT_FILE_NONE;
	if (strcmp(path, "-") == 0) {
		if (isatty(STDOUT_FILENO))
			return error_set(err, -EINVAL, "standard output is a terminal");
		f->fd = STDOUT_FILENO;
		pipe_grow(f->fd);
		return 0;
	}
	bool exists = stat(path, &st) == 0;
	/* What a symlink leads to is replaced, not the symlink. */
	f->path = exists && S_ISREG(st.st_mode) ? realpath(path, NULL) : strdup(path);
	if (!f->path)
		return error_set_errno(err, -errno, "%s", path);
	if (!exists || S_ISREG(st.st_mode))
		return open_temporary(f, exists ? st.st_mode & 0777 : default_mode(), err);
	f->fd = open(path, O_WRONLY | O_CLOEXEC); /* a device or a pipe */
	return f->fd < 0 ? error_set_errno(err, -errno, "%s", path) : 0;
}

int out_file_write(struct out_file *f, const void *data, size_t len)
{
	return write_all(f->fd, data, len);
}

int out_file_close(struct out_file *f, int result, struct error *err)
{
	if (f->path && f->fd >= 0 && close(f->fd) < 0 && result == 0)
		result = error_set_errno(err, -errno, "%s", f->path);
	if (f->temporary && result == 0 && rename(f->temporary, f->path) < 0)
		result = error_set_errno(err, -errno, "%s", f->path);
	if (f->temporary && result != 0)
		unlink(f->temporary);
	unfinished = NULL;
	free(f->temporary);
	free(f->path);
	*f = (struct out_file)OUT_FILE_NONE;
	return result;
}
