/*
 * exec_fd.c - operations on open files. A slot that holds none gives EBADF on
 * both sides.
 */
#include "tests/model/fsmodel/model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <linux/falloc.h>
#include <unistd.h>

static bool is_direct(int fd)
{
	return fd >= 0 && fcntl(fd, F_GETFL) & O_DIRECT;
}

static void slot_close(struct side *s, int slot)
{
	if (s->fd[slot] >= 0)
		close(s->fd[slot]);
	s->fd[slot] = -1;
}

static void open_common(struct side *s, const struct op *op, struct result *r)
{
	int flags = op->flags | O_NONBLOCK | O_CLOEXEC;
	struct stat st;
	int at = side_at(s, op);

	/* The trusted side need not wait for its disk. */
	if (s->label == 'B')
		flags &= ~((O_SYNC | O_DSYNC) & ~O_TMPFILE);
	/* openat() of a path relative to the slot that it replaces. */
	int fd = openat(at, op->path, flags, op->mode & 07777);
	result_set(r, fd < 0 ? -1 : 0);
	if (fd < 0 && (r->err == EACCES || r->err == ENXIO || r->err == ENODEV) &&
	    !fstatat(at, op->path, &st, 0) && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)))
		r->err = ENXIO;
	slot_close(s, op->slot);
	s->fd[op->slot] = fd;
}

void exec_open(struct side *s, const struct op *op, struct result *r)
{
	open_common(s, op, r);
}

void exec_tmpfile(struct side *s, const struct op *op, struct result *r)
{
	open_common(s, op, r);
	r->unsupported = r->ret == -1 && r->err == EOPNOTSUPP;
}

void exec_linkfd(struct side *s, const struct op *op, struct result *r)
{
	int fd = side_fd(s, op->slot);

	if (!op->cred && op->seed % 2) {
		result_set(r, linkat(fd, "", side_at(s, op), op->path, AT_EMPTY_PATH));
		return;
	}
	char proc[64];
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	result_set(r, linkat(AT_FDCWD, proc, side_at(s, op), op->path, AT_SYMLINK_FOLLOW));
}

void exec_close(struct side *s, const struct op *op, struct result *r)
{
	int fd = s->fd[op->slot];

	result_set(r, fd < 0 ? 0 : close(fd));
	s->fd[op->slot] = -1;
}

void exec_read(struct side *s, const struct op *op, struct result *r)
{
	int fd = side_fd(s, op->slot);
	size_t len = op->len;

	if (is_direct(fd)) {
		len &= ~4095ull;
		lseek(fd, lseek(fd, 0, SEEK_CUR) & ~4095ll, SEEK_SET);
	}
	result_set(r, read(fd, r->data, len));
	r->data_len = r->ret > 0 ? (size_t)r->ret : 0;
}

/* Page-aligned bytes to write, also for O_DIRECT. */
static uint8_t *write_data(const struct op *op)
{
	static uint8_t data[MODEL_DATA_MAX] __attribute__((aligned(4096)));

	data_fill(op->seed, data, op->len);
	return data;
}

void exec_write(struct side *s, const struct op *op, struct result *r)
{
	int fd = side_fd(s, op->slot);
	size_t len = op->len;

	if (is_direct(fd)) {
		struct stat st;
		int append = fcntl(fd, F_GETFL) & O_APPEND;
		/* An append is where the file ends, which must be aligned too. */
		if (append && !fstat(fd, &st) && st.st_size % 4096)
			return;
		len &= ~4095ull;
		lseek(fd, lseek(fd, 0, SEEK_CUR) & ~4095ll, SEEK_SET);
	}
	result_set(r, write(fd, write_data(op), len));
	result_text(r, " pos=%lld", (long long)(fd < 0 ? 0 : lseek(fd, 0, SEEK_CUR)));
}

void exec_pread(struct side *s, const struct op *op, struct result *r)
{
	int fd = side_fd(s, op->slot);
	size_t len = op->len;
	off_t off = op->off;

	if (is_direct(fd)) {
		len &= ~4095ull;
		off &= ~4095ll;
	}
	result_set(r, pread(fd, r->data, len, off));
	r->data_len = r->ret > 0 ? (size_t)r->ret : 0;
}

void exec_pwrite(struct side *s, const struct op *op, struct result *r)
{
	int fd = side_fd(s, op->slot);
	size_t len = op->len;
	off_t off = op->off;

	if (is_direct(fd)) {
		struct stat st;
		if (fcntl(fd, F_GETFL) & O_APPEND && !fstat(fd, &st) && st.st_size % 4096)
			return;
		len &= ~4095ull;
		off &= ~4095ll;
	}
	result_set(r, pwrite(fd, write_data(op), len, off));
}

void exec_lseek(struct side *s, const struct op *op, struct result *r)
{
	int fd = side_fd(s, op->slot);
	struct stat st;

	/* Positions of a directory are the filesystem's own. */
	if (fd >= 0 && !fstat(fd, &st) && S_ISDIR(st.st_mode))
		return;
	result_set(r, lseek(fd, op->off, op->flags));
}

void exec_ftruncate(struct side *s, const struct op *op, struct result *r)
{
	result_set(r, ftruncate(side_fd(s, op->slot), op->off));
}

