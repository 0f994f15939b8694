/* Verification: each kind of damage is found, named by snapshot and path, and nothing else is. */
#include "store/gc/verify.h"

#include "store/base/wire.h"
#include "store/chunk/digest_set.h"
#include "tests/unit/fs_fixture.h"

struct report {
	char text[16384]; /* "snapshot: path: problem\n" ... */
	size_t len;
	unsigned count;
};

static void collect_problem(void *arg, const char *snapshot, const char *path, const char *problem)
{
	struct report *r = arg;
	r->count++;
	r->len += (size_t)snprintf(r->text + r->len, sizeof(r->text) - r->len, "%s: %s: %s\n",
				   snapshot, path, problem);
	assert_true(r->len < sizeof(r->text));
}

static struct verify_result verify(struct fx *f, const char *name, struct report *r)
{
	struct verify_result res;
	struct error err = ERROR_INIT;
	*r = (struct report){ 0 };
	if (verify_run(f->s, name, NULL, collect_problem, r, &res, &err) != 0)
		fail_msg("verify: %s", error_text(&err));
	assert_int_equal(res.damaged, r->count);
	return res;
}

static void expect_problem(const struct report *r, const char *text)
{
	if (!strstr(r->text, text))
		fail_msg("no \"%s\" in:\n%s", text, r->text);
}

static struct model *sample(void)
{
	struct model *m = m_new();
	m_dir(m, "d");
	m_dir(m, "d/e");
	m_file(m, "d/small", "inline");
	m_random_file(m, "d/big", 1, 300000);
	m_random_file(m, "d/e/one", 2, 5000);
	m_hardlink(m, "d/e/one", "linked");
	m_symlink(m, "link", "d/e");
	m_make(m, "null", S_IFCHR | 0666);
	m_random_file(m, "sparse", 3, 4000);
	m_at(m, "sparse")->data_at = 100000;
	m_at(m, "sparse")->size = 1 << 20;
	strcpy(m_at(m, "d")->xattr, "x");
	return m;
}

static void sound_store_has_no_problem(void **state)
{
	struct fx *f = *state;
	struct report r;
	struct model *m = sample();
	m_snapshot(f->s, m, "one");
	m_snapshot(f->s, m, "same");
	m_file(m, "more", "x");
	m_snapshot(f->s, m, "two");
	struct verify_result res = verify(f, NULL, &r);
	assert_string_equal(r.text, "");
	assert_int_equal(res.snapshots, 3);
	assert_int_equal(res.trees, 2);
	assert_true(res.nodes >= 2);
	assert_true(res.raw_bytes == 309000 && res.stored_bytes >= 309000);
	assert_int_equal(verify(f, "two", &r).snapshots, 1);
	assert_int_equal(r.count, 0);
	m_free(m);
}

static void empty_store_is_sound(void **state)
{
	struct report r;
	struct verify_result res = verify(*state, NULL, &r);
	assert_int_equal(r.count, 0);
	assert_int_equal(res.snapshots + res.nodes + res.chunks, 0);
}

static void unknown_snapshot_is_an_error(void **state)
{
	struct fx *f = *state;
	struct verify_result res;
	struct error err = ERROR_INIT;
	assert_int_equal(verify_run(f->s, "none", NULL, NULL, NULL, &res, &err), -ENOENT);
}

/* ---- damaged content ---- */

static void overwrite(struct fx *f, enum kv_family family, const struct digest *d,
		      const void *value, size_t len)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	if (value)
		kv_batch_put(f->s->kv, b, family, d->b, DIGEST_SIZE, value, len);
	else
		kv_batch_del(f->s->kv, b, family, d->b, DIGEST_SIZE);
	assert_int_equal(kv_write(f->s->kv, b, KV_LOG), 0);
	fx_reopen(f);
}

/* The frame of one digest, copied. */
static void read_frame(struct fx *f, enum kv_family family, const struct digest *d, struct buf *out)
{
	struct kv_value v = { 0 };
	assert_int_equal(kv_get(f->s->kv, family, d->b, DIGEST_SIZE, &v), 0);
	buf_clear(out);
	assert_int_equal(buf_append(out, v.data, v.len), 0);
	kv_value_release(&v);
}

