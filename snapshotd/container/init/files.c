/*
 * The daemon's file work, done inside the container as a program like others:
 * whatever a path or a symlink says, it cannot mean a file outside.
 *
 *   file-read PATH     the file's bytes on stdout
 *   file-write PATH [MODE]
 *                      its bytes from stdin; makes missing directories; what
 *                      was there is replaced at once, or not at all, and keeps
 *                      its mode unless one is given (octal)
 *   file-put PATH      the same, from frames on stdin (snapshotd/http/upload.h): the
 *                      file is replaced only after the last one, so that an
 *                      input that is broken off (ECANCELED) leaves it alone
 *   file-list PATH     [{"name", "path", "isDir", "size"}, ...] on stdout; beside a name
 *                      or path that is not UTF-8, "nameBase64" or "pathBase64"
 *   file-mkdir PATH [MODE]
 *                      with missing parents; one that is there is no failure,
 *                      and gets the mode, too
 *   file-symlink PATH TARGET
 *                      makes missing directories; replaces all but a directory
 *   file-remove PATH   a directory with all in it
 *
 * Failure: exit status 1, and "ERRNO PATH: why" on stderr.
 */
#include "snapshotd/container/init/init.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/base64.h"
#include "store/base/buf.h"
#include "store/base/utf8.h"
#include "store/base/write_all.h"

#define COPY_STEP (1u << 20)
#define LINKS_MAX 40

