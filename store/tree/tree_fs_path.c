/* Paths to inodes and back. Directories know their parent, so ".." needs no stack. */
#include "store/tree/tree_fs.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "store/base/wire.h"

#define SYMLINKS_MAX 40
/* Directories above an inode; only a damaged tree, whose parents form a ring, has more. */
#define DEPTH_MAX (1u << 20)

struct walk {
	const struct tree_fs *fs;
	uint64_t ino;
	uint8_t type;	    /* DT_* of ino */
	const char *rest;   /* path still to be walked */
	struct buf pending; /* holds rest, once a symlink was followed */
	int symlinks;
};

static int read_target(const struct tree_fs *fs, uint64_t ino, struct buf *out)
{
	CLEANUP(tree_value_release_p) struct tree_value pin = { 0 };
	struct inode_rec r;
	int rc = tree_fs_inode(fs, ino, &r, &pin);
	if (rc == -ENOENT || (rc == 0 && !S_ISLNK(r.mode)))
		return -EBADMSG;
	return rc == 0 ? buf_append(out, r.target, r.target_len) : rc;
}

/* Put the target of symlink `ino` before what is left of the path. */
static int walk_symlink(struct walk *w, uint64_t ino)
{
	struct buf path = BUF_INIT;
	if (++w->symlinks > SYMLINKS_MAX)
		return -ELOOP;
	int rc = read_target(w->fs, ino, &path);
	if (rc == 0)
		rc = buf_append_str(&path, w->rest);
	if (rc == 0 && !buf_cstr(&path))
		rc = -ENOMEM;
	if (rc != 0) {
		buf_fini(&path);
		return rc;
	}
	buf_fini(&w->pending);
	w->pending = path;
	w->rest = (const char *)path.data;
	if (w->rest[0] == '/')
		w->ino = ROOT_INO;
	return 0;
}

static int walk_up(struct walk *w)
{
	CLEANUP(tree_value_release_p) struct tree_value pin = { 0 };
	struct inode_rec r;
	int rc = tree_fs_inode(w->fs, w->ino, &r, &pin);
	if (rc == -ENOENT || (rc == 0 && !S_ISDIR(r.mode)))
		return -EBADMSG;
	if (rc == 0)
		w->ino = r.parent;
	return rc;
}

static int walk_component(struct walk *w, const char *name, size_t len, bool follow)
{
	struct dirent_rec e;
	if (w->type != DT_DIR)
		return -ENOTDIR;
	if (len == 1 && name[0] == '.')
		return 0;
	if (len == 2 && memcmp(name, "..", 2) == 0)
		return walk_up(w);
	if (len > NAME_LEN_MAX)
		return -ENAMETOOLONG;
	int rc = tree_fs_lookup(w->fs, w->ino, name, len, &e);
	if (rc != 0)
		return rc;
	if (e.type == DT_LNK && (follow || *w->rest))
		return walk_symlink(w, e.ino);
	w->ino = e.ino;
	w->type = e.type;
	return 0;
}

int tree_fs_resolve(const struct tree_fs *fs, const char *path, bool follow, uint64_t *out_ino)
{
	struct walk w = { .fs = fs, .ino = ROOT_INO, .type = DT_DIR, .rest = path };
	int rc = 0;
	while (rc == 0 && *w.rest) {
		if (*w.rest == '/') {
			w.rest++;
			if (w.type != DT_DIR)
				rc = -ENOTDIR;
			continue;
		}
		const char *name = w.rest;
		size_t len = strcspn(name, "/");
		w.rest += len;
		rc = walk_component(&w, name, len, follow);
	}
	buf_fini(&w.pending);
	if (rc == 0)
		*out_ino = w.ino;
	return rc;
}

/* ---- from an inode to its path ---- */

/* One link of an inode: appends its name to out, and says where it is. */
static int name_of_only_link(const struct tree_fs *fs, uint64_t ino, const struct inode_rec *r,
			     struct buf *out)
{
	CLEANUP(tree_value_release_p) struct tree_value v = { 0 };
	struct dirent_reader reader;
	struct dirent_rec e;
	struct key k;
	key_dirent(&k, r->parent, r->name_hash);
	int rc = tree_get(fs->nodes, &fs->root, k.bytes, k.len, &v);
	if (rc != 0)
		return rc == -ENOENT ? -EBADMSG : rc;
	dirent_reader_init(&reader, v.data, v.len);
	while ((rc = dirent_next(&reader, &e)) == 1) {
		if (e.ino == ino)
			return buf_append(out, e.name, e.name_len);
	}
	return rc == 0 ? -EBADMSG : rc;
}

static int name_of_first_link(const struct tree_fs *fs, uint64_t ino, struct buf *out,
			      uint64_t *out_parent)
{
	CLEANUP(tree_iter_free_p) struct tree_iter *it = tree_iter_new(fs->nodes, &fs->root);
	struct key_parts parts;
	struct key k;
	if (!it)
		return -ENOMEM;
	key_kind_start(&k, ino, KEY_BACKREF);
	int rc = tree_iter_seek(it, k.bytes, k.len);
	if (rc <= 0)
		return rc == 0 ? -EBADMSG : rc;
	size_t len;
	const uint8_t *key = tree_iter_key(it, &len);
	rc = key_parse(key, len, &parts);
	if (rc != 0 || parts.ino != ino || parts.kind != KEY_BACKREF)
		return -EBADMSG;
	const uint8_t *name = tree_iter_value(it, &len);
	if (name_check((const char *)name, len) != 0)
		return -EBADMSG;
	*out_parent = key_sub_u64(&parts);
	return buf_append(out, name, len);
}

/* Appends the name of ino and its length (u16) to out. */
static int push_name(const struct tree_fs *fs, uint64_t ino, struct buf *out, uint64_t *out_parent)
{
	CLEANUP(tree_value_release_p) struct tree_value pin = { 0 };
	struct inode_rec r;
	size_t start = out->len;
	int rc = tree_fs_inode(fs, ino, &r, &pin);
	if (rc != 0)
		return rc;
	*out_parent = r.parent;
	if (r.parent != 0)
		rc = name_of_only_link(fs, ino, &r, out);
	else
		rc = name_of_first_link(fs, ino, out, out_parent);
	return rc == 0 ? wire_put_u16(out, (uint16_t)(out->len - start)) : rc;
}

/* names: each followed by its length (u16), the last directory first. */
static int append_reversed(const struct buf *names, struct buf *out)
{
	size_t end = names->len, start = out->len;
	while (end > 0) {
		size_t len = wire_get16(names->data + end - 2);
		end -= 2 + len;
		int rc = out->len > start ? buf_append(out, "/", 1) : 0;
		if (rc == 0)
			rc = buf_append(out, names->data + end, len);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int tree_fs_path(const struct tree_fs *fs, uint64_t ino, struct buf *out)
{
	CLEANUP(buf_fini_p) struct buf names = BUF_INIT;
	uint64_t at = ino;
	for (unsigned depth = 0; at != ROOT_INO; depth++) {
		uint64_t parent;
		if (depth > DEPTH_MAX)
			return -EBADMSG;
		int rc = push_name(fs, at, &names, &parent);
		if (rc != 0)
			return rc == -ENOENT && at != ino ? -EBADMSG : rc;
		at = parent;
	}
	size_t start = out->len;
	int rc = append_reversed(&names, out);
	if (rc != 0)
		out->len = start;
	return rc;
}
