/*
 * Removal of a tree by descriptors, so that nobody can turn it elsewhere with a
 * symlink meanwhile. A directory that is too deep is moved up to the top first,
 * so that neither the stack nor the descriptors run out.
 */
#include "snapshotd/container/init/init.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 100
#define ROUNDS 100 /* when others put files in while we remove */

struct removal {
	int top; /* the directory to remove */
	unsigned moved;
	bool again; /* something was moved to the top */
};

static int remove_content(struct removal *r, int dir, int depth);

static int remove_directory(struct removal *r, int dir, const char *name, int depth)
{
	char moved[32];
	int fd, rc;

	if (depth >= DEPTH_MAX) {
		snprintf(moved, sizeof(moved), ".varve-moved-%u", r->moved++);
		r->again = true;
		return renameat(dir, name, r->top, moved) < 0 ? -errno : 0;
	}
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	rc = remove_content(r, fd, depth + 1);
	if (rc == 0 && unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		rc = -errno;
	return rc;
}

/* Takes dir. */
static int remove_content(struct removal *r, int dir, int depth)
{
	DIR *d = fdopendir(dir);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		close(dir);
		return -errno;
	}
	while (rc == 0 && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(dirfd(d), e->d_name, 0) == 0 || errno == ENOENT)
			continue;
		rc = errno == EISDIR ? remove_directory(r, dirfd(d), e->d_name, depth) : -errno;
	}
	closedir(d);
	return rc;
}

static bool is_root(int dir)
{
	struct stat st, root;

	return fstat(dir, &st) < 0 || stat("/", &root) < 0 ||
	       (st.st_dev == root.st_dev && st.st_ino == root.st_ino);
}

int remove_tree(const char *path)
{
	struct removal r = { 0 };
	int rc = 0;

	if (unlink(path) == 0)
		return 0;
	if (errno != EISDIR)
		return -errno;
	r.top = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r.top < 0)
		return -errno;
	if (is_root(r.top))
		rc = -EBUSY;
	for (int i = 0; rc == 0; i++) {
		int fd = openat(r.top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		r.again = false;
		rc = fd < 0 ? -errno : remove_content(&r, fd, 0);
		if (rc == 0 && rmdir(path) < 0)
			rc = -errno;
		else if (rc == 0)
			break;
		if (rc == -ENOTEMPTY && (r.again || i < ROUNDS))
			rc = 0;
	}
	close(r.top);
	return rc;
}
