/*
 * fscompare - are two directory trees the same? For round-trip and model tests.
 *
 * Walks both side by side, names sorted bytewise, and prints what differs.
 * Only two directories are open at a time: the way back up is "..", checked
 * against device and inode, so depth and path length do not matter.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/base/macros.h"

#define IO_SIZE (256u << 10)
#define XATTR_MAX 65536

enum check {
	CHECK_MODE = 1 << 0,
	CHECK_OWNER = 1 << 1,
	CHECK_MTIME = 1 << 2,
	CHECK_NLINK = 1 << 3,
	CHECK_XATTRS = 1 << 4,
	CHECK_CONTENT = 1 << 5,
	CHECK_LINKS = 1 << 6,
	CHECK_RDEV = 1 << 7,
	CHECK_ATIME = 1 << 8,
	CHECK_HOLES = 1 << 9,
	CHECK_DIR_MTIME = 1 << 10,
	CHECK_DIR_NLINK = 1 << 11,
};
static const struct {
	const char *name;
	enum check bit;
	bool by_default;
	const char *help;
} checks[] = {
	{ "mode", CHECK_MODE, true, "permission bits" },
	{ "owner", CHECK_OWNER, true, "uid and gid" },
	{ "mtime", CHECK_MTIME, true, "modification times, to the nanosecond" },
	{ "dir-mtime", CHECK_DIR_MTIME, true, "those of directories" },
	{ "nlink", CHECK_NLINK, true, "link counts of files" },
	{ "dir-nlink", CHECK_DIR_NLINK, true, "link counts of directories" },
	{ "xattrs", CHECK_XATTRS, true, "all xattrs: ACLs and capabilities too" },
	{ "content", CHECK_CONTENT, true, "bytes of files" },
	{ "links", CHECK_LINKS, true, "which names are links of one file" },
	{ "rdev", CHECK_RDEV, true, "device numbers" },
	{ "atime", CHECK_ATIME, false, "access times" },
	{ "holes", CHECK_HOLES, false, "where holes are (SEEK_DATA, SEEK_HOLE)" },
};

static unsigned enabled;
static unsigned long differences, max_differences = 100, entries;
static const char *excluded[64];
static size_t n_excluded;

struct names {
	char **list; /* sorted; owned */
	size_t n, cap;
};

struct level {
	struct names names;
	size_t next, path_len;
	dev_t dev[2];
	ino_t ino[2];
};

/* An inode of one side and the other's that had the same name when it was first seen. */
struct link_pair {
	dev_t dev, other_dev;
	ino_t ino, other_ino;
};

static char *path; /* of the current entry, "" for the root */
static size_t path_len, path_cap;
static void *link_trees[2]; /* tsearch(3) trees of link_pair, by side */
static uint8_t *io[2];

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list ap;

	fputs("fscompare: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

static void *check_alloc(void *p)
{
	if (!p)
		die("out of memory");
	return p;
}

static void put_escaped(const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < ' ' || c >= 0x7f || c == '\\')
			printf("\\x%02x", c);
		else
			putchar(c);
	}
}

static void __attribute__((format(printf, 1, 2))) differ(const char *fmt, ...)
{
	va_list ap;

	if (++differences <= max_differences) {
		put_escaped(path_len ? path : ".");
		fputs(": ", stdout);
		va_start(ap, fmt);
		vprintf(fmt, ap);
		va_end(ap);
		putchar('\n');
	} else if (differences == max_differences + 1) {
		puts("... and more");
	}
}

static void set_path(size_t base, const char *name)
{
	size_t len = strlen(name), want = base + len + 2;

	if (want > path_cap) {
		path_cap = want * 2;
		path = check_alloc(realloc(path, path_cap));
	}
	path_len = base;
	if (base)
		path[path_len++] = '/';
	memcpy(path + path_len, name, len + 1);
	path_len += len;
}

