/*
 * exec_dir.c - reading directories, also while their entries change.
 */
#include "tests/model/fsmodel/model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static DIR *dir_open(struct side *s, const struct op *op)
{
	int fd = openat(side_at(s, op), op->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	DIR *d = fdopendir(fd);
	if (!d)
		close(fd);
	return d;
}

static int line_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void entry_check(DIR *d, const struct dirent *e, struct result *r)
{
	struct stat st;

	if (!strcmp(e->d_name, "..") || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
		return;
	if (e->d_ino != st.st_ino)
		result_fault(r, "d_ino %lu of \"%s\" has st_ino %lu", (unsigned long)e->d_ino,
			     e->d_name, (unsigned long)st.st_ino);
	if (e->d_type != DT_UNKNOWN && e->d_type != IFTODT(st.st_mode))
		result_fault(r, "d_type %d of \"%s\" has mode %o", e->d_type, e->d_name,
			     st.st_mode);
}

void exec_readdir(struct side *s, const struct op *op, struct result *r)
{
	char *names[4096];
	size_t n = 0;
	DIR *d = dir_open(s, op);

	result_set(r, d ? 0 : -1);
	if (!d)
		return;
	errno = 0;
	for (struct dirent *e; n < ARRAY_SIZE(names) && (e = readdir(d));) {
		entry_check(d, e, r);
		names[n] = strdup(e->d_name);
		if (!names[n])
			abort();
		n++;
	}
	result_set(r, errno ? -1 : (long)n);
	closedir(d);
	qsort(names, n, sizeof(*names), line_cmp);
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(names[i]) + 1;
		if (r->data_len + len <= MODEL_DATA_MAX)
			memcpy(r->data + r->data_len, names[i], len);
		r->data_len += len;
		free(names[i]);
	}
}

/*
 * A stream that is read while entries come and go: what is there all the time
 * comes exactly once, what is removed or added at most once.
 */
#define STREAM_NAMES 64

struct stream {
	unsigned n; /* names s0.. that were made */
	bool touched[2 * STREAM_NAMES];
	unsigned seen[2 * STREAM_NAMES];
};

static int stream_make(int dir, unsigned i)
{
	char name[32];

	snprintf(name, sizeof(name), "stream%u", i);
	int fd = openat(dir, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static void stream_read(DIR *d, struct stream *st, unsigned most)
{
	for (struct dirent *e; most && (e = readdir(d)); most--) {
		unsigned i;
		if (sscanf(e->d_name, "stream%u", &i) == 1 && i < 2 * STREAM_NAMES)
			st->seen[i]++;
	}
}

static void stream_change(int dir, struct stream *st, uint32_t seed)
{
	char name[32], other[32];

	for (unsigned i = 0; i < st->n / 2; i++) {
		unsigned victim = (seed >> i % 16) % st->n;
		snprintf(name, sizeof(name), "stream%u", victim);
		snprintf(other, sizeof(other), "stream%u", STREAM_NAMES + i);
		st->touched[victim] = st->touched[STREAM_NAMES + i] = true;
		if (i % 3 == 0)
			renameat(dir, name, dir, other);
		else if (i % 3 == 1)
			unlinkat(dir, name, 0);
		else
			(void)!stream_make(dir, STREAM_NAMES + i);
	}
}

static void stream_judge(const struct stream *st, struct result *r)
{
	for (unsigned i = 0; i < 2 * STREAM_NAMES; i++) {
		if (st->seen[i] > 1)
			result_fault(r, "stream%u was listed %u times", i, st->seen[i]);
		if (i < st->n && !st->touched[i] && !st->seen[i])
			result_fault(r, "stream%u was not listed", i);
	}
}

void exec_dirstream(struct side *s, const struct op *op, struct result *r)
{
	struct stream st = { .n = (unsigned)MIN(op->len, (uint64_t)STREAM_NAMES) };
	char name[32];
	DIR *d = dir_open(s, op);

	result_set(r, d ? 0 : -1);
	if (!d)
		return;
	int fd = dirfd(d);
	for (unsigned i = 0; i < st.n && !r->ret; i++) {
		int rc = stream_make(fd, i);
		if (rc) {
			r->ret = -1;
			r->err = -rc;
		}
	}
	if (!r->ret) {
		rewinddir(d);
		stream_read(d, &st, op->seed % st.n);
		long here = telldir(d);
		stream_change(fd, &st, op->seed);
		if (op->seed % 3 == 0)
			seekdir(d, here);
		stream_read(d, &st, UINT32_MAX);
		stream_judge(&st, r);
	}
	for (unsigned i = 0; i < 2 * STREAM_NAMES; i++) {
		snprintf(name, sizeof(name), "stream%u", i);
		unlinkat(fd, name, 0);
	}
	closedir(d);
}
