/* Archives that mean harm: refused with the entry's name, nothing else happens. */
#include "tests/unit/tar_maker.h"

#include "store/archive/archive_path.h"

#define MEMBERS 6

static void hostile_members_are_refused_by_name(void **state)
{
	static const struct {
		int result;
		const char *named; /* must be in the message */
		struct tar_spec list[MEMBERS];
	} cases[] = {
		{ -EINVAL, "../x", { { '0', "../x", NULL, "x", 0, 0 } } },
		{ -EINVAL, "a/../../x", { { '0', "a/../../x", NULL, "x", 0, 0 } } },
		{ -EINVAL, "a/..", { { '5', "a/..", NULL, NULL, 0, 0 } } },
		{ -EINVAL, "/../etc", { { '5', "/../etc", NULL, NULL, 0, 0 } } },
		{ -EINVAL, "no earlier entry", { { '1', "l", "missing", NULL, 0, 0 } } },
		{ -EINVAL,
		  "no earlier entry",
		  { { '1', "l", "later", NULL, 0, 0 }, { '0', "later", NULL, "x", 0, 0 } } },
		{ -EINVAL, "out of the archive", { { '1', "l", "../../etc/passwd", NULL, 0, 0 } } },
		{ -EINVAL, "no earlier entry", { { '1', "l", "/etc/passwd", NULL, 0, 0 } } },
		{ -EINVAL,
		  "hard link to a directory",
		  { { '5', "d", NULL, NULL, 0, 0 }, { '1', "l", "d", NULL, 0, 0 } } },
		{ -EISDIR, "hard link's target", { { '1', "l", "/", NULL, 0, 0 } } },
		{ -EINVAL,
		  "would replace a directory",
		  { { '5', "d", NULL, NULL, 0, 0 }, { '3', "d", NULL, NULL, 0, 0 } } },
		{ -EINVAL,
		  "would replace a directory",
		  { { '0', "d/f", NULL, "x", 0, 0 }, { '2', "d", "/etc", NULL, 0, 0 } } },
		{ -EINVAL,
		  "would replace a directory",
		  { { '0', "f", NULL, "x", 0, 0 },
		    { '5', "d", NULL, NULL, 0, 0 },
		    { '1', "d", "f", NULL, 0, 0 } } },
		{ -ENOTDIR,
		  "f/below",
		  { { '0', "f", NULL, "x", 0, 0 }, { '0', "f/below", NULL, "x", 0, 0 } } },
		{ -ENOTDIR,
		  "n/below",
		  { { '3', "n", NULL, NULL, 0, 0 }, { '5', "n/below", NULL, NULL, 0, 0 } } },
		{ -ELOOP,
		  "a/x",
		  { { '2', "a", "b", NULL, 0, 0 },
		    { '2', "b", "a", NULL, 0, 0 },
		    { '0', "a/x", NULL, "x", 0, 0 } } },
		{ -ELOOP,
		  "a/x",
		  { { '2', "a", "a/a", NULL, 0, 0 }, { '0', "a/x", NULL, "x", 0, 0 } } },
		{ -EINVAL, "empty or overlong", { { '2', "s", "", NULL, 0, 0 } } },
		{ -EINVAL, "root is not", { { '0', ".", NULL, "x", 0, 0 } } },
		{ -EINVAL, "root is not", { { '2', "/", "etc", NULL, 0, 0 } } },
		{ -EBADMSG, "liar", { { '0', "liar", NULL, "x", 0, 1ull << 40 } } },
		{ -EBADMSG, "liar", { { '0', "liar", NULL, "x", 0, 1ull << 62 } } },
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		make_tar("t.tar", cases[i].list);
		int r = try_tar(s, "t.tar", NULL);
		if (r != cases[i].result || !strstr(error_text(&s->err), cases[i].named))
			fail_msg("case %zu: %d, %s", i, r, error_text(&s->err));
	}
}