static int cmp_str(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_add(struct names *n, const char *name)
{
	if (n->n == n->cap) {
		n->cap = n->cap ? n->cap * 2 : 32;
		n->list = check_alloc(realloc(n->list, n->cap * sizeof(char *)));
	}
	n->list[n->n++] = check_alloc(strdup(name));
}

static void names_sort(struct names *n)
{
	if (n->n > 1)
		qsort(n->list, n->n, sizeof(char *), cmp_str);
}

static bool is_excluded(const char *name)
{
	for (size_t i = 0; i < n_excluded; i++)
		if (strcmp(name, excluded[i]) == 0)
			return true;
	return false;
}

static void read_names(int fd, struct names *out)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *e;

	if (!d)
		die("cannot list %s: %s", path, strerror(errno));
	while (errno = 0, (e = readdir(d))) {
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && !is_excluded(e->d_name))
			names_add(out, e->d_name);
	}
	if (errno)
		die("cannot list %s: %s", path, strerror(errno));
	closedir(d);
	names_sort(out);
}

static void names_fini(struct names *n)
{
	for (size_t i = 0; i < n->n; i++)
		free(n->list[i]);
	free(n->list);
}

/* The names that both have; others are reported. */
static void common_names(const int fd[2], struct names *out)
{
	struct names a = { 0 }, b = { 0 };
	size_t i = 0, k = 0, base = path_len;

	read_names(fd[0], &a);
	read_names(fd[1], &b);
	out->list = check_alloc(calloc(MIN(a.n, b.n) + 1, sizeof(char *)));
	while (i < a.n || k < b.n) {
		int c = i == a.n ? 1 : k == b.n ? -1 : strcmp(a.list[i], b.list[k]);

		if (c == 0) {
			out->list[out->n++] = a.list[i];
			a.list[i++] = NULL;
			k++;
			continue;
		}
		set_path(base, c < 0 ? a.list[i++] : b.list[k++]);
		differ("only in %s", c < 0 ? "A" : "B");
	}
	path_len = base;
	path[base] = '\0';
	names_fini(&a);
	names_fini(&b);
}

