/* Import of directories. */
#include "tests/unit/ingest_zoo.h"

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

static void a_second_import_stores_nothing_and_has_the_same_root(void **state)
{
	struct scratch *s = *state;

	make_zoo();
	struct digest first = import_dir(s, "zoo");
	assert_true(s->result.new_bytes > 0);
	struct digest second = import_dir(s, "zoo");
	assert_same_root(first, second);
	assert_int_equal(s->result.new_bytes, 0);
}

static void attributes_are_those_of_the_source(void **state)
{
	struct scratch *s = *state;
	struct inode_rec rec;
	struct stat st;

	make_zoo();
	import_dir(s, "zoo");
	assert_int_equal(lstat("zoo/text", &st), 0);
	lookup(s, "text", &rec);
	assert_int_equal(rec.mode, st.st_mode);
	assert_int_equal(rec.uid, st.st_uid);
	assert_int_equal(rec.gid, st.st_gid);
	assert_int_equal(rec.nlink, 3);
	assert_int_equal(rec.size, 5000);
	assert_int_equal(rec.alloc_bytes, 5000);
	assert_int_equal(rec.mtime.tv_sec, 1234567890);
	assert_int_equal(rec.mtime.tv_nsec, 987654321);
	assert_int_equal(rec.ctime.tv_sec, rec.mtime.tv_sec);
	assert_int_equal(rec.atime.tv_nsec, rec.mtime.tv_nsec);
	assert_int_equal(rec.parent, 0);
	lookup(s, "dir", &rec);
	assert_int_equal(rec.nlink, 3);
	assert_int_equal(rec.size, 0);
	assert_int_equal(rec.parent, ROOT_INO);
	lookup(s, "link", &rec);
	assert_int_equal(rec.size, 7);
	assert_int_equal(rec.nlink, 2);
	lookup(s, "before", &rec);
	assert_int_equal(rec.mtime.tv_sec, -86400 * 365);
	lookup(s, "sparse", &rec);
	assert_int_equal(rec.size, (9 << 20) + 123);
	assert_true(rec.alloc_bytes < 1 << 20);
	lookup(s, "hole", &rec);
	assert_int_equal(rec.alloc_bytes, 0);
	assert_int_equal(lookup(s, "a-text", &rec), lookup(s, "dir/text-too", &rec));
}

static void xattrs_are_kept(void **state)
{
	static const char *const names[] = { "user.note", "user.empty", "system.posix_acl_access" };
	struct scratch *s = *state;
	struct inode_rec rec;
	struct tree_value v = { 0 };

	make_zoo();
	import_dir(s, "zoo");
	struct tree_fs fs = store_tree(s->store, &s->result.root);
	uint64_t ino = lookup(s, "text", &rec);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char want[256];
		ssize_t n = getxattr("zoo/text", names[i], want, sizeof(want));

		assert_true(n >= 0);
		assert_int_equal(tree_fs_getxattr(&fs, ino, names[i], strlen(names[i]), &v), 0);
		assert_int_equal(v.len, n);
		assert_memory_equal(v.data, want, n);
		tree_value_release(&v);
	}
}

static void the_order_of_creation_does_not_matter(void **state)
{
	struct scratch *s = *state;

	sh("mkdir a b && for i in 1 2 3 4 5 6 7 8 9; do echo $i > a/$i; done; ln a/3 a/x");
	sh("for i in 9 7 5 3 1 8 6 4 2; do echo $i > b/$i; done; ln b/3 b/x");
	sh("find a b -exec touch -d @1000000000 {} +");
	struct digest a = import_dir(s, "a"), b = import_dir(s, "b");
	assert_same_root(a, b);
}

static void inodes_are_numbered_breadth_first_by_name_hash(void **state)
{
	struct scratch *s = *state;
	struct inode_rec rec;
	uint64_t before = 1;

	sh("mkdir -p n/d1/e1 n/d2 && touch n/f n/d1/g n/d1/e1/h n/d2/i");
	import_dir(s, "n");
	const char *const levels[][4] = { { "d1", "d2", "f", NULL },
					  { "d1/e1", "d1/g", "d2/i", NULL },
					  { "d1/e1/h", NULL } };
	for (size_t l = 0; l < ARRAY_SIZE(levels); l++) {
		uint64_t max = 0;

		for (size_t i = 0; levels[l][i]; i++) {
			uint64_t ino = lookup(s, levels[l][i], &rec);

			assert_true(ino > before);
			max = MAX(max, ino);
		}
		before = max;
	}
	assert_int_equal(before, s->result.file_count);
	const char *const top[] = { "d1", "d2", "f" };
	for (size_t i = 0; i < 3; i++)
		for (size_t k = 0; k < 3; k++)
			if (name_hash(top[i], strlen(top[i])) < name_hash(top[k], strlen(top[k])))
				assert_true(lookup(s, top[i], &rec) < lookup(s, top[k], &rec));
}

