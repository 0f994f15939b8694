/*
 * Hostile trees: the input is a list of (u8 inode, u8 kind, u8 sub-key length,
 * u16 value length, sub-key, value), stored as a tree whatever it says. Reading it
 * as a filesystem, verifying and exporting it may fail but never crash or hang.
 */
#include "store/export/export.h"
#include "store/base/wire.h"
#include "store/gc/verify.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

#define BYTES_MAX (64u << 20) /* of an export; sizes may lie */

static int build(struct store *s, struct wire_reader *r, struct digest *root)
{
	CLEANUP(tree_batch_free_p) struct tree_batch *b = tree_batch_new();
	struct digest empty;

	MUST(b);
	while (wire_left(r) > 0) {
		uint8_t key[KEY_SIZE_MAX] = { 0 };
		key[7] = wire_u8(r);
		key[8] = wire_u8(r);
		size_t sub_len = wire_u8(r), val_len = wire_u16(r);
		const uint8_t *sub = wire_bytes(r, sub_len), *val = wire_bytes(r, val_len);
		if (!wire_ok(r))
			break;
		memcpy(key + KEY_PREFIX_SIZE, sub, sub_len);
		MUST(tree_batch_put(b, key, KEY_PREFIX_SIZE + sub_len, val, val_len) == 0);
	}
	MUST(tree_empty(s->nodes, &empty) == 0);
	return tree_apply(s->nodes, &empty, b, root, NULL);
}

static int count_entry(void *arg, uint64_t hash, const struct dirent_rec *e)
{
	(void)hash;
	MUST(name_check(e->name, e->name_len) == 0);
	return ++*(int *)arg > 10000;
}

static int count_xattr(void *arg, const char *name, size_t name_len, const void *value,
		       size_t value_len)
{
	(void)name, (void)name_len, (void)value, (void)value_len;
	return ++*(int *)arg > 10000;
}

static void read_inode(const struct tree_fs *fs, uint64_t ino)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	CLEANUP(tree_value_release_p) struct tree_value pin = { 0 };
	uint8_t bytes[8192];
	struct inode_rec r;
	int n = 0;

	if (tree_fs_inode(fs, ino, &r, &pin) == 0 && tree_fs_path(fs, ino, &path) == 0)
		MUST(path.len < 1u << 20);
	if (tree_fs_readdir(fs, ino, 0, count_entry, &n) < 0)
		n = 0;
	if (tree_fs_listxattr(fs, ino, count_xattr, &n) < 0)
		n = 0;
	if (tree_fs_read(fs, ino, 0, bytes, sizeof(bytes)) == 0)
		(void)!memchr(bytes, 0, sizeof(bytes));
}

static int take_bytes(void *arg, const void *data, size_t len)
{
	size_t *left = arg;

	(void)data;
	if (len > *left)
		return -EFBIG;
	*left -= len;
	return 0;
}

static void ignore(void *arg, const char *snapshot, const char *path, const char *problem)
{
	(void)snapshot, (void)path;
	MUST(problem[0]);
	++*(int *)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store *s = fuzz_store();
	struct snapshot snap = { .name = "fuzz", .status = SNAPSHOT_READY, .has_root = true };
	struct verify_result result = { 0 };
	struct error err = ERROR_INIT;
	size_t left = BYTES_MAX;
	struct wire_reader r;
	uint64_t ino;
	int problems = 0;

	wire_reader_init(&r, data, size);
	if (build(s, &r, &snap.root) != 0)
		return 0;
	struct tree_fs fs = store_tree(s, &snap.root);
	for (ino = 0; ino < 8; ino++)
		read_inode(&fs, ino);
	if (tree_fs_resolve(&fs, "/a/../b/./c", true, &ino) == 0)
		read_inode(&fs, ino);
	int exported = export_tar(s, &snap.root, take_bytes, &left, NULL, &err);
	MUST(snapshots_put(s->snapshots, &snap, NULL, &err) == 0);
	MUST(verify_run(s, "fuzz", NULL, ignore, &problems, &result, &err) == 0);
	MUST(result.damaged == (uint64_t)problems);
	/* What verifies can be exported. */
	MUST(problems > 0 || exported == 0 || exported == -EFBIG);
	MUST(snapshots_delete(s->snapshots, "fuzz", &err) == 0);
	snapshot_fini(&snap);
	return 0;
}
