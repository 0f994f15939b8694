#include "snapshotd/api/host_place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/open_beneath.h"

/* What follows the root in path, "." for itself, or NULL where it is elsewhere. */
static const char *below(const char *root, const char *path)
{
	size_t len = strlen(root);

	while (len > 1 && root[len - 1] == '/')
		len--;
	if (len == 1)
		return path[1] ? path + 1 : ".";
	if (strncmp(root, path, len) != 0 || (path[len] && path[len] != '/'))
		return NULL;
	path += len + strspn(path + len, "/");
	return *path ? path : ".";
}

static int open_below(const char *root, const char *rest)
{
	int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (root_fd < 0)
		return -errno;
	fd = open_beneath(root_fd, rest, O_PATH, OPEN_BENEATH);
	close(root_fd);
	return fd;
}

int host_place_open(const json_t *roots, const char *path, struct error *err)
{
	int rc = -EACCES;
	const json_t *v;
	size_t i;

	json_array_foreach(roots, i, v) {
		const char *root = json_string_value(v), *rest = below(root, path);
		int fd = rest ? open_below(root, rest) : -EXDEV;

		if (fd >= 0)
			return fd;
		if (fd != -EXDEV)
			rc = fd;
	}
	if (rc == -EACCES)
		return error_set(err, rc, "%.200s is not beneath a directory that may be named",
				 path);
	return error_set_errno(err, rc, "%.200s", path);
}

int host_place_path(int fd, char **out)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return -errno;
	if (n == (ssize_t)sizeof(path) - 1)
		return -ENAMETOOLONG;
	path[n] = '\0';
	*out = strdup(path);
	return *out ? 0 : -ENOMEM;
}
