/* ingest_zoo.h - a directory with one of everything that a filesystem can hold. */
#ifndef VARVE_TEST_INGEST_ZOO_H
#define VARVE_TEST_INGEST_ZOO_H

#include "tests/unit/ingest_fixture.h"

#include <sys/sysmacros.h>
#include <sys/xattr.h>

static inline void put_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
}

static inline void set_mtime(const char *path, int64_t sec, long nsec)
{
	struct timespec t[2] = { { sec, nsec }, { sec, nsec } };

	assert_int_equal(utimensat(AT_FDCWD, path, t, AT_SYMLINK_NOFOLLOW), 0);
}

/* Pseudo-random text of this length: compressible, no zeros. */
static inline void put_text(const char *path, size_t len, unsigned seed)
{
	char *p = malloc(len + 1);
	uint64_t x = seed + 1;

	assert_non_null(p);
	for (size_t i = 0; i < len; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		p[i] = "etaoin shrdlu\n"[(x >> 40) % 14];
	}
	put_file(path, p, len);
	free(p);
}

static inline void put_sparse(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "begin", 5, 0), 5);
	assert_int_equal(pwrite(fd, "middle", 6, 5 << 20), 6);
	assert_int_equal(ftruncate(fd, (9 << 20) + 123), 0);
	close(fd);
}

static inline void zoo_names(void)
{
	char name[256 + 8];

	memset(name, 'n', sizeof(name));
	memcpy(name, "zoo/", 4);
	name[4 + 255] = '\0';
	put_file(name, "long", 4);
	memset(name + 4, 's', 100);
	name[4 + 100] = '\0';
	put_file(name, "exactly 100 with the directory's part or not", 5);
	put_file("zoo/\xc3\xa9-nfc", "1", 1);
	put_file("zoo/e\xcc\x81-nfd", "2", 1);
	put_file("zoo/latin1-\xe9\xff", "3", 1);
	put_file("zoo/new\nline \\ back\ttab", "4", 1);
	put_file("zoo/.wh.whiteout-like", "5", 1);
	assert_int_equal(symlink("target-\xff\xfe", "zoo/link-\xfe"), 0);
	memset(name, 't', sizeof(name));
	name[200] = '\0';
	assert_int_equal(symlink(name, "zoo/longlink"), 0);
}

static inline void zoo_deep(void)
{
	char part[121];

	memset(part, 'd', sizeof(part));
	part[120] = '\0';
	sh("mkdir -p zoo/deep/%s/%s/%s && echo x > zoo/deep/%s/%s/%s/file", part, part, part, part,
	   part, part);
}

static inline void zoo_special(void)
{
	assert_int_equal(mkfifo("zoo/fifo", 0640), 0);
	if (!is_root())
		return;
	assert_int_equal(mknod("zoo/null", S_IFCHR | 0666, makedev(1, 3)), 0);
	assert_int_equal(mknod("zoo/disk", S_IFBLK | 0660, makedev(259, 70000)), 0);
	assert_int_equal(lchown("zoo/text", 1234567, 3000000000u), 0);
	assert_int_equal(lchown("zoo/link-\xfe", 12, 34), 0);
	assert_int_equal(setxattr("zoo/suid", "security.capability",
				  "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 0),
			 0);
	assert_int_equal(setxattr("zoo/text", "trusted.varve", "\0\xff=\n", 4, 0), 0);
}

static inline void zoo_xattrs(void)
{
	static const uint8_t acl[] = {
		2, 0,	0,   0,	  1,   0,   6,	0, 255, 255, 255, 255, 2,   0,	 7,
		0, 232, 3,   0,	  0,   4,   0,	4, 0,	255, 255, 255, 255, 16,	 0,
		7, 0,	255, 255, 255, 255, 32, 0, 4,	0,   255, 255, 255, 255,
	};
	char big[2000];

	memset(big, 'v', sizeof(big));
	assert_int_equal(setxattr("zoo/text", "user.note", "hello", 5, 0), 0);
	assert_int_equal(setxattr("zoo/text", "user.empty", "", 0, 0), 0);
	assert_int_equal(setxattr("zoo/dir", "user.big", big, sizeof(big), 0), 0);
	assert_int_equal(setxattr("zoo/text", "system.posix_acl_access", acl, sizeof(acl), 0), 0);
	assert_int_equal(setxattr("zoo/dir", "system.posix_acl_default", acl, sizeof(acl), 0), 0);
	assert_int_equal(setxattr("zoo/dir", "system.posix_acl_access", acl, sizeof(acl), 0), 0);
}

static inline void zoo_times(void)
{
	set_mtime("zoo/text", 1234567890, 987654321);
	set_mtime("zoo/empty", 0, 0);
	set_mtime("zoo/before", -86400 * 365, 250000000);
	set_mtime("zoo/later", 9000000000, 1);
	set_mtime("zoo/link", 1, 500000000);
	set_mtime("zoo/dir", 1600000000, 7);
	set_mtime("zoo", 1500000000, 123000000);
}

/* Make ./zoo. Sockets are not in it: they have no form in a tar. */
static inline void make_zoo(void)
{
	sh("rm -rf zoo");
	assert_int_equal(mkdir("zoo", 0755), 0);
	assert_int_equal(mkdir("zoo/dir", 0751), 0);
	assert_int_equal(mkdir("zoo/dir/sub", 01777), 0);
	assert_int_equal(mkdir("zoo/emptydir", 02700), 0);
	put_text("zoo/text", 5000, 1);
	put_text("zoo/inline", 300, 2);
	put_text("zoo/chunk", 64 << 10, 3);
	put_text("zoo/chunks", (3 << 20) + 77, 4);
	put_text("zoo/suid", 10, 5);
	put_file("zoo/empty", "", 0);
	put_file("zoo/before", "b", 1);
	put_file("zoo/later", "l", 1);
	assert_int_equal(chmod("zoo/suid", 06755), 0);
	put_sparse("zoo/sparse");
	put_file("zoo/hole", "", 0);
	assert_int_equal(truncate("zoo/hole", 1 << 20), 0);
	assert_int_equal(symlink("dir/sub", "zoo/link"), 0);
	assert_int_equal(link("zoo/text", "zoo/dir/text-too"), 0);
	assert_int_equal(link("zoo/text", "zoo/a-text"), 0);
	assert_int_equal(link("zoo/link", "zoo/dir/link-too"), 0);
	assert_int_equal(link("zoo/chunks", "zoo/dir/sub/chunks"), 0);
	zoo_names();
	zoo_deep();
	zoo_special();
	zoo_xattrs();
	zoo_times();
}

#endif