/* Far deeper than PATH_MAX, with few descriptors allowed. */
static void depth_and_descriptors_do_not_matter(void **state)
{
	struct scratch *s = *state;
	struct rlimit old, few = { 400, 400 };
	char name[201];
	int fd, depth = 700;

	memset(name, 'x', 200);
	name[200] = '\0';
	assert_int_equal(mkdir("deep", 0755), 0);
	fd = open("deep", O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < depth; i++) {
		assert_int_equal(mkdirat(fd, name, 0755), 0);
		assert_int_equal(mkdirat(fd, "y", 0755), 0);
		int f = openat(fd, "z", O_WRONLY | O_CREAT, 0644);
		assert_int_equal(write(f, &i, sizeof(i)), sizeof(i));
		close(f);
		int next = openat(fd, name, O_RDONLY | O_DIRECTORY);
		close(fd);
		fd = next;
	}
	close(fd);
	getrlimit(RLIMIT_NOFILE, &old);
	few.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_NOFILE, &few);
	import_dir(s, "deep");
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(s->result.file_count, 1 + 3 * (uint64_t)depth);
}

static void many_files_of_every_size_read_back(void **state)
{
	struct scratch *s = *state;
	char path[64];

	assert_int_equal(mkdir("many", 0755), 0);
	for (unsigned i = 0; i < 300; i++) {
		snprintf(path, sizeof(path), "many/%u", i);
		put_text(path, i < 290 ? i * i * 3 : i * 9000, i);
	}
	import_dir(s, "many");
	struct tree_fs fs = store_tree(s->store, &s->result.root);
	for (unsigned i = 0; i < 300; i++) {
		struct inode_rec rec;

		snprintf(path, sizeof(path), "%u", i);
		uint64_t ino = lookup(s, path, &rec);
		char *got = malloc(rec.size + 1), *want = malloc(rec.size + 1);
		assert_int_equal(tree_fs_read(&fs, ino, 0, got, rec.size), 0);
		snprintf(path, sizeof(path), "many/%u", i);
		int fd = open(path, O_RDONLY);
		assert_int_equal(read(fd, want, rec.size + 1), (ssize_t)rec.size);
		close(fd);
		assert_memory_equal(got, want, rec.size);
		free(got);
		free(want);
	}
}

static void a_socket_is_kept(void **state)
{
	struct scratch *s = *state;
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "sock/s" };
	struct inode_rec rec;

	assert_int_equal(mkdir("sock", 0755), 0);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	close(fd);
	import_dir(s, "sock");
	lookup(s, "s", &rec);
	assert_true(S_ISSOCK(rec.mode));
}

static void an_empty_directory_is_a_tree_of_one_inode(void **state)
{
	struct scratch *s = *state;

	assert_int_equal(mkdir("nothing", 0755), 0);
	import_dir(s, "nothing");
	assert_int_equal(s->result.file_count, 1);
	assert_int_equal(s->result.size_bytes, 0);
}

static void a_symlink_to_the_directory_is_followed_and_others_are_not(void **state)
{
	struct scratch *s = *state;
	struct inode_rec rec;

	sh("mkdir real && ln -s / real/root && ln -s real alias");
	import_dir(s, "alias");
	assert_int_equal(s->result.file_count, 2);
	lookup(s, "root", &rec);
	assert_true(S_ISLNK(rec.mode));
}

static void one_file_system_leaves_mounts_empty(void **state)
{
	struct scratch *s = *state;
	struct ingest_options opt = { .one_file_system = true };

	if (!is_root() || mkdir("fs", 0755) < 0 || mkdir("fs/m", 0755) < 0 ||
	    mount("varve-test", "fs/m", "tmpfs", 0, NULL) < 0)
		skip();
	put_file("fs/m/inside", "x", 1);
	put_file("fs/outside", "x", 1);
	reset(s);
	int r = ingest_dir(s->store, "fs", &opt, NULL, &s->result, &s->err);
	bool with = r == 0 && exists(s, "outside") && exists(s, "m") && !exists(s, "m/inside");
	import_dir(s, "fs");
	bool without = exists(s, "m/inside");
	umount("fs/m");
	assert_true(with);
	assert_true(without);
}

static void one_file_system_keeps_what_is_bind_mounted_elsewhere(void **state)
{
	struct scratch *s = *state;
	struct ingest_options opt = { .one_file_system = true };

	sh("mkdir -p fs/z && echo -n text > fs/m && echo -n text > fs/z/a && "
	   "ln fs/z/a fs/z/b && ln fs/z/a fs/0");
	/* Over names that are listed before and after the file's own. */
	if (!is_root() || mount("fs/z/a", "fs/m", NULL, MS_BIND, NULL) < 0 ||
	    mount("/dev/null", "fs/0", NULL, MS_BIND, NULL) < 0)
		skip();
	reset(s);
	int r = ingest_dir(s->store, "fs", &opt, NULL, &s->result, &s->err);
	umount("fs/m");
	umount("fs/0");
	checked(s, r);
	assert_content(s, "z/a", "text");
	assert_content(s, "z/b", "text");
	assert_content(s, "m", "");
	assert_content(s, "0", "");
	assert_int_equal(s->result.remarks.kinds[REMARK_MOUNT].count, 2);
}

