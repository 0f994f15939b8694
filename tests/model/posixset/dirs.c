/* dirs.c - reading directories, small and large, still and changing. */
#include "tests/model/posixset/posixset.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MANY 20000

static bool make_many(unsigned from, unsigned to)
{
	char name[32];

	for (unsigned i = from; i < to; i++) {
		snprintf(name, sizeof(name), "entry-%u", i);
		if (mknod(name, S_IFREG | 0644, 0))
			return false;
	}
	return true;
}

/* The entry's number, or -1. */
static int number(const struct dirent *e)
{
	unsigned i;

	return sscanf(e->d_name, "entry-%u", &i) == 1 && i < 2 * MANY ? (int)i : -1;
}

static int all_entries_are_listed_once(void)
{
	static unsigned char seen[2 * MANY];
	CHECK(make_many(0, MANY));
	DIR *d = opendir(".");
	CHECK(d);
	unsigned others = 0;
	for (struct dirent *e; (e = readdir(d));) {
		int i = number(e);
		if (i < 0)
			others++;
		else
			CHECK(!seen[i]++ && e->d_ino);
		CHECK(i < 0 || e->d_type == DT_REG || e->d_type == DT_UNKNOWN);
	}
	CHECK(others == 2);
	for (unsigned i = 0; i < MANY; i++)
		CHECK(seen[i] == 1);
	return CASE_PASS;
}

static int listing_goes_on_while_entries_change(void)
{
	static unsigned char seen[2 * MANY];
	char name[32], other[32];
	CHECK(make_many(0, MANY));
	DIR *d = opendir(".");
	CHECK(d);
	unsigned n = 0;
	for (struct dirent *e; (e = readdir(d)); n++) {
		int i = number(e);
		if (i >= 0)
			CHECK(!seen[i]++);
		if (n % 4)
			continue;
		/* Odd ones go, new ones come; even ones below MANY stay. */
		snprintf(name, sizeof(name), "entry-%u", (n * 7 + 1) % MANY | 1);
		snprintf(other, sizeof(other), "entry-%u", MANY + n % MANY);
		if (n % 8)
			unlink(name);
		else
			rename(name, other);
	}
	for (unsigned i = 0; i < MANY; i += 2)
		CHECK(seen[i] == 1);
	return CASE_PASS;
}

static int entries_can_be_removed_while_listing(void)
{
	CHECK(make_many(0, 3000));
	DIR *d = opendir(".");
	CHECK(d);
	for (struct dirent *e; (e = readdir(d));) {
		if (number(e) >= 0)
			CHECK(!unlink(e->d_name));
	}
	rewinddir(d);
	unsigned left = 0;
	while (readdir(d))
		left++;
	CHECK(left == 2);
	return CASE_PASS;
}

static int seekdir_goes_back_to_where_telldir_was(void)
{
	static long at[5000];
	static int id[5000];
	CHECK(make_many(0, 4000));
	DIR *d = opendir(".");
	unsigned n = 0;
	for (struct dirent *e; n < 5000; n++) {
		at[n] = telldir(d);
		if (!(e = readdir(d)))
			break;
		id[n] = number(e);
	}
	CHECK(n == 4002);
	for (unsigned k = 1; k < 300; k++) {
		unsigned i = k * 7919 % n;
		seekdir(d, at[i]);
		struct dirent *e = readdir(d);
		CHECK(e && number(e) == id[i]);
	}
	/* A position stays good when the entries before it go. */
	for (unsigned i = 0; i < 2000; i++) {
		char name[32];
		snprintf(name, sizeof(name), "entry-%d", id[i]);
		CHECK(id[i] < 0 || !unlink(name));
	}
	seekdir(d, at[2000]);
	struct dirent *e = readdir(d);
	CHECK(e && number(e) == id[2000]);
	return CASE_PASS;
}

static int rewinddir_sees_what_is_new(void)
{
	DIR *d = opendir(".");
	while (readdir(d))
		;
	CHECK(make_many(0, 5));
	rewinddir(d);
	unsigned n = 0;
	while (readdir(d))
		n++;
	CHECK(n == 7);
	return CASE_PASS;
}

static int small_buffers_list_all(void)
{
	char buf[400];
	unsigned n = 0;
	long got;
	CHECK(make_many(0, 500));
	int fd = open(".", O_RDONLY | O_DIRECTORY);
	while ((got = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < got; n++)
			at += *(unsigned short *)(buf + at + 16);
	}
	CHECK(got == 0 && n == 502);
	CHECK(lseek(fd, 0, SEEK_SET) == 0 && syscall(SYS_getdents64, fd, buf, sizeof(buf)) > 0);
	CHECK_ERR(syscall(SYS_getdents64, fd, buf, 10), EINVAL);
	return CASE_PASS;
}

static int listings_give_true_numbers_and_types(void)
{
	CHECK(put_text("f", "") && !mkdir("d", 0755) && !symlink("x", "l") && !mkfifo("p", 0644) &&
	      !mknod("s", S_IFSOCK | 0644, 0) && !link("f", "g"));
	DIR *d = opendir(".");
	struct stat up = stat_of("..");
	unsigned n = 0;
	for (struct dirent *e; (e = readdir(d)); n++) {
		struct stat st = stat_of(e->d_name);
		CHECK(e->d_ino == (strcmp(e->d_name, "..") ? st.st_ino : up.st_ino));
		CHECK(e->d_type == DT_UNKNOWN || e->d_type == IFTODT(st.st_mode));
	}
	CHECK(n == 8);
	return CASE_PASS;
}

static int names_are_bytes(void)
{
	static const char *const names[] = {
		"\xff\xfe\xfd", "tab\there",	"new\nline", " ", "~",
		"caf\xc3\xa9",	"cafe\xcc\x81", "A",	     "a", "..."
	};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		CHECK(put_text(names[i], names[i]));
	DIR *d = opendir(".");
	size_t found = 0;
	for (struct dirent *e; (e = readdir(d));) {
		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			found += !strcmp(names[i], e->d_name) && has_text(names[i], names[i]);
	}
	CHECK(found == ARRAY_SIZE(names));
	return CASE_PASS;
}

const struct posix_case dirs_cases[] = {
	CASE(all_entries_are_listed_once),
	CASE(listing_goes_on_while_entries_change),
	CASE(entries_can_be_removed_while_listing),
	CASE(seekdir_goes_back_to_where_telldir_was),
	CASE(rewinddir_sees_what_is_new),
	CASE(small_buffers_list_all),
	CASE(listings_give_true_numbers_and_types),
	CASE(names_are_bytes),
	{ NULL, NULL },
};
