#include "tools/cli/store_program.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BEHIND_PREFIX "/libexec/varve/varve-store"

/* "/usr/bin" from "/usr/bin/varve"; "" from "/varve" and from "". */
static void cut_last(char *path)
{
	char *slash = strrchr(path, '/');

	if (slash)
		*slash = '\0';
}

int store_program_find(char **out, struct error *err)
{
	char self[PATH_MAX];
	char *path = NULL;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return error_set_errno(err, -errno, "/proc/self/exe");
	self[n] = '\0';
	cut_last(self);
	cut_last(self);
	if (asprintf(&path, "%s%s", self, BEHIND_PREFIX) < 0)
		return -ENOMEM;
	if (access(path, X_OK) < 0) {
		int r = error_set_errno(err, -errno,
					"%s, which is installed with varve and reads stores for it",
					path);
		free(path);
		return r;
	}
	*out = path;
	return 0;
}

static int execute(const char *path, const char *dir, char *const *args, struct error *err)
{
	size_t n = 0;

	while (args[n])
		n++;
	const char **argv = calloc(n + 4, sizeof(*argv));
	if (!argv)
		return -ENOMEM;
	argv[0] = STORE_PROGRAM_CALLER;
	argv[1] = "--store";
	argv[2] = dir;
	memcpy(argv + 3, args, n * sizeof(*argv));
	execv(path, (char *const *)argv);
	int r = error_set_errno(err, -errno, "%s", path);
	free(argv);
	return r;
}

int store_program_exec(struct cli *cli, char *const *args, struct error *err)
{
	const char *dir = cli->store_dir;
	char *path = NULL;
	int r = store_program_find(&path, err);

	if (r == 0 && !dir)
		r = cli_state_dir(cli, &dir, err);
	if (r == 0 && fflush(stdout) == EOF)
		r = cli_write_failure();
	if (r == 0) {
		client_free(cli->client);
		cli->client = NULL;
		r = execute(path, dir, args, err);
	}
	free(path);
	return r;
}