static void bad_chunk_names_every_file_that_has_it(void **state)
{
	struct fx *f = *state;
	struct report r;
	struct model *m = sample(), *other = m_new();
	CLEANUP(buf_fini_p) struct buf frame = BUF_INIT;
	struct digest d;
	m_random_file(other, "copy", 2, 5000);
	m_random_file(m, "other-copy", 2, 5000);
	m_snapshot(f->s, m, "first");
	m_snapshot(f->s, other, "second");
	assert_int_equal(hash_bytes(m_at(m, "d/e/one")->data, 5000, &d), 0);
	read_frame(f, KV_CHUNK, &d, &frame);
	frame.data[frame.len - 1] ^= 1;
	overwrite(f, KV_CHUNK, &d, frame.data, frame.len);
	verify(f, NULL, &r);
	assert_int_equal(r.count, 3);
	assert_true(strstr(r.text, "first: d/e/one: chunk ") ||
		    strstr(r.text, "first: linked: chunk "));
	expect_problem(&r, "first: other-copy: chunk ");
	expect_problem(&r, "second: copy: chunk ");
	expect_problem(&r, "at 0 is damaged");
	overwrite(f, KV_CHUNK, &d, NULL, 0);
	verify(f, "second", &r);
	assert_int_equal(r.count, 1);
	expect_problem(&r, "at 0 is missing");
	/* What is wrong can be put right by storing it again. */
	m_snapshot(f->s, other, "third");
	verify(f, NULL, &r);
	assert_int_equal(r.count, 0);
	m_free(m);
	m_free(other);
}

static void many_bad_chunks_of_a_file_are_one_problem(void **state)
{
	struct fx *f = *state;
	struct report r;
	struct model *m = m_new();
	m_random_file(m, "file", 5, 400000);
	m_snapshot(f->s, m, "snap");
	size_t n = 0;
	for (size_t at = 0, len; at < 400000; at += len, n++) {
		struct digest d;
		const uint8_t *data = (uint8_t *)m_at(m, "file")->data + at;
		len = chunker_cut(data, 400000 - at);
		assert_int_equal(hash_bytes(data, len, &d), 0);
		overwrite(f, KV_CHUNK, &d, "\1garbage", 8);
	}
	char want[64];
	snprintf(want, sizeof(want), "and %zu more of its chunks are bad", n - 1);
	verify(f, NULL, &r);
	assert_int_equal(r.count, 1);
	expect_problem(&r, want);
	m_free(m);
}

static void damaged_garbage_is_reported_without_a_path(void **state)
{
	struct fx *f = *state;
	struct report r;
	struct chunk_put_result put;
	assert_int_equal(chunk_store_put(f->s->chunks, "unused", 6, &put), 0);
	overwrite(f, KV_CHUNK, &put.digest, "\0\6\0\0\0wrong!", 11);
	verify(f, NULL, &r);
	assert_int_equal(r.count, 1);
	expect_problem(&r, ": : unused chunk ");
}

static void bad_node_names_the_files_that_are_lost(void **state)
{
	struct fx *f = *state;
	struct report r;
	struct model *m = m_new();
	m_dir(m, "d");
	for (int i = 0; i < 400; i++) {
		char path[32];
		snprintf(path, sizeof(path), "d/f%d", i);
		m_file(m, path, "some content that fills nodes");
	}
	struct digest root = m_snapshot(f->s, m, "snap");
	/* The last child of the root holds the last inodes. */
	CLEANUP(node_unref_p) struct node *n = NULL;
	const uint8_t *key, *val;
	size_t klen, vlen;
	struct digest child;
	assert_int_equal(node_store_get(f->s->nodes, &root, &n), 0);
	assert_true(n->view.level == 1 && n->view.count > 2);
	node_entry(&n->view, n->view.count - 1, &key, &klen, &val, &vlen);
	memcpy(child.b, val, DIGEST_SIZE);
	node_unref(STEAL(n));
	overwrite(f, KV_NODE, &child, NULL, 0);
	verify(f, NULL, &r);
	expect_problem(&r, "snap: : tree node ");
	expect_problem(&r, "is missing; what comes after inode ");
	expect_problem(&r, "snap: d/f399: is lost: its inode was in a damaged tree node");
	assert_null(strstr(r.text, "d/f0:"));
	overwrite(f, KV_NODE, &root, "\1nonsense", 9);
	verify(f, NULL, &r);
	assert_true(r.count >= 1);
	expect_problem(&r, "is damaged; what comes after inode 0 is lost");
	m_free(m);
}

