/*
 * run.c - run one operation on one side, and compare what came of it.
 *
 * Paths are relative to the sequence's directory (fchdir before each
 * operation), so a path is at most MODEL_PATH_MAX and the mount point's own
 * length does not matter. Other users are tried with setfsuid(2), which takes
 * root's file capabilities away for as long as it lasts.
 */
#include "tests/model/fsmodel/model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const struct {
	unsigned uid, gid;
} creds[MODEL_UIDS] = { { 0, 0 }, { 1000, 1000 }, { 1001, 1000 } };

static time_t since;

void model_set_since(time_t t)
{
	since = t;
}

time_t model_since(void)
{
	return since;
}

unsigned cred_uid(int cred)
{
	return creds[cred].uid;
}

void cred_enter(int cred)
{
	if (!cred)
		return;
	setfsgid(creds[cred].gid);
	setfsuid(creds[cred].uid);
}

void cred_leave(void)
{
	setfsuid(0);
	setfsgid(0);
}

int side_reopen_dir(struct side *s)
{
	s->dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return s->dir_fd < 0 ? -errno : 0;
}

int side_open(struct side *s, const char *top, const char *name)
{
	s->top = top;
	snprintf(s->dir, sizeof(s->dir), "%s/%s", top, name);
	for (int i = 0; i < MODEL_SLOTS; i++)
		s->fd[i] = -1;
	memset(s->map, 0, sizeof(s->map));
	s->dir_fd = -1;
	if (mkdir(s->dir, 0777) || chmod(s->dir, 0777))
		return -errno;
	return side_reopen_dir(s);
}

void side_close_files(struct side *s)
{
	for (int i = 0; i < MODEL_SLOTS; i++) {
		if (s->fd[i] >= 0)
			close(s->fd[i]);
		s->fd[i] = -1;
	}
	for (int i = 0; i < MODEL_MAPS; i++) {
		if (!s->map[i].addr)
			continue;
		munmap(s->map[i].addr, s->map[i].len);
		close(s->map[i].fd);
		s->map[i].addr = NULL;
	}
}

/* Directories stay. */
static bool is_reader(int fd)
{
	struct stat st;

	return fd >= 0 && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY && !fstat(fd, &st) &&
	       S_ISREG(st.st_mode);
}

void side_close_readers(struct side *s)
{
	for (int i = 0; i < MODEL_SLOTS; i++) {
		if (!is_reader(s->fd[i]))
			continue;
		close(s->fd[i]);
		s->fd[i] = -1;
	}
	for (int i = 0; i < MODEL_MAPS; i++) {
		if (!s->map[i].addr || !is_reader(s->map[i].fd))
			continue;
		munmap(s->map[i].addr, s->map[i].len);
		close(s->map[i].fd);
		s->map[i].addr = NULL;
	}
}

void side_sync_maps(struct side *s)
{
	for (int i = 0; i < MODEL_MAPS; i++)
		if (s->map[i].addr && s->map[i].shared)
			(void)!msync(s->map[i].addr, s->map[i].len, MS_SYNC);
}

void side_close_dir(struct side *s)
{
	if (s->dir_fd >= 0)
		close(s->dir_fd);
	s->dir_fd = -1;
	if (chdir("/"))
		abort();
}

void side_close(struct side *s)
{
	side_close_files(s);
	side_close_dir(s);
}

struct result *result_new(void)
{
	struct result *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->data = aligned_alloc(4096, MODEL_DATA_MAX);
	if (!r->data) {
		free(r);
		return NULL;
	}
	return r;
}

void result_free(struct result *r)
{
	if (!r)
		return;
	free(r->data);
	free(r);
}

void result_set(struct result *r, long ret)
{
	r->err = ret == -1 ? errno : 0;
	r->ret = ret;
}

void result_text(struct result *r, const char *fmt, ...)
{
	va_list ap;
	size_t left = sizeof(r->text) - r->text_len;

	va_start(ap, fmt);
	int n = vsnprintf(r->text + r->text_len, left, fmt, ap);
	va_end(ap);
	if (n > 0)
		r->text_len += MIN((size_t)n, left - 1);
}

void result_fault(struct result *r, const char *fmt, ...)
{
	va_list ap;

	if (r->fault[0])
		return;
	va_start(ap, fmt);
	vsnprintf(r->fault, sizeof(r->fault), fmt, ap);
	va_end(ap);
}

static bool time_was_set(const struct timespec *t)
{
	return t->tv_sec < since - 2 || t->tv_sec > time(NULL) + 2;
}

