/*
 * Trees with every attribute and awkward names, made from a seed: what comes in as
 * a directory goes out as a tar and an image and comes in again with the same root.
 * VARVE_SEED=N runs that seed alone.
 */
#include "tests/unit/ingest_zoo.h"

#define NODES 70u
#define PATH_LIMIT 3000u /* the tests name files by paths below PATH_MAX */

struct maker {
	uint64_t random;
	bool portable; /* only what GNU tar carries, too */
	char *path[NODES];
	uint32_t mode[NODES];
	unsigned n, sockets;
};

static uint64_t below(struct maker *m, uint64_t n)
{
	m->random = m->random * 6364136223846793005ull + 1442695040888963407ull;
	return (m->random >> 33) % n;
}

static void some_bytes(struct maker *m, char *out, size_t len, const char *without)
{
	static const char odd[] = "\n\t \\%=\"'*?~-.\x01\x7f\xc3\xa9\xff\xfe\x80";

	for (size_t i = 0; i < len; i++)
		do
			out[i] = below(m, 3)   ? (char)('a' + below(m, 26))
				 : below(m, 2) ? odd[below(m, sizeof(odd) - 1)]
					       : (char)(1 + below(m, 255));
		while (strchr(without, out[i]));
	out[len] = '\0';
}

/* A path of a new name in one of the directories; malloc'd. */
static char *new_path(struct maker *m)
{
	static const size_t lengths[] = { 1, 3, 8, 20, 99, 100, 101, 255 };
	char name[256], *path = NULL;

	for (;;) {
		unsigned dir = (unsigned)below(m, m->n);

		if (!S_ISDIR(m->mode[dir]))
			continue;
		size_t len = lengths[below(m, ARRAY_SIZE(lengths))];
		some_bytes(m, name, len, "/");
		if (name[0] == '.' || strlen(m->path[dir]) + len > PATH_LIMIT)
			continue; /* dots alone, and .wh. */
		assert_true(asprintf(&path, "%s/%s", m->path[dir], name) > 0);
		struct stat st;
		if (lstat(path, &st) < 0)
			return path;
		free(path);
	}
}

static void make_file(struct maker *m, const char *path)
{
	static const size_t sizes[] = { 0, 1, 511, 512, 513, 4096, 66000, 300000 };
	size_t size = sizes[below(m, ARRAY_SIZE(sizes))];

	put_text(path, size, (unsigned)below(m, 5));
	if (below(m, 4) == 0) /* a hole, and data behind it */
		assert_int_equal(truncate(path, (off_t)(size + (1 << 20))), 0);
	if (below(m, 8) == 0) {
		int fd = open(path, O_WRONLY | O_CLOEXEC);

		assert_int_equal(pwrite(fd, "far", 3, 3ll << 32), 3);
		close(fd);
	}
}

/* Whether there is a file now; a link may have nothing to be one of. */
static bool make_link(struct maker *m, const char *path)
{
	unsigned k = (unsigned)below(m, m->n);
	bool plain = S_ISREG(m->mode[k]) || S_ISLNK(m->mode[k]);

	if (S_ISDIR(m->mode[k]) || (m->portable && !plain))
		return false;
	assert_int_equal(linkat(AT_FDCWD, m->path[k], AT_FDCWD, path, 0), 0);
	m->mode[m->n] = m->mode[k];
	return true;
}

static bool make_one(struct maker *m, const char *path)
{
	static const uint32_t kinds[] = { S_IFREG, S_IFREG, S_IFREG, S_IFDIR,  S_IFDIR, S_IFLNK,
					  S_IFIFO, S_IFCHR, S_IFBLK, S_IFSOCK, 0,	0 };
	uint32_t kind = kinds[below(m, ARRAY_SIZE(kinds))];
	char target[300];

	if (kind == 0)
		return make_link(m, path);
	if (kind == S_IFSOCK && m->portable)
		return false;
	m->mode[m->n] = kind;
	if (kind == S_IFREG) {
		make_file(m, path);
	} else if (kind == S_IFDIR) {
		assert_int_equal(mkdir(path, 0700), 0);
	} else if (kind == S_IFLNK) {
		some_bytes(m, target, 1 + below(m, 250), "");
		assert_int_equal(symlink(target, path), 0);
	} else {
		dev_t dev = makedev(below(m, 4096), below(m, 1 << 20));

		m->sockets += kind == S_IFSOCK;
		assert_int_equal(mknod(path, kind | 0600, dev), 0);
	}
	return true;
}