static void the_store_itself_is_left_out(void **state)
{
	struct scratch *s = *state;

	put_file("beside", "x", 1);
	import_dir(s, ".");
	assert_true(exists(s, "beside"));
	assert_true(exists(s, "store"));
	assert_false(exists(s, "store/db"));
}

static void limits_are_kept(void **state)
{
	struct scratch *s = *state;
	struct ingest_options entries = { .max_entries = 5 }, bytes = { .max_bytes = 1 << 20 };

	make_zoo();
	assert_int_equal(ingest_dir(s->store, "zoo", &entries, NULL, &s->result, &s->err), -EFBIG);
	assert_non_null(strstr(error_text(&s->err), "5 entries"));
	reset(s);
	assert_int_equal(ingest_dir(s->store, "zoo", &bytes, NULL, &s->result, &s->err), -EFBIG);
	assert_non_null(strstr(error_text(&s->err), "bytes"));
}

static void a_full_disk_is_an_error_that_says_so(void **state)
{
	struct scratch *s = *state;
	struct store *small;

	if (!is_root() || mkdir("full", 0755) < 0 ||
	    mount("varve-test", "full", "tmpfs", 0, "size=12m") < 0)
		skip();
	sh("mkdir data && for i in 1 2 3 4 5 6; do head -c 5M /dev/urandom > data/$i; done");
	log_set_level(LOG_ERROR - 1);
	int r = store_open("full/store", NULL, &small, &s->err);
	if (r == 0) {
		r = ingest_dir(small, "data", NULL, NULL, &s->result, &s->err);
		store_close(small);
	}
	log_set_level(LOG_ERROR);
	umount("full");
	assert_int_equal(r, -ENOSPC);
	assert_non_null(strstr(error_text(&s->err), "disk")
				?: strstr(error_text(&s->err), "store"));
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

	make_zoo();
	reset(s);
	assert_int_equal(ingest_dir(s->store, "zoo", NULL, &p, &s->result, &s->err), -ECANCELED);
}

static void what_is_missing_or_no_directory_is_an_error_with_its_name(void **state)
{
	struct scratch *s = *state;

	assert_int_equal(ingest_dir(s->store, "no/such", NULL, NULL, &s->result, &s->err), -ENOENT);
	assert_non_null(strstr(error_text(&s->err), "no/such"));
	put_file("file", "x", 1);
	reset(s);
	assert_int_equal(ingest_dir(s->store, "file", NULL, NULL, &s->result, &s->err), -ENOTDIR);
}

/* Files come, go, grow and shrink all the time while it is read: it must not matter. */
static void a_directory_that_changes_is_imported_all_the_same(void **state)
{
	struct scratch *s = *state;

	sh("mkdir -p busy/d && for i in $(seq 400); do echo $i > busy/f$i; done");
	log_set_level(LOG_ERROR - 1);
	pid_t child = fork();
	if (child == 0) {
		for (unsigned i = 0;; i++) {
			char a[64], b[64];

			snprintf(a, sizeof(a), "busy/f%u", i % 400 + 1);
			snprintf(b, sizeof(b), "busy/d/g%u", i % 400 + 1);
			(void)!rename(a, b);
			(void)!truncate(b, (i * 7919) % 300000);
			(void)!rename(b, a);
			if (i % 3 == 0 && (mkdir("busy/d/x", 0755) < 0))
				(void)rmdir("busy/d/x");
		}
	}
	for (int i = 0; i < 20; i++)
		import_dir(s, "busy");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	log_set_level(LOG_ERROR);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
	const struct CMUnitTest tests[] = {
		T(a_second_import_stores_nothing_and_has_the_same_root),
		T(attributes_are_those_of_the_source),
		T(xattrs_are_kept),
		T(the_order_of_creation_does_not_matter),
		T(inodes_are_numbered_breadth_first_by_name_hash),
		T(depth_and_descriptors_do_not_matter),
		T(many_files_of_every_size_read_back),
		T(a_socket_is_kept),
		T(an_empty_directory_is_a_tree_of_one_inode),
		T(a_symlink_to_the_directory_is_followed_and_others_are_not),
		T(one_file_system_leaves_mounts_empty),
		T(one_file_system_keeps_what_is_bind_mounted_elsewhere),
		T(the_store_itself_is_left_out),
		T(limits_are_kept),
		T(a_full_disk_is_an_error_that_says_so),
		T(it_can_be_cancelled),
		T(what_is_missing_or_no_directory_is_an_error_with_its_name),
		T(a_directory_that_changes_is_imported_all_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
