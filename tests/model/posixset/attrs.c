/* attrs.c - owners, permissions, ACLs, times, extended attributes. */
#include "tests/model/posixset/posixset.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define ALICE 1000
#define BOB 1001
#define GROUP 2000

static int as_bob_sticky(void)
{
	CHECK_ERR(unlink("t/alice"), EPERM);
	CHECK_ERR(rename("t/alice", "t/mine"), EPERM);
	CHECK(put_text("t/bob", "b") && !rename("t/bob", "t/bob2"));
	CHECK_ERR(rename("t/bob2", "t/alice"), EPERM);
	CHECK(!unlink("t/bob2"));
	return CASE_PASS;
}

static int sticky_directories_protect_others_files(void)
{
	CHECK(!mkdir("t", 0777) && !chmod("t", 01777) && put_text("t/alice", "a"));
	CHECK(!chown("t/alice", ALICE, ALICE));
	CHECK(as_user(BOB, BOB, as_bob_sticky) == CASE_PASS);
	CHECK(!unlink("t/alice"));
	return CASE_PASS;
}

static int as_alice_makes(void)
{
	CHECK(put_text("g/file", "") && !mkdir("g/dir", 0755) && !symlink("x", "g/link"));
	CHECK(put_text("plain/file", ""));
	return CASE_PASS;
}

static int setgid_directories_give_their_group(void)
{
	CHECK(!mkdir("g", 0777) && !chown("g", 0, GROUP) && !chmod("g", 02777));
	CHECK(!mkdir("plain", 0777) && !chmod("plain", 0777) && !chown("plain", 0, GROUP));
	CHECK(as_user(ALICE, ALICE, as_alice_makes) == CASE_PASS);
	CHECK(stat_of("g/file").st_gid == GROUP && stat_of("g/file").st_uid == ALICE);
	CHECK(stat_of("g/dir").st_gid == GROUP && mode_of("g/dir") == 02755);
	CHECK(stat_of("g/link").st_gid == GROUP);
	CHECK(stat_of("plain/file").st_gid == ALICE && mode_of("g/file") == 0644);
	return CASE_PASS;
}

static int umask_takes_bits_away(void)
{
	umask(027);
	CHECK(close(open("f", O_CREAT | O_WRONLY, 0666)) == 0 && mode_of("f") == 0640);
	CHECK(!mkdir("d", 0777) && mode_of("d") == 0750);
	CHECK(!mkfifo("p", 0666) && mode_of("p") == 0640);
	umask(0777);
	CHECK(close(open("none", O_CREAT | O_WRONLY, 0666)) == 0 && mode_of("none") == 0);
	return CASE_PASS;
}

/* The kernel's form of an ACL (linux/posix_acl_xattr.h). */
struct acl {
	uint32_t version;
	struct {
		uint16_t tag, perm;
		uint32_t id;
	} e[5];
};
static struct acl acl_of(unsigned owner, unsigned user, unsigned group, unsigned mask,
			 unsigned other)
{
	return (struct acl){ 2,
			     { { 0x01, (uint16_t)owner, UINT32_MAX },
			       { 0x02, (uint16_t)user, BOB },
			       { 0x04, (uint16_t)group, UINT32_MAX },
			       { 0x10, (uint16_t)mask, UINT32_MAX },
			       { 0x20, (uint16_t)other, UINT32_MAX } } };
}
static bool acl_set(const char *path, const char *name, struct acl a)
{
	return !setxattr(path, name, &a, sizeof(a), 0);
}
#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

static int default_acls_are_inherited(void)
{
	struct acl got;
	CHECK(!mkdir("d", 0755));
	if (!acl_set("d", DEFAULT, acl_of(7, 6, 5, 7, 0)))
		return errno == EOPNOTSUPP ? CASE_SKIP : CASE_FAIL;
	umask(077); /* does not count where there is a default ACL */
	CHECK(close(open("d/f", O_CREAT | O_WRONLY, 0666)) == 0);
	CHECK(mode_of("d/f") == 0660);
	CHECK(getxattr("d/f", ACCESS, &got, sizeof(got)) == sizeof(got));
	CHECK(got.e[1].perm == 6 && got.e[1].id == BOB && got.e[2].perm == 5 && got.e[3].perm == 6);
	CHECK_ERR(getxattr("d/f", DEFAULT, &got, sizeof(got)), ENODATA);
	CHECK(!mkdir("d/sub", 0777) && mode_of("d/sub") == 0770);
	CHECK(getxattr("d/sub", DEFAULT, &got, sizeof(got)) == sizeof(got) && got.e[1].perm == 6);
	CHECK(!mkdir("d/sub/sub", 0700) && mode_of("d/sub/sub") == 0700);
	CHECK(!mknod("d/p", S_IFIFO | 0640, 0) && mode_of("d/p") == 0640);
	CHECK(!symlink("x", "d/l") && getxattr("d/l", ACCESS, &got, sizeof(got)) == -1);
	return CASE_PASS;
}

