/* Import of tars: what GNU tar, bsdtar and Python write, and what entries mean. */
#include "tests/unit/tar_maker.h"

static void every_archiver_gives_the_directorys_root(void **state)
{
	static const char *const commands[] = {
		"tar -C zoo --format=pax --xattrs --xattrs-include='*' --acls --sparse "
		"--numeric-owner -cf z.tar .",
		"bsdtar -C zoo --format=pax --acls --xattrs --no-fflags -cf z.tar .",
	};
	struct scratch *s = *state;

	if (!is_root())
		skip();
	make_zoo();
	/* bsdtar cannot write times before 1970 with a fraction as POSIX wants them. */
	set_mtime("zoo/before", -86400, 0);
	set_mtime("zoo", 1500000000, 123000000);
	struct digest want = import_dir(s, "zoo");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		sh("%s", commands[i]);
		struct digest got = import_tar(s, "z.tar");
		if (!digest_equal(&want, &got))
			fail_msg("another root from: %s", commands[i]);
		assert_int_equal(s->result.new_bytes, 0);
	}
}

static void fractions_of_seconds_before_1970_are_read_as_gnu_tar_writes_them(void **state)
{
	struct scratch *s = *state;
	struct inode_rec rec;

	put_file("f", "x", 1);
	set_mtime("f", -1000, 250000000);
	sh("tar --format=pax -cf t.tar f");
	import_tar(s, "t.tar");
	lookup(s, "f", &rec);
	assert_int_equal(rec.mtime.tv_sec, -1000);
	assert_int_equal(rec.mtime.tv_nsec, 250000000);
}

static void set_xattr(const char *path, const char *name, const char *value)
{
	assert_int_equal(setxattr(path, name, value, strlen(value), 0), 0);
}

/* Names that pax cannot hold as they are, and times that libarchive does not tell apart. */
static void awkward_names_of_xattrs_and_times_come_from_every_archiver(void **state)
{
	static const char *const commands[] = {
		"tar -C a --format=pax --xattrs --xattrs-include='*' -cf a.tar .",
		"bsdtar -C a --format=pax --xattrs --no-fflags -cf a.tar .",
	};
	struct scratch *s = *state;

	sh("mkdir a && echo x >a/f && echo x >a/g");
	set_xattr("a/f", "user.a", "1");
	set_xattr("a/f", "user.a=b", "2=");
	set_xattr("a/f", "user.50%", "3");
	set_xattr("a/f", "user.%3D%25%3d", "4");
	set_xattr("a/f", "user.==%", "");
	set_xattr("a", "user.\n \xff", "\n\xff");
	struct digest want = import_dir(s, "a");
	export_to(s, &want, "out.tar");
	struct digest got = import_tar(s, "out.tar");
	assert_same_root(want, got);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		sh("%s", commands[i]);
		got = import_tar(s, "a.tar");
		if (!digest_equal(&want, &got))
			fail_msg("another root from: %s", commands[i]);
	}
	sh("mkdir x && tar -C x --xattrs --xattrs-include='*' -xpf out.tar");
	got = import_dir(s, "x");
	assert_same_root(want, got);
	/* bsdtar writes no fractions before 1970. */
	set_mtime("a/f", -1, 500000000);
	set_mtime("a/g", -1, 999999999);
	want = import_dir(s, "a");
	sh("%s", commands[0]);
	got = import_tar(s, "a.tar");
	assert_same_root(want, got);
	export_to(s, &want, "out.tar");
	got = import_tar(s, "out.tar");
	assert_same_root(want, got);
}

/* More xattrs than one read of the archive, after a file that is skipped over in parts. */
static void long_headers_are_read_whole(void **state)
{
	struct scratch *s = *state;
	struct buf tar = BUF_INIT;
	char name[32];

	sh("mkdir a");
	for (unsigned i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		struct buf extra = BUF_INIT;
		char *value = malloc(60000);

		memset(value, (int)i + 1, 60000);
		for (unsigned k = 0; k < 15; k++) {
			char key[40];
			int len = snprintf(key, sizeof(key), "SCHILY.xattr.user.x%u", k);

			assert_int_equal(tar_put_record(&extra, key, (size_t)len, value, 60000), 0);
		}
		struct tar_member m = { .type = TAR_FILE,
					.path = name,
					.path_len = 2,
					.mode = 0644,
					.size = 60000,
					.extra = &extra };
		assert_int_equal(tar_put_header(&tar, &m), 0);
		assert_int_equal(buf_append(&tar, value, 60000), 0);
		assert_int_equal(tar_put_padding(&tar, 60000), 0);
		buf_fini(&extra);
		free(value);
	}
	assert_int_equal(tar_put_end(&tar), 0);
	put_file("t.tar", tar.data, tar.len);
	buf_fini(&tar);
	struct digest want = import_tar(s, "t.tar");
	export_to(s, &want, "out.tar");
	sh("gzip -1 out.tar");
	struct digest got = import_tar(s, "out.tar.gz");
	assert_same_root(want, got);
	assert_int_equal(s->result.new_bytes, 0);
	struct key k;
	struct tree_fs fs = store_tree(s->store, &got);
	struct inode_rec rec;
	struct tree_value v = { 0 };

	key_xattr(&k, lookup(s, "f2", &rec), "user.x14", 8);
	assert_int_equal(tree_get(s->store->nodes, &fs.root, k.bytes, k.len, &v), 0);
	assert_int_equal(v.len, 60000);
	assert_int_equal(v.data[59999], 3);
	tree_value_release(&v);
}

