/*
 * Both interfaces say "frozen" only some time after the request. v1's can stay
 * at FREEZING for ever if the request came at a bad moment (during a vfork, for
 * one), until it is repeated or the cgroup is thawed in between.
 */
#include "fs/host/freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FREEZE_TIMEOUT_MS 2000
#define V1_AGAIN_MS 50

static int write_file(const char *dir, const char *name, const char *text)
{
	char path[PATH_MAX];
	int fd, r = 0;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		r = -errno;
	close(fd);
	return r;
}

static bool file_says(const char *dir, const char *name, const char *what)
{
	char path[PATH_MAX], text[256];
	ssize_t n;
	int fd;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n < 0 ? 0 : n] = 0;
	return strstr(text, what) != NULL;
}

static int freeze_v1(const char *dir)
{
	for (int ms = 0; ms < FREEZE_TIMEOUT_MS; ms++) {
		int r = write_file(dir, "freezer.state", "FROZEN");

		if (r)
			return r;
		if (file_says(dir, "freezer.state", "FROZEN"))
			return 0;
		if (ms % V1_AGAIN_MS == V1_AGAIN_MS - 1)
			(void)!write_file(dir, "freezer.state", "THAWED");
		usleep(1000);
	}
	return -ETIMEDOUT;
}

static int freeze_v2(const char *dir)
{
	int r = write_file(dir, "cgroup.freeze", "1");

	for (int ms = 0; !r && !file_says(dir, "cgroup.events", "frozen 1"); ms++) {
		if (ms == FREEZE_TIMEOUT_MS)
			r = -ETIMEDOUT;
		usleep(1000);
	}
	return r;
}

int cgroup_freeze(const char *dir, struct error *err)
{
	int r = freeze_v2(dir);

	if (r == -ENOENT)
		r = freeze_v1(dir);
	if (!r)
		return 0;
	(void)!cgroup_thaw(dir);
	if (r == -ETIMEDOUT)
		return error_set(err, r, "cgroup %s did not freeze", dir);
	return error_set_errno(err, r, "cannot freeze cgroup %s", dir);
}

int cgroup_thaw(const char *dir)
{
	int r = write_file(dir, "cgroup.freeze", "0");

	return r == -ENOENT ? write_file(dir, "freezer.state", "THAWED") : r;
}
