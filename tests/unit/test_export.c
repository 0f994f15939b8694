/* Export to tars and OCI layouts: what comes out goes in again as the same tree. */
#include "tests/unit/tar_maker.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "store/archive/oci_platform.h"

static void a_tar_comes_in_again_as_the_same_tree(void **state)
{
	struct scratch *s = *state;

	make_zoo();
	struct digest want = import_dir(s, "zoo");
	export_to(s, &want, "out.tar");
	struct digest got = import_tar(s, "out.tar");
	assert_same_root(want, got);
}

static void gnu_tar_and_bsdtar_restore_everything(void **state)
{
	static const char *const commands[] = {
		"tar -C x --xattrs --xattrs-include='*' --acls -xpf out.tar",
		"bsdtar -C x --xattrs --acls -xpf out.tar",
	};
	struct scratch *s = *state;

	if (!is_root())
		skip();
	make_zoo();
	set_mtime("zoo/before", -86400, 0); /* bsdtar: no fractions before 1970 */
	struct digest want = import_dir(s, "zoo");
	export_to(s, &want, "out.tar");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		sh("rm -rf x && mkdir x && %s", commands[i]);
		if (i == 1) /* bsdtar leaves the time of "." alone */
			set_mtime("x", 1500000000, 123000000);
		struct digest got = import_dir(s, "x");
		if (!digest_equal(&want, &got))
			fail_msg("another root from: %s", commands[i]);
	}
}

static void acls_come_as_text_too(void **state)
{
	struct scratch *s = *state;

	make_zoo();
	struct digest root = import_dir(s, "zoo");
	export_to(s, &root, "out.tar");
	/* Without the xattrs, so that only SCHILY.acl.* says so. */
	sh("mkdir x && tar -C x --acls -xpf out.tar && "
	   "[ \"$(getfattr -dm system.posix x/dir | grep -v file:)\" = "
	   "\"$(getfattr -dm system.posix zoo/dir | grep -v file:)\" ]");
}

static int to_oci(struct scratch *s, const struct digest *root, const json_t *config,
		  const char *ref, const char *path)
{
	const struct export_image img = { root, config, ref };

	return export_oci(s->store, &img, path, NULL, &s->err);
}

static void equal_trees_give_equal_bytes(void **state)
{
	struct scratch *s = *state;

	make_zoo();
	sh("rm zoo/.wh.whiteout-like");
	struct digest root = import_dir(s, "zoo");
	export_to(s, &root, "1.tar");
	export_to(s, &root, "2.tar");
	sh("cmp 1.tar 2.tar");
	assert_int_equal(to_oci(s, &root, NULL, "a", "1"), 0);
	assert_int_equal(to_oci(s, &root, NULL, "a", "2"), 0);
	sh("diff -r 1 2");
}

static void members_come_in_bytewise_order_parents_first(void **state)
{
	struct scratch *s = *state;

	sh("mkdir -p o/b/x o/a && touch o/b/x/y o/a.b o/a/z o/B o/$(printf '\\377')");
	struct digest root = import_dir(s, "o");
	export_to(s, &root, "out.tar");
	sh("tar -tf out.tar --quoting-style=escape > got && printf '%%s\\n' ./ B a/ a/z a.b b/ "
	   "b/x/ "
	   "b/x/y '\\377' > want && cmp got want");
}

static void sockets_are_left_out(void **state)
{
	struct scratch *s = *state;
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "k/s" };

	sh("mkdir k && echo x > k/f");
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	close(fd);
	sh("mkdir k/d && python3 -c 'import os; os.mknod(\"k/d/t\", 0o140600)'");
	struct digest root = import_dir(s, "k");
	struct remarks remarks;
	assert_int_equal(export_check(s->store, &root, EXPORT_TAR, &remarks, &s->err), 0);
	assert_int_equal(remarks.kinds[REMARK_SOCKET].count, 2);
	export_to(s, &root, "out.tar");
	import_tar(s, "out.tar");
	assert_false(exists(s, "s"));
	assert_true(exists(s, "f"));
}

