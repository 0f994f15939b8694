/* names.c - creating, linking, renaming and removing. */
#include "tests/model/posixset/posixset.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int rename2(const char *from, const char *to, unsigned flags)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

static int rename_noreplace_refuses_an_existing_name(void)
{
	CHECK(put_text("a", "A") && put_text("b", "B"));
	CHECK_ERR(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
	CHECK(has_text("a", "A") && has_text("b", "B"));
	CHECK(!rename2("a", "c", RENAME_NOREPLACE));
	CHECK(has_text("c", "A"));
	CHECK_ERR(access("a", F_OK), ENOENT);
	return CASE_PASS;
}

static int rename_exchange_swaps(void)
{
	CHECK(put_text("f", "F") && !mkdir("d", 0700) && put_text("d/x", "X"));
	CHECK(!rename2("f", "d", RENAME_EXCHANGE));
	CHECK(has_text("d", "F") && has_text("f/x", "X"));
	CHECK(S_ISDIR(stat_of("f").st_mode) && S_ISREG(stat_of("d").st_mode));
	CHECK_ERR(rename2("f", "missing", RENAME_EXCHANGE), ENOENT);
	CHECK(!mkdir("other", 0755) && !mkdir("other/sub", 0755));
	CHECK(!rename2("d", "other/sub", RENAME_EXCHANGE));
	CHECK(stat_of(".").st_nlink == 2 + 3 && stat_of("other").st_nlink == 2);
	CHECK(has_text("other/sub", "F"));
	CHECK_ERR(rename2("other", "other/sub", RENAME_EXCHANGE), EINVAL);
	return CASE_PASS;
}

static bool is_whiteout(const char *name)
{
	struct stat st = stat_of(name);

	return S_ISCHR(st.st_mode) && st.st_rdev == 0 && st.st_nlink == 1;
}

static int rename_whiteout_leaves_a_device(void)
{
	CHECK(put_text("f", "F") && put_text("g", "G") && !mkdir("d", 0755));
	CHECK(!rename2("f", "f2", RENAME_WHITEOUT));
	CHECK(has_text("f2", "F") && is_whiteout("f"));
	CHECK(!rename2("f2", "d/g", RENAME_WHITEOUT) && !rename2("g", "d/g", RENAME_WHITEOUT));
	CHECK(has_text("d/g", "G") && is_whiteout("f2") && is_whiteout("g"));
	CHECK_ERR(rename2("d/g", "g", RENAME_WHITEOUT | RENAME_NOREPLACE), EEXIST);
	CHECK(has_text("d/g", "G"));
	CHECK(!unlink("f") && !unlink("f2") && !unlink("g") && put_text("f", "new"));
	CHECK_ERR(rename2("f", "d/g", RENAME_WHITEOUT | RENAME_EXCHANGE), EINVAL);
	return CASE_PASS;
}

static int rename_refuses_what_posix_says(void)
{
	CHECK(!mkdir("d", 0755) && !mkdir("full", 0755) && put_text("full/x", "") &&
	      put_text("f", ""));
	CHECK(rename("d", "full") == -1 && (errno == ENOTEMPTY || errno == EEXIST));
	CHECK_ERR(rename("d", "f"), ENOTDIR);
	CHECK_ERR(rename("f", "d"), EISDIR);
	CHECK_ERR(rename("full", "full/below"), EINVAL);
	CHECK_ERR(rename("full/x", "full"), ENOTEMPTY);
	CHECK_ERR(rename("nothing", "d"), ENOENT);
	CHECK_ERR(rename("f", "f/x"), ENOTDIR);
	CHECK(rename("d/.", "e") == -1);
	CHECK(!rename("full", "d"));
	CHECK(has_text("d/x", ""));
	CHECK_ERR(access("full", F_OK), ENOENT);
	return CASE_PASS;
}

static int rename_over_an_open_file_keeps_it_readable(void)
{
	char buf[8] = "";
	CHECK(put_text("old", "old one") && put_text("new", "new one"));
	int fd = open("old", O_RDWR);
	CHECK(fd >= 0);
	CHECK(!rename("new", "old"));
	CHECK(read(fd, buf, 7) == 7 && !strcmp(buf, "old one"));
	struct stat st;
	CHECK(!fstat(fd, &st) && st.st_nlink == 0);
	CHECK(pwrite(fd, "OLD", 3, 0) == 3 && pread(fd, buf, 7, 0) == 7 && !strcmp(buf, "OLD one"));
	CHECK(has_text("old", "new one"));
	return CASE_PASS;
}

static int rename_of_two_links_of_a_file_does_nothing(void)
{
	CHECK(put_text("a", "x") && !link("a", "b"));
	CHECK(!rename("a", "b"));
	CHECK(has_text("a", "x") && has_text("b", "x") && stat_of("a").st_nlink == 2);
	return CASE_PASS;
}

static int rename_moves_a_directory_with_all_below(void)
{
	CHECK(!mkdir("from", 0755) && !mkdir("to", 0755) && !mkdir("from/d", 0755) &&
	      !mkdir("from/d/e", 0755) && put_text("from/d/e/f", "deep"));
	int fd = open("from/d/e", O_RDONLY | O_DIRECTORY);
	ino_t to = stat_of("to").st_ino;
	CHECK(fd >= 0 && !rename("from/d", "to/moved"));
	CHECK(has_text("to/moved/e/f", "deep"));
	CHECK(stat_of("from").st_nlink == 2 && stat_of("to").st_nlink == 3);
	struct stat up;
	CHECK(!stat("to/moved/..", &up) && up.st_ino == to);
	CHECK(!fstatat(fd, "../..", &up, 0) && up.st_ino == to);
	CHECK(!mkdirat(fd, "new", 0755) && !rmdir("to/moved/e/new"));
	return CASE_PASS;
}

static int rename_updates_times_of_what_it_moves(void)
{
	CHECK(put_text("f", "") && !mkdir("d", 0755));
	struct stat f = stat_of("f"), d = stat_of("d");
	tick();
	CHECK(!rename("f", "d/g"));
	CHECK(ns(stat_of("d/g").st_ctim) > ns(f.st_ctim));
	CHECK(ns(stat_of("d/g").st_mtim) == ns(f.st_mtim));
	CHECK(ns(stat_of("d").st_mtim) > ns(d.st_mtim));
	return CASE_PASS;
}

static int links_count_and_share(void)
{
	CHECK(put_text("a", "one") && !mkdir("d", 0755) && !link("a", "d/b") && !link("a", "c"));
	CHECK(stat_of("a").st_nlink == 3 && stat_of("d/b").st_ino == stat_of("a").st_ino);
	CHECK(put_text("d/b", "two") && has_text("a", "two") && has_text("c", "two"));
	struct stat before = stat_of("c");
	tick();
	CHECK(!unlink("a") && stat_of("c").st_nlink == 2);
	CHECK(ns(stat_of("c").st_ctim) > ns(before.st_ctim));
	CHECK_ERR(link("d", "e"), EPERM);
	CHECK_ERR(link("c", "d/b"), EEXIST);
	CHECK(!symlink("c", "s") && !link("s", "t") && S_ISLNK(stat_of("t").st_mode));
	CHECK(stat_of("s").st_nlink == 2);
	return CASE_PASS;
}

static int names_have_up_to_255_bytes(void)
{
	char name[300];
	memset(name, 'n', sizeof(name));
	name[255] = 0;
	CHECK(put_text(name, "long") && has_text(name, "long"));
	name[255] = 'n';
	name[256] = 0;
	CHECK_ERR(open(name, O_RDONLY), ENAMETOOLONG);
	CHECK_ERR(open(name, O_WRONLY | O_CREAT, 0644), ENAMETOOLONG);
	CHECK_ERR(mkdir(name, 0755), ENAMETOOLONG);
	CHECK_ERR(symlink("x", name), ENAMETOOLONG);
	CHECK_ERR(rmdir(name), ENAMETOOLONG);
	CHECK_ERR(mkfifo(name, 0644), ENAMETOOLONG);
	CHECK(put_text("a", ""));
	CHECK_ERR(link("a", name), ENAMETOOLONG);
	CHECK_ERR(rename("a", name), ENAMETOOLONG);
	return CASE_PASS;
}

static int symlinks_have_up_to_4095_bytes(void)
{
	static char target[5000], got[5000];
	memset(target, 't', 4095);
	CHECK(!symlink(target, "s") && readlink("s", got, sizeof(got)) == 4095);
	CHECK(!memcmp(target, got, 4095) && stat_of("s").st_size == 4095);
	target[4095] = 't';
	CHECK_ERR(symlink(target, "t"), ENAMETOOLONG);
	CHECK_ERR(symlink("", "u"), ENOENT);
	CHECK(!symlink("v", "v"));
	CHECK_ERR(open("v", O_RDONLY), ELOOP);
	CHECK_ERR(open("s", O_RDONLY | O_NOFOLLOW), ELOOP);
	CHECK_ERR(open("s", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
	return CASE_PASS;
}

static int trees_are_deeper_than_path_max(void)
{
	char name[201];
	memset(name, 'd', 200);
	name[200] = 0;
	int fd = open(".", O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 40; i++) {
		CHECK(!mkdirat(fd, name, 0755));
		int next = openat(fd, name, O_RDONLY | O_DIRECTORY);
		CHECK(next >= 0);
		close(fd);
		fd = next;
	}
	int f = openat(fd, "file", O_RDWR | O_CREAT, 0644);
	CHECK(f >= 0 && write(f, "deep", 4) == 4 && !close(f));
	CHECK(!renameat(fd, "file", fd, "moved") && !unlinkat(fd, "moved", 0));
	for (int i = 0; i < 40; i++) {
		int up = openat(fd, "..", O_RDONLY | O_DIRECTORY);
		CHECK(up >= 0 && !unlinkat(up, name, AT_REMOVEDIR));
		close(fd);
		fd = up;
	}
	return CASE_PASS;
}

static int removed_directories_stay_usable_handles(void)
{
	CHECK(!mkdir("d", 0755));
	int fd = open("d", O_RDONLY | O_DIRECTORY);
	CHECK(fd >= 0 && put_text("d/x", ""));
	CHECK_ERR(rmdir("d"), ENOTEMPTY);
	CHECK(!unlink("d/x") && !rmdir("d"));
	struct stat st;
	CHECK(!fstat(fd, &st) && st.st_nlink == 0);
	CHECK_ERR(openat(fd, "new", O_WRONLY | O_CREAT, 0644), ENOENT);
	CHECK_ERR(mkdirat(fd, "new", 0755), ENOENT);
	CHECK(!mkdir("d", 0755));
	CHECK_ERR(openat(fd, "new", O_WRONLY | O_CREAT, 0644), ENOENT);
	return CASE_PASS;
}

static int open_flags_fail_as_they_should(void)
{
	CHECK(!mkdir("d", 0755) && put_text("f", "text"));
	CHECK_ERR(open("d", O_WRONLY), EISDIR);
	CHECK_ERR(open("d", O_RDONLY | O_CREAT, 0644), EISDIR);
	CHECK_ERR(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
	CHECK_ERR(open("f/x", O_RDONLY), ENOTDIR);
	CHECK_ERR(open("f", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
	CHECK_ERR(open("d/", O_WRONLY | O_CREAT, 0644), EISDIR);
	CHECK_ERR(open("none/x", O_WRONLY | O_CREAT, 0644), ENOENT);
	CHECK_ERR(unlink("d"), EISDIR);
	CHECK_ERR(rmdir("f"), ENOTDIR);
	CHECK_ERR(rmdir("d/."), EINVAL);
	int fd = open("f", O_WRONLY | O_TRUNC);
	CHECK(fd >= 0 && stat_of("f").st_size == 0);
	return CASE_PASS;
}

static int tmpfiles_can_be_given_a_name(void)
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0640);
	if (fd < 0 && errno == EOPNOTSUPP)
		return CASE_SKIP;
	CHECK(fd >= 0 && write(fd, "tmp", 3) == 3);
	struct stat st;
	CHECK(!fstat(fd, &st) && st.st_nlink == 0 && (st.st_mode & 07777) == 0640);
	CHECK(!linkat(fd, "", AT_FDCWD, "named", AT_EMPTY_PATH));
	CHECK(has_text("named", "tmp") && stat_of("named").st_nlink == 1);
	int other = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
	CHECK(other >= 0);
	CHECK_ERR(linkat(other, "", AT_FDCWD, "never", AT_EMPTY_PATH), ENOENT);
	return CASE_PASS;
}

static int unlinked_files_stay_usable(void)
{
	char buf[16] = "";
	int fd = open("f", O_RDWR | O_CREAT | O_EXCL, 0644);
	CHECK(fd >= 0 && write(fd, "some text", 9) == 9 && !unlink("f"));
	CHECK_ERR(access("f", F_OK), ENOENT);
	CHECK(pread(fd, buf, 16, 0) == 9 && !strcmp(buf, "some text"));
	CHECK(!ftruncate(fd, 100000) && pwrite(fd, "end", 3, 99997) == 3 && !fsync(fd));
	struct stat st;
	CHECK(!fstat(fd, &st) && st.st_nlink == 0 && st.st_size == 100000);
	CHECK(!fchmod(fd, 0600) && !fchown(fd, 5, 6));
	char proc[64];
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	int again = open(proc, O_RDONLY);
	CHECK(again >= 0 && pread(again, buf, 3, 99997) == 3 && !memcmp(buf, "end", 3));
	CHECK_ERR(linkat(AT_FDCWD, proc, AT_FDCWD, "back", AT_SYMLINK_FOLLOW), ENOENT);
	CHECK(put_text("f", "another") && pread(fd, buf, 4, 0) == 4 && !memcmp(buf, "some", 4));
	return CASE_PASS;
}

static int special_files_keep_their_kind(void)
{
	CHECK(!mknod("c", S_IFCHR | 0600, makedev(600, 70000)));
	CHECK(!mknod("b", S_IFBLK | 0600, makedev(700, 5)));
	CHECK(!mkfifo("p", 0644) && !mknod("s", S_IFSOCK | 0755, 0));
	struct stat c = stat_of("c"), b = stat_of("b");
	CHECK(S_ISCHR(c.st_mode) && c.st_rdev == makedev(600, 70000));
	CHECK(S_ISBLK(b.st_mode) && b.st_rdev == makedev(700, 5));
	CHECK(S_ISFIFO(stat_of("p").st_mode) && S_ISSOCK(stat_of("s").st_mode));
	int r = open("p", O_RDONLY | O_NONBLOCK), w = open("p", O_WRONLY | O_NONBLOCK);
	char buf[4] = "";
	CHECK(r >= 0 && w >= 0 && write(w, "hi", 2) == 2 && read(r, buf, 4) == 2);
	CHECK(!strcmp(buf, "hi"));
	return CASE_PASS;
}

const struct posix_case names_cases[] = {
	CASE(rename_noreplace_refuses_an_existing_name),
	CASE(rename_exchange_swaps),
	CASE(rename_whiteout_leaves_a_device),
	CASE(rename_refuses_what_posix_says),
	CASE(rename_over_an_open_file_keeps_it_readable),
	CASE(rename_of_two_links_of_a_file_does_nothing),
	CASE(rename_moves_a_directory_with_all_below),
	CASE(rename_updates_times_of_what_it_moves),
	CASE(links_count_and_share),
	CASE(names_have_up_to_255_bytes),
	CASE(symlinks_have_up_to_4095_bytes),
	CASE(trees_are_deeper_than_path_max),
	CASE(removed_directories_stay_usable_handles),
	CASE(open_flags_fail_as_they_should),
	CASE(tmpfiles_can_be_given_a_name),
	CASE(unlinked_files_stay_usable),
	CASE(special_files_keep_their_kind),
	{ NULL, NULL },
};
