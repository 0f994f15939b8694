/* A tree read as a filesystem: names, data, paths; and what damage gives. */
#include "store/tree/tree_fs.h"

#include "store/base/wire.h"
#include "tests/unit/fs_fixture.h"

static struct tree_fs fs_of(struct fx *f, const struct model *m)
{
	struct digest root = m_tree(f->s, m);
	return store_tree(f->s, &root);
}

static void super_and_inodes_read_back(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	struct super_rec super;
	struct inode_rec r;
	struct tree_value pin = { 0 };
	m_file(m, "f", "hello");
	m_symlink(m, "l", "some/where");
	struct tree_fs fs = fs_of(f, m);
	assert_int_equal(tree_fs_super(&fs, &super), 0);
	assert_int_equal(super.inode_count, 3);
	assert_int_equal(super.data_bytes, 5);
	assert_int_equal(tree_fs_inode(&fs, m_ino(m, "l"), &r, &pin), 0);
	assert_int_equal(r.target_len, 10);
	assert_memory_equal(r.target, "some/where", 10);
	tree_value_release(&pin);
	assert_int_equal(tree_fs_inode(&fs, 99, &r, &pin), -ENOENT);
	m_free(m);
}

static void lookup_finds_exactly_the_name(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	struct dirent_rec e;
	m_dir(m, "d");
	m_file(m, "d/name", "");
	struct tree_fs fs = fs_of(f, m);
	assert_int_equal(tree_fs_lookup(&fs, m_ino(m, "d"), "name", 4, &e), 0);
	assert_int_equal(e.ino, m_ino(m, "d/name"));
	assert_int_equal(e.type, DT_REG);
	assert_int_equal(tree_fs_lookup(&fs, m_ino(m, "d"), "nam", 3, &e), -ENOENT);
	assert_int_equal(tree_fs_lookup(&fs, ROOT_INO, "name", 4, &e), -ENOENT);
	m_free(m);
}

struct listing {
	uint64_t last_hash;
	unsigned count, stop_after;
};

static int list_entry(void *arg, uint64_t hash, const struct dirent_rec *e)
{
	struct listing *l = arg;
	assert_true(hash > l->last_hash);
	assert_int_equal(hash, name_hash(e->name, e->name_len));
	l->last_hash = hash;
	l->count++;
	return l->count == l->stop_after ? 7 : 0;
}

static void readdir_goes_on_after_a_cookie(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	struct listing l = { .stop_after = 120 };
	m_dir(m, "d");
	m_dir(m, "e");
	for (int i = 0; i < 300; i++) {
		char path[32];
		snprintf(path, sizeof(path), "d/file-%d", i);
		m_file(m, path, "");
	}
	struct tree_fs fs = fs_of(f, m);
	assert_int_equal(tree_fs_readdir(&fs, m_ino(m, "d"), 0, list_entry, &l), 7);
	assert_int_equal(l.count, 120);
	l.stop_after = 0;
	assert_int_equal(tree_fs_readdir(&fs, m_ino(m, "d"), l.last_hash, list_entry, &l), 0);
	assert_int_equal(l.count, 300);
	assert_int_equal(tree_fs_readdir(&fs, m_ino(m, "d"), l.last_hash, list_entry, &l), 0);
	assert_int_equal(tree_fs_readdir(&fs, m_ino(m, "d"), INT64_MAX, list_entry, &l), 0);
	assert_int_equal(tree_fs_readdir(&fs, m_ino(m, "e"), 0, list_entry, &l), 0);
	assert_int_equal(l.count, 300);
	m_free(m);
}

static int one_xattr(void *arg, const char *name, size_t name_len, const void *value, size_t len)
{
	assert_int_equal(name_len, 9);
	assert_memory_equal(name, "user.test", 9);
	assert_memory_equal(value, "value", len);
	(*(int *)arg)++;
	return 0;
}

