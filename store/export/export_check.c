/* Finds what a tar or an image cannot hold of a tree, before a byte is written. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "store/archive/archive_path.h"
#include "store/export/export.h"

struct check {
	struct tree_fs fs;
	enum export_format format;
	struct remarks *remarks;
	struct buf path; /* scratch */
	uint64_t whiteouts;
	struct buf whiteout; /* the path of the first */
};

static int check_inode(struct check *c, uint64_t ino, const uint8_t *v, size_t len)
{
	struct inode_rec rec;
	int r = inode_decode(v, len, &rec);

	if (r < 0 || !S_ISSOCK(rec.mode))
		return r;
	if (c->remarks->kinds[REMARK_SOCKET].count > 0) { /* the path of the first is told */
		remarks_add(c->remarks, REMARK_SOCKET, "", 0);
		return 0;
	}
	buf_clear(&c->path);
	r = tree_fs_path(&c->fs, ino, &c->path);
	if (r == 0)
		remarks_add(c->remarks, REMARK_SOCKET, (const char *)c->path.data, c->path.len);
	return r;
}

static int check_names(struct check *c, uint64_t dir, const uint8_t *v, size_t len)
{
	struct dirent_reader reader;
	struct dirent_rec e;
	const char *hidden;
	size_t hidden_len;
	int r;

	dirent_reader_init(&reader, v, len);
	while ((r = dirent_next(&reader, &e)) > 0) {
		if (archive_whiteout(e.name, e.name_len, &hidden, &hidden_len) == WHITEOUT_NONE)
			continue;
		if (c->whiteouts++ > 0)
			continue;
		r = tree_fs_path(&c->fs, dir, &c->whiteout);
		if (r == 0 && c->whiteout.len)
			r = buf_append(&c->whiteout, "/", 1);
		if (r == 0)
			r = buf_append(&c->whiteout, e.name, e.name_len);
		if (r < 0)
			return r;
	}
	return r;
}

static int check_key(struct check *c, struct tree_iter *it)
{
	struct key_parts k;
	size_t len;
	const uint8_t *bytes = tree_iter_key(it, &len);
	int r = key_parse(bytes, len, &k);

	if (r < 0)
		return r;
	bytes = tree_iter_value(it, &len);
	if (k.kind == KEY_INODE && k.ino >= ROOT_INO)
		return check_inode(c, k.ino, bytes, len);
	if (k.kind == KEY_DIRENT && c->format == EXPORT_OCI)
		return check_names(c, k.ino, bytes, len);
	return 0;
}

static int refuse_whiteouts(struct check *c, struct error *err)
{
	const char *first = buf_cstr(&c->whiteout);

	return error_set(
		err, -EINVAL,
		"%.300s: names that begin with .wh. delete files in an image, so it cannot "
		"hold them (%" PRIu64 " in all); a tar can",
		first ? first : "?", c->whiteouts);
}

int export_check(struct store *s, const struct digest *root, enum export_format format,
		 struct remarks *out, struct error *err)
{
	struct check c = { .fs = store_tree(s, root), .format = format, .remarks = out };
	struct tree_iter *it CLEANUP(tree_iter_free_p) = tree_iter_new(s->nodes, root);
	struct key first;

	memset(out, 0, sizeof(*out));
	key_inode(&first, ROOT_INO);
	int r = it ? tree_iter_seek(it, first.bytes, first.len) : -ENOMEM;
	while (r > 0) {
		r = check_key(&c, it);
		if (r == 0)
			r = tree_iter_next(it);
	}
	if (r < 0)
		r = error_set_errno(err, r, "cannot read the tree");
	else if (c.whiteouts > 0)
		r = refuse_whiteouts(&c, err);
	buf_fini(&c.path);
	buf_fini(&c.whiteout);
	return r;
}
