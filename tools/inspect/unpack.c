/*
 * Names are checked (relative, no "..", no empty parts) and
 * made one component at a time below a directory descriptor with O_NOFOLLOW;
 * since only files and directories are made, no link can lead anywhere.
 */
#include "tools/inspect/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/inspect/inspect_commands.h"

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
static int unpack_entry(struct archive *a, struct archive_entry *e, int dir_fd, struct error *err)
{
	const char *path = archive_entry_pathname(e), *last = "";
	mode_t type = archive_entry_filetype(e);

	while (path && strncmp(path, "./", 2) == 0)
		path += 2;
	if (!path || (type != AE_IFREG && type != AE_IFDIR) || archive_entry_hardlink(e))
		return error_set(err, -EBADMSG, "%s: is neither file nor directory",
				 path ? path : "an entry without a name");
	int fd = enter_parent(dir_fd, path, &last);
	int r = fd < 0 ? fd : 0;
	if (fd >= 0 && type == AE_IFREG) {
		r = write_file(a, fd, last, err);
	} else if (fd >= 0 && *last) { /* "dir/" has been made on the way */
		r = enter(fd, last, strlen(last));
		if (r >= 0)
			close(r);
	}
	if (fd >= 0)
		close(fd);
	return r < 0 ? error_prefix(err, r, "%s", path) : 0;
}

static int unpack_all(struct archive *a, int in_fd, int dir_fd, struct error *err)
{
	struct archive_entry *e;
	int status, r = 0;

	if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
	    archive_read_open_fd(a, in_fd, 64 << 10) != ARCHIVE_OK)
		return error_set(err, -EBADMSG, "%s", archive_error_string(a));
	while (r == 0 && (status = archive_read_next_header(a, &e)) != ARCHIVE_EOF) {
		if (status != ARCHIVE_OK)
			return error_set(err, -EBADMSG, "%s", archive_error_string(a));
		r = unpack_entry(a, e, dir_fd, err);
	}
	return r;
}

int unpack_tar(int in_fd, int dir_fd, struct error *err)
{
	struct archive *a = archive_read_new();
	char rest[4096];
	int r = a ? unpack_all(a, in_fd, dir_fd, err) : -ENOMEM;

	archive_read_free(a);
	/* What follows the archive's end is padding. */
	while (r == 0 && read(in_fd, rest, sizeof(rest)) > 0)
		;
	return r;
}

int inspect_unpack(struct cli *cli, const struct args *args, struct error *err)
{
	(void)cli;
	(void)args;
	int dir_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = dir_fd < 0 ? -errno : unpack_tar(STDIN_FILENO, dir_fd, err);

	if (dir_fd >= 0)
		close(dir_fd);
	if (r == 0)
		return 0;
	err->code = r;
	fputs(error_text(err), stdout);
	return CLI_FAILED;
}