/* ---- damaged structure ---- */

struct damage {
	struct fx *f;
	struct model *m;
	struct tree_batch *b;
};

static void put_inode(struct damage *d, const char *path, void (*change)(struct inode_rec *r))
{
	CLEANUP(buf_fini_p) struct buf value = BUF_INIT;
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	struct tree_value pin = { 0 };
	struct inode_rec r;
	struct key k;
	m_emit(d->f->s, d->m, b);
	struct digest root = m_apply(d->f->s, b);
	struct tree_fs fs = store_tree(d->f->s, &root);
	assert_int_equal(tree_fs_inode(&fs, m_ino(d->m, path), &r, &pin), 0);
	change(&r);
	assert_int_equal(inode_encode(&r, &value), 0);
	tree_value_release(&pin);
	key_inode(&k, m_ino(d->m, path));
	m_put(d->b, &k, &value);
}

static void del_key(struct damage *d, const struct key *k)
{
	assert_int_equal(tree_batch_del(d->b, k->bytes, k->len), 0);
}

static void put_name(struct damage *d, uint64_t dir, const char *name, uint64_t ino, uint8_t type,
		     uint64_t hash)
{
	CLEANUP(buf_fini_p) struct buf value = BUF_INIT;
	struct dirent_rec e = { ino, type, (uint8_t)strlen(name), name };
	struct key k;
	assert_int_equal(dirent_list_put(NULL, 0, &e, &value), 0);
	key_dirent(&k, dir, hash);
	m_put(d->b, &k, &value);
}

static void put_inline(struct damage *d, const char *path, uint64_t at, const char *text)
{
	CLEANUP(buf_fini_p) struct buf value = BUF_INIT;
	struct extent_rec e = { .kind = EXTENT_INLINE,
				.len = (uint32_t)strlen(text),
				.data = (const uint8_t *)text };
	struct key k;
	assert_int_equal(extent_encode(&e, &value), 0);
	key_extent(&k, m_ino(d->m, path), at);
	m_put(d->b, &k, &value);
}

static void inc_nlink(struct inode_rec *r)
{
	r->nlink++;
}
static void dec_size(struct inode_rec *r)
{
	r->size--;
}
static void inc_alloc(struct inode_rec *r)
{
	r->alloc_bytes++;
}
static void set_parent(struct inode_rec *r)
{
	r->parent = ROOT_INO;
}
static void set_place(struct inode_rec *r)
{
	r->parent = ROOT_INO;
	r->name_hash = name_hash("linked", 6);
}

