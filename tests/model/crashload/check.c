/* check.c - compare a directory with what its log says must be there. */
#include "tests/model/crashload/crash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

struct checker {
	const struct crash_state *state;
	int dir;
	const char *path; /* for messages */
	FILE *out;
	unsigned problems;
	bool seen[CRASH_NAMES];
};

static void problem(struct checker *c, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void problem(struct checker *c, const char *name, const char *fmt, ...)
{
	va_list ap;

	c->problems++;
	fprintf(c->out, "%s/%s: ", c->path, name);
	va_start(ap, fmt);
	vfprintf(c->out, fmt, ap);
	va_end(ap);
	fputc('\n', c->out);
}

static void check_page(struct checker *c, const char *name, const struct crash_object *o,
		       unsigned i, const uint8_t *page)
{
	uint64_t version = 0;

	switch (crash_page_check(page, o->id, i, &version)) {
	case PAGE_BAD:
		problem(c, name, "page %u holds something else (%02x %02x %02x %02x ...)", i,
			page[0], page[1], page[2], page[3]);
		break;
	case PAGE_ZERO:
		if (o->synced[i])
			problem(c, name, "page %u is zeros, version %llu was synced", i,
				(unsigned long long)o->synced[i]);
		break;
	case PAGE_GOOD:
		if (version < o->synced[i] || version > o->latest[i])
			problem(c, name, "page %u has version %llu, synced %llu, written %llu", i,
				(unsigned long long)version, (unsigned long long)o->synced[i],
				(unsigned long long)o->latest[i]);
		break;
	}
}

static void check_content(struct checker *c, const char *name, const struct crash_object *o,
			  off_t size)
{
	uint8_t page[CRASH_PAGE];
	int fd = openat(c->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		problem(c, name, "open: %s", strerror(errno));
		return;
	}
	if (size % CRASH_PAGE || size / CRASH_PAGE < o->size_min || size / CRASH_PAGE > o->size_max)
		problem(c, name, "size %lld is not between %u and %u pages", (long long)size,
			o->size_min, o->size_max);
	for (unsigned i = 0; i < MIN((unsigned)(size / CRASH_PAGE), CRASH_PAGES); i++) {
		ssize_t n = pread(fd, page, CRASH_PAGE, (off_t)i * CRASH_PAGE);
		if (n != CRASH_PAGE) {
			problem(c, name, "read of page %u: %zd %s", i, n,
				n < 0 ? strerror(errno) : "");
			break;
		}
		check_page(c, name, o, i, page);
	}
	uint64_t xattr = 0;
	ssize_t n = fgetxattr(fd, "user.version", &xattr, sizeof(xattr));
	if (o->xattr ? n != sizeof(xattr) || xattr != o->xattr : n != -1)
		problem(c, name, "xattr is %lld (%zd bytes), not %llu", (long long)xattr, n,
			(unsigned long long)o->xattr);
	close(fd);
}

static void check_name(struct checker *c, const char *name, const struct crash_object *o)
{
	struct stat st;
	char target[CRASH_NAME + 1] = "";

	if (fstatat(c->dir, name, &st, AT_SYMLINK_NOFOLLOW)) {
		problem(c, name, "%s", strerror(errno));
		return;
	}
	char type = S_ISREG(st.st_mode) ? 'f' : S_ISDIR(st.st_mode) ? 'd' : 'l';
	if (type != o->type || (st.st_mode & 07777) != o->mode)
		problem(c, name, "is mode %o, not '%c' %o", st.st_mode, o->type, o->mode);
	else if (type != 'd' && st.st_nlink != o->nlink)
		problem(c, name, "has %lu links, not %u", (unsigned long)st.st_nlink, o->nlink);
	if (type == 'f' && o->type == 'f')
		check_content(c, name, o, st.st_size);
	if (type == 'l' &&
	    (readlinkat(c->dir, name, target, CRASH_NAME) < 0 || strcmp(target, o->target) != 0))
		problem(c, name, "leads to %s, not %s", target, o->target);
}

/* Names that should not be there; one level of directories below the top. */
static void check_extra(struct checker *c, const char *sub)
{
	char name[600];
	int fd = openat(c->dir, sub[0] ? sub : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		problem(c, sub, "reading the directory: %s", strerror(errno));
		return;
	}
	for (struct dirent *e; (e = readdir(d));) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(name, sizeof(name), "%s%s%s", sub, sub[0] ? "/" : "", e->d_name);
		int i = crash_find(c->state, name);
		if (i < 0)
			problem(c, name, "should not be there");
		else if (c->seen[i])
			problem(c, name, "is listed twice");
		else
			c->seen[i] = true;
		if (i >= 0 && c->state->objects[c->state->names[i].object].type == 'd')
			check_extra(c, name);
	}
	closedir(d);
}

static unsigned check_state(const struct crash_state *s, int dir, const char *path, FILE *out)
{
	struct checker c = { .state = s, .dir = dir, .path = path, .out = out };

	check_extra(&c, "");
	for (int i = 0; i < CRASH_NAMES; i++) {
		if (!s->names[i].name[0])
			continue;
		if (!c.seen[i])
			problem(&c, s->names[i].name, "is not listed");
		check_name(&c, s->names[i].name, &s->objects[s->names[i].object]);
	}
	return c.problems;
}

/* Apply the log. *pending: an operation that began and did not return. */
static int log_read(const char *log, struct crash_state *s, struct crash_op *pending, FILE *out)
{
	char line[400];
	struct crash_op op;
	unsigned n = 0;
	FILE *f = fopen(log, "re");

	pending->kind = 0;
	if (!f) {
		fprintf(out, "%s: %s\n", log, strerror(errno));
		return -1;
	}
	while (fgets(line, sizeof(line), f)) {
		n++;
		if (strlen(line) < 3 || !crash_op_parse(line + 2, &op) ||
		    (line[0] == 'D' && !crash_apply(s, &op))) {
			fprintf(out, "%s: line %u makes no sense: %s", log, n, line);
			fclose(f);
			return -1;
		}
		*pending = op;
		if (line[0] == 'D')
			pending->kind = 0;
	}
	fclose(f);
	return 0;
}

/* A write that did not return may have brought any of its pages. */
static bool is_write(const struct crash_op *op)
{
	return op->kind == 'w';
}

unsigned crash_check(const char *dir, const char *log, FILE *out)
{
	struct crash_state *s = calloc(1, sizeof(*s));
	struct crash_op pending;
	unsigned problems = 1;
	char *text = NULL;
	size_t len = 0;
	FILE *first = open_memstream(&text, &len);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (!s || !first || log_read(log, s, &pending, out))
		goto out;
	if (fd < 0) {
		fprintf(out, "%s: %s\n", dir, strerror(errno));
		goto out;
	}
	if (is_write(&pending))
		crash_apply(s, &pending); /* only widens what is allowed */
	problems = check_state(s, fd, dir, first);
	if (problems && pending.kind && !is_write(&pending) && crash_apply(s, &pending)) {
		FILE *none = fopen("/dev/null", "we");
		if (none && !check_state(s, fd, dir, none))
			problems = 0;
		if (none)
			fclose(none);
	}
	fflush(first);
	if (problems)
		fwrite(text, 1, len, out);
	if (problems && pending.kind) {
		char words[256];
		crash_op_print(&pending, words, sizeof(words));
		fprintf(out, "(under way was: %s)\n", words);
	}
out:
	if (first)
		fclose(first);
	free(text);
	free(s);
	if (fd >= 0)
		close(fd);
	return problems;
}
