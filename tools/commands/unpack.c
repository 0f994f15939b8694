/*
 * A thread reads the archive from a socket, so that libarchive can pull while the
 * transfer pushes. Names are checked (relative, no "..", no empty parts) and
 * made one component at a time below a directory descriptor with O_NOFOLLOW;
 * since only files and directories are made, no link can lead anywhere.
 */
#include "tools/commands/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct unpack {
	int dir_fd;
	int read_fd, write_fd; /* the thread's end, the caller's end */
	pthread_t thread;
	int result; /* of the thread; read after it has been joined */
	struct error error;
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

/* The directory `name[0..len)` below at, made where it is missing: a descriptor or -errno. */
static int enter(int at, const char *name, size_t len)
{
	char part[256];

	if (len == 0 || len >= sizeof(part))
		return -EINVAL;
	memcpy(part, name, len);
	part[len] = '\0';
	if (strcmp(part, ".") == 0 || strcmp(part, "..") == 0)
		return -EINVAL;
	if (mkdirat(at, part, 0777) < 0 && errno != EEXIST)
		return -errno;
	int fd = openat(at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The directory that `path` lies in: a descriptor of its own or -errno; *last its last part. */
static int enter_parent(int root, const char *path, const char **last)
{
	int fd = dup(root);
	const char *slash;

	if (fd < 0)
		return -errno;
	while ((slash = strchr(path, '/')) != NULL) {
		int next = enter(fd, path, (size_t)(slash - path));
		close(fd);
		if (next < 0)
			return next;
		fd = next;
		path = slash + 1;
	}
	*last = path;
	return fd;
}

static int write_file(struct archive *a, int at, const char *name, struct error *err)
{
	if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	int r = 0;
	if (archive_read_data_into_fd(a, fd) != ARCHIVE_OK)
		r = error_set(err, -EIO, "%s", archive_error_string(a));
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

/* One file or directory. */
static int unpack_entry(struct unpack *u, struct archive *a, struct archive_entry *e)
{
	const char *path = archive_entry_pathname(e), *last = "";
	mode_t type = archive_entry_filetype(e);

	while (path && strncmp(path, "./", 2) == 0)
		path += 2;
	if (!path || (type != AE_IFREG && type != AE_IFDIR) || archive_entry_hardlink(e))
		return error_set(&u->error, -EBADMSG, "%s: is neither file nor directory",
				 path ? path : "an entry without a name");
	int fd = enter_parent(u->dir_fd, path, &last);
	int r = fd < 0 ? fd : 0;
	if (fd >= 0 && type == AE_IFREG) {
		r = write_file(a, fd, last, &u->error);
	} else if (fd >= 0 && *last) { /* "dir/" has been made on the way */
		r = enter(fd, last, strlen(last));
		if (r >= 0)
			close(r);
	}
	if (fd >= 0)
		close(fd);
	return r < 0 ? error_prefix(&u->error, r, "%s", path) : 0;
}

static int unpack_all(struct unpack *u, struct archive *a)
{
	struct archive_entry *e;
	int status, r = 0;

	if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
	    archive_read_open_fd(a, u->read_fd, 64 << 10) != ARCHIVE_OK)
		return error_set(&u->error, -EBADMSG, "%s", archive_error_string(a));
	while (r == 0 && (status = archive_read_next_header(a, &e)) != ARCHIVE_EOF) {
		if (status != ARCHIVE_OK)
			return error_set(&u->error, -EBADMSG, "%s", archive_error_string(a));
		r = unpack_entry(u, a, e);
	}
	return r;
}

static void *unpack_thread(void *arg)
{
	struct unpack *u = arg;
	struct archive *a = archive_read_new();
	char rest[4096];

	u->result = a ? unpack_all(u, a) : -ENOMEM;
	archive_read_free(a);
	/* What follows the archive's end is padding. */
	while (u->result == 0 && read(u->read_fd, rest, sizeof(rest)) > 0)
		;
	shutdown(u->read_fd, SHUT_RDWR); /* a writer that waits learns that nobody reads */
	return NULL;
}

int unpack_new(const char *dir, struct unpack **out, struct error *err)
{
	int pair[2], r;
	struct unpack *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	r = open_empty_dir(dir, &u->dir_fd, err);
	if (r < 0) {
		free(u);
		return r;
	}
	/* A socket pair and not a pipe: writing to it can do without SIGPIPE. */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		r = error_set_errno(err, -errno, "a socket pair");
	} else {
		u->read_fd = pair[0];
		u->write_fd = pair[1];
		r = -pthread_create(&u->thread, NULL, unpack_thread, u);
		if (r == 0) {
			*out = u;
			return 0;
		}
		close(pair[0]);
		close(pair[1]);
		error_set_errno(err, r, "a thread");
	}
	close(u->dir_fd);
	free(u);
	return r;
}

int unpack_write(void *unpack, const void *data, size_t len)
{
	struct unpack *u = unpack;
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(u->write_fd, p, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int unpack_finish(struct unpack *u, struct error *err)
{
	int r;

	shutdown(u->write_fd, SHUT_WR);
	pthread_join(u->thread, NULL);
	r = u->result;
	if (r < 0)
		error_set(err, r, "%s", error_text(&u->error));
	close(u->write_fd);
	close(u->read_fd);
	close(u->dir_fd);
	free(u);
	return r;
}
