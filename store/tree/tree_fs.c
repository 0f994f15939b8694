#include "store/tree/tree_fs.h"

#include <errno.h>
#include <string.h>

#include "store/base/wire.h"

int tree_fs_super(const struct tree_fs *fs, struct super_rec *out)
{
	CLEANUP(tree_value_release_p) struct tree_value v = { 0 };
	struct key k;
	key_super(&k);
	int rc = tree_get(fs->nodes, &fs->root, k.bytes, k.len, &v);
	if (rc == -ENOENT)
		return -EBADMSG;
	return rc == 0 ? super_decode(v.data, v.len, out) : rc;
}

int tree_fs_inode(const struct tree_fs *fs, uint64_t ino, struct inode_rec *out,
		  struct tree_value *pin)
{
	CLEANUP(tree_value_release_p) struct tree_value v = { 0 };
	struct key k;
	key_inode(&k, ino);
	int rc = tree_get(fs->nodes, &fs->root, k.bytes, k.len, &v);
	if (rc == 0)
		rc = inode_decode(v.data, v.len, out);
	if (rc != 0)
		return rc;
	*pin = v;
	v = (struct tree_value){ 0 };
	return 0;
}

int tree_fs_lookup(const struct tree_fs *fs, uint64_t dir, const char *name, size_t len,
		   struct dirent_rec *out)
{
	CLEANUP(tree_value_release_p) struct tree_value v = { 0 };
	struct dirent_rec e;
	struct key k;
	key_dirent(&k, dir, name_hash(name, len));
	int rc = tree_get(fs->nodes, &fs->root, k.bytes, k.len, &v);
	if (rc == 0)
		rc = dirent_find(v.data, v.len, name, len, &e);
	if (rc != 0)
		return rc;
	e.name = NULL;
	*out = e;
	return 0;
}

void inode_to_stat(uint64_t ino, const struct inode_rec *r, struct stat *out)
{
	*out = (struct stat){
		.st_ino = ino,
		.st_mode = r->mode,
		.st_nlink = r->nlink,
		.st_uid = r->uid,
		.st_gid = r->gid,
		.st_rdev = r->rdev,
		.st_size = (off_t)r->size,
		.st_blksize = 4096,
		.st_blocks = (blkcnt_t)((r->alloc_bytes + 511) / 512),
		.st_atim = r->atime,
		.st_mtim = r->mtime,
		.st_ctim = r->ctime,
	};
}

/* ---- scans of what belongs to one inode ---- */

/* 1 if the iterator is on a key of (ino, kind), 0 if it is past them, or a failure. */
static int current_of(const struct tree_iter *it, uint64_t ino, enum key_kind kind,
		      struct key_parts *out)
{
	size_t len;
	const uint8_t *key = tree_iter_key(it, &len);
	int rc = key_parse(key, len, out);
	if (rc != 0)
		return rc;
	return out->ino == ino && out->kind == kind;
}

static int emit_list(tree_fs_dirent_fn fn, void *arg, uint64_t hash, const struct tree_iter *it)
{
	struct dirent_reader r;
	struct dirent_rec e;
	size_t len;
	int rc;
	const uint8_t *list = tree_iter_value(it, &len);
	if (len == 0)
		return -EBADMSG;
	dirent_reader_init(&r, list, len);
	while ((rc = dirent_next(&r, &e)) == 1) {
		rc = fn(arg, hash, &e);
		if (rc != 0)
			return rc;
	}
	return rc;
}

int tree_fs_readdir(const struct tree_fs *fs, uint64_t dir, uint64_t after, tree_fs_dirent_fn fn,
		    void *arg)
{
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(fs->nodes, &fs->root);
	struct key_parts parts;
	struct key k;
	if (!it)
		return -ENOMEM;
	if (after >= INT64_MAX)
		return 0;
	key_dirent(&k, dir, after + 1);
	int rc = tree_iter_seek(it, k.bytes, k.len);
	while (rc == 1) {
		rc = current_of(it, dir, KEY_DIRENT, &parts);
		if (rc != 1)
			return rc;
		rc = emit_list(fn, arg, key_sub_u64(&parts), it);
		if (rc != 0)
			return rc;
		rc = tree_iter_next(it);
	}
	return rc;
}

int tree_fs_getxattr(const struct tree_fs *fs, uint64_t ino, const char *name, size_t len,
		     struct tree_value *out)
{
	struct key k;
	if (len == 0 || len > XATTR_NAME_MAX)
		return -ENODATA;
	key_xattr(&k, ino, name, len);
	int rc = tree_get(fs->nodes, &fs->root, k.bytes, k.len, out);
	if (rc == -ENODATA)
		return -EIO;
	return rc == -ENOENT ? -ENODATA : rc;
}

