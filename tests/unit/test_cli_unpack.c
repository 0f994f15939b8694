/* Unpacking of OCI layouts that come as a tar: tools/inspect/unpack.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/buf.h"
#include "tools/inspect/unpack.h"

static char top[64];

static int set_up(void **state)
{
	(void)state;
	strcpy(top, "/tmp/varve-unpack.XXXXXX");
	return mkdtemp(top) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", top);
	return system(command);
}

static la_ssize_t to_buf(struct archive *a, void *arg, const void *data, size_t len)
{
	(void)a;
	return buf_append(arg, data, len) < 0 ? -1 : (la_ssize_t)len;
}

struct entry {
	const char *path;
	mode_t type;
	const char *data; /* of a file; the target of a link */
	bool hard;
};

/* A tar with these entries. */
static void make_tar(struct buf *out, const struct entry *entries, size_t n)
{
	struct archive *a = archive_write_new();
	struct archive_entry *e = archive_entry_new();

	archive_write_set_format_pax(a);
	archive_write_open(a, out, NULL, to_buf, NULL);
	for (size_t i = 0; i < n; i++) {
		size_t len = entries[i].data ? strlen(entries[i].data) : 0;
		archive_entry_clear(e);
		archive_entry_set_pathname(e, entries[i].path);
		archive_entry_set_filetype(e, entries[i].type);
		archive_entry_set_perm(e, 0644);
		if (entries[i].hard)
			archive_entry_set_hardlink(e, entries[i].data);
		else if (entries[i].type == AE_IFLNK)
			archive_entry_set_symlink(e, entries[i].data);
		else if (entries[i].type == AE_IFREG)
			archive_entry_set_size(e, (la_int64_t)len);
		assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
		if (entries[i].type == AE_IFREG && !entries[i].hard && len)
			assert_int_equal(archive_write_data(a, entries[i].data, len), len);
	}
	archive_entry_free(e);
	archive_write_free(a);
}

/* Unpack `bytes` into top/out. */
static int unpack(const struct buf *bytes, struct error *err)
{
	char dir[80];
	FILE *f = tmpfile();

	snprintf(dir, sizeof(dir), "%s/out", top);
	assert_true(mkdir(dir, 0755) == 0 || errno == EEXIST);
	int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir_fd >= 0);
	assert_non_null(f);
	assert_int_equal(fwrite(bytes->data, 1, bytes->len, f), bytes->len);
	rewind(f);
	int r = unpack_tar(fileno(f), dir_fd, err);
	/* Nothing is left to read: who sends it would wait, or be told of a failure. */
	if (r == 0)
		assert_int_equal(lseek(fileno(f), 0, SEEK_CUR), bytes->len);
	close(dir_fd);
	fclose(f);
	return r;
}

static void check_file(const char *path, const char *wanted)
{
	char full[160], got[64] = "";

	snprintf(full, sizeof(full), "%s/%s", top, path);
	FILE *f = fopen(full, "r");
	assert_non_null(f);
	assert_int_equal(fread(got, 1, sizeof(got) - 1, f), strlen(wanted));
	assert_string_equal(got, wanted);
	fclose(f);
}

static void files_and_directories_are_made(void **state)
{
	static const struct entry entries[] = { { "./", AE_IFDIR, NULL, false },
						{ "oci-layout", AE_IFREG, "{}", false },
						{ "blobs/", AE_IFDIR, NULL, false },
						{ "blobs/sha256/aa", AE_IFREG, "hello", false },
						{ "./index.json", AE_IFREG, "", false },
						{ "empty/dir", AE_IFDIR, NULL, false } };
	CLEANUP(buf_fini_p) struct buf tar = BUF_INIT;
	struct error err = ERROR_INIT;
	char dir[80];
	struct stat st;

	(void)state;
	make_tar(&tar, entries, ARRAY_SIZE(entries));
	assert_int_equal(unpack(&tar, &err), 0);
	check_file("out/oci-layout", "{}");
	check_file("out/blobs/sha256/aa", "hello");
	check_file("out/index.json", "");
	snprintf(dir, sizeof(dir), "%s/out/empty/dir", top);
	assert_int_equal(stat(dir, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
}

static void nothing_is_written_outside(void **state)
{
	static const struct entry hostile[][2] = {
		{ { "../escaped", AE_IFREG, "x", false } },
		{ { "a/../../escaped", AE_IFREG, "x", false } },
		{ { "/escaped", AE_IFREG, "x", false } },
		{ { "a//escaped", AE_IFREG, "x", false } },
		{ { "..", AE_IFDIR, NULL, false } },
		{ { "a/..", AE_IFDIR, NULL, false } },
		{ { "link", AE_IFLNK, "..", false }, { "link/escaped", AE_IFREG, "x", false } },
		{ { "link", AE_IFREG, "/etc/passwd", true } },
		{ { "fifo", AE_IFIFO, NULL, false } },
		{ { "twice", AE_IFREG, "x", false }, { "twice", AE_IFREG, "y", false } },
		{ { "file", AE_IFREG, "x", false }, { "file/escaped", AE_IFREG, "y", false } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
		CLEANUP(buf_fini_p) struct buf tar = BUF_INIT;
		struct error err = ERROR_INIT;
		char path[80];
		tear_down(state);
		set_up(state);
		make_tar(&tar, hostile[i], hostile[i][1].path ? 2 : 1);
		assert_true(unpack(&tar, &err) < 0);
		assert_true(strlen(error_text(&err)) > 0);
		snprintf(path, sizeof(path), "%s/escaped", top);
		assert_int_equal(access(path, F_OK), -1);
	}
	assert_int_equal(access("/escaped", F_OK), -1);
}

static void empty_tar_is_nothing(void **state)
{
	CLEANUP(buf_fini_p) struct buf tar = BUF_INIT;
	struct error err = ERROR_INIT;

	(void)state;
	make_tar(&tar, NULL, 0);
	assert_int_equal(unpack(&tar, &err), 0);
}

static void damaged_stream_is_refused(void **state)
{
	static const struct entry big = { "file", AE_IFREG, NULL, false };
	CLEANUP(buf_fini_p) struct buf tar = BUF_INIT;
	struct error err = ERROR_INIT;
	static char data[1 << 20];
	struct entry e = big;

	(void)state;
	memset(data, 'x', sizeof(data) - 1);
	e.data = data;
	make_tar(&tar, &e, 1);
	tar.len = 300000; /* cut short */
	assert_true(unpack(&tar, &err) < 0);
	tear_down(state);
	set_up(state);
	memset(tar.data, 'y', tar.len); /* no tar at all */
	assert_true(unpack(&tar, &err) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(files_and_directories_are_made, set_up, tear_down),
		cmocka_unit_test_setup_teardown(nothing_is_written_outside, set_up, tear_down),
		cmocka_unit_test_setup_teardown(empty_tar_is_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(damaged_stream_is_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