static int as_bob_acl(void)
{
	CHECK(has_text("f", "secret"));
	CHECK_ERR(open("f", O_WRONLY), EACCES);
	CHECK_ERR(open("g", O_RDONLY), EACCES);
	return CASE_PASS;
}

static int acls_grant_and_the_mask_limits(void)
{
	struct acl got;
	CHECK(put_text("f", "secret") && !chmod("f", 0600));
	if (!acl_set("f", ACCESS, acl_of(6, 4, 0, 4, 0)))
		return errno == EOPNOTSUPP ? CASE_SKIP : CASE_FAIL;
	CHECK(mode_of("f") == 0640); /* the group bits are the mask */
	CHECK(put_text("g", "secret") && acl_set("g", ACCESS, acl_of(6, 6, 0, 0, 0)));
	CHECK(!chmod("g", 0600) && as_user(BOB, BOB, as_bob_acl) == CASE_PASS);
	CHECK(!chmod("g", 0660) && getxattr("g", ACCESS, &got, sizeof(got)) == sizeof(got));
	CHECK(got.e[3].perm == 6 && got.e[1].perm == 6);
	CHECK(!removexattr("g", ACCESS) && mode_of("g") == 0660);
	CHECK_ERR(getxattr("g", ACCESS, &got, sizeof(got)), ENODATA);
	CHECK_ERR(setxattr("g", DEFAULT, &got, sizeof(got), 0), EACCES);
	CHECK_ERR(setxattr("g", ACCESS, "xx", 2, 0), EINVAL);
	return CASE_PASS;
}

static int as_bob_writes(void)
{
	int fd = open("w", O_WRONLY);
	CHECK(fd >= 0 && write(fd, "x", 1) == 1 && !close(fd));
	CHECK(!truncate("t", 1));
	fd = open("a", O_WRONLY);
	CHECK(fd >= 0 && !fallocate(fd, 0, 0, 100) && !close(fd));
	fd = open("o", O_WRONLY | O_TRUNC);
	CHECK(fd >= 0 && !close(fd));
	fd = open("d", O_WRONLY | O_DIRECT);
	if (fd < 0)
		return CASE_SKIP;
	void *page = aligned_alloc(4096, 4096);
	CHECK(page && write(fd, memset(page, 'x', 4096), 4096) == 4096 && !close(fd));
	free(page);
	return CASE_PASS;
}

/* As exec(2) takes it: of the attributes only this one has to be right. */
static unsigned only_mode_of(const char *name)
{
	struct statx st;

	if (statx(AT_FDCWD, name, 0, STATX_MODE, &st))
		return 0;
	return st.stx_mode & 07777;
}

static int writes_of_others_clear_setuid(void)
{
	static const char *const names[] = { "w", "t", "a", "o", "d" };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		CHECK(put_text(names[i], "program") && !chmod(names[i], 06777));
	int r = as_user(BOB, BOB, as_bob_writes);
	if (r != CASE_PASS)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		CHECK(only_mode_of(names[i]) == 0777 && mode_of(names[i]) == 0777);
	CHECK(put_text("root", "x") && !chmod("root", 06755) && !truncate("root", 0));
	CHECK(mode_of("root") == 06755); /* CAP_FSETID */
	return CASE_PASS;
}

static int chown_clears_setuid(void)
{
	CHECK(put_text("f", "x") && !chmod("f", 06755) && !chown("f", ALICE, ALICE));
	CHECK(mode_of("f") == 0755);
	CHECK(put_text("g", "x") && !chmod("g", 06745) && !chown("g", ALICE, (gid_t)-1));
	CHECK(mode_of("g") == 02745); /* not executable by the group: mandatory locking */
	CHECK(!mkdir("d", 0755) && !chmod("d", 02755) && !chown("d", ALICE, ALICE));
	CHECK(mode_of("d") == 02755);
	return CASE_PASS;
}