static void every_compression_and_a_pipe_give_the_same_root(void **state)
{
	static const char *const filters[] = { "cat",	     "gzip -1", "bzip2 -1", "xz -0",
					       "zstd -q -1", "lz4 -q",	"lzma -0",  "lzip -0" };
	struct scratch *s = *state;

	make_zoo();
	sh("tar -C zoo --format=pax --sparse -cf z.tar .");
	struct digest want = import_tar(s, "z.tar");
	for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
		char cmd[128];

		snprintf(cmd, sizeof(cmd), "echo | %s >/dev/null 2>&1", filters[i]);
		if (system(cmd) != 0) /* NOLINT: our own text */
			continue;     /* not installed */
		snprintf(cmd, sizeof(cmd), "%s < z.tar 2>/dev/null", filters[i]);
		FILE *pipe = popen(cmd, "r"); /* NOLINT */
		assert_non_null(pipe);
		reset(s);
		int r = ingest_tar(s->store, fileno(pipe), NULL, NULL, &s->result, &s->err);
		pclose(pipe);
		struct digest got = checked(s, r);
		assert_same_root(want, got);
	}
}

static void old_formats_are_read(void **state)
{
	static const char *const formats[] = { "gnu", "oldgnu", "ustar", "v7", "pax" };
	struct scratch *s = *state;

	sh("mkdir -p o/d && echo hello > o/d/f && ln o/d/f o/g && ln -s d/f o/s");
	sh("find o -exec touch -hd @1000000000 {} +");
	struct digest want = import_dir(s, "o");
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		sh("tar -C o --format=%s -cf o.tar .", formats[i]);
		struct digest got = import_tar(s, "o.tar");
		assert_same_root(want, got);
	}
}

static void an_acl_in_names_is_resolved(void **state)
{
	struct scratch *s = *state;

	put_file("f", "x", 1);
	if (system("mkdir a && mv f a && setfacl -m u:daemon:rw,g:games:r a/f 2>/dev/null"))
		skip();
	sh("tar -C a --format=pax --acls -cf a.tar .");
	struct digest want = import_dir(s, "a"), got = import_tar(s, "a.tar");
	assert_same_root(want, got);
}

/* So that the collector has a reason to look. */
static void a_failed_import_counts_as_garbage(void **state)
{
	struct scratch *s = *state;
	uint64_t before, whole;

	sh("head -c 24000000 /dev/urandom >f && tar -cf t.tar f && head -c 20000000 t.tar "
	   ">cut.tar");
	before = snapshots_deleted_bytes(s->store->snapshots);
	assert_true(try_tar(s, "cut.tar", NULL) < 0);
	whole = snapshots_deleted_bytes(s->store->snapshots) - before;
	assert_in_range(whole, 1000000, 24000000);
	import_tar(s, "t.tar");
	/* A byte for the snapshot that the fixture has deleted. */
	assert_in_range(snapshots_deleted_bytes(s->store->snapshots) - before, whole, whole + 1);
}

/* An ACL of a tar's entry, and how often something of it is told to be left out. */
static void malformed_acls_are_told(void **state)
{
	static const struct {
		const char *acl;
		unsigned remarks;
	} cases[] = {
		{ "user::rw-\ngroup::r--\nother::r--", 0 },
		{ "user::rw-\nuser:1:rwx\ngroup::r--\nmask::rwx\nother::r--", 0 },
		{ "user::rw-\nuser:1:rwx\ngroup::r--\nmask::rwx\nother::r--\nbroken", 1 },
		{ "complete garbage", 1 },
		{ "user::rw-\nuser:1:what\ngroup::r--\nother::r--", 1 },
	};
	struct scratch *s = *state;

	put_file("f", "x", 1);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		sh("tar --format=pax --pax-option='SCHILY.acl.access:=%s' -cf t.tar f",
		   cases[i].acl);
		import_tar(s, "t.tar");
		if (s->result.remarks.kinds[REMARK_ACL_ENTRY].count != cases[i].remarks)
			fail_msg("%s: %u remarks", cases[i].acl,
				 (unsigned)s->result.remarks.kinds[REMARK_ACL_ENTRY].count);
	}
}