int tree_fs_listxattr(const struct tree_fs *fs, uint64_t ino, tree_fs_xattr_fn fn, void *arg)
{
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(fs->nodes, &fs->root);
	struct key_parts parts;
	struct key k;
	if (!it)
		return -ENOMEM;
	key_kind_start(&k, ino, KEY_XATTR);
	int rc = tree_iter_seek(it, k.bytes, k.len);
	while (rc == 1) {
		rc = current_of(it, ino, KEY_XATTR, &parts);
		if (rc != 1)
			return rc;
		size_t len;
		const uint8_t *value = tree_iter_value(it, &len);
		rc = fn(arg, (const char *)parts.sub, parts.sub_len, value, len);
		if (rc != 0)
			return rc;
		rc = tree_iter_next(it);
	}
	return rc;
}

/* ---- data ---- */

/*
 * Move to the extent that covers `from`, else to the first key after it. 1, 0
 * at the tree's end, or a failure.
 */
static int seek_extent(struct tree_iter *it, uint64_t ino, uint64_t from)
{
	struct key_parts parts;
	struct extent_rec e;
	struct key k;
	key_extent(&k, ino, from);
	int rc = tree_iter_seek_le(it, k.bytes, k.len);
	if (rc < 0)
		return rc;
	if (rc == 1)
		rc = current_of(it, ino, KEY_EXTENT, &parts);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return tree_iter_seek(it, k.bytes, k.len);
	size_t len;
	const uint8_t *value = tree_iter_value(it, &len);
	rc = extent_decode(value, len, &e);
	if (rc != 0)
		return rc;
	return key_sub_u64(&parts) + e.len > from ? 1 : tree_iter_next(it);
}

int tree_fs_extents(const struct tree_fs *fs, uint64_t ino, uint64_t from, uint64_t to,
		    tree_fs_extent_fn fn, void *arg)
{
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(fs->nodes, &fs->root);
	struct key_parts parts;
	struct extent_rec e;
	uint64_t end = 0;
	if (!it)
		return -ENOMEM;
	if (from >= to || from > INT64_MAX)
		return 0;
	int rc = seek_extent(it, ino, from);
	while (rc == 1) {
		rc = current_of(it, ino, KEY_EXTENT, &parts);
		if (rc != 1)
			return rc;
		size_t len;
		const uint8_t *value = tree_iter_value(it, &len);
		uint64_t offset = key_sub_u64(&parts);
		if (offset >= to)
			return 0;
		rc = extent_decode(value, len, &e);
		if (rc != 0)
			return rc;
		if (offset < end || e.len > INT64_MAX - offset)
			return -EBADMSG;
		end = offset + e.len;
		rc = fn(arg, offset, &e);
		if (rc != 0)
			return rc;
		rc = tree_iter_next(it);
	}
	return rc;
}

struct reading {
	const struct tree_fs *fs;
	uint8_t *out;
	uint64_t from, to; /* wanted */
	uint64_t done;	   /* file offset up to which out is filled */
};

static void fill_zeros(struct reading *r, uint64_t up_to)
{
	if (up_to > r->done)
		memset(r->out + (r->done - r->from), 0, up_to - r->done);
	r->done = MAX(r->done, up_to);
}

static int read_extent(void *arg, uint64_t offset, const struct extent_rec *e)
{
	struct reading *r = arg;
	CLEANUP(chunk_unref_p) struct chunk *c = NULL;
	const uint8_t *data = e->data;
	fill_zeros(r, MIN(offset, r->to));
	uint64_t end = MIN(offset + e->len, r->to);
	if (end <= r->done)
		return 0;
	if (e->kind == EXTENT_CHUNK) {
		int rc = chunk_store_get(r->fs->chunks, &e->digest, &c);
		if (rc != 0)
			return rc;
		if (c->len != e->len)
			return -EBADMSG;
		data = c->data;
	}
	memcpy(r->out + (r->done - r->from), data + (r->done - offset), end - r->done);
	r->done = end;
	return 0;
}

int tree_fs_read(const struct tree_fs *fs, uint64_t ino, uint64_t offset, void *out, size_t len)
{
	struct reading r = { fs, out, offset, offset + len, offset };
	if (len == 0)
		return 0;
	if (offset > INT64_MAX || len > INT64_MAX - offset)
		return -EINVAL;
	int rc = tree_fs_extents(fs, ino, r.from, r.to, read_extent, &r);
	if (rc == 0)
		fill_zeros(&r, r.to);
	return rc;
}