static int capabilities_go_with_writes_and_chown(void)
{
	/* VFS_CAP_REVISION_2, cap_net_raw permitted and effective */
	static const uint32_t cap[5] = { 0x02000001, 0x2000, 0, 0, 0 };
	uint8_t got[64];
	CHECK(put_text("f", "x") && !setxattr("f", "security.capability", cap, 20, 0));
	CHECK(getxattr("f", "security.capability", got, sizeof(got)) == 20);
	CHECK(!memcmp(got, cap, 20) && put_text("f", "y"));
	CHECK_ERR(getxattr("f", "security.capability", got, sizeof(got)), ENODATA);
	CHECK(put_text("g", "x") && !setxattr("g", "security.capability", cap, 20, 0));
	CHECK(!chown("g", ALICE, ALICE));
	CHECK_ERR(getxattr("g", "security.capability", got, sizeof(got)), ENODATA);
	CHECK(put_text("h", "x") && !setxattr("h", "security.capability", cap, 20, 0));
	CHECK(!truncate("h", 0));
	CHECK_ERR(getxattr("h", "security.capability", got, sizeof(got)), ENODATA);
	return CASE_PASS;
}

static int as_alice_owner(void)
{
	static const struct timespec t[2] = { { 5, 5 }, { 6, 6 } };
	CHECK_ERR(chmod("root", 0777), EPERM);
	CHECK_ERR(chown("alice", BOB, (gid_t)-1), EPERM);
	CHECK_ERR(chown("alice", (uid_t)-1, GROUP), EPERM);
	CHECK(!chown("alice", (uid_t)-1, ALICE) && !chmod("alice", 0600));
	CHECK_ERR(utimensat(AT_FDCWD, "root", t, 0), EPERM);
	CHECK(!utimensat(AT_FDCWD, "root", NULL, 0)); /* may write it */
	CHECK(!utimensat(AT_FDCWD, "alice", t, 0));
	CHECK(!chmod("foreign", 02755) && mode_of("foreign") == 0755);
	CHECK_ERR(mknod("dev", S_IFCHR | 0600, 259), EPERM);
	CHECK_ERR(setxattr("alice", "trusted.x", "1", 1, 0), EPERM);
	CHECK(llistxattr("tagged", NULL, 0) == sizeof("user.seen"));
	CHECK_ERR(open("closed", O_RDONLY), EACCES);
	CHECK_ERR(open("shut/x", O_RDONLY), EACCES);
	CHECK_ERR(access("shut/x", F_OK), EACCES);
	CHECK_ERR(unlink("nowrite/x"), EACCES);
	return CASE_PASS;
}

static int owners_and_others_have_their_rights(void)
{
	CHECK(!chmod(".", 0777) && put_text("root", "") && !chmod("root", 0666));
	CHECK(put_text("alice", "") && !chown("alice", ALICE, ALICE));
	CHECK(put_text("foreign", "") && !chown("foreign", ALICE, GROUP));
	CHECK(put_text("closed", "") && !chmod("closed", 0));
	CHECK(put_text("tagged", "") && !setxattr("tagged", "trusted.hidden", "1", 1, 0) &&
	      !setxattr("tagged", "user.seen", "1", 1, 0));
	CHECK(!mkdir("shut", 0700) && put_text("shut/x", ""));
	CHECK(!mkdir("nowrite", 0755) && put_text("nowrite/x", ""));
	CHECK(as_user(ALICE, ALICE, as_alice_owner) == CASE_PASS);
	CHECK(ns(stat_of("alice").st_mtim) == 6000000006);
	return CASE_PASS;
}

static int times_have_nanoseconds(void)
{
	static const struct timespec set[2] = { { 1000000000, 123456789 },
						{ 4102444800, 987654321 } };
	static const struct timespec omit[2] = { { 7, 7 }, { 0, UTIME_OMIT } };
	static const struct timespec old[2] = { { -5, 999999999 }, { -100000, 1 } };
	CHECK(put_text("f", "") && !utimensat(AT_FDCWD, "f", set, 0));
	struct stat st = stat_of("f");
	CHECK(ns(st.st_atim) == ns(set[0]) && ns(st.st_mtim) == ns(set[1]));
	CHECK(!utimensat(AT_FDCWD, "f", omit, 0));
	st = stat_of("f");
	CHECK(ns(st.st_atim) == ns(omit[0]) && ns(st.st_mtim) == ns(set[1]));
	CHECK(!utimensat(AT_FDCWD, "f", old, 0));
	st = stat_of("f");
	CHECK(ns(st.st_atim) == ns(old[0]) && ns(st.st_mtim) == ns(old[1]));
	CHECK(!symlink("f", "l") && !utimensat(AT_FDCWD, "l", set, AT_SYMLINK_NOFOLLOW));
	CHECK(ns(stat_of("l").st_mtim) == ns(set[1]) && ns(stat_of("f").st_mtim) == ns(old[1]));
	return CASE_PASS;
}

