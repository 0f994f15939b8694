#include "store/import/oci_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/open_beneath.h"
#include "store/base/write_all.h"
#include "store/archive/archive_path.h"
#include "store/import/ingest_archive.h"
#include "store/store.h"

#define SPOOLED_MAX 65536u /* files in an image's archive */
#define LINKS_MAX 8
#define COPY_SIZE (256u << 10)

struct spooled {
	char *name;   /* clean; owned */
	char *target; /* a symlink's or hard link's, clean, from the root; owned; or NULL */
	uint64_t offset, size;
};

struct oci_files {
	int dir_fd;	     /* -1: spooled */
	int spool_fd;	     /* -1: a directory */
	struct space *space; /* below the spool; borrowed */
	uint64_t spool_bytes;
	struct spooled *files;
	size_t n, cap;
};

void oci_files_close(struct oci_files *f)
{
	if (!f)
		return;
	if (f->dir_fd >= 0)
		close(f->dir_fd);
	if (f->spool_fd >= 0)
		close(f->spool_fd);
	for (size_t i = 0; i < f->n; i++) {
		free(f->files[i].name);
		free(f->files[i].target);
	}
	free(f->files);
	free(f);
}

static ssize_t read_fd(void *arg, void *buf, size_t len)
{
	const int *fd = arg;
	ssize_t n;

	do
		n = read(*fd, buf, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* The target of a link, from the archive's root: ".." is applied to the names. */
static char *resolve_target(const char *name, const char *target, bool from_root)
{
	struct buf out CLEANUP(buf_fini_p) = BUF_INIT;
	const char *slash = strrchr(name, '/'), *end = target + strlen(target);
	int r = 0;

	if (!from_root && target[0] != '/' && slash)
		r = buf_append(&out, name, (size_t)(slash - name));
	while (r == 0 && target < end) {
		size_t len;
		const char *part = archive_path_next(&target, end, &len);

		if (len == 0 || (len == 1 && part[0] == '.'))
			continue;
		if (len == 2 && part[0] == '.' && part[1] == '.') {
			const char *cut = out.len ? memrchr(out.data, '/', out.len) : NULL;

			out.len = cut ? (size_t)(cut - (const char *)out.data) : 0;
			continue;
		}
		r = out.len ? buf_append(&out, "/", 1) : 0;
		if (r == 0)
			r = buf_append(&out, part, len);
	}
	return r == 0 && buf_cstr(&out) ? strdup((const char *)out.data) : NULL;
}

static int add_spooled(struct oci_files *f, const char *name, struct archive_entry *e)
{
	const char *hard = archive_entry_hardlink(e), *soft = archive_entry_symlink(e);

	if (f->n == SPOOLED_MAX)
		return -EFBIG;
	if (f->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 64;
		struct spooled *p = realloc(f->files, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		f->files = p;
		f->cap = cap;
	}
	struct spooled s = { .name = strdup(name), .offset = f->spool_bytes };
	if (hard || soft)
		s.target = resolve_target(name, hard ? hard : soft, hard != NULL);
	if (!s.name || ((hard || soft) && !s.target)) {
		free(s.name);
		return -ENOMEM;
	}
	f->files[f->n++] = s;
	return 0;
}

static int copy_data(struct oci_files *f, struct archive *a, uint64_t max_bytes)
{
	uint8_t *buf = malloc(COPY_SIZE);
	int r = buf ? 0 : -ENOMEM;

	while (r == 0) {
		la_ssize_t n = archive_read_data(a, buf, COPY_SIZE);

		if (n <= 0) {
			r = n < 0 ? -EBADMSG : 0;
			break;
		}
		if ((uint64_t)n > max_bytes - f->spool_bytes)
			r = -EFBIG;
		else
			r = space_take(f->space, SPACE_GROWTH, (uint64_t)n);
		if (r == 0)
			r = pwrite_all(f->spool_fd, buf, (size_t)n, f->spool_bytes);
		f->spool_bytes += (uint64_t)n;
		f->files[f->n - 1].size += (uint64_t)n;
	}
	free(buf);
	return r;
}

static int spool_entry(struct oci_files *f, struct archive *a, struct archive_entry *e,
		       uint64_t max_bytes)
{
	struct buf name CLEANUP(buf_fini_p) = BUF_INIT;
	const char *raw = archive_entry_pathname(e);
	mode_t type = archive_entry_filetype(e);
	int r = raw ? archive_path_clean(raw, strlen(raw), &name) : -EINVAL;

	if (r < 0 || name.len == 0)
		return r;
	if (!archive_entry_hardlink(e) && type != S_IFREG && type != S_IFLNK)
		return 0;
	r = buf_cstr(&name) ? add_spooled(f, (const char *)name.data, e) : -ENOMEM;
	return r < 0 ? r : copy_data(f, a, max_bytes);
}

static int spool_all(struct oci_files *f, int fd, uint64_t max_bytes, struct progress *p,
		     struct error *err)
{
	struct archive *a = ingest_archive_open(INGEST_ARCHIVE_TAR, read_fd, &fd);
	struct archive_entry *e = NULL;
	int r = a ? 0 : -ENOMEM;

	while (r == 0) {
		int h = archive_read_next_header(a, &e);

		if (h == ARCHIVE_EOF)
			break;
		if (h != ARCHIVE_OK && h != ARCHIVE_WARN)
			r = -EBADMSG;
		else
			r = progress_cancelled(p) ? -ECANCELED : spool_entry(f, a, e, max_bytes);
	}
	const char *why = a && r == -EBADMSG ? archive_error_string(a) : NULL;
	if (r < 0)
		error_set(err, r, "cannot read the archive: %s", why ? why : strerror(-r));
	ingest_archive_free(a);
	return r;
}

int oci_spool_open(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd < 0 ? -errno : fd;
	/* For a filesystem without O_TMPFILE. */
	static atomic_uint serial;
	char name[64];
	snprintf(name, sizeof(name), ".spool-%d-%u", (int)getpid(), atomic_fetch_add(&serial, 1u));
	fd = openat(dir_fd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	unlinkat(dir_fd, name, 0);
	return fd;
}

int oci_files_open(const char *path, struct store *s, uint64_t max_bytes, struct progress *p,
		   struct oci_files **out, struct error *err)
{
	struct oci_files *f CLEANUP(oci_files_close_p) = calloc(1, sizeof(*f));
	struct ingest_locale locale;
	struct stat st;
	int r;

	if (!f)
		return error_set_errno(err, -ENOMEM, "cannot open %s", path);
	f->dir_fd = f->spool_fd = -1;
	f->space = &s->space;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = error_set_errno(err, -errno, "cannot open %s", path);
		if (fd >= 0)
			close(fd);
		return r;
	}
	if (S_ISDIR(st.st_mode)) {
		f->dir_fd = fd;
	} else {
		ingest_locale_enter(&locale);
		f->spool_fd = oci_spool_open(s->dir_fd);
		r = f->spool_fd < 0 ? error_set_errno(err, f->spool_fd, "cannot make a spool file")
				    : spool_all(f, fd, max_bytes, p, err);
		ingest_locale_leave(&locale);
		close(fd);
		if (r < 0)
			return error_prefix(err, r, "%s", path);
	}
	*out = STEAL(f);
	return 0;
}

static int find_in_dir(const struct oci_files *f, const char *name, struct oci_file *out)
{
	int fd = open_beneath(f->dir_fd, name, O_RDONLY | O_NONBLOCK, OPEN_BENEATH);
	struct stat st;

	if (fd < 0)
		return fd == -EXDEV ? -EINVAL : fd;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EINVAL;
	}
	*out = (struct oci_file){ .fd = fd, .own_fd = true, .end = (uint64_t)st.st_size };
	return 0;
}

static const struct spooled *find_spooled(const struct oci_files *f, const char *name)
{
	for (size_t i = f->n; i > 0; i--) /* the last one of a name counts */
		if (strcmp(f->files[i - 1].name, name) == 0)
			return &f->files[i - 1];
	return NULL;
}

int oci_files_find(struct oci_files *f, const char *name, struct oci_file *out)
{
	struct buf clean CLEANUP(buf_fini_p) = BUF_INIT;
	int r = archive_path_clean(name, strlen(name), &clean);

	if (r < 0)
		return r;
	if (!buf_cstr(&clean))
		return -ENOMEM;
	if (f->dir_fd >= 0)
		return find_in_dir(f, (const char *)clean.data, out);
	const struct spooled *s = find_spooled(f, (const char *)clean.data);
	for (int i = 0; s && s->target; i++)
		s = i < LINKS_MAX ? find_spooled(f, s->target) : NULL;
	if (!s)
		return -ENOENT;
	*out = (struct oci_file){ .fd = f->spool_fd, .at = s->offset, .end = s->offset + s->size };
	return 0;
}

void oci_file_close(struct oci_file *f)
{
	if (f->own_fd)
		close(f->fd);
	f->own_fd = false;
}

ssize_t oci_file_read(struct oci_file *f, void *buf, size_t len)
{
	uint64_t left = f->end - f->at;
	ssize_t n;

	if (left == 0)
		return 0;
	do
		n = pread(f->fd, buf, (size_t)MIN((uint64_t)len, left), (off_t)f->at);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : -EIO; /* 0: it shrank */
	f->at += (uint64_t)n;
	return n;
}

int oci_files_load(struct oci_files *f, const char *name, size_t max, struct buf *out)
{
	struct oci_file file;
	int r = oci_files_find(f, name, &file);

	if (r < 0)
		return r;
	size_t size = (size_t)MIN(file.end - file.at, (uint64_t)max + 1);
	r = size > max ? -EFBIG : buf_reserve(out, size + 1);
	while (r == 0 && out->len < size) {
		ssize_t n = oci_file_read(&file, out->data + out->len, size - out->len);

		if (n <= 0)
			r = n < 0 ? (int)n : -EIO;
		else
			out->len += (size_t)n;
	}
	oci_file_close(&file);
	return r;
}