/* Directories below each other, each with 250 bytes of name. */
static void make_deep(int levels)
{
	char name[251];

	memset(name, 'd', 250);
	name[250] = '\0';
	assert_int_equal(mkdir("deep", 0755), 0);
	int fd = open("deep", O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < levels; i++) {
		assert_int_equal(mkdirat(fd, name, 0755), 0);
		int next = openat(fd, name, O_RDONLY | O_DIRECTORY);
		close(fd);
		fd = next;
	}
	close(fd);
}

static void a_deep_tree_comes_out_and_in(void **state)
{
	struct scratch *s = *state;

	make_deep(200); /* 50,000 bytes of path */
	struct digest want = import_dir(s, "deep");
	export_to(s, &want, "out.tar");
	struct digest got = import_tar(s, "out.tar");
	assert_same_root(want, got);
}

static int count_bytes(void *arg, const void *data, size_t len)
{
	(void)data;
	*(size_t *)arg += len;
	return 0;
}

static void paths_that_no_import_takes_are_refused(void **state)
{
	struct scratch *s = *state;
	size_t bytes = 0;

	make_deep(1000);
	struct digest root = import_dir(s, "deep");
	assert_int_equal(export_tar(s->store, &root, count_bytes, &bytes, NULL, &s->err),
			 -ENAMETOOLONG);
	assert_non_null(strstr(error_text(&s->err), "65536"));
	assert_true(bytes < 32u << 20); /* all of the paths together have 125 MB */
}

static void sizes_beyond_what_ustar_can_say_survive(void **state)
{
	struct scratch *s = *state;
	struct inode_rec rec;

	assert_int_equal(mkdir("huge", 0755), 0);
	int fd = open("huge/f", O_WRONLY | O_CREAT, 0644);
	assert_int_equal(pwrite(fd, "end", 3, 20ll << 30), 3);
	assert_int_equal(ftruncate(fd, 7ll << 40), 0);
	close(fd);
	struct digest want = import_dir(s, "huge");
	export_to(s, &want, "out.tar");
	struct digest got = import_tar(s, "out.tar");
	assert_same_root(want, got);
	lookup(s, "f", &rec);
	assert_int_equal(rec.size, 7ll << 40);
	sh("mkdir x && tar -C x -xSpf out.tar && test $(stat -c %%s x/f) = $((7 << 40))");
	got = import_dir(s, "x");
	assert_same_root(want, got);
}

static int fail_later(void *arg, const void *data, size_t len)
{
	size_t *left = arg;

	(void)data;
	if (len > *left)
		return -EPIPE;
	*left -= len;
	return 0;
}

static void a_failing_sink_ends_it(void **state)
{
	static const size_t after[] = { 0, 10000, 300000, 2000000 };
	struct scratch *s = *state;

	make_zoo();
	sh("rm zoo/.wh.whiteout-like");
	struct digest root = import_dir(s, "zoo");
	for (size_t i = 0; i < ARRAY_SIZE(after); i++) {
		size_t left = after[i];

		assert_int_equal(export_tar(s->store, &root, fail_later, &left, NULL, &s->err),
				 -EPIPE);
		left = after[i];
		assert_int_equal(export_oci_stream(s->store,
						   &(struct export_image){ &root, NULL, "x" },
						   fail_later, &left, NULL, &s->err),
				 after[i] < 2000000 ? -EPIPE : 0);
		if (after[i] >= 300000)
			break;
	}
}

static bool yes(void *arg)
{
	(void)arg;
	return true;
}

static void it_can_be_cancelled(void **state)
{
	struct scratch *s = *state;
	struct progress p = { .cancelled = yes };
	size_t left = SIZE_MAX;

	make_zoo();
	struct digest root = import_dir(s, "zoo");
	assert_int_equal(export_tar(s->store, &root, fail_later, &left, &p, &s->err), -ECANCELED);
}