static void d_nlink(struct damage *d)
{
	put_inode(d, "d/small", inc_nlink);
}
static void d_dir_nlink(struct damage *d)
{
	put_inode(d, "d", inc_nlink);
}
static void d_size(struct damage *d)
{
	put_inode(d, "d/big", dec_size);
}
static void d_alloc(struct damage *d)
{
	put_inode(d, "sparse", inc_alloc);
}
static void d_parent(struct damage *d)
{
	put_inode(d, "d/small", set_parent);
}
static void d_linked_place(struct damage *d)
{
	put_inode(d, "linked", set_place);
}
static void d_no_inode(struct damage *d)
{
	struct key k;
	key_inode(&k, m_ino(d->m, "d/small"));
	del_key(d, &k);
}
static void d_no_name(struct damage *d)
{
	struct key k;
	key_dirent(&k, m_ino(d->m, "d"), name_hash("small", 5));
	del_key(d, &k);
}
static void d_no_backref(struct damage *d)
{
	struct key k;
	key_backref(&k, m_ino(d->m, "linked"), ROOT_INO, name_hash("linked", 6));
	del_key(d, &k);
}
static void d_wrong_type(struct damage *d)
{
	put_name(d, m_ino(d->m, "d"), "small", m_ino(d->m, "d/small"), DT_LNK,
		 name_hash("small", 5));
}
static void d_wrong_hash(struct damage *d)
{
	put_name(d, m_ino(d->m, "d"), "another", m_ino(d->m, "d/small"), DT_REG,
		 name_hash("small", 5));
}
static void d_second_name_of_a_directory(struct damage *d)
{
	put_name(d, ROOT_INO, "again", m_ino(d->m, "d/e"), DT_DIR, name_hash("again", 5));
}
static void d_overlap(struct damage *d)
{
	put_inline(d, "d/small", 3, "xyz");
}
static void d_beyond(struct damage *d)
{
	put_inline(d, "d/small", 1000, "xyz");
}
static void d_data_of_a_device(struct damage *d)
{
	put_inline(d, "null", 0, "xyz");
}
static void d_entries_of_a_file(struct damage *d)
{
	put_name(d, m_ino(d->m, "d/small"), "x", m_ino(d->m, "null"), DT_CHR, name_hash("x", 1));
}
static void d_bad_extent(struct damage *d)
{
	struct key k;
	key_extent(&k, m_ino(d->m, "d/small"), 0);
	assert_int_equal(tree_batch_put(d->b, k.bytes, k.len, "?", 1), 0);
}
static void d_bad_inode(struct damage *d)
{
	struct key k;
	key_inode(&k, m_ino(d->m, "d/small"));
	assert_int_equal(tree_batch_put(d->b, k.bytes, k.len, "?", 1), 0);
}
static void d_bad_names(struct damage *d)
{
	struct key k;
	key_dirent(&k, m_ino(d->m, "d"), name_hash("small", 5));
	assert_int_equal(tree_batch_put(d->b, k.bytes, k.len, "?", 1), 0);
}
static void d_bad_key(struct damage *d)
{
	assert_int_equal(tree_batch_put(d->b, "\0\0\0\0\0\0\0\2\x77", 9, "?", 1), 0);
}
static void d_no_super(struct damage *d)
{
	struct key k;
	key_super(&k);
	del_key(d, &k);
}
static void d_counts(struct damage *d)
{
	CLEANUP(buf_fini_p) struct buf value = BUF_INIT;
	struct super_rec super = { .next_ino = 2 };
	struct key k;
	key_super(&k);
	assert_int_equal(super_encode(&super, &value), 0);
	m_put(d->b, &k, &value);
}
static void d_chunk_length(struct damage *d)
{
	CLEANUP(buf_fini_p) struct buf value = BUF_INIT;
	struct extent_rec e = { .kind = EXTENT_CHUNK, .len = 4000 };
	struct key k;
	assert_int_equal(hash_bytes(m_at(d->m, "d/e/one")->data, 5000, &e.digest), 0);
	assert_int_equal(extent_encode(&e, &value), 0);
	key_extent(&k, m_ino(d->m, "sparse"), 100000);
	m_put(d->b, &k, &value);
}
static void d_orphan_directory(struct damage *d)
{
	put_name(d, m_ino(d->m, "d/e"), "ring", m_ino(d->m, "d"), DT_DIR, name_hash("ring", 4));
	struct key k;
	key_dirent(&k, ROOT_INO, name_hash("d", 1));
	del_key(d, &k);
}
static void d_no_root(struct damage *d)
{
	struct key k;
	key_inode(&k, ROOT_INO);
	del_key(d, &k);
}