static void xattrs_are_found_and_listed(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	struct tree_value v = { 0 };
	int count = 0;
	m_file(m, "f", "x");
	m_file(m, "g", "x");
	strcpy(m_at(m, "f")->xattr, "value");
	struct tree_fs fs = fs_of(f, m);
	assert_int_equal(tree_fs_getxattr(&fs, m_ino(m, "f"), "user.test", 9, &v), 0);
	assert_int_equal(v.len, 5);
	tree_value_release(&v);
	assert_int_equal(tree_fs_getxattr(&fs, m_ino(m, "f"), "user.tes", 8, &v), -ENODATA);
	assert_int_equal(tree_fs_getxattr(&fs, m_ino(m, "g"), "user.test", 9, &v), -ENODATA);
	assert_int_equal(tree_fs_listxattr(&fs, m_ino(m, "f"), one_xattr, &count), 0);
	assert_int_equal(tree_fs_listxattr(&fs, m_ino(m, "g"), one_xattr, &count), 0);
	assert_int_equal(count, 1);
	m_free(m);
}

/* Every part of a file reads as the model has it, whatever the offsets. */
static void check_reads(const struct tree_fs *fs, const struct m_inode *i, uint64_t ino)
{
	uint8_t *whole = calloc(1, i->size + 1), *part = malloc(i->size + 1);
	uint64_t seed = 88172645463325252ull;
	memcpy(whole + i->data_at, i->data, i->data_len);
	for (int n = 0; n < 200; n++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		uint64_t from = seed % (i->size + 1), len = (seed >> 20) % (i->size - from + 1);
		if (n == 0) {
			from = 0;
			len = i->size;
		}
		memset(part, 0xee, i->size + 1);
		assert_int_equal(tree_fs_read(fs, ino, from, part, len), 0);
		assert_memory_equal(part, whole + from, len);
		assert_int_equal(part[len], 0xee);
	}
	free(whole);
	free(part);
}

static void any_range_reads_data_and_holes(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	static const char *const paths[] = { "small", "one", "many", "sparse", "empty" };
	m_file(m, "small", "inline data");
	m_random_file(m, "one", 1, 50000);
	m_random_file(m, "many", 2, 700000);
	m_random_file(m, "sparse", 3, 200000);
	m_at(m, "sparse")->data_at = 123457;
	m_at(m, "sparse")->size = 123457 + 200000 + 77777;
	m_file(m, "empty", "");
	struct tree_fs fs = fs_of(f, m);
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		check_reads(&fs, m_at(m, paths[i]), m_ino(m, paths[i]));
	m_free(m);
}

static int count_extent(void *arg, uint64_t offset, const struct extent_rec *e)
{
	uint64_t *end = arg;
	assert_true(offset >= *end);
	*end = offset + e->len;
	return 0;
}

static void extents_start_with_the_one_that_covers_the_range(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	uint64_t end = 0;
	m_random_file(m, "a", 1, 100);
	m_random_file(m, "f", 2, 600000);
	struct tree_fs fs = fs_of(f, m);
	uint64_t ino = m_ino(m, "f");
	assert_int_equal(tree_fs_extents(&fs, ino, 1, 2, count_extent, &end), 0);
	assert_true(end >= CHUNK_MIN);
	end = 0;
	assert_int_equal(tree_fs_extents(&fs, ino, 599999, 1 << 30, count_extent, &end), 0);
	assert_int_equal(end, 600000);
	end = 0;
	assert_int_equal(tree_fs_extents(&fs, ino, 600000, 1 << 30, count_extent, &end), 0);
	assert_int_equal(end, 0);
	m_free(m);
}

static void put_extent(struct tree_batch *b, uint64_t ino, uint64_t at, const char *data)
{
	CLEANUP(buf_fini_p) struct buf value = BUF_INIT;
	struct extent_rec e = { .kind = EXTENT_INLINE,
				.len = (uint32_t)strlen(data),
				.data = (const uint8_t *)data };
	struct key k;
	key_extent(&k, ino, at);
	assert_int_equal(extent_encode(&e, &value), 0);
	m_put(b, &k, &value);
}