/* Without it a mount would hold an ACL that Linux refuses. */
static void an_acl_without_a_mask_gets_one(void **state)
{
	struct scratch *s = *state;

	put_file("f", "x", 1);
	sh("tar --format=pax --pax-option='SCHILY.acl.access:=user:1:rwx\ngroup::r--' -cf n.tar f");
	sh("tar --format=pax --pax-option='SCHILY.acl.access:=user:1:rwx\ngroup::r--\nmask::rwx' "
	   "-cf y.tar f");
	struct digest without = import_tar(s, "n.tar"), with = import_tar(s, "y.tar");
	assert_same_root(without, with);
}

static void names_stay_as_they_are_byte_for_byte(void **state)
{
	struct scratch *s = *state;

	make_zoo();
	sh("tar -C zoo --format=pax -cf z.tar .");
	import_tar(s, "z.tar");
	assert_true(exists(s, "\xc3\xa9-nfc"));
	assert_true(exists(s, "e\xcc\x81-nfd"));
	assert_true(exists(s, "latin1-\xe9\xff"));
	assert_true(exists(s, "new\nline \\ back\ttab"));
	assert_true(exists(s, ".wh.whiteout-like"));
}

static void the_last_entry_of_a_path_counts(void **state)
{
	static const struct tar_spec list[] = {
		{ '0', "f", NULL, "one", 0600, 0 },  { '1', "link", "f", NULL, 0, 0 },
		{ '0', "f", NULL, "two!", 0644, 0 }, { '5', "d", NULL, NULL, 0700, 0 },
		{ '0', "d/x", NULL, "x", 0, 0 },     { '5', "d", NULL, NULL, 0755, 0 },
		{ '2', "s", "old", NULL, 0, 0 },     { '2', "s", "new", NULL, 0, 0 },
		{ '0', "s2", NULL, "file", 0, 0 },   { '5', "s2", NULL, NULL, 0711, 0 },
		{ '0', "s2/in", NULL, "in", 0, 0 },  { 0 },
	};
	struct scratch *s = *state;
	struct inode_rec rec;

	make_tar("t.tar", list);
	import_tar(s, "t.tar");
	assert_content(s, "f", "two!");
	assert_content(s, "link", "one");
	lookup(s, "link", &rec);
	assert_int_equal(rec.nlink, 1);
	assert_content(s, "d/x", "x");
	lookup(s, "d", &rec);
	assert_int_equal(rec.mode, S_IFDIR | 0755);
	lookup(s, "s", &rec);
	assert_int_equal(rec.size, 3);
	assert_content(s, "s2/in", "in");
}

static void missing_directories_are_made(void **state)
{
	static const struct tar_spec list[] = { { '0', "a/b/c", NULL, "x", 0, 0 },
						{ '5', "a/b", NULL, NULL, 0700, 0 },
						{ 0 } };
	struct scratch *s = *state;
	struct inode_rec rec;

	make_tar("t.tar", list);
	import_tar(s, "t.tar");
	lookup(s, "a", &rec);
	assert_int_equal(rec.mode, S_IFDIR | 0755);
	assert_int_equal(rec.uid, 0);
	lookup(s, "a/b", &rec);
	assert_int_equal(rec.mode, S_IFDIR | 0700);
	assert_content(s, "a/b/c", "x");
}

static void slashes_and_dots_in_front_are_stripped(void **state)
{
	static const struct tar_spec list[] = { { '5', "./", NULL, NULL, 0750, 0 },
						{ '0', "/etc//./passwd", NULL, "root", 0, 0 },
						{ '1', "./l", "//etc/passwd", NULL, 0, 0 },
						{ '5', "///opt/", NULL, NULL, 0755, 0 },
						{ 0 } };
	struct scratch *s = *state;
	struct inode_rec rec;

	make_tar("t.tar", list);
	import_tar(s, "t.tar");
	assert_content(s, "etc/passwd", "root");
	assert_content(s, "l", "root");
	assert_true(exists(s, "opt"));
	lookup(s, "/", &rec);
	assert_int_equal(rec.mode, S_IFDIR | 0750);
	assert_int_equal(s->result.file_count, 4);
}

