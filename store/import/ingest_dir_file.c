/* Reads one file of a directory import; and the table of hard links. */
#include "store/import/ingest_dir_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XATTR_LIST_SIZE 65536 /* XATTR_LIST_MAX */

static ssize_t list_xattrs(int fd, const char *path, char *list, size_t size)
{
	ssize_t n = fd >= 0 ? flistxattr(fd, list, size) : llistxattr(path, list, size);

	return n < 0 ? -errno : n;
}

static ssize_t get_xattr(int fd, const char *path, const char *name, void *value, size_t size)
{
	ssize_t n = fd >= 0 ? fgetxattr(fd, name, value, size) : lgetxattr(path, name, value, size);

	return n < 0 ? -errno : n;
}

static int copy_xattrs(struct ingest *in, struct ingest_inode *i, int fd, const char *path,
		       const char *list, size_t list_len)
{
	uint8_t *value = malloc(XATTR_VALUE_MAX);
	int r = value ? 0 : -ENOMEM;

	for (const char *name = list; r == 0 && name < list + list_len; name += strlen(name) + 1) {
		ssize_t n = get_xattr(fd, path, name, value, XATTR_VALUE_MAX);

		/*
		 * Removed since it was listed, or the filesystem lists an xattr
		 * that it cannot give.
		 */
		if (n == -ENODATA || n == -EOPNOTSUPP || n == -EINVAL) {
			ingest_remark_at(in, REMARK_XATTR_UNREADABLE, i);
			continue;
		}
		r = n < 0 ? (int)n
			  : ingest_inode_put_xattr(i, name, strlen(name), value, (size_t)n);
		if (r == 0)
			r = ingest_count_meta(in, strlen(name) + (size_t)n);
	}
	free(value);
	return r;
}

int ingest_dir_xattrs(struct ingest *in, struct ingest_inode *i, int fd, const char *path)
{
	char small[1024];
	char *list = small, *large = NULL;
	ssize_t n = list_xattrs(fd, path, small, sizeof(small));

	if (n == -ERANGE) {
		list = large = malloc(XATTR_LIST_SIZE);
		if (!large)
			return -ENOMEM;
		n = list_xattrs(fd, path, large, XATTR_LIST_SIZE);
	}
	if (n == -EOPNOTSUPP)
		n = 0;
	int r = n <= 0 ? (int)n : copy_xattrs(in, i, fd, path, list, (size_t)n);
	free(large);
	return r;
}

static int feed(const struct file_source *src, uint64_t offset, size_t len)
{
	if (src->file)
		return ingest_file_feed(src->file, offset, src->buffer, len);
	int r = ingest_count_bytes(src->in, len);
	if (r == 0)
		r = file_chunks_feed(src->chunks, offset, src->buffer, len);
	return r < 0 ? ingest_fail_at(src->in, r, src->inode, "cannot store") : 0;
}

/* Feed [from, to). Sets *end to where the data really ended: less if the file shrank. */
static int feed_range(const struct file_source *src, int fd, uint64_t from, uint64_t to,
		      uint64_t *end)
{
	*end = from;
	while (*end < to) {
		size_t want = (size_t)MIN(to - *end, (uint64_t)INGEST_READ_SIZE);
		ssize_t n = pread(fd, src->buffer, want, (off_t)*end);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		int r = feed(src, *end, (size_t)n);
		if (r < 0)
			return r;
		*end += (uint64_t)n;
		if (to - from > INGEST_READ_SIZE && progress_cancelled(src->in->progress))
			return -ECANCELED;
	}
	return 0;
}

/*
 * The next range of data from `at` on; *from == size: none. Asks for the hole
 * first: most files have none, and then one question is enough.
 */
static int next_data(int fd, uint64_t at, uint64_t size, uint64_t *from, uint64_t *to)
{
	off_t hole = lseek(fd, (off_t)at, SEEK_HOLE), start;

	*from = *to = size;
	if (hole > (off_t)at) {
		*from = at;
		*to = MIN((uint64_t)hole, size);
		return 0;
	}
	start = lseek(fd, (off_t)at, SEEK_DATA);
	if (start < 0 && errno == ENXIO)
		return 0;
	if (start < 0 && errno != EINVAL && errno != EOPNOTSUPP)
		return -errno;
	if (start < 0) {
		*from = at; /* a filesystem that cannot tell */
		return 0;
	}
	hole = lseek(fd, start, SEEK_HOLE);
	if (hole < 0)
		return -errno;
	*from = MIN((uint64_t)start, size);
	*to = MIN((uint64_t)hole, size);
	return 0;
}

