/*
 * oddtree DIR [notar] - fill a directory with all that a filesystem may hold:
 * holes, hard links, xattrs, ACLs, capabilities, devices, odd names, owners and
 * times. "notar" adds what a tar cannot hold: sockets, links of fifos, and
 * paths longer than PATH_MAX. As root; on a filesystem that has it all (ext4).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/base/macros.h"

static void must(long rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "oddtree: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void bytes(uint64_t seed, uint8_t *out, size_t len)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		out[i] = (uint8_t)x;
	}
}

/* A file of random bytes; at[] of them as pieces of a sparse file. */
static void file(const char *name, uint64_t seed, size_t len)
{
	uint8_t *data = malloc(len + 1);
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	must(data && fd >= 0 ? 0 : -1, name);
	bytes(seed, data, len);
	must(write(fd, data, len) == (ssize_t)len ? 0 : -1, name);
	must(close(fd), name);
	free(data);
}

static void sparse(const char *name, off_t size, const off_t *at, size_t n, size_t len)
{
	uint8_t data[70000];
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	must(fd, name);
	must(ftruncate(fd, size), name);
	for (size_t i = 0; i < n; i++) {
		bytes((uint64_t)at[i] + 1, data, len);
		must(pwrite(fd, data, len, at[i]) == (ssize_t)len ? 0 : -1, name);
	}
	must(close(fd), name);
}

static void contents(void)
{
	static const size_t sizes[] = { 0,     1,     511,   512,    513,    4095,    4096,
					65535, 65536, 65537, 262144, 262145, 1000000, 3000001 };
	static const off_t middle[] = { 8192, 10 << 20 };
	static const off_t front[] = { 0 };
	static const off_t far[] = { 0, 10ll << 30, (20ll << 30) - 4096 };
	char name[64];

	must(mkdir("content", 0755), "content");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		snprintf(name, sizeof(name), "content/size-%zu", sizes[i]);
		file(name, 5, sizes[i]); /* each begins as the others: they share chunks */
	}
	sparse("content/hole-only", 1 << 20, NULL, 0, 0);
	sparse("content/hole-middle", 20 << 20, middle, 2, 8192);
	sparse("content/hole-end", 5 << 20, front, 1, 69632);
	sparse("content/twenty-gigabytes", 20ll << 30, far, 3, 4096);
	int fd = open("content/written-zeros", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	static const char zeros[300000];
	must(fd, "zeros");
	must(write(fd, zeros, sizeof(zeros)), "zeros");
	must(write(fd, "end", 3), "zeros");
	must(close(fd), "zeros");
}

static void names(void)
{
	static const char *const odd[] = { "with space",  "new\nline", "tab\t",	      "-dash",
					   "~",		  "\xff\xfe",  "caf\xc3\xa9", "...",
					   "back\\slash", "\"q\"",     "*",	      "\x01",
					   "dot.",	  "CAPITAL",   "capital" };
	char name[300] = "names/";

	must(mkdir("names", 0755), "names");
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
		snprintf(name, sizeof(name), "names/%s", odd[i]);
		file(name, i, i);
	}
	memset(name + 6, 'n', 255);
	name[261] = 0;
	file(name, 1, 10);
	name[6] = 'd';
	must(mkdir(name, 0755), "a long directory name");
	strcat(name, "/below");
	file(name, 2, 20);
	must(mkdir("many", 0755), "many");
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "many/%d", i);
		file(name, (uint64_t)i % 7, (size_t)i % 5);
	}
}

static void links(void)
{
	char target[4096];

	must(mkdir("links", 0755), "links");
	must(mkdir("links/other", 0755), "links/other");
	file("links/a", 3, 100000);
	must(link("links/a", "links/b"), "link");
	must(link("links/a", "links/other/c"), "link");
	must(symlink("a", "links/relative"), "symlink");
	must(symlink("/absolute/path", "links/absolute"), "symlink");
	must(symlink("../names/with space", "links/space"), "symlink");
	must(symlink("\xff raw", "links/raw"), "symlink");
	memset(target, 't', 4095);
	target[4095] = 0;
	for (int i = 200; i < 4095; i += 200)
		target[i] = '/';
	must(symlink(target, "links/long"), "long symlink");
	must(link("links/relative", "links/link-of-symlink"), "link of a symlink");
}

static void specials(void)
{
	must(mkdir("special", 0755), "special");
	must(mkfifo("special/fifo", 0640), "fifo");
	must(mknod("special/null", S_IFCHR | 0666, makedev(1, 3)), "char device");
	must(mknod("special/large", S_IFCHR | 0600, makedev(4000, 1000000)), "char device");
	must(mknod("special/block", S_IFBLK | 0660, makedev(7, 200)), "block device");
}