static void overlapping_or_malformed_extents_are_an_error(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	char out[64];
	m_file(m, "f", "0123456789");
	m_file(m, "g", "0123456789");
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	m_emit(f->s, m, b);
	put_extent(b, m_ino(m, "f"), 5, "overlap");
	struct key k;
	key_extent(&k, m_ino(m, "g"), 0);
	assert_int_equal(tree_batch_put(b, k.bytes, k.len, "?", 1), 0);
	struct digest root = m_apply(f->s, b);
	struct tree_fs fs = store_tree(f->s, &root);
	assert_int_equal(tree_fs_read(&fs, m_ino(m, "f"), 0, out, 10), -EBADMSG);
	assert_int_equal(tree_fs_read(&fs, m_ino(m, "g"), 0, out, 10), -EBADMSG);
	m_free(m);
}

static void missing_chunk_is_no_data_and_the_rest_reads(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	char out[8];
	m_random_file(m, "f", 77, 20000);
	m_file(m, "g", "intact");
	struct tree_fs fs = fs_of(f, m);
	struct digest d;
	assert_int_equal(hash_bytes(m_at(m, "f")->data, 20000, &d), 0);
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	kv_batch_del(f->s->kv, b, KV_CHUNK, d.b, sizeof(d.b));
	assert_int_equal(kv_write(f->s->kv, b, KV_LOG), 0);
	fx_reopen(f);
	fs = store_tree(f->s, &fs.root);
	assert_int_equal(tree_fs_read(&fs, m_ino(m, "f"), 100, out, 6), -ENODATA);
	assert_int_equal(tree_fs_read(&fs, m_ino(m, "g"), 0, out, 6), 0);
	assert_memory_equal(out, "intact", 6);
	m_free(m);
}