static void symlinked_directories_lead_inside_the_archive_only(void **state)
{
	static const struct tar_spec list[] = {
		{ '2', "lib", "usr/lib", NULL, 0, 0 },
		{ '0', "lib/x", NULL, "x", 0, 0 }, /* usr/lib does not exist yet */
		{ '2', "abs", "/tmp", NULL, 0, 0 },
		{ '0', "abs/y", NULL, "y", 0, 0 },
		{ '2', "up", "../../../../etc", NULL, 0, 0 },
		{ '0', "up/z", NULL, "z", 0, 0 },
		{ '5', "deep/er", NULL, NULL, 0755, 0 },
		{ '2', "deep/er/back", "../../lib", NULL, 0, 0 },
		{ '0', "deep/er/back/w", NULL, "w", 0, 0 },
		{ '1', "hard", "abs/y", NULL, 0, 0 },
		{ 0 },
	};
	struct scratch *s = *state;
	struct inode_rec rec;

	make_tar("t.tar", list);
	import_tar(s, "t.tar");
	assert_content(s, "usr/lib/x", "x");
	assert_content(s, "tmp/y", "y");
	assert_content(s, "etc/z", "z");
	assert_content(s, "usr/lib/w", "w");
	assert_content(s, "hard", "y");
	lookup(s, "lib", &rec);
	assert_true(S_ISLNK(rec.mode));
	assert_int_equal(access("/tmp/y", F_OK), -1);
}

static void an_empty_archive_is_an_empty_tree(void **state)
{
	static const struct tar_spec none[] = { { 0 } };
	struct scratch *s = *state;

	make_tar("t.tar", none);
	import_tar(s, "t.tar");
	assert_int_equal(s->result.file_count, 1);
}

static void sparse_files_with_many_runs_survive(void **state)
{
	struct scratch *s = *state;

	assert_int_equal(mkdir("sp", 0755), 0);
	int fd = open("sp/f", O_WRONLY | O_CREAT, 0644);
	for (int i = 0; i < 500; i++)
		assert_int_equal(pwrite(fd, "x", 1, (off_t)i * 12288 + 5000), 1);
	assert_int_equal(ftruncate(fd, 1 << 26), 0);
	close(fd);
	put_file("sp/tail", "", 0);
	fd = open("sp/tail", O_WRONLY);
	assert_int_equal(pwrite(fd, "end", 3, 7 << 20), 3);
	close(fd);
	struct digest want = import_dir(s, "sp");
	sh("tar -C sp --format=pax --sparse --sparse-version=1.0 -cf t.tar .");
	struct digest got = import_tar(s, "t.tar");
	assert_same_root(want, got);
	sh("tar -C sp --format=gnu --sparse -cf t.tar . && tar -C sp --format=pax --sparse "
	   "--sparse-version=0.1 -cf u.tar .");
	import_tar(s, "t.tar");
	got = import_tar(s, "u.tar");
	assert_same_root(want, got);
}

/* More than is kept of any entry's headers. */
static void files_may_be_larger_than_headers(void **state)
{
	struct scratch *s = *state;
	struct inode_rec rec;

	sh("truncate -s 40M big && echo x >small && tar -cf t.tar big small");
	import_tar(s, "t.tar");
	lookup(s, "big", &rec);
	assert_int_equal(rec.size, 40 << 20);
	lookup(s, "small", &rec);
	assert_int_equal(rec.size, 2);
}

/* Of many entries some begin in one read of the archive and end in the next. */
static void headers_may_begin_in_one_read_and_end_in_another(void **state)
{
	struct scratch *s = *state;
	char path[32], value[1000];

	assert_int_equal(mkdir("m", 0755), 0);
	memset(value, 'v', sizeof(value));
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(path, sizeof(path), "m/f%u", i);
		put_file(path, value, i % sizeof(value));
		value[sizeof(value) - 1 - i % 7] = '\0';
		set_xattr(path, "user.v", value);
		memset(value, 'v', sizeof(value));
	}
	struct digest want = import_dir(s, "m");
	sh("tar -C m --format=pax --xattrs --xattrs-include='*' -cf m.tar .");
	struct digest got = import_tar(s, "m.tar");
	assert_same_root(want, got);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
	const struct CMUnitTest tests[] = {
		T(every_archiver_gives_the_directorys_root),
		T(fractions_of_seconds_before_1970_are_read_as_gnu_tar_writes_them),
		T(awkward_names_of_xattrs_and_times_come_from_every_archiver),
		T(long_headers_are_read_whole),
		T(headers_may_begin_in_one_read_and_end_in_another),
		T(every_compression_and_a_pipe_give_the_same_root),
		T(old_formats_are_read),
		T(an_acl_in_names_is_resolved),
		T(a_failed_import_counts_as_garbage),
		T(malformed_acls_are_told),
		T(an_acl_without_a_mask_gets_one),
		T(names_stay_as_they_are_byte_for_byte),
		T(the_last_entry_of_a_path_counts),
		T(missing_directories_are_made),
		T(slashes_and_dots_in_front_are_stripped),
		T(symlinked_directories_lead_inside_the_archive_only),
		T(an_empty_archive_is_an_empty_tree),
		T(sparse_files_with_many_runs_survive),
		T(files_may_be_larger_than_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
