/*
 * fall_back.h - for programs that stand in front of one of the same name in PATH: what
 * these do not do themselves, that one does.
 */
#ifndef VARVE_TEST_FALL_BACK_H
#define VARVE_TEST_FALL_BACK_H

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Become the next program NAME in PATH after this one's directory. Does not return. */
static _Noreturn void fall_back(const char *name, char **argv)
{
	char own[PATH_MAX], path[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);
	const char *dirs = getenv("PATH");

	own[len > 0 ? len : 0] = '\0';
	char *rest = strdup(dirs ? dirs : "/usr/bin:/bin");
	for (char *dir = rest ? strtok(rest, ":") : NULL; dir; dir = strtok(NULL, ":")) {
		char real[PATH_MAX];
		int n = snprintf(path, sizeof(path), "%s/%s", dir, name);
		if (n < 0 || (size_t)n >= sizeof(path) || !realpath(path, real) ||
		    strcmp(real, own) == 0)
			continue;
		execv(path, argv);
	}
	fprintf(stderr, "%s: not found\n", name);
	exit(127);
}

#endif