static void names_that_are_too_long_are_refused(void **state)
{
	struct scratch *s = *state;
	char *name = malloc(70001);
	struct tar_spec list[] = { { '0', name, NULL, "x", 0, 0 }, { 0 } };

	memset(name, 'a', 70000);
	name[256] = '\0';
	make_tar("t.tar", list);
	assert_int_equal(try_tar(s, "t.tar", NULL), -ENAMETOOLONG);
	name[255] = '\0';
	make_tar("t.tar", list);
	assert_int_equal(try_tar(s, "t.tar", NULL), 0);
	name[255] = name[256] = 'a';
	for (size_t i = 1; i < 70000; i += 2)
		name[i] = '/';
	name[69999] = '\0';
	make_tar("t.tar", list);
	assert_int_equal(try_tar(s, "t.tar", NULL), -ENAMETOOLONG);
	name[65535] = '\0';
	make_tar("t.tar", list);
	import_tar(s, "t.tar");
	assert_int_equal(s->result.file_count, 1 + 32768);
	free(name);
}

static void symlink_targets_that_are_too_long_are_refused(void **state)
{
	struct scratch *s = *state;
	char target[SYMLINK_MAX + 2];
	struct tar_spec list[] = { { '2', "s", target, NULL, 0, 0 }, { 0 } };

	memset(target, 't', sizeof(target));
	target[SYMLINK_MAX + 1] = '\0';
	make_tar("t.tar", list);
	assert_int_equal(try_tar(s, "t.tar", NULL), -EINVAL);
	target[SYMLINK_MAX] = '\0';
	make_tar("t.tar", list);
	import_tar(s, "t.tar");
}

/* n xattrs with values of this size. */
static void make_xattrs(size_t n, size_t name_len, size_t value_len)
{
	struct buf extra = BUF_INIT, b = BUF_INIT;
	struct tar_member m = { .type = TAR_FILE, .path = "f", .path_len = 1, .extra = &extra };
	char *value = calloc(1, value_len + 1), key[512];

	for (size_t i = 0; i < n; i++) {
		int len =
			snprintf(key, sizeof(key), "SCHILY.xattr.user.%0*zu", (int)name_len - 5, i);
		assert_int_equal(tar_put_record(&extra, key, (size_t)len, value, value_len), 0);
	}
	assert_int_equal(tar_put_header(&b, &m), 0);
	assert_int_equal(tar_put_end(&b), 0);
	put_file("t.tar", b.data, b.len);
	buf_fini(&b);
	buf_fini(&extra);
	free(value);
}

static void xattrs_beyond_what_linux_has_are_refused(void **state)
{
	static const struct {
		size_t n, name_len, value_len;
		int result;
	} cases[] = {
		{ 1, 20, 65536, 0 },   { 1, 20, 65537, -E2BIG }, { 1, 255, 1, 0 },
		{ 1, 256, 1, -E2BIG }, { 250, 255, 1, 0 },	 { 300, 255, 1, -E2BIG },
		{ 3000, 20, 1, 0 },
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		make_xattrs(cases[i].n, cases[i].name_len, cases[i].value_len);
		int r = try_tar(s, "t.tar", NULL);
		if (r != cases[i].result)
			fail_msg("case %zu: %d, %s", i, r, error_text(&s->err));
		if (r == 0)
			verify_root(s, &s->result.root);
	}
}

/* A file that claims this sparse map (GNU.sparse 0.1) over 20 bytes of data. */
static void make_sparse_map(const char *map, const char *real_size)
{
	struct buf extra = BUF_INIT, b = BUF_INIT;
	struct tar_member m = {
		.type = TAR_FILE, .path = "f", .path_len = 1, .size = 20, .extra = &extra
	};
	static const char *const keys[] = { "GNU.sparse.size", "GNU.sparse.numblocks",
					    "GNU.sparse.map" };
	const char *values[] = { real_size, "2", map };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_int_equal(tar_put_record(&extra, keys[i], strlen(keys[i]), values[i],
						strlen(values[i])),
				 0);
	assert_int_equal(tar_put_header(&b, &m), 0);
	assert_int_equal(buf_append(&b, "0123456789abcdefghij", 20), 0);
	assert_int_equal(tar_put_padding(&b, 20), 0);
	assert_int_equal(tar_put_end(&b), 0);
	put_file("t.tar", b.data, b.len);
	buf_fini(&b);
	buf_fini(&extra);
}

