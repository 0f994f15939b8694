#include "store/bucket/object_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/base/sync_dir.h"
#include "store/base/write_all.h"
#include "store/bucket/object_threads.h"
#include "store/names/snapshot.h"

#define TMP_DIR ".tmp"
#define TMP_AGE_S (24 * 60 * 60) /* nobody writes an object for so long */
#define CLOCK_EVERY_MS 30000
#define CLOCK_TICK_MS 10 /* a file's time is that of the last tick */

struct object_dir {
	struct object_store base;
	struct object_threads *threads;
	int fd;
	_Atomic int64_t clock_ms;    /* how far the file system's is ahead of CLOCK_BOOTTIME */
	_Atomic int64_t clock_at_ms; /* CLOCK_BOOTTIME when that was found; 0: never */
};

static struct object_dir *dir_of(struct object_store *os)
{
	return CONTAINER_OF(os, struct object_dir, base);
}

static int make_parents(int fd, const char *path)
{
	char part[OBJECT_KEY_MAX + 1];

	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		memcpy(part, path, (size_t)(slash - path));
		part[slash - path] = '\0';
		if (mkdirat(fd, part, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/*
 * Make a path permanent: each directory on the way, as whoever made one may not have synced it yet,
 * or was killed before.
 */
static int sync_parents(int fd, const char *path)
{
	char part[OBJECT_KEY_MAX + 1], *slash;
	int rc;

	snprintf(part, sizeof(part), "%s", path);
	do {
		rc = sync_parent_dir(fd, part);
		slash = strrchr(part, '/');
		if (slash)
			*slash = '\0';
	} while (rc == 0 && slash);
	return rc;
}

#define TMP_PATH_SIZE (sizeof(TMP_DIR) + 1 + SNAPSHOT_ID_SIZE)

/* A synced file with these bytes. */
static int make_tmp(int dir_fd, const void *body, size_t len, char path[TMP_PATH_SIZE])
{
	char id[SNAPSHOT_ID_SIZE];
	int fd, rc;

	id_random(id);
	snprintf(path, TMP_PATH_SIZE, TMP_DIR "/%s", id);
	fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = write_all(fd, body, len);
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc < 0)
		unlinkat(dir_fd, path, 0);
	return rc;
}

/*
 * Give the file its key. A DELETE may remove a directory that has become empty between our mkdir
 * and our rename: then again.
 */
static int name_tmp(int fd, const char *tmp, const char *key, bool once)
{
	for (int tries = 0; tries < 100; tries++) {
		int rc = make_parents(fd, key);

		if (rc == -ENOENT)
			continue;
		if (rc < 0)
			return rc;
		if (once ? linkat(fd, tmp, fd, key, 0) == 0 : renameat(fd, tmp, fd, key) == 0)
			return 0;
		if (errno != ENOENT)
			return -errno;
	}
	return -EIO;
}

static int put(struct object_dir *d, const struct object_request *r)
{
	bool once = r->op == OBJECT_PUT_ONCE;
	char tmp[TMP_PATH_SIZE];
	struct stat st;
	int rc = make_tmp(d->fd, r->body, r->len, tmp);

	if (rc < 0)
		return rc;
	rc = name_tmp(d->fd, tmp, r->key, once);
	if (rc < 0 || once)
		unlinkat(d->fd, tmp, 0);
	/* Whoever is told that the key is there may rely on it: so it has to be permanent. */
	if (rc == 0 || rc == -EEXIST) {
		int synced = sync_parents(d->fd, r->key);
		if (synced < 0 && synced != -ENOENT) /* -ENOENT: deleted meanwhile */
			rc = synced;
	}
	if (rc == -EEXIST && fstatat(d->fd, r->key, &st, 0) == 0 && S_ISDIR(st.st_mode))
		rc = -EISDIR;
	return rc == -EISDIR || rc == -ENOTDIR ? -EINVAL : rc;
}

static int read_range(int fd, uint64_t offset, size_t len, struct buf *out)
{
	int rc = buf_reserve(out, len);

	while (rc == 0 && out->len < len) {
		ssize_t n =
			pread(fd, out->data + out->len, len - out->len, (off_t)(offset + out->len));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		if (n > 0)
			out->len += (size_t)n;
	}
	return rc;
}

static int get_open(int fd, struct object_request *r)
{
	size_t max = r->max_len ? r->max_len : OBJECT_SIZE_MAX;
	uint64_t offset = r->offset, len;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOENT;
	r->size = (uint64_t)st.st_size;
	if (r->from_end)
		offset = r->len < r->size ? r->size - r->len : 0;
	if (offset > r->size)
		return -EINVAL;
	len = r->size - offset;
	if (r->len && len > r->len)
		len = r->len;
	if (len > max)
		return error_set(&r->err, -EFBIG, "%s: %llu bytes, more than %zu", r->key,
				 (unsigned long long)len, max);
	return read_range(fd, offset, (size_t)len, &r->data);
}

static int get(struct object_dir *d, struct object_request *r)
{
	int fd = openat(d->fd, r->key, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), rc;

	if (fd < 0)
		return errno == ENOTDIR ? -ENOENT : -errno;
	rc = get_open(fd, r);
	close(fd);
	return rc;
}

/* Remove the directories above a path that have become empty. */
static void drop_parents(int fd, const char *key)
{
	char dir[OBJECT_KEY_MAX + 1];

	snprintf(dir, sizeof(dir), "%s", key);
	for (char *slash = strrchr(dir, '/'); slash; slash = strrchr(dir, '/')) {
		*slash = '\0';
		if (unlinkat(fd, dir, AT_REMOVEDIR) < 0)
			return;
	}
}

static int del(struct object_dir *d, const struct object_request *r)
{
	for (size_t i = 0; i < r->n_names; i++) {
		if (unlinkat(d->fd, r->names[i], 0) < 0) {
			if (errno == ENOENT || errno == ENOTDIR || errno == EISDIR)
				continue;
			return -errno;
		}
		drop_parents(d->fd, r->names[i]);
	}
	return 0;
}

/*
 * A LIST walks the directories in the order of the keys. A directory's keys begin with its name and
 * '/', so it is sorted as if its name ended with that.
 */
struct listing {
	int fd;
	struct object_request *r;
	size_t prefix_len;
	unsigned max;
	size_t cap;
};

struct name_list {
	char **names; /* of directories: with '/' */
	size_t n;
};

static void name_list_fini(struct name_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->names[i]);
	free(l->names);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_name(struct name_list *l, int dir_fd, const struct dirent *e)
{
	unsigned char type = e->d_type;
	char **grown, *name;
	struct stat st;

	if (e->d_name[0] == '.')
		return 0;
	if (type == DT_UNKNOWN) {
		if (fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return errno == ENOENT ? 0 : -errno;
		type = S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_LNK;
	}
	if (type != DT_DIR && type != DT_REG)
		return 0;
	if ((l->n & (l->n - 1)) == 0) {
		grown = realloc(l->names, (l->n ? 2 * l->n : 1) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		l->names = grown;
	}
	if (asprintf(&name, "%s%s", e->d_name, type == DT_DIR ? "/" : "") < 0)
		return -ENOMEM;
	l->names[l->n++] = name;
	return 0;
}

static int read_names(int root, const char *dir, struct name_list *out)
{
	int fd = openat(root, *dir ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	struct dirent *e;
	DIR *d;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	errno = 0;
	while (rc == 0 && (e = readdir(d)))
		rc = add_name(out, fd, e);
	if (rc == 0 && errno)
		rc = -errno;
	closedir(d);
	if (rc == 0 && out->n)
		qsort(out->names, out->n, sizeof(*out->names), by_name);
	return rc;
}

/* 1 when the page is full. */
static int add_entry(struct listing *l, const char *key, bool is_prefix)
{
	struct object_request *r = l->r;
	struct object_entry *e;
	struct stat st = { 0 };

	if (!is_prefix && fstatat(l->fd, key, &st, 0) < 0)
		return errno == ENOENT ? 0 : -errno; /* deleted meanwhile */
	if (r->n_entries == l->max) {
		r->more = true;
		return 1;
	}
	if (r->n_entries == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 16;
		e = realloc(r->entries, cap * sizeof(*e));
		if (!e)
			return -ENOMEM;
		r->entries = e;
		l->cap = cap;
	}
	e = &r->entries[r->n_entries];
	*e = (struct object_entry){ .size = (uint64_t)st.st_size,
				    .modified = is_prefix ? 0 : st.st_mtime,
				    .is_prefix = is_prefix };
	e->key = strdup(key);
	if (!e->key)
		return -ENOMEM;
	r->n_entries++;
	return 0;
}

/* Whether a directory (its path ends with '/') has a file below. 1, 0, or a failure. */
static int has_files(int root, const char *dir)
{
	struct name_list CLEANUP(name_list_fini) l = { 0 };
	char path[OBJECT_KEY_MAX + NAME_MAX + 2];
	int rc = read_names(root, dir, &l);

	for (size_t i = 0; i < l.n && rc == 0; i++) {
		snprintf(path, sizeof(path), "%s%s", dir, l.names[i]);
		if (path[strlen(path) - 1] != '/')
			rc = 1;
		else if (strlen(path) <= OBJECT_KEY_MAX)
			rc = has_files(root, path);
	}
	return rc;
}

static int list_dir(struct listing *l, const char *dir);

/* Whether keys that begin with `path`, or it itself, may be wanted. */
static bool is_wanted(const struct listing *l, const char *path, bool is_dir)
{
	const char *prefix = l->r->key, *after = l->r->after;
	size_t len = strlen(path), common = MIN(len, l->prefix_len);

	if (memcmp(path, prefix, common) != 0 || (!is_dir && len < l->prefix_len))
		return false;
	if (!after)
		return true;
	/* Below a directory there are later keys unless all of them come before. */
	return is_dir ? strncmp(path, after, len) >= 0 : strcmp(path, after) > 0;
}

static int list_one(struct listing *l, const char *path)
{
	size_t len = strlen(path);
	bool is_dir = path[len - 1] == '/';

	if (len > OBJECT_KEY_MAX || !is_wanted(l, path, is_dir))
		return 0;
	if (!is_dir)
		return add_entry(l, path, false);
	if (l->r->delimited && len > l->prefix_len) {
		int has;
		/* A common prefix that was shown already. */
		if (l->r->after && strcmp(path, l->r->after) <= 0)
			return 0;
		has = has_files(l->fd, path);
		return has > 0 ? add_entry(l, path, true) : has;
	}
	return list_dir(l, path);
}

static int list_dir(struct listing *l, const char *dir)
{
	struct name_list CLEANUP(name_list_fini) names = { 0 };
	char path[OBJECT_KEY_MAX + NAME_MAX + 2];
	int rc = read_names(l->fd, dir, &names);

	for (size_t i = 0; i < names.n && rc == 0; i++) {
		snprintf(path, sizeof(path), "%s%s", dir, names.names[i]);
		rc = list_one(l, path);
	}
	return rc;
}

static int list(struct object_dir *d, struct object_request *r)
{
	struct listing l = { .fd = d->fd,
			     .r = r,
			     .prefix_len = strlen(r->key),
			     .max = r->max_keys ? r->max_keys : OBJECT_LIST_MAX };
	int rc = list_dir(&l, "");

	return rc > 0 ? 0 : rc;
}

static int perform(struct object_dir *d, struct object_request *r)
{
	switch (r->op) {
	case OBJECT_GET:
		return get(d, r);
	case OBJECT_PUT:
	case OBJECT_PUT_ONCE:
		return put(d, r);
	case OBJECT_LIST:
		return list(d, r);
	case OBJECT_DELETE:
		return del(d, r);
	}
	return -EINVAL;
}

/* In a directory that was removed, or whose server forgot it, nothing is absent or stale. */
static int check_gone(struct object_dir *d, struct object_request *r)
{
	struct stat st;

	if (r->result != -ENOENT && r->result != -ESTALE &&
	    !(r->result == 0 && r->op == OBJECT_LIST && !r->n_entries))
		return r->result;
	if (r->result != -ESTALE && fstat(d->fd, &st) == 0 && st.st_nlink)
		return r->result;
	d->base.gone = true;
	return error_set(&r->err, -EIO, "the bucket's directory was removed");
}

/*
 * Time by the file system's clock, which all hosts share, and which gives files their times: a new
 * file tells it.
 */
static int find_clock(int dir_fd, int64_t *out_ms)
{
	char id[SNAPSHOT_ID_SIZE], path[TMP_PATH_SIZE];
	struct stat st;
	int fd, rc;

	id_random(id);
	snprintf(path, sizeof(path), TMP_DIR "/%s", id);
	fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = fstat(fd, &st) < 0 ? -errno : 0;
	close(fd);
	unlinkat(dir_fd, path, 0);
	if (rc == 0)
		*out_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	return rc;
}

/* A reader cannot ask: nothing depends on its time. */
static int64_t dir_date(struct object_dir *d)
{
	int64_t boot = boottime_ms(), at = d->clock_at_ms, ms = 0;

	if (at && boot - at < CLOCK_EVERY_MS)
		return (boot + d->clock_ms + CLOCK_TICK_MS) / 1000;
	if (d->base.read_only || find_clock(d->fd, &ms) < 0)
		return at ? (boot + d->clock_ms + CLOCK_TICK_MS) / 1000 : time(NULL);
	boot = boottime_ms();
	d->clock_ms = ms - boot;
	d->clock_at_ms = boot;
	return (ms + CLOCK_TICK_MS) / 1000;
}

static void answer(struct object_store *os, struct object_request *r)
{
	r->result = perform(dir_of(os), r);
	r->result = check_gone(dir_of(os), r);
	r->date = dir_date(dir_of(os));
	os->requests[r->op]++;
	if (r->result == 0 && r->op == OBJECT_GET)
		os->bytes_in += r->data.len;
	if (r->result == 0 && (r->op == OBJECT_PUT || r->op == OBJECT_PUT_ONCE))
		os->bytes_out += r->len;
	if (r->result < 0 && r->result != -ENOENT && r->result != -EEXIST)
		os->failed++;
	if (r->result < 0 && !r->err.msg[0])
		error_set_errno(&r->err, r->result, "%s", r->key);
	r->done(r);
}

static void dir_submit(struct object_store *os, struct object_request *r)
{
	if (r->waits)
		answer(os, r);
	else
		object_threads_submit(dir_of(os)->threads, r);
}

static void dir_close(struct object_store *os)
{
	struct object_dir *d = dir_of(os);

	object_threads_free(d->threads);
	close(d->fd);
	free(d);
}

static const struct object_store_ops dir_ops = { dir_submit, dir_close };

/* What writers that were killed left. */
static void drop_old_tmp(int fd, int64_t now)
{
	struct name_list CLEANUP(name_list_fini) l = { 0 };
	char path[sizeof(TMP_DIR) + 1 + NAME_MAX];
	struct stat st;

	if (read_names(fd, TMP_DIR, &l) < 0)
		return;
	for (size_t i = 0; i < l.n; i++) {
		snprintf(path, sizeof(path), TMP_DIR "/%s", l.names[i]);
		if (fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    st.st_mtime < now - TMP_AGE_S)
			unlinkat(fd, path, 0);
	}
}

static int make_dir(const char *path, mode_t mode)
{
	if (mkdir(path, mode) < 0)
		return errno == EEXIST ? 0 : -errno;
	return sync_parent_dir(AT_FDCWD, path);
}

static int make_dirs(const char *dir)
{
	char path[PATH_MAX];
	int rc = 0;

	if (snprintf(path, sizeof(path), "%s", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	for (char *p = path + 1; *p && rc == 0; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		rc = make_dir(path, 0777);
		*p = '/';
	}
	return rc < 0 ? rc : make_dir(path, 0700);
}

int object_dir_open(const char *dir, bool read_only, struct object_store **out, struct error *err)
{
	struct object_dir *d;
	int fd, rc = read_only ? 0 : make_dirs(dir);

	if (rc < 0)
		return error_set_errno(err, rc, "make %s", dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, -errno, "open %s", dir);
	if (!read_only && mkdirat(fd, TMP_DIR, 0700) < 0 && errno != EEXIST)
		rc = error_set_errno(err, -errno, "make %s/" TMP_DIR, dir);
	d = rc == 0 ? calloc(1, sizeof(*d)) : NULL;
	if (d)
		d->threads = object_threads_new(&d->base, answer);
	if (!d || !d->threads) {
		free(d);
		close(fd);
		return rc < 0 ? rc : -ENOMEM;
	}
	d->base.ops = &dir_ops;
	d->base.read_only = read_only;
	d->fd = fd;
	if (!read_only)
		drop_old_tmp(fd, dir_date(d));
	*out = &d->base;
	return 0;
}