/* Delete the chunk of a file of one; the store is opened anew, with nothing in its cache. */
static void lose_chunk_of(struct scratch *s, const char *file, size_t len)
{
	struct kv_batch *b = kv_batch_new();
	char *data = malloc(len), path[96];
	int fd = open(file, O_RDONLY);
	struct digest d;

	assert_int_equal(read(fd, data, len), (ssize_t)len);
	close(fd);
	assert_int_equal(hash_bytes(data, len, &d), 0);
	free(data);
	kv_batch_del(s->store->kv, b, KV_CHUNK, d.b, DIGEST_SIZE);
	assert_int_equal(kv_write(s->store->kv, b, KV_LOG), 0);
	kv_batch_free(b);
	store_close(s->store);
	snprintf(path, sizeof(path), "%s/store", s->dir);
	assert_int_equal(store_open(path, NULL, &s->store, &s->err), 0);
}

static void a_missing_chunk_is_named_by_its_path(void **state)
{
	struct scratch *s = *state;
	size_t left = SIZE_MAX;

	sh("mkdir -p m/dir");
	put_text("m/dir/broken", 5000, 9);
	struct digest root = import_dir(s, "m");
	lose_chunk_of(s, "m/dir/broken", 5000);
	assert_int_equal(export_tar(s->store, &root, fail_later, &left, NULL, &s->err), -ENODATA);
	assert_non_null(strstr(error_text(&s->err), "dir/broken"));
	assert_true(left == SIZE_MAX);
}

#define MANY_FILES 400u

/* 16 MB in files of all sizes: small ones by the hundred, one in forty of many chunks. */
static void make_many(void)
{
	sh("mkdir many");
	for (unsigned i = 0; i < MANY_FILES; i++) {
		char path[32];

		snprintf(path, sizeof(path), "many/%03u", i);
		put_text(path, i % 40 == 39 ? 1000000 + i : 600 + i * i % 40000, i);
	}
}

static void much_comes_out_whole_and_in_order(void **state)
{
	struct scratch *s = *state;

	make_many();
	struct digest root = import_dir(s, "many");
	export_to(s, &root, "out.tar");
	sh("mkdir x && tar -C x -xf out.tar && diff -r many x");
	sh("tar -C many --format=pax --sort=name -cf - . | tar -tf - | sed 's,^./\\(.\\),\\1,' "
	   ">want && "
	   "tar -tf out.tar | cmp - want");
}

/* GNU tar reads each run in whole blocks, whatever the map says. */
static void holes_off_blocks_are_such_as_gnu_tar_reads(void **state)
{
	static const char map[] = "4\n0\n700\n702\n98\n5000\n1000\n6100\n7\n";
	struct tar_member m = { .type = TAR_FILE,
				.path = "f",
				.path_len = 1,
				.mode = 0644,
				.sparse = true,
				.size = TAR_BLOCK + 700 + 98 + 1000 + 7,
				.real_size = 6107 };
	struct buf b CLEANUP(buf_fini_p) = BUF_INIT;
	struct scratch *s = *state;
	uint8_t want[6107] = { 0 }, data[700 + 98 + 1000 + 7];

	memset(data, 'd', sizeof(data));
	memset(want, 'd', 700);
	memset(want + 702, 'd', 98);
	memset(want + 5000, 'd', 1000);
	memset(want + 6100, 'd', 7);
	assert_int_equal(tar_put_header(&b, &m), 0);
	assert_int_equal(buf_append(&b, map, sizeof(map) - 1), 0);
	assert_int_equal(tar_put_padding(&b, sizeof(map) - 1), 0);
	assert_int_equal(buf_append(&b, data, sizeof(data)), 0);
	assert_int_equal(tar_put_padding(&b, sizeof(data)), 0);
	assert_int_equal(tar_put_end(&b), 0);
	put_file("in.tar", b.data, b.len);
	put_file("want", want, sizeof(want));
	struct digest root = import_tar(s, "in.tar");
	export_to(s, &root, "out.tar");
	sh("mkdir x && tar -C x -xf out.tar && cmp want x/f && test $(stat -c %%s out.tar) -lt "
	   "12000");
	sh("rm -r x && mkdir x && bsdtar -C x -xf out.tar && cmp want x/f");
}

static int compare_with_fd(void *arg, const void *data, size_t len)
{
	char *want = malloc(len);
	bool same = read(*(int *)arg, want, len) == (ssize_t)len && memcmp(want, data, len) == 0;

	free(want);
	return same ? 0 : -EBADMSG;
}

