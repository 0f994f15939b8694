#include "store/base/private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OTHERS (S_IRWXG | S_IRWXO)

/* Our directories that hold only files. */
static const char *const flat[] = { "db", "journal", "staging", "shared" };

static bool is_flat(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(flat); i++)
		if (strcmp(name, flat[i]) == 0)
			return true;
	return false;
}

/* 1 if it was open to others. A file that has vanished counts as closed. */
static int close_one(int dir_fd, const char *name, const struct stat *st)
{
	if (!(st->st_mode & OTHERS))
		return 0;
	if (fchmodat(dir_fd, name, st->st_mode & S_IRWXU, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	return 1;
}

static int close_in(int dir_fd, bool top)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;
	int n = d ? 0 : -errno;
	struct stat st;

	if (!d && fd >= 0)
		close(fd);
	while (n >= 0 && d && (e = readdir(d))) {
		int rc = 0;

		if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue; /* gone */
		if (strcmp(e->d_name, ".") == 0 || S_ISREG(st.st_mode))
			rc = close_one(fd, e->d_name, &st);
		if (rc >= 0 && top && S_ISDIR(st.st_mode) && is_flat(e->d_name)) {
			int sub = openat(fd, e->d_name,
					 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			rc = sub < 0 ? -errno : close_in(sub, false);
			if (sub >= 0)
				close(sub);
		}
		n = rc < 0 ? rc : n + rc;
	}
	if (d)
		closedir(d);
	return n;
}

int private_close(int dir_fd)
{
	return close_in(dir_fd, true);
}