static void paths_resolve_as_the_kernel_resolves_them(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	m_dir(m, "a");
	m_dir(m, "a/b");
	m_file(m, "a/b/file", "x");
	m_symlink(m, "abs", "/a/b");
	m_symlink(m, "a/up", "../a/b/");
	m_symlink(m, "loop", "loop");
	m_symlink(m, "a/dangling", "nowhere");
	m_symlink(m, "out", "../../../../a");
	m_symlink(m, "chain", "abs/../up/file");
	struct tree_fs fs = fs_of(f, m);
	const struct {
		const char *path;
		bool follow;
		int rc;
		const char *want; /* by its own path */
	} cases[] = {
		{ "", false, 0, "" },
		{ "/", false, 0, "" },
		{ "..", false, 0, "" },
		{ "//a///b//", false, 0, "a/b" },
		{ "a/./b/../b/file", false, 0, "a/b/file" },
		{ "a/b/file", false, 0, "a/b/file" },
		{ "a/b/file/", false, -ENOTDIR, NULL },
		{ "a/b/file/x", false, -ENOTDIR, NULL },
		{ "a/b/file/..", false, -ENOTDIR, NULL },
		{ "a/nothing", false, -ENOENT, NULL },
		{ "abs", false, 0, "abs" },
		{ "abs", true, 0, "a/b" },
		{ "abs/", false, 0, "a/b" },
		{ "abs/file", false, 0, "a/b/file" },
		{ "a/up/file", false, 0, "a/b/file" },
		{ "a/up/..", false, 0, "a" },
		{ "loop", false, 0, "loop" },
		{ "loop", true, -ELOOP, NULL },
		{ "loop/x", false, -ELOOP, NULL },
		{ "a/dangling", false, 0, "a/dangling" },
		{ "a/dangling", true, -ENOENT, NULL },
		{ "out/b", false, 0, "a/b" },
		{ "chain", true, 0, "a/b/file" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t ino = 0;
		int rc = tree_fs_resolve(&fs, cases[i].path, cases[i].follow, &ino);
		if (rc != cases[i].rc || (rc == 0 && ino != m_ino(m, cases[i].want)))
			fail_msg("%s: %d, inode %d", cases[i].path, rc, (int)ino);
	}
	char longer[300];
	uint64_t ino;
	memset(longer, 'n', sizeof(longer));
	longer[299] = '\0';
	assert_int_equal(tree_fs_resolve(&fs, longer, false, &ino), -ENAMETOOLONG);
	m_free(m);
}

static void inodes_know_their_paths(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	m_dir(m, "a");
	m_dir(m, "a/b");
	m_file(m, "a/b/one", "x");
	m_file(m, "a/two", "y");
	m_hardlink(m, "a/two", "a/b/other");
	struct tree_fs fs = fs_of(f, m);
	assert_int_equal(buf_append_str(&path, "at:"), 0);
	assert_int_equal(tree_fs_path(&fs, m_ino(m, "a/b/one"), &path), 0);
	assert_string_equal(buf_cstr(&path), "at:a/b/one");
	buf_clear(&path);
	assert_int_equal(tree_fs_path(&fs, ROOT_INO, &path), 0);
	assert_int_equal(path.len, 0);
	assert_int_equal(tree_fs_path(&fs, m_ino(m, "a/two"), &path), 0);
	assert_true(strcmp(buf_cstr(&path), "a/two") == 0 ||
		    strcmp(buf_cstr(&path), "a/b/other") == 0);
	assert_int_equal(tree_fs_path(&fs, 99, &path), -ENOENT);
	m_free(m);
}

static void ring_of_directories_ends(void **state)
{
	struct fx *f = *state;
	struct model *m = m_new();
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	m_dir(m, "a");
	m_dir(m, "a/b");
	uint64_t a = m_ino(m, "a"), b = m_ino(m, "a/b");
	m_link_of(m, "a")->dir = b;
	struct tree_fs fs = fs_of(f, m);
	assert_int_equal(tree_fs_path(&fs, a, &path), -EBADMSG);
	assert_int_equal(path.len, 0);
	m_free(m);
}

static void stat_is_filled_from_the_record(void **state)
{
	struct inode_rec r = { .mode = S_IFREG | 0640,
			       .uid = 1,
			       .gid = 2,
			       .nlink = 3,
			       .size = 5000,
			       .alloc_bytes = 4097,
			       .mtime = { 7, 8 } };
	struct stat st;
	(void)state;
	inode_to_stat(42, &r, &st);
	assert_int_equal(st.st_ino, 42);
	assert_int_equal(st.st_mode, S_IFREG | 0640);
	assert_int_equal(st.st_nlink, 3);
	assert_int_equal(st.st_size, 5000);
	assert_int_equal(st.st_blocks, 9);
	assert_int_equal(st.st_blksize, 4096);
	assert_int_equal(st.st_mtim.tv_nsec, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(super_and_inodes_read_back),
		cmocka_unit_test(lookup_finds_exactly_the_name),
		cmocka_unit_test(readdir_goes_on_after_a_cookie),
		cmocka_unit_test(xattrs_are_found_and_listed),
		cmocka_unit_test(any_range_reads_data_and_holes),
		cmocka_unit_test(extents_start_with_the_one_that_covers_the_range),
		cmocka_unit_test(overlapping_or_malformed_extents_are_an_error),
		cmocka_unit_test(missing_chunk_is_no_data_and_the_rest_reads),
		cmocka_unit_test(paths_resolve_as_the_kernel_resolves_them),
		cmocka_unit_test(inodes_know_their_paths),
		cmocka_unit_test(ring_of_directories_ends),
		cmocka_unit_test(stat_is_filled_from_the_record),
	};
	return cmocka_run_group_tests(tests, fx_setup, fx_teardown);
}