/* Until the end of `from`. */
static int copy(int from, int to)
{
	static char room[1 << 16];
	ssize_t n;

	do
		n = sendfile(to, from, NULL, COPY_STEP);
	while (n > 0);
	if (n == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	while ((n = read(from, room, sizeof(room))) > 0) {
		int rc = write_all(to, room, (size_t)n);

		if (rc < 0)
			return rc;
	}
	return n < 0 ? -errno : 0;
}

static int file_read(const char *path, const char *unused)
{
	struct stat st;
	int rc, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	(void)unused;
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else if (S_ISDIR(st.st_mode))
		rc = -EISDIR;
	else
		rc = S_ISREG(st.st_mode) ? copy(fd, STDOUT_FILENO) : -EINVAL;
	close(fd);
	return rc;
}

int make_directories(const char *path, size_t len)
{
	char dir[PATH_MAX];
	struct stat st;

	if (len >= sizeof(dir))
		return -ENAMETOOLONG;
	memcpy(dir, path, len);
	dir[len] = 0;
	for (size_t i = 1; i <= len; i++) {
		if (i < len && dir[i] != '/')
			continue;
		dir[i] = 0;
		if (mkdir(dir, 0755) < 0 && errno != EEXIST)
			return -errno;
		if (i < len)
			dir[i] = '/';
	}
	if (len == 0)
		return 0;
	if (stat(dir, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static size_t dir_length(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) : 0;
}

/* Follow symlinks in the last place, so that what they point to is replaced. */
static int follow_links(const char *path, char out[PATH_MAX])
{
	char link[PATH_MAX];

	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(out, path);
	for (int i = 0; i < LINKS_MAX; i++) {
		size_t dir = dir_length(out);
		ssize_t n = readlink(out, link, sizeof(link) - 1);

		if (n < 0)
			return errno == EINVAL || errno == ENOENT ? 0 : -errno;
		link[n] = 0;
		if (link[0] == '/' || !strchr(out, '/'))
			dir = 0;
		else
			dir++;
		if (dir + (size_t)n >= PATH_MAX)
			return -ENAMETOOLONG;
		memcpy(out + dir, link, (size_t)n + 1);
	}
	return -ELOOP;
}

/* A new file beside `path`. */
static int open_beside(const char *path, char out[PATH_MAX])
{
	for (int i = 0; i < 100; i++) {
		unsigned random;
		int fd;

		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			return -EIO;
		if (snprintf(out, PATH_MAX, "%.*s/.varve-%08x", (int)dir_length(path), path,
			     random) >= PATH_MAX)
			return -ENAMETOOLONG;
		fd = open(out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd >= 0 || errno != EEXIST)
			return fd < 0 ? -errno : fd;
	}
	return -EEXIST;
}

static int read_all(int fd, void *out, size_t len)
{
	char *p = out;

	while (len > 0) {
		ssize_t n = read(fd, p, len);

		if (n <= 0)
			return n < 0 ? -errno : -ECANCELED;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Until the frame of length 0. */
static int copy_frames(int from, int to)
{
	static char room[1 << 16];
	unsigned char head[4];

	for (;;) {
		int rc = read_all(from, head, sizeof(head));
		uint32_t left = head[0] | head[1] << 8 | head[2] << 16 | (uint32_t)head[3] << 24;

		if (rc < 0 || left == 0)
			return rc;
		while (rc == 0 && left > 0) {
			size_t step = left < sizeof(room) ? left : sizeof(room);

			rc = read_all(from, room, step);
			if (rc == 0)
				rc = write_all(to, room, step);
			left -= (uint32_t)step;
		}
		if (rc < 0)
			return rc;
	}
}

/* take: copies stdin to a descriptor. */
static int fill(int fd, const struct stat *old, bool exists, const char *mode,
		int (*take)(int from, int to))
{
	mode_t m = mode ? (mode_t)strtoul(mode, NULL, 8) : exists ? old->st_mode : 0644;
	int rc = take(STDIN_FILENO, fd);

	if (rc == 0 && exists && fchown(fd, old->st_uid, old->st_gid) < 0)
		rc = -errno;
	if (rc == 0 && fchmod(fd, m & 07777) < 0)
		rc = -errno;
	return rc;
}

/* What is mounted, as /etc/hosts is, cannot be replaced but by its content. */
static int overwrite(const char *temporary, const char *target)
{
	int from = open(temporary, O_RDONLY | O_CLOEXEC);
	int to = from < 0 ? -1 : open(target, O_WRONLY | O_TRUNC | O_CLOEXEC);
	int rc = to < 0 ? -errno : copy(from, to);

	if (to >= 0 && close(to) < 0 && rc == 0)
		rc = -errno;
	if (from >= 0)
		close(from);
	if (rc == 0 && unlink(temporary) < 0)
		rc = -errno;
	return rc;
}

static int replace(const char *path, const char *mode, int (*take)(int from, int to))
{
	char target[PATH_MAX], temporary[PATH_MAX];
	struct stat old;
	bool exists;
	int fd, rc = follow_links(path, target);

	if (rc < 0)
		return rc;
	exists = stat(target, &old) == 0;
	if (exists && !S_ISREG(old.st_mode))
		return S_ISDIR(old.st_mode) ? -EISDIR : -EINVAL;
	if (target[strlen(target) - 1] == '/')
		return -EISDIR;
	rc = make_directories(target, dir_length(target));
	if (rc < 0)
		return rc;
	fd = open_beside(target, temporary);
	if (fd < 0)
		return fd;
	rc = fill(fd, &old, exists, mode, take);
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc == 0 && rename(temporary, target) < 0)
		rc = errno == EBUSY ? overwrite(temporary, target) : -errno;
	if (rc < 0)
		unlink(temporary);
	return rc;
}

static int file_write(const char *path, const char *mode)
{
	return replace(path, mode, copy);
}

static int file_put(const char *path, const char *unused)
{
	(void)unused;
	return replace(path, NULL, copy_frames);
}

/* Text of any bytes inside a JSON string; what is not UTF-8 becomes U+FFFD. Whether all was. */
static bool print_json_text(const char *s)
{
	size_t left = strlen(s), n;
	bool exact = true;

	for (; left; s += n, left -= n) {
		n = utf8_len(s, left);
		if (n == 0) {
			fputs("\xef\xbf\xbd", stdout);
			exact = false;
			n = 1;
		} else if ((unsigned char)*s < 0x20 || *s == '"' || *s == '\\' || *s == 0x7f) {
			printf("\\u%04x", (unsigned char)*s);
		} else {
			fwrite(s, 1, n, stdout);
		}
	}
	return exact;
}

/* "KEY":"TEXT", and "KEYBase64" with all bytes where some are not UTF-8 (store/base/bytes_json.h).
 */
static int print_json_member(const char *key, const char *text)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	printf("\"%s\":\"", key);
	if (print_json_text(text)) {
		putchar('"');
		return 0;
	}
	if (base64_encode(text, strlen(text), &b) < 0 || !buf_cstr(&b))
		return -ENOMEM;
	printf("\",\"%sBase64\":\"%s\"", key, (const char *)b.data);
	return 0;
}

static int print_json_file(const char *dir, const char *name, const struct stat *st)
{
	const char *slash = dir[strlen(dir) - 1] == '/' ? "" : "/";
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;

	if (buf_printf(&path, "%s%s%s", dir, slash, name) < 0 || !buf_cstr(&path))
		return -ENOMEM;
	putchar('{');
	if (print_json_member("name", name) < 0)
		return -ENOMEM;
	putchar(',');
	if (print_json_member("path", (const char *)path.data) < 0)
		return -ENOMEM;
	printf(",\"isDir\":%s,\"size\":%lld}", S_ISDIR(st->st_mode) ? "true" : "false",
	       (long long)st->st_size);
	return 0;
}

static int file_list(const char *path, const char *unused)
{
	struct dirent **names;
	bool first = true;
	int dir, rc = 0, n = scandir(path, &names, NULL, alphasort);

	(void)unused;
	if (n < 0)
		return -errno;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	putchar('[');
	for (int i = 0; i < n && rc == 0; i++) {
		const char *name = names[i]->d_name;
		struct stat st;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
		    fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue; /* or it has gone meanwhile */
		if (!first)
			putchar(',');
		rc = print_json_file(path, name, &st);
		first = false;
	}
	putchar(']');
	if (rc < 0)
		return rc;
	return fflush(stdout) == EOF || ferror(stdout) ? -EIO : 0;
}

static int file_mkdir(const char *path, const char *mode)
{
	size_t len = strlen(path);
	int rc;

	while (len > 1 && path[len - 1] == '/')
		len--;
	rc = make_directories(path, len);
	if (rc == 0 && mode && chmod(path, (mode_t)strtoul(mode, NULL, 8) & 07777) < 0)
		rc = -errno;
	return rc;
}

static int file_symlink(const char *path, const char *target)
{
	char temporary[PATH_MAX];
	struct stat old;
	int fd, rc;

	if (!target)
		return -EINVAL;
	if (lstat(path, &old) == 0 && S_ISDIR(old.st_mode))
		return -EISDIR;
	rc = make_directories(path, dir_length(path));
	if (rc < 0)
		return rc;
	/* A name that is free, then the link in its place, then at the path at once. */
	fd = open_beside(path, temporary);
	if (fd < 0)
		return fd;
	close(fd);
	if (unlink(temporary) < 0 || symlink(target, temporary) < 0)
		return -errno;
	if (rename(temporary, path) < 0) {
		rc = -errno;
		unlink(temporary);
	}
	return rc;
}

static int file_remove(const char *path, const char *unused)
{
	(void)unused;
	return remove_tree(path);
}

static const struct {
	const char *name;
	int (*run)(const char *path, const char *more);
	bool has_more; /* takes a second argument */
} commands[] = {
	{ "file-read", file_read, false },	{ "file-write", file_write, true },
	{ "file-put", file_put, false },	{ "file-list", file_list, false },
	{ "file-mkdir", file_mkdir, true },	{ "file-remove", file_remove, false },
	{ "file-symlink", file_symlink, true },
};

bool files_has_command(const char *name)
{
	return strncmp(name, "file-", 5) == 0;
}

int files_main(int argc, char **argv)
{
	int rc = -EINVAL;

	umask(022);
	if (argc < 3 || argc > 4 || !argv[2][0]) {
		fprintf(stderr, "%d one path that is not empty, please\n", EINVAL);
		return 1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0 && (argc == 3 || commands[i].has_more))
			rc = commands[i].run(argv[2], argv[3]);
	if (rc == 0)
		return 0;
	fprintf(stderr, "%d %s: %s\n", -rc, argv[2],
		rc == -EINVAL ? "not a regular file" : strerror(-rc));
	return 1;
}