static int cmp_pairs(const void *a, const void *b)
{
	const struct link_pair *x = a, *y = b;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static void compare_links(const struct stat st[2])
{
	for (int side = 0; side < 2; side++) {
		const struct stat *us = &st[side], *them = &st[!side];

		if (us->st_nlink < 2)
			continue;
		struct link_pair *p = check_alloc(malloc(sizeof(*p)));
		*p = (struct link_pair){ us->st_dev, them->st_dev, us->st_ino, them->st_ino };
		struct link_pair *old =
			*(struct link_pair **)check_alloc(tsearch(p, &link_trees[side], cmp_pairs));
		if (old->other_dev != p->other_dev || old->other_ino != p->other_ino)
			differ("in %s it is a link of an earlier file, in %s of another one",
			       side ? "B" : "A", side ? "A" : "B");
		if (old != p)
			free(p);
	}
}

static const char *type_name(mode_t mode)
{
	static const char *const names[16] = {
		[1] = "fifo", [2] = "character device", [4] = "directory", [6] = "block device",
		[8] = "file", [10] = "symlink",		[12] = "socket"
	};
	const char *name = names[(mode & S_IFMT) >> 12];

	return name ? name : "unknown";
}

static void compare_time(const char *what, const struct timespec *a, const struct timespec *b)
{
	if (a->tv_sec != b->tv_sec || a->tv_nsec != b->tv_nsec)
		differ("%s %jd.%09ld and %jd.%09ld", what, (intmax_t)a->tv_sec, a->tv_nsec,
		       (intmax_t)b->tv_sec, b->tv_nsec);
}

static void compare_stat(const struct stat st[2])
{
	const struct stat *a = &st[0], *b = &st[1];
	bool dir = S_ISDIR(a->st_mode);

	if ((enabled & CHECK_MODE) && !S_ISLNK(a->st_mode) && a->st_mode != b->st_mode)
		differ("mode %04o and %04o", a->st_mode & 07777, b->st_mode & 07777);
	if ((enabled & CHECK_OWNER) && (a->st_uid != b->st_uid || a->st_gid != b->st_gid))
		differ("owner %u:%u and %u:%u", a->st_uid, a->st_gid, b->st_uid, b->st_gid);
	if (enabled & (dir ? CHECK_DIR_MTIME : CHECK_MTIME))
		compare_time("mtime", &a->st_mtim, &b->st_mtim);
	if (enabled & CHECK_ATIME)
		compare_time("atime", &a->st_atim, &b->st_atim);
	if ((enabled & (dir ? CHECK_DIR_NLINK : CHECK_NLINK)) && a->st_nlink != b->st_nlink)
		differ("nlink %ju and %ju", (uintmax_t)a->st_nlink, (uintmax_t)b->st_nlink);
	if ((enabled & CHECK_RDEV) && (S_ISCHR(a->st_mode) || S_ISBLK(a->st_mode)) &&
	    a->st_rdev != b->st_rdev)
		differ("device %u:%u and %u:%u", major(a->st_rdev), minor(a->st_rdev),
		       major(b->st_rdev), minor(b->st_rdev));
	if ((S_ISREG(a->st_mode) || S_ISLNK(a->st_mode)) && a->st_size != b->st_size)
		differ("size %jd and %jd", (intmax_t)a->st_size, (intmax_t)b->st_size);
	if ((enabled & CHECK_LINKS) && !dir)
		compare_links(st);
}

static void load_xattr_names(const char *at, struct names *out)
{
	char *list = check_alloc(malloc(XATTR_MAX));
	ssize_t n = llistxattr(at, list, XATTR_MAX);

	if (n < 0 && errno != ENOTSUP)
		die("cannot list xattrs of %s: %s", path, strerror(errno));
	for (char *p = list; n > 0 && p < list + n; p += strlen(p) + 1)
		names_add(out, p);
	free(list);
	names_sort(out);
}

static void compare_xattr_values(const char *const at[2], const char *name)
{
	ssize_t n[2];

	for (int side = 0; side < 2; side++) {
		n[side] = lgetxattr(at[side], name, io[side], XATTR_MAX);
		if (n[side] < 0)
			die("cannot read xattr %s of %s: %s", name, path, strerror(errno));
	}
	if (n[0] != n[1] || memcmp(io[0], io[1], (size_t)n[0]) != 0)
		differ("xattr %s has other values (%zd and %zd bytes)", name, n[0], n[1]);
}

static void compare_xattrs(const char *const at[2])
{
	struct names a = { 0 }, b = { 0 };
	size_t i = 0, k = 0;

	load_xattr_names(at[0], &a);
	load_xattr_names(at[1], &b);
	while (i < a.n || k < b.n) {
		int c = i == a.n ? 1 : k == b.n ? -1 : strcmp(a.list[i], b.list[k]);

		if (c == 0)
			compare_xattr_values(at, a.list[i]);
		else
			differ("xattr %s only in %s", c < 0 ? a.list[i] : b.list[k],
			       c < 0 ? "A" : "B");
		i += c <= 0;
		k += c >= 0;
	}
	names_fini(&a);
	names_fini(&b);
}

static void compare_targets(const int fd[2], const char *name)
{
	char target[2][8192];

	for (int side = 0; side < 2; side++) {
		ssize_t n = readlinkat(fd[side], name, target[side], sizeof(target[0]) - 1);

		if (n < 0)
			die("cannot read the symlink %s: %s", path, strerror(errno));
		target[side][n] = '\0';
	}
	if (strcmp(target[0], target[1]) != 0)
		differ("symlink to %s and %s", target[0], target[1]);
}

static size_t read_block(int fd, void *buf, off_t at)
{
	size_t len = 0;

	while (len < IO_SIZE) {
		ssize_t n = pread(fd, (uint8_t *)buf + len, IO_SIZE - len, at + (off_t)len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			die("cannot read %s: %s", path, strerror(errno));
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return len;
}

static void compare_bytes(const int fd[2])
{
	for (off_t at = 0;; at += IO_SIZE) {
		size_t a = read_block(fd[0], io[0], at), b = read_block(fd[1], io[1], at);
		size_t n = MIN(a, b), i = 0;

		if (memcmp(io[0], io[1], n) != 0) {
			while (io[0][i] == io[1][i])
				i++;
			differ("content differs from byte %jd on", (intmax_t)at + (intmax_t)i);
			return;
		}
		if (a != b || n < IO_SIZE)
			return; /* the sizes were compared */
	}
}

static void compare_holes(const int fd[2], off_t size)
{
	off_t at = 0;

	for (int what = SEEK_DATA; at < size; what = what == SEEK_DATA ? SEEK_HOLE : SEEK_DATA) {
		off_t a = lseek(fd[0], at, what), b = lseek(fd[1], at, what);

		a = a < 0 ? size : a;
		b = b < 0 ? size : b;
		if (a != b) {
			differ("%s after byte %jd starts at %jd and %jd",
			       what == SEEK_DATA ? "data" : "hole", (intmax_t)at, (intmax_t)a,
			       (intmax_t)b);
			return;
		}
		at = a;
	}
}

static void compare_files(const int dir[2], const char *name, off_t size)
{
	int fd[2];

	for (int side = 0; side < 2; side++) {
		fd[side] = openat(dir[side], name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd[side] < 0)
			die("cannot open %s: %s", path, strerror(errno));
	}
	if (enabled & CHECK_CONTENT)
		compare_bytes(fd);
	if (enabled & CHECK_HOLES)
		compare_holes(fd, size);
	close(fd[0]);
	close(fd[1]);
}

/* True where both are directories, to be walked. */
static bool compare_entry(const int dir[2], const char *name)
{
	struct stat st[2];
	char at[2][64 + NAME_MAX];

	entries++;
	for (int side = 0; side < 2; side++) {
		if (fstatat(dir[side], name, &st[side], AT_SYMLINK_NOFOLLOW) < 0)
			die("cannot stat %s: %s", path, strerror(errno));
		snprintf(at[side], sizeof(at[0]), "/proc/self/fd/%d/%s", dir[side], name);
	}
	if ((st[0].st_mode & S_IFMT) != (st[1].st_mode & S_IFMT)) {
		differ("%s and %s", type_name(st[0].st_mode), type_name(st[1].st_mode));
		return false;
	}
	compare_stat(st);
	if (enabled & CHECK_XATTRS)
		compare_xattrs((const char *const[]){ at[0], at[1] });
	if (S_ISLNK(st[0].st_mode))
		compare_targets(dir, name);
	if (S_ISREG(st[0].st_mode) && st[0].st_size == st[1].st_size &&
	    (enabled & (CHECK_CONTENT | CHECK_HOLES)))
		compare_files(dir, name, st[0].st_size);
	return S_ISDIR(st[0].st_mode);
}

static void start_level(struct level *l, const int dir[2])
{
	struct stat st;

	*l = (struct level){ .path_len = path_len };
	for (int side = 0; side < 2; side++) {
		if (fstat(dir[side], &st) < 0)
			die("cannot stat %s: %s", path, strerror(errno));
		l->dev[side] = st.st_dev;
		l->ino[side] = st.st_ino;
	}
	common_names(dir, &l->names);
}

static void move(int dir[2], const char *to, int flags)
{
	for (int side = 0; side < 2; side++) {
		int next = openat(dir[side], to, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);

		if (next < 0)
			die("cannot open %s: %s", path, strerror(errno));
		close(dir[side]);
		dir[side] = next;
	}
}

static void check_level(const struct level *l, const int dir[2])
{
	struct stat st;

	for (int side = 0; side < 2; side++)
		if (fstat(dir[side], &st) < 0 || st.st_dev != l->dev[side] ||
		    st.st_ino != l->ino[side])
			die("a directory was moved while it was compared: %s", path);
}

static void walk(int dir[2])
{
	struct level *levels = NULL;
	size_t depth = 0, cap = 0;

	set_path(0, "");
	if (compare_entry(dir, "."))
		depth = 1;
	cap = 64;
	levels = check_alloc(malloc(cap * sizeof(*levels)));
	start_level(&levels[0], dir);
	while (depth > 0) {
		struct level *l = &levels[depth - 1];

		if (l->next == l->names.n) {
			names_fini(&l->names);
			if (--depth > 0) {
				move(dir, "..", 0);
				check_level(&levels[depth - 1], dir);
			}
			continue;
		}
		const char *name = l->names.list[l->next++];
		set_path(l->path_len, name);
		if (!compare_entry(dir, name))
			continue;
		move(dir, name, O_NOFOLLOW);
		if (depth == cap) {
			cap *= 2;
			levels = check_alloc(realloc(levels, cap * sizeof(*levels)));
		}
		start_level(&levels[depth++], dir);
	}
	free(levels);
}

static void usage(FILE *to)
{
	fputs("Usage: fscompare [OPTION]... A B\n"
	      "Compare the directory trees A and B and print what differs.\n"
	      "Types, sizes of files, names and symlink targets are always compared.\n\n",
	      to);
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
		fprintf(to, "  --%s-%-12s %s\n", checks[i].by_default ? "ignore" : " check",
			checks[i].name, checks[i].help);
	fputs("  --exclude=NAME        leave out NAME wherever it is (may be repeated)\n"
	      "  --max=N               print at most N differences (default 100)\n"
	      "  --quiet               no summary\n"
	      "  --help\n\n"
	      "Exit status: 0 they are the same, 1 they differ, 2 trouble.\n",
	      to);
}

/* --ignore-X or --check-X; false for anything else. */
static bool set_check(const char *arg)
{
	bool ignore = strncmp(arg, "--ignore-", 9) == 0;
	bool check = strncmp(arg, "--check-", 8) == 0;

	for (size_t i = 0; i < ARRAY_SIZE(checks) && (ignore || check); i++)
		if (strcmp(arg + (ignore ? 9 : 8), checks[i].name) == 0) {
			enabled = check ? enabled | checks[i].bit : enabled & ~checks[i].bit;
			return true;
		}
	return false;
}

static bool set_option(const char *arg, bool *quiet)
{
	if (strcmp(arg, "--quiet") == 0)
		*quiet = true;
	else if (strncmp(arg, "--max=", 6) == 0)
		max_differences = strtoul(arg + 6, NULL, 10);
	else if (strncmp(arg, "--exclude=", 10) == 0 && n_excluded < ARRAY_SIZE(excluded))
		excluded[n_excluded++] = arg + 10;
	else
		return set_check(arg);
	return true;
}

int main(int argc, char **argv)
{
	const char *trees[2];
	int n = 0, dir[2];
	bool quiet = false;

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
		enabled |= checks[i].by_default ? checks[i].bit : 0;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0) {
			usage(stdout);
			return 0;
		}
		if (argv[i][0] == '-' && !set_option(argv[i], &quiet))
			die("unknown option %s; see --help", argv[i]);
		if (argv[i][0] != '-' && n < 2)
			trees[n] = argv[i];
		n += argv[i][0] != '-';
	}
	if (n != 2) {
		usage(stderr);
		return 2;
	}
	for (int side = 0; side < 2; side++) {
		io[side] = check_alloc(malloc(IO_SIZE));
		dir[side] = open(trees[side], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir[side] < 0)
			die("cannot open %s: %s", trees[side], strerror(errno));
	}
	walk(dir);
	if (!quiet)
		printf("%lu entries, %lu differences\n", entries, differences);
	return differences ? 1 : 0;
}