void exec_fallocate(struct side *s, const struct op *op, struct result *r)
{
	result_set(r, fallocate(side_fd(s, op->slot), op->flags, op->off, (off_t)op->len));
	r->unsupported = r->ret == -1 && r->err == EOPNOTSUPP &&
			 op->flags & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE);
}

void exec_copy(struct side *s, const struct op *op, struct result *r)
{
	loff_t in = op->off, out = op->off2;
	size_t left = op->len;
	ssize_t n = 0;

	/* What must be aligned for O_DIRECT is each filesystem's own affair. */
	if (is_direct(side_fd(s, op->slot)) || is_direct(side_fd(s, op->slot2)))
		return;
	/* It may copy less than it was asked to; the end counts. */
	do {
		n = copy_file_range(side_fd(s, op->slot), &in, side_fd(s, op->slot2), &out, left,
				    0);
		left -= n > 0 ? (size_t)n : 0;
	} while (n > 0 && left);
	result_set(r, n < 0 ? -1 : (long)(op->len - left));
	/* The fast ways of filesystems tell a pipe's error apart differently. */
	if (r->err == ESPIPE)
		r->err = EINVAL;
}

/* The trusted side need not wait for its disk. */
static bool skip_sync(const struct side *s, int fd)
{
	struct stat st;

	return s->label == 'B' && fd >= 0 && !fstat(fd, &st) &&
	       (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

void exec_fsync(struct side *s, const struct op *op, struct result *r)
{
	int fd = side_fd(s, op->slot);

	result_set(r, skip_sync(s, fd) ? 0 : fsync(fd));
}

void exec_fdatasync(struct side *s, const struct op *op, struct result *r)
{
	int fd = side_fd(s, op->slot);

	result_set(r, skip_sync(s, fd) ? 0 : fdatasync(fd));
}

void exec_syncfs(struct side *s, const struct op *op, struct result *r)
{
	int fd = side_fd(s, op->slot);
	struct stat st;

	if (fd >= 0 && !fstat(fd, &st) && S_ISFIFO(st.st_mode))
		return;
	result_set(r, skip_sync(s, fd) ? 0 : syncfs(fd));
}

void exec_fstat(struct side *s, const struct op *op, struct result *r)
{
	struct stat st;

	result_set(r, fstat(side_fd(s, op->slot), &st));
}

void exec_fchmod(struct side *s, const struct op *op, struct result *r)
{
	result_set(r, fchmod(side_fd(s, op->slot), op->mode));
}

void exec_fchown(struct side *s, const struct op *op, struct result *r)
{
	if (op->uid == UINT32_MAX && op->gid == UINT32_MAX)
		return; /* see exec_path.c */
	result_set(r, fchown(side_fd(s, op->slot), op->uid, op->gid));
}

/* A hole must read as zeros: [from, to), or its two ends where it is large. */
static void check_zeros(int fd, off_t from, off_t to, struct result *r)
{
	static const off_t most = 256 << 10;
	off_t at = from;

	while (at < to) {
		size_t want = (size_t)MIN(most, to - at);
		ssize_t n = pread(fd, r->data, want, at);
		if (n < 0 && errno == EBADF)
			return; /* write-only */
		if (n <= 0) {
			result_fault(r, "read of a hole at %lld: %s", (long long)at,
				     n ? strerror(errno) : "end of file");
			return;
		}
		for (ssize_t i = 0; i < n; i++) {
			if (r->data[i]) {
				result_fault(r, "data at %lld, which is said to be a hole",
					     (long long)at + (long long)i);
				return;
			}
		}
		at += n;
		if (to - at > most)
			at = to - most;
	}
}

static void walk_holes(int fd, off_t size, struct result *r)
{
	off_t pos = 0;

	while (pos < size && !r->fault[0]) {
		off_t data = lseek(fd, pos, SEEK_DATA);
		if (data < 0 && errno != ENXIO) {
			result_fault(r, "SEEK_DATA: %s", strerror(errno));
			return;
		}
		if (data < 0)
			data = size;
		if (data < pos || data > size) {
			result_fault(r, "SEEK_DATA from %lld gives %lld of %lld", (long long)pos,
				     (long long)data, (long long)size);
			return;
		}
		check_zeros(fd, pos, data, r);
		if (data == size)
			return;
		pos = lseek(fd, data, SEEK_HOLE);
		if (pos <= data || pos > size) {
			result_fault(r, "SEEK_HOLE from %lld gives %lld of %lld", (long long)data,
				     (long long)pos, (long long)size);
			return;
		}
	}
}

void exec_seek_holes(struct side *s, const struct op *op, struct result *r)
{
	int fd = side_fd(s, op->slot);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st)) {
		result_fault(r, "fstat: %s", strerror(errno));
		return;
	}
	if (fd < 0 || !S_ISREG(st.st_mode) || is_direct(fd))
		return;
	off_t was = lseek(fd, 0, SEEK_CUR);
	result_set(r, lseek(fd, st.st_size, SEEK_HOLE));
	if (r->ret == -1)
		result_set(r, lseek(fd, st.st_size, SEEK_DATA));
	walk_holes(fd, st.st_size, r);
	lseek(fd, was, SEEK_SET);
}
