/*
 * load.c - one thread: choose an operation that makes sense, log it, do it, log
 * that it returned. Any failed system call ends the thread (the daemon is gone,
 * or there is a bug; the caller knows which).
 */
#include "tests/model/crashload/crash.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

struct loader {
	struct crash_load *load;
	struct crash_state *state;
	uint64_t rng, next_id, next_version;
	int dir, log;
	struct crash_op follow[4]; /* operations to come next */
	unsigned n_follow;
};

static uint64_t rnd(struct loader *l, uint64_t n)
{
	l->rng = l->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (l->rng >> 33) % n;
}

static int do_write(struct loader *l, const struct crash_op *op)
{
	const struct crash_state *s = l->state;
	uint64_t id = s->objects[s->names[crash_find(s, op->a)].object].id;
	static __thread uint8_t data[CRASH_PAGES * CRASH_PAGE];
	size_t len = (size_t)op->n * CRASH_PAGE;
	int fd = openat(l->dir, op->a, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (unsigned i = 0; i < op->n; i++)
		crash_page_fill(data + (size_t)i * CRASH_PAGE, id, op->page + i, op->v);
	ssize_t n = pwrite(fd, data, len, (off_t)op->page * CRASH_PAGE);
	int rc = n < 0 ? -errno : n == (ssize_t)len ? 0 : -EIO;
	if (close(fd) && !rc)
		rc = -errno;
	return rc;
}

static int do_on_fd(struct loader *l, const struct crash_op *op)
{
	int fd = openat(l->dir, op->a, O_RDWR | O_CLOEXEC);
	int rc = -1;

	if (fd < 0)
		return -errno;
	if (op->kind == 's')
		rc = fsync(fd);
	else if (op->kind == 'y')
		rc = fdatasync(fd);
	else if (op->kind == 't')
		rc = ftruncate(fd, (off_t)op->n * CRASH_PAGE);
	else if (op->kind == 'v')
		rc = fsetxattr(fd, "user.version", &op->v, sizeof(op->v), 0);
	rc = rc ? -errno : 0;
	if (close(fd) && !rc)
		rc = -errno;
	return rc;
}

static int do_create(struct loader *l, const char *name)
{
	int fd = openat(l->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	return fd < 0 || close(fd) ? -1 : 0;
}

static int op_do(struct loader *l, const struct crash_op *op)
{
	int rc = -1;

	switch (op->kind) {
	case 'w':
		return do_write(l, op);
	case 's':
	case 'y':
	case 't':
	case 'v':
		return do_on_fd(l, op);
	case 'c':
		rc = do_create(l, op->a);
		break;
	case 'm':
		rc = mkdirat(l->dir, op->a, 0755);
		break;
	case 'z':
		rc = symlinkat(op->b, l->dir, op->a);
		break;
	case 'r':
		rc = renameat(l->dir, op->a, l->dir, op->b);
		break;
	case 'x':
		rc = renameat2(l->dir, op->a, l->dir, op->b, RENAME_EXCHANGE);
		break;
	case 'l':
		rc = linkat(l->dir, op->a, l->dir, op->b, 0);
		break;
	case 'u':
		rc = unlinkat(l->dir, op->a, 0);
		break;
	case 'k':
		rc = unlinkat(l->dir, op->a, AT_REMOVEDIR);
		break;
	case 'h':
		rc = fchmodat(l->dir, op->a, op->n, 0);
		break;
	}
	return rc ? -errno : 0;
}

/* A random name in use whose object is of one of the types; -1 if none was hit. */
static int pick(struct loader *l, const char *types)
{
	const struct crash_state *s = l->state;

	for (int tries = 0; tries < 40; tries++) {
		int i = (int)rnd(l, CRASH_NAMES);
		if (s->names[i].name[0] && strchr(types, s->objects[s->names[i].object].type))
			return i;
	}
	return -1;
}

static unsigned names_used(const struct crash_state *s)
{
	unsigned n = 0;

	for (int i = 0; i < CRASH_NAMES; i++)
		n += s->names[i].name[0] != 0;
	return n;
}

/* A name that is free, at the top or in a directory. */
static void new_name(struct loader *l, char *out)
{
	do {
		int d = rnd(l, 2) ? pick(l, "d") : -1;
		const char *dir = d < 0 ? "" : l->state->names[d].name;
		if (strlen(dir) > 20)
			dir = "";
		snprintf(out, CRASH_NAME, "%.20s%sf%u", dir, dir[0] ? "/" : "",
			 (unsigned)rnd(l, 60));
	} while (crash_find(l->state, out) >= 0);
}

static void write_op(struct loader *l, struct crash_op *op)
{
	op->kind = 'w';
	op->n = rnd(l, 4) ? 1 + (unsigned)rnd(l, 3) : 1 + (unsigned)rnd(l, 48);
	op->page = (unsigned)rnd(l, CRASH_PAGES - op->n + 1);
	if (rnd(l, 3) == 0)
		op->page = 0;
	op->v = ++l->next_version;
}

/* Write a new file, fsync it and rename it over another: what editors do. */
static void plan_replace(struct loader *l, const char *name, int over)
{
	struct crash_op *f = l->follow;

	memset(f, 0, sizeof(l->follow));
	for (int i = 0; i < 3; i++)
		strcpy(f[i].a, name);
	f[0].kind = 'r';
	strcpy(f[0].b, l->state->names[over].name);
	f[1].kind = 's';
	write_op(l, &f[2]);
	l->n_follow = 3; /* taken from the end */
}

static bool make_new(struct loader *l, struct crash_op *op)
{
	unsigned what = (unsigned)rnd(l, 12);
	int over;

	if (names_used(l->state) > CRASH_NAMES - 10)
		return false;
	new_name(l, op->a);
	op->v = ++l->next_id;
	op->kind = what == 0 ? 'm' : what == 1 ? 'z' : 'c';
	if (op->kind == 'm' && strchr(op->a, '/'))
		op->kind = 'c';
	if (op->kind == 'z')
		snprintf(op->b, CRASH_NAME, "target%u", (unsigned)rnd(l, 1000));
	if (op->kind == 'c' && rnd(l, 3) == 0 && (over = pick(l, "f")) >= 0)
		plan_replace(l, op->a, over);
	return true;
}

static bool change_name(struct loader *l, struct crash_op *op)
{
	static const char kinds[] = "rrrrxlluuuk";
	const struct crash_state *s = l->state;

	op->kind = kinds[rnd(l, sizeof(kinds) - 1)];
	int a = pick(l, op->kind == 'k' ? "d" : op->kind == 'r' && !rnd(l, 3) ? "d" : "fl");
	if (a < 0)
		return false;
	strcpy(op->a, s->names[a].name);
	char type = s->objects[s->names[a].object].type;
	if (op->kind == 'k')
		return crash_dir_is_empty(s, op->a);
	if (op->kind == 'u')
		return true;
	if (names_used(s) > CRASH_NAMES - 10 && op->kind == 'l')
		return false;
	int b = pick(l, "fl");
	if (op->kind == 'x' || (op->kind == 'r' && type != 'd' && rnd(l, 2))) {
		if (b < 0 || b == a)
			return false;
		strcpy(op->b, s->names[b].name);
		return true;
	}
	new_name(l, op->b);
	if (type == 'd' && strchr(op->b, '/'))
		return false;
	return true;
}

static bool change_file(struct loader *l, struct crash_op *op)
{
	static const unsigned modes[] = { 0644, 0600, 0755, 0640, 0666 };
	int a = pick(l, "f");

	if (a < 0)
		return false;
	strcpy(op->a, l->state->names[a].name);
	switch (rnd(l, 16)) {
	case 0:
		op->kind = 'h';
		op->n = modes[rnd(l, ARRAY_SIZE(modes))];
		break;
	case 1:
		op->kind = 'v';
		op->v = ++l->next_version;
		break;
	case 2:
		op->kind = 't';
		op->n = (unsigned)rnd(l, CRASH_PAGES);
		break;
	case 3:
	case 4:
		op->kind = 's';
		break;
	case 5:
	case 6:
		op->kind = 'y';
		break;
	default:
		write_op(l, op);
	}
	return true;
}

static void choose(struct loader *l, struct crash_op *op)
{
	bool good;

	if (l->n_follow) {
		*op = l->follow[--l->n_follow];
		return;
	}
	do {
		memset(op, 0, sizeof(*op));
		unsigned what = (unsigned)rnd(l, 10);
		good = what < 3	  ? make_new(l, op)
		       : what < 6 ? change_name(l, op)
				  : change_file(l, op);
	} while (!good);
}

static bool log_line(struct loader *l, const char *fmt, const struct crash_op *op)
{
	char text[256], line[300];

	crash_op_print(op, text, sizeof(text));
	int n = snprintf(line, sizeof(line), "%s %s\n", fmt, text);
	return write(l->log, line, (size_t)n) == n;
}

static void fail(struct crash_load *load, int err, const char *what)
{
	load->err = err;
	snprintf(load->what, sizeof(load->what), "%s", what);
}

static void load_loop(struct loader *l)
{
	struct crash_load *load = l->load;
	time_t end = time(NULL) + load->seconds;
	char text[256];

	while (time(NULL) < end) {
		struct crash_op op;
		choose(l, &op);
		crash_op_print(&op, text, sizeof(text));
		if (!log_line(l, "B", &op)) {
			fail(load, EIO, "writing the log");
			return;
		}
		int rc = op_do(l, &op);
		if (rc) {
			fail(load, -rc, text);
			return;
		}
		if (!log_line(l, "D", &op) || !crash_apply(l->state, &op)) {
			fail(load, EPROTO, text);
			return;
		}
		load->ops_done++;
	}
}

void *crash_load_thread(void *arg)
{
	struct crash_load *load = arg;
	struct loader l = { .load = load, .rng = load->seed, .dir = -1 };

	l.state = calloc(1, sizeof(*l.state));
	l.log = open(load->log, O_WRONLY | O_CREAT | O_APPEND | O_EXCL | O_CLOEXEC, 0600);
	if (!mkdir(load->dir, 0755))
		l.dir = open(load->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!l.state || l.log < 0 || l.dir < 0)
		fail(load, errno, "making the directory and the log");
	else
		load_loop(&l);
	if (l.dir >= 0)
		close(l.dir);
	if (l.log >= 0)
		close(l.log);
	free(l.state);
	return NULL;
}