/* What the filesystem has no room for is left out. */
static void put_xattrs(struct maker *m, const char *path, uint32_t mode)
{
	char name[64], value[700];

	for (uint64_t k = below(m, 4); k > 0; k--) {
		bool user = (S_ISREG(mode) || S_ISDIR(mode)) && below(m, 2);
		size_t n = (size_t)snprintf(name, sizeof(name), user ? "user." : "trusted.");

		some_bytes(m, name + n, 1 + below(m, 30), "");
		for (size_t i = 0; i < sizeof(value); i++)
			value[i] = (char)below(m, 256);
		(void)!lsetxattr(path, name, value, below(m, 3) ? below(m, sizeof(value)) : 0, 0);
	}
	if (S_ISREG(mode) && below(m, 3) == 0)
		(void)!lsetxattr(path, "security.capability",
				 "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 0);
	if (S_ISDIR(mode) && below(m, 3) == 0) {
		static const uint8_t acl[] = {
			2, 0, 0,   0,	1,   0,	  7,  0, 255, 255, 255, 255, 2,	  0,   5,
			0, 9, 0,   0,	0,   4,	  0,  5, 0,   255, 255, 255, 255, 16,  0,
			7, 0, 255, 255, 255, 255, 32, 0, 1,   0,   255, 255, 255, 255,
		};

		(void)!lsetxattr(path, "system.posix_acl_default", acl, sizeof(acl), 0);
		(void)!lsetxattr(path, "system.posix_acl_access", acl, sizeof(acl), 0);
	}
}

static void set_attributes(struct maker *m, const char *path, uint32_t mode)
{
	static const uint32_t ids[] = { 0, 1, 65534, 2097151, 2097152, 3000000000u, 4294967294u };

	assert_int_equal(
		lchown(path, ids[below(m, ARRAY_SIZE(ids))], ids[below(m, ARRAY_SIZE(ids))]), 0);
	if (!S_ISLNK(mode))
		assert_int_equal(chmod(path, (mode_t)below(m, 010000)), 0);
	put_xattrs(m, path, mode);
}

static void set_some_mtime(struct maker *m, const char *path)
{
	static const int64_t seconds[] = { -2000000000, -2,	    -1,		0,
					   1,		1234567890, 4294967296, 8589934592 };
	int64_t sec = seconds[below(m, ARRAY_SIZE(seconds))];
	long nsec = below(m, 3) ? (long)below(m, 1000000000) : 0;

	set_mtime(path, sec, nsec);
}

static void make_tree(struct maker *m, uint64_t seed, bool portable)
{
	*m = (struct maker){ .random = seed, .portable = portable, .n = 1 };
	m->path[0] = strdup("r");
	m->mode[0] = S_IFDIR;
	sh("rm -rf r");
	assert_int_equal(mkdir("r", 0700), 0);
	while (m->n < NODES) {
		char *path = new_path(m);

		if (make_one(m, path))
			m->path[m->n++] = path;
		else
			free(path);
	}
	for (unsigned k = 0; k < m->n; k++)
		set_attributes(m, m->path[k], m->mode[k]);
	for (unsigned k = m->n; k-- > 0;) /* what is below a directory comes before it */
		set_some_mtime(m, m->path[k]);
}

static void free_tree(struct maker *m)
{
	while (m->n > 0)
		free(m->path[--m->n]);
}

static void assert_root(const struct digest *want, const struct digest *got, uint64_t seed,
			const char *how)
{
	if (!digest_equal(want, got))
		fail_msg("seed %llu: another root by %s", (unsigned long long)seed, how);
}

static struct digest import_image(struct scratch *s, const char *path)
{
	reset(s);
	return checked(s, ingest_oci(s->store, path, NULL, NULL, NULL, &s->result, &s->err));
}

/* Out as a tar and as an image, and in again. Sockets are the only difference there may be. */
static void try_exports(struct scratch *s, struct maker *m, uint64_t seed)
{
	struct remarks remarks;
	struct digest want = import_dir(s, "r");

	assert_int_equal(s->result.remarks.kinds[REMARK_XATTR_HIDDEN].count, 0);
	assert_int_equal(export_check(s->store, &want, EXPORT_OCI, &remarks, &s->err), 0);
	assert_true((remarks.kinds[REMARK_SOCKET].count > 0) == (m->sockets > 0));
	export_to(s, &want, "r.tar");
	if (m->sockets > 0) {
		for (unsigned k = 0; k < m->n; k++)
			if (S_ISSOCK(m->mode[k]))
				assert_int_equal(unlink(m->path[k]), 0);
		for (unsigned k = m->n; k-- > 0;)
			if (S_ISDIR(m->mode[k]))
				set_mtime(m->path[k], 1, 1);
		want = import_dir(s, "r");
		export_to(s, &want, "r.tar");
	}
	struct digest got = import_tar(s, "r.tar");
	assert_root(&want, &got, seed, "a tar");
	assert_int_equal(export_oci(s->store, &(struct export_image){ &want, NULL, "v" }, "img",
				    NULL, &s->err),
			 0);
	got = import_image(s, "img");
	assert_root(&want, &got, seed, "an image");
	sh("rm -rf img");
}

/* GNU tar reads what we write, and we what it writes. */
static void try_gnu_tar(struct scratch *s, uint64_t seed)
{
	struct digest want = import_dir(s, "r"), got;

	sh("tar -C r --format=pax --xattrs --xattrs-include='*' --acls --sparse "
	   "--numeric-owner -cf o.tar .");
	got = import_tar(s, "o.tar");
	assert_root(&want, &got, seed, "tar -c");
	sh("rm -rf x && mkdir x && tar -C x --xattrs --xattrs-include='*' --acls --numeric-owner "
	   "-xpf r.tar");
	got = import_dir(s, "x");
	assert_root(&want, &got, seed, "tar -x");
}

static void every_tree_comes_back(void **state)
{
	struct scratch *s = *state;
	const char *one = getenv("VARVE_SEED");
	uint64_t first = one ? strtoull(one, NULL, 10) : 1, last = one ? first : 12;
	struct maker m;

	if (!is_root())
		skip();
	for (uint64_t seed = first; seed <= last; seed++) {
		make_tree(&m, seed, seed % 3 == 0);
		try_exports(s, &m, seed);
		if (m.portable)
			try_gnu_tar(s, seed);
		free_tree(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_tree_comes_back, scratch_setup,
						scratch_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