static void sparse_maps_are_not_believed(void **state)
{
	static const struct {
		const char *map, *size;
		bool good;
	} cases[] = {
		{ "0,10,4096,10", "8192", true },
		{ "4096,10,0,10", "8192", false }, /* backwards */
		{ "0,10,5,10", "8192", false },	   /* overlapping */
		{ "0,10,8190,10", "8192", false }, /* beyond the end */
		{ "0,10,99999999,10", "8192", false },
		{ "0,10,9223372036854775800,10", "9223372036854775807", false },
		{ "0,10,4096,10", "-5", false },
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		make_sparse_map(cases[i].map, cases[i].size);
		int r = try_tar(s, "t.tar", NULL);
		if ((r == 0) != cases[i].good && cases[i].good)
			fail_msg("case %zu: %d, %s", i, r, error_text(&s->err));
		if (r == 0)
			verify_root(s, &s->result.root);
		else
			assert_true(r == -EBADMSG || r == -EINVAL);
	}
}

static void bombs_hit_the_limits(void **state)
{
	struct scratch *s = *state;
	struct ingest_options bytes = { .max_bytes = 10 << 20 }, entries = { .max_entries = 1000 };

	sh("mkdir b && truncate -s 100M b/zeros && tar -C b -c . | gzip -1 > bomb.tgz");
	assert_int_equal(try_tar(s, "bomb.tgz", &bytes), -EFBIG);
	/* Holes cost nothing. */
	sh("truncate -s 2G b/zeros && tar -C b --sparse -czf holes.tgz .");
	assert_int_equal(try_tar(s, "holes.tgz", &bytes), 0);
	struct buf b = BUF_INIT;
	struct tar_spec same = { '0', "f", NULL, "", 0, 0 };
	for (int i = 0; i < 2000; i++)
		tar_add(&b, &same);
	put_file("t.tar", b.data, b.len);
	buf_fini(&b);
	assert_int_equal(try_tar(s, "t.tar", &entries), -EFBIG);
	struct tar_spec deep[] = { { '0', NULL, NULL, "", 0, 0 }, { 0 } };
	char *path = malloc(4001);
	for (size_t i = 0; i < 4000; i++)
		path[i] = i % 2 ? '/' : 'd';
	path[4000] = '\0';
	deep[0].path = path;
	make_tar("t.tar", deep);
	assert_int_equal(try_tar(s, "t.tar", &entries), -EFBIG);
	free(path);
}

static void what_is_no_archive_is_refused(void **state)
{
	struct scratch *s = *state;
	char junk[3000];

	for (size_t i = 0; i < sizeof(junk); i++)
		junk[i] = (char)(i * 7919 >> 3);
	put_file("junk", junk, sizeof(junk));
	assert_int_equal(try_tar(s, "junk", NULL), -EBADMSG);
	put_file("nothing", "", 0);
	assert_int_equal(try_tar(s, "nothing", NULL), -EBADMSG);
	sh("gzip -c junk > junk.gz");
	assert_int_equal(try_tar(s, "junk.gz", NULL), -EBADMSG);
}

/* Every prefix of an archive is refused or is whole entries; nothing crashes. */
static void truncated_and_flipped_archives_do_no_harm(void **state)
{
	struct scratch *s = *state;
	struct stat st;

	make_zoo();
	sh("rm -rf zoo/sparse zoo/hole zoo/chunk* zoo/dir/sub; tar -C zoo --format=pax --acls "
	   "--xattrs --xattrs-include='*' -cf z.tar . && gzip -k z.tar");
	assert_int_equal(stat("z.tar", &st), 0);
	log_set_level(LOG_ERROR - 1);
	char *whole = malloc((size_t)st.st_size);
	int fd = open("z.tar", O_RDONLY);
	assert_int_equal(read(fd, whole, (size_t)st.st_size), st.st_size);
	close(fd);
	for (off_t cut = 1; cut < st.st_size; cut += 701) {
		put_file("cut.tar", whole, (size_t)cut);
		int r = try_tar(s, "cut.tar", NULL);
		if (r == 0)
			verify_root(s, &s->result.root);
		else
			assert_int_equal(r, -EBADMSG);
	}
	for (off_t at = 0; at < st.st_size; at += 97) {
		whole[at] ^= 0x55;
		put_file("flip.tar", whole, (size_t)st.st_size);
		whole[at] ^= 0x55;
		if (try_tar(s, "flip.tar", NULL) == 0 && at % 10 == 0)
			verify_root(s, &s->result.root);
	}
	free(whole);
	log_set_level(LOG_ERROR);
}

