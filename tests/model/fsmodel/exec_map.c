/*
 * exec_map.c - memory maps that stay while other operations go on. Only bytes
 * within the file's present size are touched (beyond it is SIGBUS).
 */
#include "tests/model/fsmodel/model.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct held_map *map_of(struct side *s, const struct op *op)
{
	return &s->map[op->off2 % MODEL_MAPS];
}

static void map_drop(struct held_map *m)
{
	if (!m->addr)
		return;
	munmap(m->addr, m->len);
	close(m->fd);
	m->addr = NULL;
}

void exec_map(struct side *s, const struct op *op, struct result *r)
{
	struct held_map *m = map_of(s, op);
	int fd = side_fd(s, op->slot);
	size_t len = ((size_t)op->off + op->len + 4095) & ~4095ull;
	struct stat st;

	map_drop(m);
	if (fd >= 0 && !fstat(fd, &st) && !S_ISREG(st.st_mode))
		return;
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, op->flags ? MAP_SHARED : MAP_PRIVATE, fd,
		       0);
	result_set(r, p == MAP_FAILED ? -1 : 0);
	if (p == MAP_FAILED)
		return;
	m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (m->fd < 0) {
		result_fault(r, "dup: %s", strerror(errno));
		munmap(p, len);
		return;
	}
	m->addr = p;
	m->len = len;
	m->shared = op->flags;
}

/* The part of the operation's range that may be touched; its length. */
static size_t map_range(const struct held_map *m, const struct op *op)
{
	struct stat st;

	if (!m->addr || fstat(m->fd, &st))
		return 0;
	off_t end = MIN((off_t)m->len, st.st_size);
	end = MIN(end, op->off + (off_t)op->len);
	return end > op->off ? (size_t)(end - op->off) : 0;
}

void exec_map_write(struct side *s, const struct op *op, struct result *r)
{
	struct held_map *m = map_of(s, op);
	size_t n = map_range(m, op);

	static const struct timespec now[2] = { { 0, UTIME_OMIT }, { 0, UTIME_NOW } };

	r->ret = (long)n;
	if (!n)
		return;
	data_fill(op->seed, m->addr + op->off, n);
	/* When a write to a map changes mtime depends on when pages were written back. */
	if (m->shared) {
		cred_leave();
		futimens(m->fd, now);
	}
}

void exec_map_read(struct side *s, const struct op *op, struct result *r)
{
	struct held_map *m = map_of(s, op);
	size_t n = map_range(m, op);

	/* What a private map shows of later writes is not defined. */
	if (!m->shared)
		return;
	r->ret = (long)n;
	r->data_len = n;
	if (n)
		memcpy(r->data, m->addr + op->off, n);
}

void exec_msync(struct side *s, const struct op *op, struct result *r)
{
	struct held_map *m = map_of(s, op);

	if (!m->addr)
		return;
	result_set(r, msync(m->addr, m->len, s->label == 'B' ? MS_ASYNC : MS_SYNC));
}

void exec_unmap(struct side *s, const struct op *op, struct result *r)
{
	(void)r;
	map_drop(map_of(s, op));
}