static void what_comes_before_a_missing_chunk_is_right(void **state)
{
	struct scratch *s = *state;

	make_many();
	struct digest root = import_dir(s, "many");
	export_to(s, &root, "out.tar");
	lose_chunk_of(s, "many/350", 600 + 350 * 350 % 40000);
	int fd = open("out.tar", O_RDONLY);
	assert_int_equal(export_tar(s->store, &root, compare_with_fd, &fd, NULL, &s->err),
			 -ENODATA);
	assert_non_null(strstr(error_text(&s->err), "350"));
	off_t done = lseek(fd, 0, SEEK_CUR);
	close(fd);
	assert_true(done > 6 << 20);
	sh("grep -aboP '350\\x00{97}' out.tar | head -1 | cut -d: -f1 >at && test $(cat at) -ge "
	   "%lld",
	   (long long)done);
}

static void an_unknown_root_is_an_error(void **state)
{
	struct scratch *s = *state;
	struct digest root = { { 1 } };
	size_t left = SIZE_MAX;

	assert_int_equal(export_tar(s->store, &root, fail_later, &left, NULL, &s->err), -ENODATA);
}

static void a_layout_comes_in_again(void **state)
{
	struct scratch *s = *state;
	json_t *config = json_pack("{s:[s], s:s}", "Env", "PATH=/bin", "WorkingDir", "/srv");

	make_zoo();
	sh("rm zoo/.wh.whiteout-like");
	struct digest want = import_dir(s, "zoo");
	assert_int_equal(to_oci(s, &want, config, "v1", "img"), 0);
	reset(s);
	if (ingest_oci(s->store, "img", "v1", NULL, NULL, &s->result, &s->err) < 0)
		fail_msg("%s", error_text(&s->err));
	assert_same_root(want, s->result.root);
	json_object_set_new(config, "os", json_string("linux"));
	json_object_set_new(config, "architecture", json_string(oci_architecture()));
	assert_true(json_equal(config, s->result.config));
	json_decref(config);
}

static void names_that_an_image_takes_for_deletions_are_refused(void **state)
{
	static const char *const names[] = { ".wh.x", "d/.wh.x", "d/.wh.", "d/.wh..wh..opq",
					     "d/.wh..wh.aufs" };
	struct scratch *s = *state;
	struct remarks remarks;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		size_t left = SIZE_MAX;

		sh("rm -rf w && mkdir -p w/d && touch w/.wh w/.whx && echo x >'w/%s'", names[i]);
		struct digest root = import_dir(s, "w");
		assert_int_equal(export_check(s->store, &root, EXPORT_TAR, &remarks, &s->err), 0);
		assert_int_equal(export_check(s->store, &root, EXPORT_OCI, &remarks, &s->err),
				 -EINVAL);
		assert_int_equal(to_oci(s, &root, NULL, "v1", "img"), -EINVAL);
		assert_int_equal(access("img", F_OK), -1);
		assert_int_equal(export_oci_stream(s->store,
						   &(struct export_image){ &root, NULL, "v1" },
						   fail_later, &left, NULL, &s->err),
				 -EINVAL);
		assert_true(left == SIZE_MAX);
		assert_non_null(strstr(error_text(&s->err), names[i]));
		sh("rm 'w/%s'", names[i]);
		root = import_dir(s, "w");
		assert_int_equal(export_check(s->store, &root, EXPORT_OCI, &remarks, &s->err), 0);
	}
}

static void a_layout_as_a_stream_comes_in_again(void **state)
{
	struct scratch *s = *state;
	int fd = open("img.tar", O_WRONLY | O_CREAT, 0644);

	make_zoo();
	sh("rm zoo/.wh.whiteout-like");
	struct digest want = import_dir(s, "zoo");
	assert_int_equal(export_oci_stream(s->store, &(struct export_image){ &want, NULL, "v1" },
					   write_to_fd, &fd, NULL, &s->err),
			 0);
	close(fd);
	reset(s);
	assert_int_equal(ingest_oci(s->store, "img.tar", "v1", NULL, NULL, &s->result, &s->err), 0);
	assert_same_root(want, s->result.root);
}

