/*
 * The places that the runtime mounts upon. Where a root lacks one, the runtime
 * would make it, and it would stay there as a trace of the container. So they
 * are made here, before, and those that were missing are removed afterwards.
 * Both run outside a container, while none has the root: changed into it, no
 * symlink leads out.
 *
 *   points-make PARENT ROOT POINT...   d/PATH for a directory, f/PATH for a file;
 *                                      says each path made on stderr, ending in NUL
 *   points-remove PARENT ROOT PATH...  the last first; what has content stays
 */
#include "snapshotd/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void say_made(const char *path)
{
	fwrite(path, 1, strlen(path) + 1, stderr);
}

/* The first len bytes of path, with what is missing above. */
static int make_dirs(const char *path, size_t len)
{
	char dir[PATH_MAX];

	if (len >= sizeof(dir))
		return -ENAMETOOLONG;
	memcpy(dir, path, len);
	dir[len] = 0;
	for (size_t i = 1; i <= len; i++) {
		if (dir[i] != '/' && dir[i])
			continue;
		dir[i] = 0;
		if (mkdir(dir, 0755) == 0)
			say_made(dir);
		else if (errno != EEXIST)
			return -errno;
		if (i < len)
			dir[i] = '/';
	}
	return 0;
}

static int make_file(const char *path)
{
	char target[PATH_MAX];
	struct stat st;
	int fd, rc;

	if (stat(path, &st) == 0)
		return 0;
	rc = follow_links(path, target);
	if (rc == 0)
		rc = make_dirs(target, (size_t)(strrchr(target, '/') - target));
	if (rc < 0)
		return rc;
	fd = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	say_made(target);
	return close(fd) < 0 ? -errno : 0;
}

static int make_points(char **points)
{
	umask(022);
	for (; *points; points++) {
		const char *path = *points + 1;
		int rc = **points == 'd' ? make_dirs(path, strlen(path)) : make_file(path);

		/* Of a root that is odd, the runtime says why it cannot be. */
		if (rc < 0 && rc != -EEXIST && rc != -ENOTDIR && rc != -ELOOP && rc != -ENOENT)
			return rc;
	}
	return 0;
}

static void remove_points(char **paths, int n)
{
	while (n-- > 0) {
		struct stat st;

		if (lstat(paths[n], &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0)
			(void)!unlink(paths[n]);
		else
			(void)!rmdir(paths[n]);
	}
}

int points_main(int argc, char **argv)
{
	int rc = -EINVAL;

	if (argc >= 4 && (chroot(argv[3]) < 0 || chdir("/") < 0))
		rc = -errno;
	else if (argc >= 4 && strcmp(argv[1], "points-make") == 0)
		rc = make_points(argv + 4);
	else if (argc >= 4) {
		remove_points(argv + 4, argc - 4);
		rc = 0;
	}
	if (rc < 0)
		fprintf(stderr, "%s\n", strerror(-rc));
	return rc < 0;
}