static int times_change_with_what_is_done(void)
{
	CHECK(!mkdir("d", 0755) && put_text("d/f", "12345"));
	struct stat f = stat_of("d/f"), d = stat_of("d");
	tick();
	CHECK(!chmod("d/f", 0600));
	struct stat g = stat_of("d/f");
	CHECK(ns(g.st_ctim) > ns(f.st_ctim) && ns(g.st_mtim) == ns(f.st_mtim));
	CHECK(ns(stat_of("d").st_mtim) == ns(d.st_mtim));
	tick();
	int fd = open("d/f", O_RDWR);
	CHECK(fd >= 0 && pwrite(fd, "x", 1, 0) == 1);
	f = stat_of("d/f");
	CHECK(ns(f.st_mtim) > ns(g.st_mtim) && ns(f.st_ctim) > ns(g.st_ctim));
	tick();
	CHECK(!setxattr("d/f", "user.x", "1", 1, 0));
	g = stat_of("d/f");
	CHECK(ns(g.st_mtim) == ns(f.st_mtim) && ns(g.st_ctim) > ns(f.st_ctim));
	tick();
	CHECK(!ftruncate(fd, 2) && ns(stat_of("d/f").st_mtim) > ns(g.st_mtim));
	CHECK(!unlink("d/f") && ns(stat_of("d").st_mtim) > ns(d.st_mtim));
	return CASE_PASS;
}

static int times_are_those_of_the_clock(void)
{
	struct timespec before, after;
	clock_gettime(CLOCK_REALTIME_COARSE, &before);
	CHECK(put_text("f", "x") && !mkdir("d", 0755));
	clock_gettime(CLOCK_REALTIME, &after);
	int64_t f = ns(stat_of("f").st_mtim), d = ns(stat_of("d").st_mtim);
	CHECK(f >= ns(before) && f <= ns(after) && d >= ns(before) && d <= ns(after));
	return CASE_PASS;
}

static int xattrs_keep_their_rules(void)
{
	char list[256];
	CHECK(put_text("f", "") && !symlink("f", "l") && !mkdir("d", 0755));
	CHECK(!setxattr("f", "user.a", "1", 1, XATTR_CREATE));
	CHECK_ERR(setxattr("f", "user.a", "1", 1, XATTR_CREATE), EEXIST);
	CHECK_ERR(setxattr("f", "user.b", "1", 1, XATTR_REPLACE), ENODATA);
	CHECK(!setxattr("f", "user.a", "22", 2, XATTR_REPLACE));
	CHECK(getxattr("f", "user.a", list, 0) == 2);
	CHECK_ERR(getxattr("f", "user.a", list, 1), ERANGE);
	CHECK(!setxattr("f", "user.empty", "", 0, 0) && getxattr("f", "user.empty", list, 9) == 0);
	CHECK(listxattr("f", list, sizeof(list)) == (ssize_t)sizeof("user.a\0user.empty"));
	CHECK_ERR(listxattr("f", list, 3), ERANGE);
	CHECK_ERR(lsetxattr("l", "user.a", "1", 1, 0), EPERM);
	CHECK(!lsetxattr("l", "trusted.a", "1", 1, 0) && !setxattr("d", "user.d", "1", 1, 0));
	CHECK(!removexattr("f", "user.a"));
	CHECK_ERR(removexattr("f", "user.a"), ENODATA);
	return CASE_PASS;
}

static int xattrs_hold_64_kilobytes(void)
{
	static char big[65536], got[65536];
	fill(7, big, sizeof(big));
	CHECK(put_text("f", ""));
	if (setxattr("f", "user.big", big, sizeof(big), 0))
		return errno == ENOSPC ? CASE_SKIP : CASE_FAIL; /* as ext4 */
	CHECK(getxattr("f", "user.big", got, sizeof(got)) == sizeof(got));
	CHECK(!memcmp(big, got, sizeof(big)));
	return CASE_PASS;
}

const struct posix_case attrs_cases[] = {
	CASE(sticky_directories_protect_others_files),
	CASE(setgid_directories_give_their_group),
	CASE(umask_takes_bits_away),
	CASE(default_acls_are_inherited),
	CASE(acls_grant_and_the_mask_limits),
	CASE(writes_of_others_clear_setuid),
	CASE(chown_clears_setuid),
	CASE(capabilities_go_with_writes_and_chown),
	CASE(owners_and_others_have_their_rights),
	CASE(times_have_nanoseconds),
	CASE(times_change_with_what_is_done),
	CASE(times_are_those_of_the_clock),
	CASE(xattrs_keep_their_rules),
	CASE(xattrs_hold_64_kilobytes),
	{ NULL, NULL },
};
