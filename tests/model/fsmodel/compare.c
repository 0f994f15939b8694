/*
 * compare.c - two whole trees, as root, by descriptor (paths may be longer than
 * PATH_MAX). Large files are read where either has data.
 */
#include "tests/model/fsmodel/model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define COMPARE_BUF (1u << 20)

struct ino_pair {
	ino_t a, b;
};

struct compare {
	FILE *out;
	unsigned differences;
	bool exact;		/* inode numbers and ctime, too */
	struct ino_pair *pairs; /* of files with several links */
	size_t n_pairs, cap_pairs;
	uint8_t *buf_a, *buf_b;
};

static void differ(struct compare *c, const char *path, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void differ(struct compare *c, const char *path, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (c->differences++ >= 20)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(c->out, "  tree: \"%s\": %s\n", path, text);
}

struct names {
	char **v;
	size_t n, cap;
};

static int name_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_fini(struct names *ns)
{
	for (size_t i = 0; i < ns->n; i++)
		free(ns->v[i]);
	free(ns->v);
}

static int names_read(int dir, struct names *ns)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	memset(ns, 0, sizeof(*ns));
	if (!d)
		return -errno;
	for (struct dirent *e; (e = readdir(d));) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (ns->n == ns->cap) {
			ns->cap = ns->cap ? 2 * ns->cap : 32;
			ns->v = reallocarray(ns->v, ns->cap, sizeof(*ns->v));
			if (!ns->v)
				abort();
		}
		ns->v[ns->n++] = strdup(e->d_name);
	}
	closedir(d);
	if (ns->n > 0) /* NULL otherwise */
		if (ns->n)
			qsort(ns->v, ns->n, sizeof(*ns->v), name_cmp);
	return 0;
}

static void compare_links(struct compare *c, const char *path, const struct stat *a,
			  const struct stat *b)
{
	for (size_t i = 0; i < c->n_pairs; i++) {
		if (c->pairs[i].a == a->st_ino && c->pairs[i].b == b->st_ino)
			return;
		if (c->pairs[i].a == a->st_ino || c->pairs[i].b == b->st_ino) {
			differ(c, path, "is a link of different files (A inode %lu, B inode %lu)",
			       (unsigned long)a->st_ino, (unsigned long)b->st_ino);
			return;
		}
	}
	if (c->n_pairs == c->cap_pairs) {
		c->cap_pairs = c->cap_pairs ? 2 * c->cap_pairs : 32;
		c->pairs = reallocarray(c->pairs, c->cap_pairs, sizeof(*c->pairs));
		if (!c->pairs)
			abort();
	}
	c->pairs[c->n_pairs++] = (struct ino_pair){ a->st_ino, b->st_ino };
}

static void compare_range(struct compare *c, const char *path, int a, int b, off_t from, off_t to)
{
	while (from < to) {
		size_t want = (size_t)MIN((off_t)COMPARE_BUF, to - from);
		ssize_t na = pread(a, c->buf_a, want, from);
		ssize_t nb = pread(b, c->buf_b, want, from);
		if (na != nb || na <= 0) {
			differ(c, path, "read at %lld: A %zd %s, B %zd", (long long)from, na,
			       na < 0 ? strerror(errno) : "", nb);
			return;
		}
		if (memcmp(c->buf_a, c->buf_b, (size_t)na)) {
			size_t i = 0;
			while (c->buf_a[i] == c->buf_b[i])
				i++;
			differ(c, path, "content differs at %lld (A %02x, B %02x)",
			       (long long)from + (long long)i, c->buf_a[i], c->buf_b[i]);
			return;
		}
		from += na;
	}
}

/* The next place at or after pos where either may have data. */
static off_t next_data(int a, int b, off_t pos, off_t size)
{
	off_t da = lseek(a, pos, SEEK_DATA), db = lseek(b, pos, SEEK_DATA);

	da = da < 0 ? size : da;
	db = db < 0 ? size : db;
	return MIN(da, db);
}