static void skopeo_reads_a_layout(void **state)
{
	struct scratch *s = *state;

	if (system("command -v skopeo >/dev/null") != 0) /* NOLINT */
		skip();
	make_zoo();
	sh("rm zoo/.wh.whiteout-like");
	struct digest root = import_dir(s, "zoo");
	assert_int_equal(to_oci(s, &root, NULL, "v1", "img"), 0);
	sh("skopeo inspect oci:img:v1 | grep -q sha256 && skopeo inspect --config oci:img:v1 "
	   ">/dev/null && skopeo copy -q oci:img:v1 docker-archive:d.tar:foo/bar:v1");
	reset(s);
	assert_int_equal(ingest_oci(s->store, "d.tar", "v1", NULL, NULL, &s->result, &s->err), 0);
}

static void a_layout_is_never_written_over_something(void **state)
{
	struct scratch *s = *state;

	sh("mkdir e full && touch full/index.json");
	struct digest root = import_dir(s, "e");
	assert_int_equal(to_oci(s, &root, NULL, "x", "full"), -ENOTEMPTY);
	assert_int_equal(to_oci(s, &root, NULL, "x", "img"), 0);
	assert_int_equal(to_oci(s, &root, NULL, "x", "img"), -ENOTEMPTY);
	assert_int_equal(to_oci(s, &root, NULL, "x", "no/such/dir"), -ENOENT);
}

static void headers_hold_what_does_not_fit_ustar(void **state)
{
	struct scratch *s = *state;
	struct buf b = BUF_INIT;
	struct inode_rec rec;
	struct tar_member m = { .type = TAR_FILE,
				.path = "f",
				.path_len = 1,
				.mode = 04711,
				.uid = 4000000000u,
				.gid = 2097152,
				.mtime = { 253402300800, 999999999 } };

	assert_int_equal(tar_put_header(&b, &m), 0);
	assert_int_equal(tar_put_end(&b), 0);
	put_file("t.tar", b.data, b.len);
	buf_fini(&b);
	import_tar(s, "t.tar");
	lookup(s, "f", &rec);
	assert_int_equal(rec.mode, S_IFREG | 04711);
	assert_int_equal(rec.uid, 4000000000u);
	assert_int_equal(rec.gid, 2097152);
	assert_int_equal(rec.mtime.tv_sec, 253402300800);
	assert_int_equal(rec.mtime.tv_nsec, 999999999);
}

/* A record's length counts its own digits: around 10, 100, 1000. */
static void pax_records_count_their_own_length(void **state)
{
	(void)state;
	for (size_t len = 0; len < 1100; len++) {
		struct buf b = BUF_INIT;
		char *value = malloc(len + 1);

		memset(value, 'v', len);
		assert_int_equal(tar_put_record(&b, "k", 1, value, len), 0);
		assert_int_equal(strtoul((char *)b.data, NULL, 10), b.len);
		assert_int_equal(b.data[b.len - 1], '\n');
		buf_fini(&b);
		free(value);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
	const struct CMUnitTest tests[] = {
		T(a_tar_comes_in_again_as_the_same_tree),
		T(gnu_tar_and_bsdtar_restore_everything),
		T(acls_come_as_text_too),
		T(equal_trees_give_equal_bytes),
		T(members_come_in_bytewise_order_parents_first),
		T(sockets_are_left_out),
		T(a_deep_tree_comes_out_and_in),
		T(paths_that_no_import_takes_are_refused),
		T(sizes_beyond_what_ustar_can_say_survive),
		T(a_failing_sink_ends_it),
		T(it_can_be_cancelled),
		T(a_missing_chunk_is_named_by_its_path),
		T(much_comes_out_whole_and_in_order),
		T(holes_off_blocks_are_such_as_gnu_tar_reads),
		T(what_comes_before_a_missing_chunk_is_right),
		T(an_unknown_root_is_an_error),
		T(a_layout_comes_in_again),
		T(names_that_an_image_takes_for_deletions_are_refused),
		T(a_layout_as_a_stream_comes_in_again),
		T(skopeo_reads_a_layout),
		T(a_layout_is_never_written_over_something),
		T(headers_hold_what_does_not_fit_ustar),
		cmocka_unit_test(pax_records_count_their_own_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