static void each_kind_of_damage_is_named(void **state)
{
	static const struct {
		void (*make)(struct damage *d);
		const char *want;
	} cases[] = {
		{ d_nlink, "snap: d/small: has 1 names, not 2\n" },
		{ d_dir_nlink, "snap: d: has 1 subdirectories, but a link count of 4\n" },
		{ d_size, "snap: d/big: has data up to 300000, beyond its size of 299999\n" },
		{ d_alloc, "snap: sparse: has 4000 bytes of data; its inode says 4001\n" },
		{ d_parent, "no directory has an entry where its inode says\n" },
		{ d_linked_place, "has several links, but one place\n" },
		{ d_no_inode, "snap: d/small: has no inode record (inode 4)\n" },
		{ d_no_inode, "snap: : inode 4 has data but no record\n" },
		{ d_no_name, "snap: : inode 4 has no name in any directory\n" },
		{ d_no_backref, "has 1 back references, not 2\n" },
		{ d_wrong_type,
		  "snap: d/small: its directory entry has the wrong type (inode 4)\n" },
		{ d_wrong_hash, "snap: d/another: its name stands under another name's hash" },
		{ d_second_name_of_a_directory, "snap: d/e: has 2 names, not 1\n" },
		{ d_overlap, "snap: d/small: its extents overlap at 3\n" },
		{ d_beyond, "snap: d/small: has data up to 1003, beyond its size of 6\n" },
		{ d_data_of_a_device, "snap: null: has data, but is no regular file\n" },
		{ d_entries_of_a_file, "snap: d/small: has entries, but is no directory\n" },
		{ d_bad_extent, "snap: d/small: its extent at 0 is malformed\n" },
		{ d_bad_inode, "its inode record is malformed\n" },
		{ d_bad_names, "snap: d: one of its directory entries is malformed\n" },
		{ d_bad_key, "a key of the tree is malformed\n" },
		{ d_no_super, "snap: : the tree has no super record\n" },
		{ d_counts, "snap: : the tree has 9 inodes; its super record says 0\n" },
		{ d_counts, "snap: : the next inode number, 2, is in use\n" },
		{ d_chunk_length, "at 100000 has 5000 bytes, not 4000\n" },
		{ d_orphan_directory, "form a ring\n" },
		{ d_no_root, "snap: : the tree has no root directory\n" },
	};
	struct fx *f = *state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct snapshot snap = { .name = "snap",
					 .status = SNAPSHOT_READY,
					 .has_root = true };
		struct damage d = { .f = f, .m = sample(), .b = tree_batch_new() };
		struct report r;
		m_emit(f->s, d.m, d.b);
		cases[i].make(&d);
		snap.root = m_apply(f->s, d.b);
		assert_int_equal(snapshots_put(f->s->snapshots, &snap, NULL, NULL), 0);
		verify(f, NULL, &r);
		expect_problem(&r, cases[i].want);
		assert_int_equal(snapshots_delete(f->s->snapshots, "snap", NULL), 0);
		tree_batch_free(d.b);
		m_free(d.m);
	}
}

static bool cancel_at_once(void *arg)
{
	(void)arg;
	return true;
}

static void verification_can_be_cancelled(void **state)
{
	struct fx *f = *state;
	struct progress p = { .cancelled = cancel_at_once };
	struct verify_result res;
	struct error err = ERROR_INIT;
	struct model *m = sample();
	m_snapshot(f->s, m, "snap");
	assert_int_equal(verify_run(f->s, NULL, &p, NULL, NULL, &res, &err), -ECANCELED);
	m_free(m);
}

static void readers_can_verify(void **state)
{
	struct fx *f = *state;
	struct store_options opt = { .read_only = true };
	struct error err = ERROR_INIT;
	struct verify_result res;
	struct store *reader;
	struct model *m = sample();
	m_snapshot(f->s, m, "snap");
	assert_int_equal(store_open(f->dir, &opt, &reader, &err), 0);
	assert_int_equal(verify_run(reader, NULL, NULL, NULL, NULL, &res, &err), 0);
	assert_true(res.damaged == 0 && res.snapshots == 1);
	store_close(reader);
	m_free(m);
}

static void digest_sets_are_exact_until_they_are_full(void **state)
{
	struct digest_set s;
	struct digest d;
	(void)state;
	digest_set_init(&s, 64 << 10); /* 4096 slots, 3072 in use */
	for (unsigned i = 0; i < 6000; i++) {
		assert_int_equal(hash_bytes(&i, sizeof(i), &d), 0);
		assert_false(digest_set_has(&s, &d));
		assert_true(digest_set_add(&s, &d));
	}
	assert_true(s.full);
	assert_int_equal(s.count, 3072);
	for (unsigned i = 0; i < 6000; i++) {
		assert_int_equal(hash_bytes(&i, sizeof(i), &d), 0);
		assert_int_equal(digest_set_has(&s, &d), i < 3072);
		assert_int_equal(digest_set_add(&s, &d), i >= 3072);
	}
	digest_set_fini(&s);
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(sound_store_has_no_problem),
		WITH_STORE(empty_store_is_sound),
		WITH_STORE(unknown_snapshot_is_an_error),
		WITH_STORE(bad_chunk_names_every_file_that_has_it),
		WITH_STORE(many_bad_chunks_of_a_file_are_one_problem),
		WITH_STORE(damaged_garbage_is_reported_without_a_path),
		WITH_STORE(bad_node_names_the_files_that_are_lost),
		WITH_STORE(each_kind_of_damage_is_named),
		WITH_STORE(verification_can_be_cancelled),
		WITH_STORE(readers_can_verify),
		cmocka_unit_test(digest_sets_are_exact_until_they_are_full),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