static void compare_file(struct compare *c, const char *path, int da, int db, const char *name,
			 off_t size)
{
	int a = openat(da, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int b = openat(db, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (a < 0 || b < 0) {
		differ(c, path, "open: A %d, B %d: %s", a, b, strerror(errno));
	} else if (size <= COMPARE_BUF) {
		compare_range(c, path, a, b, 0, size);
	} else {
		off_t pos = 0;
		while ((pos = next_data(a, b, pos, size)) < size) {
			off_t end = MIN(pos + (off_t)COMPARE_BUF, size);
			compare_range(c, path, a, b, pos, end);
			pos = end;
		}
		compare_range(c, path, a, b, size - 1, size);
	}
	if (a >= 0)
		close(a);
	if (b >= 0)
		close(b);
}

static void compare_symlink(struct compare *c, const char *path, int da, int db, const char *name)
{
	ssize_t na = readlinkat(da, name, (char *)c->buf_a, COMPARE_BUF);
	ssize_t nb = readlinkat(db, name, (char *)c->buf_b, COMPARE_BUF);

	if (na < 0 || na != nb || memcmp(c->buf_a, c->buf_b, (size_t)na))
		differ(c, path, "symlink targets differ (%zd and %zd bytes)", na, nb);
}

static size_t xattr_names(const char *file, char *list, size_t cap, char **v, size_t max)
{
	ssize_t len = llistxattr(file, list, cap);
	size_t n = 0;

	for (char *p = list; len > 0 && p < list + len && n < max; p += strlen(p) + 1)
		v[n++] = p;
	if (n)
		qsort(v, n, sizeof(*v), name_cmp);
	return n;
}

static void compare_xattrs(struct compare *c, const char *path, int da, int db, const char *name)
{
	char file_a[320], file_b[320], list_a[16384], list_b[16384];
	char *va[512], *vb[512];

	snprintf(file_a, sizeof(file_a), "/proc/self/fd/%d/%s", da, name);
	snprintf(file_b, sizeof(file_b), "/proc/self/fd/%d/%s", db, name);
	size_t na = xattr_names(file_a, list_a, sizeof(list_a), va, ARRAY_SIZE(va));
	size_t nb = xattr_names(file_b, list_b, sizeof(list_b), vb, ARRAY_SIZE(vb));
	size_t i = 0, j = 0;

	while (i < na || j < nb) {
		int cmp = i == na ? 1 : j == nb ? -1 : strcmp(va[i], vb[j]);
		if (cmp) {
			differ(c, path, "xattr %s only in %c", cmp < 0 ? va[i] : vb[j],
			       cmp < 0 ? 'A' : 'B');
			i += cmp < 0;
			j += cmp > 0;
			continue;
		}
		ssize_t la = lgetxattr(file_a, va[i], c->buf_a, COMPARE_BUF);
		ssize_t lb = lgetxattr(file_b, vb[j], c->buf_b, COMPARE_BUF);
		if (la != lb || la < 0 || memcmp(c->buf_a, c->buf_b, (size_t)la))
			differ(c, path, "xattr %s differs (%zd and %zd bytes)", va[i], la, lb);
		i++;
		j++;
	}
}

static void compare_dirs(struct compare *c, int da, int db, const char *path);

static void compare_below(struct compare *c, const char *path, int da, int db, const char *name)
{
	int a = openat(da, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int b = openat(db, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (a < 0 || b < 0)
		differ(c, path, "open of the directory: A %d, B %d: %s", a, b, strerror(errno));
	else
		compare_dirs(c, a, b, path);
	if (a >= 0)
		close(a);
	if (b >= 0)
		close(b);
}

static void compare_entry(struct compare *c, int da, int db, const char *path, const char *name)
{
	struct stat a, b;
	char ta[256], tb[256];

	if (fstatat(da, name, &a, AT_SYMLINK_NOFOLLOW) ||
	    fstatat(db, name, &b, AT_SYMLINK_NOFOLLOW)) {
		differ(c, path, "stat: %s", strerror(errno));
		return;
	}
	stat_describe(&a, ta, sizeof(ta));
	stat_describe(&b, tb, sizeof(tb));
	if (c->exact && (a.st_ino != b.st_ino || a.st_ctim.tv_sec != b.st_ctim.tv_sec ||
			 a.st_ctim.tv_nsec != b.st_ctim.tv_nsec))
		differ(c, path, "A ino=%lu ctime=%lld.%09ld B ino=%lu ctime=%lld.%09ld",
		       (unsigned long)a.st_ino, (long long)a.st_ctim.tv_sec, a.st_ctim.tv_nsec,
		       (unsigned long)b.st_ino, (long long)b.st_ctim.tv_sec, b.st_ctim.tv_nsec);
	if (strcmp(ta, tb)) {
		differ(c, path, "A {%s} B {%s}", ta, tb);
		if ((a.st_mode ^ b.st_mode) & S_IFMT)
			return;
	}
	compare_xattrs(c, path, da, db, name);
	if (S_ISREG(a.st_mode) && a.st_size == b.st_size && a.st_size)
		compare_file(c, path, da, db, name, a.st_size);
	else if (S_ISLNK(a.st_mode))
		compare_symlink(c, path, da, db, name);
	else if (S_ISDIR(a.st_mode) && strcmp(name, "."))
		compare_below(c, path, da, db, name);
	if (!S_ISDIR(a.st_mode) && a.st_nlink > 1)
		compare_links(c, path, &a, &b);
}

static void list_dir(int dir, const char *path, FILE *out)
{
	struct names ns;

	if (names_read(dir, &ns))
		fprintf(out, "%s: cannot be read: %s\n", path, strerror(errno));
	for (size_t i = 0; i < ns.n; i++) {
		struct stat st;
		char *below = NULL;
		if (asprintf(&below, "%s/%s", path, ns.v[i]) < 0)
			abort();
		if (fstatat(dir, ns.v[i], &st, AT_SYMLINK_NOFOLLOW))
			fprintf(out, "%s: %s\n", below, strerror(errno));
		else
			fprintf(out,
				"%s: ino=%lu mode=%o nlink=%lu size=%lld mtime=%lld.%09ld "
				"ctime=%lld.%09ld\n",
				below, (unsigned long)st.st_ino, st.st_mode,
				(unsigned long)st.st_nlink,
				S_ISDIR(st.st_mode) ? 0 : (long long)st.st_size,
				(long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
				(long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
		int fd = S_ISDIR(st.st_mode)
				 ? openat(dir, ns.v[i],
					  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
				 : -1;
		if (fd >= 0) {
			list_dir(fd, below, out);
			close(fd);
		}
		free(below);
	}
	names_fini(&ns);
}

char *tree_list(const char *dir)
{
	char *text = NULL;
	size_t len;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	FILE *out = open_memstream(&text, &len);

	if (!out)
		abort();
	if (fd >= 0)
		list_dir(fd, "", out);
	else
		fprintf(out, "%s: %s\n", dir, strerror(errno));
	if (fd >= 0)
		close(fd);
	fclose(out);
	return text;
}

/* Print the lines that differ; names may hold newlines, which only garbles the print. */
int tree_list_differs(char *before, char *after, FILE *out)
{
	if (!strcmp(before, after))
		return 0;
	fprintf(out, "  side A is not what it was before:\n");
	for (unsigned shown = 0; *before && *after && shown < 10;) {
		size_t nb = strcspn(before, "\n"), na = strcspn(after, "\n");
		if (nb != na || memcmp(before, after, nb) != 0) {
			fprintf(out, "    was %.*s\n    is  %.*s\n", (int)nb, before, (int)na,
				after);
			shown++;
		}
		before += nb + (before[nb] != 0);
		after += na + (after[na] != 0);
	}
	return 1;
}

static void compare_dirs(struct compare *c, int da, int db, const char *path)
{
	struct names na, nb;
	size_t i = 0, j = 0;
	int ra = names_read(da, &na), rb = names_read(db, &nb);

	if (ra || rb)
		differ(c, path, "reading the directory: A %d, B %d", ra, rb);
	while (i < na.n || j < nb.n) {
		int cmp = i == na.n ? 1 : j == nb.n ? -1 : strcmp(na.v[i], nb.v[j]);
		const char *name = cmp <= 0 ? na.v[i] : nb.v[j];
		char *below = NULL;
		if (asprintf(&below, "%s%s%s", path, path[0] ? "/" : "", name) < 0)
			abort();
		if (cmp)
			differ(c, below, "only in %c", cmp < 0 ? 'A' : 'B');
		else
			compare_entry(c, da, db, below, name);
		free(below);
		i += cmp <= 0;
		j += cmp >= 0;
	}
	names_fini(&na);
	names_fini(&nb);
}

int tree_compare(const char *a, const char *b, FILE *out)
{
	struct compare c = { .out = out, .exact = getenv("FSMODEL_EXACT") != NULL };
	int da = open(a, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int db = open(b, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	c.buf_a = malloc(COMPARE_BUF);
	c.buf_b = malloc(COMPARE_BUF);
	if (da < 0 || db < 0 || !c.buf_a || !c.buf_b) {
		differ(&c, "", "cannot open %s and %s: %s", a, b, strerror(errno));
	} else {
		compare_entry(&c, da, db, "", ".");
		compare_dirs(&c, da, db, "");
	}
	if (da >= 0)
		close(da);
	if (db >= 0)
		close(db);
	free(c.buf_a);
	free(c.buf_b);
	free(c.pairs);
	if (c.differences > 20)
		fprintf(out, "  tree: ... %u differences in all\n", c.differences);
	return c.differences ? 1 : 0;
}