static int feed_file(const struct file_source *src, int fd, uint64_t *size)
{
	uint64_t at = 0;

	while (at < *size) {
		uint64_t from, to, end;
		int r = next_data(fd, at, *size, &from, &to);

		if (r == 0 && from < to)
			r = feed_range(src, fd, from, to, &end);
		if (r < 0)
			return r;
		if (from >= to)
			break;
		if (end < to) {
			*size = end;
			break;
		}
		at = to;
	}
	return 0;
}

static int open_file(int dirfd, const char *name)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	int fd = openat(dirfd, name, flags | O_NOATIME);

	if (fd < 0 && errno == EPERM) /* not the owner */
		fd = openat(dirfd, name, flags);
	return fd < 0 ? -errno : fd;
}

static int read_file(const struct file_source *src, int fd, const struct stat *st)
{
	struct ingest_inode *i = src->inode;
	uint64_t size = (uint64_t)st->st_size;

	i->mode = st->st_mode;
	i->uid = st->st_uid;
	i->gid = st->st_gid;
	i->mtime = st->st_mtim;
	int r = ingest_dir_xattrs(src->in, i, fd, NULL);
	if (r == 0)
		r = feed_file(src, fd, &size);
	if (r < 0)
		return r;
	i->size = size;
	if (src->file)
		return ingest_file_end(src->file, size);
	r = file_chunks_end(src->chunks, size);
	return r < 0 ? ingest_fail_at(src->in, r, i, "cannot store") : 0;
}

int ingest_dir_file(const struct file_source *src, int dirfd, ino_t *ino)
{
	struct ingest_inode *i = src->inode;
	struct stat st;
	int fd = open_file(dirfd, i->name->bytes), r = 0;

	if (fd >= 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (fd == -ENOENT || fd == -ELOOP || fd == -ENXIO ||
	    (fd >= 0 && r == 0 && !S_ISREG(st.st_mode))) {
		ingest_remark_at(src->in, REMARK_VANISHED, i);
		i->gone = true;
		st.st_ino = 0;
	} else if (fd < 0) {
		r = fd;
	} else if (r == 0) {
		r = read_file(src, fd, &st);
	}
	if (fd >= 0)
		close(fd);
	if (r == 0 && ino)
		*ino = st.st_ino;
	return r < 0 ? ingest_fail_at(src->in, r, i, "cannot read") : 0;
}

static size_t link_hash(dev_t dev, ino_t ino)
{
	uint64_t h = ((uint64_t)ino ^ (uint64_t)dev << 40) * 0x9e3779b97f4a7c15ull;

	return (size_t)(h ^ h >> 32);
}

static struct link_slot *link_find(struct link_table *t, dev_t dev, ino_t ino)
{
	size_t k = link_hash(dev, ino) & (t->cap - 1);

	while (t->slots[k].used && (t->slots[k].dev != dev || t->slots[k].ino != ino))
		k = (k + 1) & (t->cap - 1);
	return &t->slots[k];
}

static int link_grow(struct link_table *t)
{
	struct link_table bigger = { .cap = t->cap ? t->cap * 2 : 256, .n = t->n };

	bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t k = 0; k < t->cap; k++)
		if (t->slots[k].used)
			*link_find(&bigger, t->slots[k].dev, t->slots[k].ino) = t->slots[k];
	free(t->slots);
	*t = bigger;
	return 0;
}

struct ingest_inode **link_table_at(struct link_table *t, dev_t dev, ino_t ino)
{
	if (t->n * 2 >= t->cap && link_grow(t) < 0)
		return NULL;
	struct link_slot *slot = link_find(t, dev, ino);
	if (!slot->used) {
		*slot = (struct link_slot){ dev, ino, NULL, true };
		t->n++;
	}
	return &slot->inode;
}
