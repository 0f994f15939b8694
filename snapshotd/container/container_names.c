#include "snapshotd/container/container_names.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/host/child.h"
#include "store/base/write_all.h"

#define HOSTS_MAX (1u << 20) /* of the image's lines */
#define TMPFS_OPTIONS "size=2m,nr_inodes=16,mode=755"

/* ---- what they say ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Whether a line gives the name to an address. */
static bool line_names(const char *p, const char *end, const char *name)
{
	size_t len = strlen(name);
	bool first = true;

	while (p < end && *p != '#') {
		const char *word = p;

		while (p < end && !is_blank(*p) && *p != '#')
			p++;
		if (!first && (size_t)(p - word) == len && memcmp(word, name, len) == 0)
			return true;
		if (p > word)
			first = false;
		while (p < end && is_blank(*p))
			p++;
	}
	return false;
}

static bool has_name(const struct buf *text, const char *name)
{
	const char *p = (const char *)text->data, *end = p + text->len;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));

		if (line_names(p, nl ? nl : end, name))
			return true;
		p = nl ? nl + 1 : end;
	}
	return false;
}

int container_names_complete(struct buf *text, const char *hostname)
{
	int rc = 0;

	if (text->len && text->data[text->len - 1] != '\n')
		rc = buf_append(text, "\n", 1);
	if (rc == 0 && !has_name(text, "localhost"))
		rc = buf_append_str(text, "127.0.0.1\tlocalhost\n"
					  "::1\tlocalhost ip6-localhost ip6-loopback\n");
	if (rc == 0 && !has_name(text, hostname))
		rc = buf_printf(text, "127.0.1.1\t%s\n", hostname);
	return rc;
}

/*
 * The image's own, with the symlinks that are followed inside; nothing where there is no file. The
 * root is a mount of ours: only a child may wait for what is in it.
 */
static int read_hosts(const char *rootfs, struct buf *out)
{
	int rc = buf_reserve(out, HOSTS_MAX);
	ssize_t n = rc ? 0 : child_read_in_root(rootfs, "etc/hosts", out->data, HOSTS_MAX);

	if (n > 0)
		out->len = (size_t)n;
	/* No half lines of a longer one. */
	while (out->len == HOSTS_MAX && out->data[out->len - 1] != '\n')
		out->len--;
	return rc;
}

/* ---- where they are ---- */

static int write_file(const char *dir, const char *name, const void *data, size_t len)
{
	char path[PATH_MAX];
	int fd, rc = 0;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0644) < 0) /* whatever our umask */
		rc = -errno;
	else
		rc = write_all(fd, data, len);
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	return rc;
}

static int write_files(const char *dir, const char *rootfs, const char *hostname)
{
	CLEANUP(buf_fini_p) struct buf hosts = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf name = BUF_INIT;
	int rc = read_hosts(rootfs, &hosts);

	if (rc == 0)
		rc = container_names_complete(&hosts, hostname);
	if (rc == 0)
		rc = write_file(dir, "hosts", hosts.data, hosts.len);
	if (rc == 0)
		rc = buf_printf(&name, "%s\n", hostname);
	return rc < 0 ? rc : write_file(dir, "hostname", name.data, name.len);
}

int container_names_make(const char *dir, const char *rootfs, const char *hostname,
			 struct error *err)
{
	int rc = mkdir(dir, 0711) < 0 ? -errno : 0;

	if (rc == 0 &&
	    mount("tmpfs", dir, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, TMPFS_OPTIONS) < 0) {
		rc = -errno;
		(void)!rmdir(dir);
	}
	if (rc == 0) {
		rc = write_files(dir, rootfs, hostname);
		if (rc < 0)
			container_names_release(dir);
	}
	return rc < 0 ? error_set_errno(err, rc, "cannot make /etc/hosts in %s", dir) : 0;
}

void container_names_release(const char *dir)
{
	struct stat st;

	if (lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
		return;
	(void)!umount2(dir, MNT_DETACH | UMOUNT_NOFOLLOW);
	(void)!rmdir(dir);
}