static void owners(void)
{
	static const unsigned ids[] = { 1, 1000, 65534, 70000, 2147483648u, 4294967294u };
	static const unsigned modes[] = { 0, 0400, 04755, 02755, 06711, 01644, 07777 };
	char name[64];

	must(mkdir("owners", 0755), "owners");
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		snprintf(name, sizeof(name), "owners/%u", ids[i]);
		file(name, i, 10);
		must(chown(name, ids[i], ids[ARRAY_SIZE(ids) - 1 - i]), name);
	}
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		snprintf(name, sizeof(name), "owners/mode-%o", modes[i]);
		file(name, i, 10);
		must(chmod(name, modes[i]), name);
	}
	must(mkdir("owners/sticky", 0777), "sticky");
	must(chmod("owners/sticky", 01777), "sticky");
	must(mkdir("owners/setgid", 0777), "setgid");
	must(chown("owners/setgid", 5, 6), "setgid");
	must(chmod("owners/setgid", 02770), "setgid");
	must(symlink("x", "owners/link"), "symlink");
	must(lchown("owners/link", 1000, 1001), "symlink's owner");
}

static void attributes(void)
{
	static const uint32_t cap[5] = { 0x02000001, 0x2000, 0, 0, 0 };
	static const uint32_t acl[] = { 2,	    0x00070001, UINT32_MAX, 0x00060002,
					1000,	    0x00050004, UINT32_MAX, 0x00070010,
					UINT32_MAX, 0x00000020, UINT32_MAX };
	uint8_t value[2500];
	char name[64];

	must(mkdir("attributes", 0755), "attributes");
	file("attributes/some", 1, 10);
	for (int i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "user.attribute-%d", i);
		bytes((uint64_t)i, value, sizeof(value));
		must(setxattr("attributes/some", name, value, (size_t)i * 9, 0), name);
	}
	file("attributes/large", 1, 10);
	must(setxattr("attributes/large", "user.large", value, sizeof(value), 0), "large xattr");
	must(setxattr("attributes/large", "trusted.overlay", "y", 1, 0), "trusted xattr");
	file("attributes/capable", 1, 10);
	must(setxattr("attributes/capable", "security.capability", cap, 20, 0), "capability");
	file("attributes/acl", 1, 10);
	must(setxattr("attributes/acl", "system.posix_acl_access", acl, sizeof(acl), 0), "ACL");
	must(mkdir("attributes/dir", 0755), "dir");
	must(setxattr("attributes/dir", "system.posix_acl_default", acl, sizeof(acl), 0), "ACL");
	must(setxattr("attributes/dir", "user.of-a-directory", "d", 1, 0), "xattr of a directory");
	must(symlink("x", "attributes/link"), "symlink");
	must(lsetxattr("attributes/link", "trusted.of-a-symlink", "l", 1, 0), "xattr of a symlink");
}

static void times(void)
{
	static const struct timespec ts[] = { { 0, 0 },
					      { 1, 1 },
					      { -1, 0 },
					      { -1000000000, 999999999 },
					      { 951782400, 123456789 },
					      { 4102444800, 1 } };
	char name[64];

	must(mkdir("times", 0755), "times");
	for (size_t i = 0; i < ARRAY_SIZE(ts); i++) {
		const struct timespec both[2] = { ts[i], ts[i] };
		snprintf(name, sizeof(name), "times/%lld", (long long)ts[i].tv_sec);
		file(name, i, 10);
		must(utimensat(AT_FDCWD, name, both, 0), name);
	}
	const struct timespec both[2] = { ts[4], ts[4] };
	must(mkdir("times/dir", 0755), "dir");
	must(utimensat(AT_FDCWD, "times/dir", both, 0), "dir");
	must(symlink("x", "times/link"), "symlink");
	must(utimensat(AT_FDCWD, "times/link", both, AT_SYMLINK_NOFOLLOW), "symlink");
	must(mkdir("empty", 0700), "empty");
}

static void what_tar_lacks(void)
{
	char name[201];
	int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	must(mknod("special/socket", S_IFSOCK | 0755, 0), "socket");
	must(link("special/fifo", "special/fifo-link"), "link of a fifo");
	memset(name, 'd', 200);
	name[200] = 0;
	must(fd, ".");
	for (int i = 0; i < 25; i++) {
		must(mkdirat(fd, name, 0755), "deep directory");
		int next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		must(next, "deep directory");
		close(fd);
		fd = next;
	}
	int f = openat(fd, "deep", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	must(f, "deep file");
	must(write(f, "deep\n", 5), "deep file");
	must(close(f), "deep file");
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: oddtree DIR [notar]\n");
		return 2;
	}
	umask(0);
	if (mkdir(argv[1], 0755))
		must(errno == EEXIST ? 0 : -1, argv[1]);
	must(chdir(argv[1]), argv[1]);
	contents();
	names();
	links();
	specials();
	owners();
	attributes();
	times();
	if (argc > 2)
		what_tar_lacks();
	return 0;
}