static void a_failed_archive_names_no_snapshot_and_the_next_import_works(void **state)
{
	static const struct tar_spec bad[] = { { '0', "ok", NULL, "x", 0, 0 },
					       { '0', "../x", NULL, "x", 0, 0 },
					       { 0 } },
				     good[] = { { '0', "ok", NULL, "x", 0, 0 }, { 0 } };
	struct scratch *s = *state;

	make_tar("bad.tar", bad);
	make_tar("good.tar", good);
	assert_int_equal(try_tar(s, "bad.tar", NULL), -EINVAL);
	import_tar(s, "good.tar");
	assert_content(s, "ok", "x");
}

static void messages_are_one_printable_line(void **state)
{
	static const struct tar_spec list[] = { { '0', "evil\n\x1b[31m/../x", NULL, "x", 0, 0 },
						{ 0 } };
	struct scratch *s = *state;

	make_tar("t.tar", list);
	assert_int_equal(try_tar(s, "t.tar", NULL), -EINVAL);
	assert_null(strpbrk(error_text(&s->err), "\n\x1b"));
}

static void paths_are_cleaned(void **state)
{
	static const struct {
		const char *in, *out; /* out NULL: -EINVAL */
	} cases[] = {
		{ "a", "a" },
		{ "a/b/", "a/b" },
		{ "./a", "a" },
		{ "//a///b", "a/b" },
		{ "./", "" },
		{ "/", "" },
		{ "", "" },
		{ "a/./b", "a/b" },
		{ "...", "..." },
		{ "a..b/..c", "a..b/..c" },
		{ "..", NULL },
		{ "a/..", NULL },
		{ "../a", NULL },
		{ "a/../b", NULL },
		{ "\xff/\x01", "\xff/\x01" },
	};
	struct buf out = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int r = archive_path_clean(cases[i].in, strlen(cases[i].in), &out);

		assert_int_equal(r, cases[i].out ? 0 : -EINVAL);
		if (cases[i].out) {
			assert_int_equal(out.len, strlen(cases[i].out));
			assert_memory_equal(out.len ? out.data : (uint8_t *)"", cases[i].out,
					    out.len);
		}
	}
	assert_int_equal(archive_path_clean("a\0b", 3, &out), -EINVAL);
	buf_fini(&out);
}

static void whiteouts_are_told_apart(void **state)
{
	static const struct {
		const char *name;
		enum whiteout want;
		const char *hidden;
	} cases[] = {
		{ "file", WHITEOUT_NONE, NULL },
		{ ".wh", WHITEOUT_NONE, NULL },
		{ ".wha.x", WHITEOUT_NONE, NULL },
		{ ".wh.file", WHITEOUT_NAME, "file" },
		{ ".wh..hidden", WHITEOUT_NAME, ".hidden" },
		{ ".wh....", WHITEOUT_NAME, "..." },
		{ ".wh..wh..opq", WHITEOUT_OPAQUE, NULL },
		{ ".wh..wh.plnk", WHITEOUT_IGNORE, NULL },
		{ ".wh.", WHITEOUT_BAD, NULL },
		{ ".wh..", WHITEOUT_BAD, NULL },
		{ ".wh...", WHITEOUT_BAD, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *hidden = NULL;
		size_t len = 0;

		assert_int_equal(
			archive_whiteout(cases[i].name, strlen(cases[i].name), &hidden, &len),
			cases[i].want);
		if (cases[i].hidden) {
			assert_int_equal(len, strlen(cases[i].hidden));
			assert_memory_equal(hidden, cases[i].hidden, len);
		}
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
	const struct CMUnitTest tests[] = {
		T(hostile_members_are_refused_by_name),
		T(names_that_are_too_long_are_refused),
		T(symlink_targets_that_are_too_long_are_refused),
		T(xattrs_beyond_what_linux_has_are_refused),
		T(sparse_maps_are_not_believed),
		T(bombs_hit_the_limits),
		T(what_is_no_archive_is_refused),
		T(truncated_and_flipped_archives_do_no_harm),
		T(a_failed_archive_names_no_snapshot_and_the_next_import_works),
		T(messages_are_one_printable_line),
		cmocka_unit_test(paths_are_cleaned),
		cmocka_unit_test(whiteouts_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