void stat_describe(const struct stat *st, char *out, size_t cap)
{
	int n = snprintf(out, cap, "mode=%06o uid=%u gid=%u nlink=%lu", st->st_mode, st->st_uid,
			 st->st_gid, (unsigned long)st->st_nlink);

	if (!S_ISDIR(st->st_mode))
		n += snprintf(out + n, cap - (size_t)n, " size=%lld", (long long)st->st_size);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		n += snprintf(out + n, cap - (size_t)n, " rdev=%u:%u", major(st->st_rdev),
			      minor(st->st_rdev));
	/* A write to a pipe changes the times of its inode on some filesystems only. */
	if (time_was_set(&st->st_mtim) && !S_ISFIFO(st->st_mode))
		snprintf(out + n, cap - (size_t)n, " mtime=%lld.%09ld",
			 (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

void result_stat_path(struct result *r, int at_fd, const char *path)
{
	struct stat st;
	char text[256];

	if (fstatat(at_fd, path, &st, AT_SYMLINK_NOFOLLOW)) {
		result_text(r, " {%s}", strerrorname_np(errno));
		return;
	}
	stat_describe(&st, text, sizeof(text));
	result_text(r, " {%s}", text);
}

void result_stat_fd(struct result *r, int fd)
{
	struct stat st;
	char text[256];

	if (fstat(fd, &st)) {
		result_text(r, " fd{%s}", strerrorname_np(errno));
		return;
	}
	stat_describe(&st, text, sizeof(text));
	result_text(r, " fd{%s}", text);
}

int side_at(const struct side *s, const struct op *op)
{
	return op->at >= 0 && s->fd[op->at] >= 0 ? s->fd[op->at] : AT_FDCWD;
}

int side_fd(const struct side *s, int slot)
{
	return s->fd[slot];
}

void data_fill(uint32_t seed, uint8_t *out, size_t len)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;

	switch (seed % 8) {
	case 0:
		memset(out, 0, len);
		return;
	case 1:
		memset(out, (int)(seed >> 8), len);
		return;
	case 2:
		for (size_t i = 0; i < len; i++)
			out[i] = (uint8_t)("varve lays down one layer a year. "[i % 34]);
		return;
	}
	for (size_t i = 0; i < len; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(out + i, &x, MIN(len - i, (size_t)8));
	}
}

/* The parent directory of a path that may end in slashes. */
static void path_parent(const char *path, char *out)
{
	size_t n = strlen(path);

	while (n && path[n - 1] == '/')
		n--;
	while (n && path[n - 1] != '/')
		n--;
	while (n && path[n - 1] == '/')
		n--;
	memcpy(out, path, n);
	out[n] = 0;
	if (!n)
		strcpy(out, ".");
}

/* Times of what an operation concerns, to see which ones it changes. */
struct times {
	struct stat st[5];
	bool known[5];
};

static void times_take(struct side *s, const struct op *op, struct times *t)
{
	char parent[MODEL_PATH_MAX];
	int at = side_at(s, op);

	memset(t, 0, sizeof(*t));
	if (strchr(op->type->shows, 'p')) {
		t->known[0] = !fstatat(at, op->path, &t->st[0], AT_SYMLINK_NOFOLLOW);
		path_parent(op->path, parent);
		t->known[1] = !fstatat(at, parent, &t->st[1], 0);
	}
	if (strchr(op->type->shows, 'q')) {
		t->known[2] = !fstatat(at, op->path2, &t->st[2], AT_SYMLINK_NOFOLLOW);
		path_parent(op->path2, parent);
		t->known[3] = !fstatat(at, parent, &t->st[3], 0);
	}
	if (strchr(op->type->shows, 's') && side_fd(s, op->slot) >= 0)
		t->known[4] = !fstat(side_fd(s, op->slot), &t->st[4]);
}

static bool time_differs(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec || a->tv_nsec != b->tv_nsec;
}

static void times_compare(const struct times *before, const struct times *after, struct result *r)
{
	static const char *const what[] = { "path", "parent", "path2", "parent2", "fd" };

	for (int i = 0; i < 5; i++) {
		const struct stat *b = &before->st[i], *a = &after->st[i];
		if (!before->known[i] || !after->known[i] || a->st_ino != b->st_ino)
			continue;
		/* Linux's FUSE keeps no times for writes to a pipe. */
		if (i == 4 && S_ISFIFO(a->st_mode))
			continue;
		bool m = time_differs(&a->st_mtim, &b->st_mtim);
		bool c = time_differs(&a->st_ctim, &b->st_ctim);
		if (m || c)
			result_text(r, " changed(%s):%s%s", what[i], m ? "mtime," : "",
				    c ? "ctime" : "");
	}
}

/* What the operation left, as root sees it. */
static void op_stat_all(struct side *s, const struct op *op, struct result *r)
{
	char parent[MODEL_PATH_MAX];
	const char *shows = op->type->shows;
	int at = side_at(s, op);

	if (strchr(shows, 'p')) {
		result_stat_path(r, at, op->path);
		path_parent(op->path, parent);
		result_stat_path(r, at, parent);
	}
	if (strchr(shows, 'q')) {
		result_stat_path(r, at, op->path2);
		path_parent(op->path2, parent);
		result_stat_path(r, at, parent);
	}
	if (strchr(shows, 's') && side_fd(s, op->slot) >= 0)
		result_stat_fd(r, side_fd(s, op->slot));
	if (strchr(shows, 't') && side_fd(s, op->slot2) >= 0)
		result_stat_fd(r, side_fd(s, op->slot2));
}

void op_run(struct side *s, const struct op *op, struct result *r)
{
	struct times before, after;

	r->ret = 0;
	r->err = 0;
	r->unsupported = false;
	r->fault[0] = r->text[0] = 0;
	r->text_len = r->data_len = 0;
	if (fchdir(s->dir_fd)) {
		result_fault(r, "fchdir to the sequence's directory: %s", strerror(errno));
		return;
	}
	if (op->timed) {
		static const struct timespec wait = { 0, 12000000 };
		/* What a map holds back would give the file its times at an fsync or munmap. */
		side_sync_maps(s);
		times_take(s, op, &before);
		nanosleep(&wait, NULL);
	}
	umask(op->umask);
	cred_enter(op->cred);
	op->type->exec(s, op, r);
	cred_leave();
	umask(0);
	if (op->timed) {
		times_take(s, op, &after);
		times_compare(&before, &after, r);
	}
	op_stat_all(s, op, r);
}

static void path_print(const char *path, FILE *out)
{
	size_t n = strlen(path);

	fputc('"', out);
	for (size_t i = 0; i < n; i++) {
		uint8_t c = (uint8_t)path[i];
		if (n > 120 && i == 60) {
			fprintf(out, "...(%zu bytes)...", n);
			i = n - 40;
		} else if (c < 32 || c > 126 || c == '"' || c == '\\') {
			fprintf(out, "\\x%02x", c);
		} else {
			fputc(c, out);
		}
	}
	fputc('"', out);
}

static void field_print(const struct op *op, char what, FILE *out)
{
	switch (what) {
	case 'p':
	case 'q':
		fputc(' ', out);
		path_print(what == 'p' ? op->path : op->path2, out);
		break;
	case 's':
		fprintf(out, " slot%d", op->slot);
		break;
	case 't':
		fprintf(out, " slot%d", op->slot2);
		break;
	case 'f':
		fprintf(out, " flags=%#x", (unsigned)op->flags);
		break;
	case 'm':
		fprintf(out, " mode=%04o", op->mode);
		break;
	case 'o':
		fprintf(out, " off=%lld", (long long)op->off);
		break;
	case 'O':
		fprintf(out, " off2=%lld", (long long)op->off2);
		break;
	case 'l':
		fprintf(out, " len=%llu", (unsigned long long)op->len);
		break;
	case 'n':
		fprintf(out, " %s", op->name);
		break;
	case 'd':
		fprintf(out, " data#%u", op->seed);
		break;
	case 'u':
		fprintf(out, " %d:%d", (int)op->uid, (int)op->gid);
		break;
	case 'T':
		for (int i = 0; i < 2; i++)
			fprintf(out, " %lld.%09ld", (long long)op->times[i].tv_sec,
				op->times[i].tv_nsec);
		break;
	}
}

void op_describe(const struct op *op, char *out, size_t cap)
{
	FILE *f = fmemopen(out, cap, "w");

	if (!f)
		return;
	fprintf(f, "%s", op->type->name);
	for (const char *c = op->type->shows; *c; c++)
		field_print(op, *c, f);
	if (op->at >= 0)
		fprintf(f, " at=slot%d", op->at);
	if (op->cred)
		fprintf(f, " as=%u", cred_uid(op->cred));
	if (op->umask)
		fprintf(f, " umask=%03o", op->umask);
	if (op->timed)
		fprintf(f, " timed");
	fclose(f);
	out[cap - 1] = 0;
}

static void result_print(const struct result *r, char label, FILE *out)
{
	fprintf(out, "  %c: %ld%s%s%s data=%zu bytes%s%s\n", label, r->ret, r->ret == -1 ? " " : "",
		r->ret == -1 ? strerrorname_np(r->err) : "", r->text, r->data_len,
		r->fault[0] ? " FAULT: " : "", r->fault);
}

static void data_difference(const struct result *a, const struct result *b, FILE *out)
{
	size_t n = MIN(a->data_len, b->data_len), i = 0;

	while (i < n && a->data[i] == b->data[i])
		i++;
	if (i == n && a->data_len == b->data_len)
		return;
	size_t end = i, differ = 0;
	for (size_t j = i; j < n; j++) {
		if (a->data[j] != b->data[j]) {
			differ++;
			end = j;
		}
	}
	fprintf(out, "  data differ first at byte %zu, last at %zu, %zu in all; A:", i, end,
		differ);
	for (size_t j = i; j < MIN(i + 16, a->data_len); j++)
		fprintf(out, " %02x", a->data[j]);
	fprintf(out, "  B:");
	for (size_t j = i; j < MIN(i + 16, b->data_len); j++)
		fprintf(out, " %02x", b->data[j]);
	fputc('\n', out);
}

bool op_agree(const struct op *op, const struct result *a, const struct result *b, FILE *out)
{
	(void)op;
	bool same = a->ret == b->ret && a->err == b->err && a->text_len == b->text_len &&
		    !memcmp(a->text, b->text, a->text_len) && a->data_len == b->data_len &&
		    !memcmp(a->data, b->data, a->data_len) && !a->fault[0] && !b->fault[0];

	if (same)
		return true;
	if (out) {
		result_print(a, 'A', out);
		result_print(b, 'B', out);
		data_difference(a, b, out);
	}
	return false;
}
