/*
 * Import of a tar. Entries are applied to the namespace one after another, as
 * tar would apply them to a disk, but inside its root only (ingest_place.h):
 *   - a later entry replaces an earlier one of the same path; a directory over a
 *     directory only changes its attributes. In a plain archive only a directory
 *     may replace a directory;
 *   - a hard link's target is an earlier entry;
 *   - ".." in a name, or in a hard link's target, is refused; a leading "/" and
 *     "./" are stripped.
 *
 * libarchive would convert names of pax headers from UTF-8 to the locale's
 * charset, normalise them to NFC on the way, and keep the original bytes if it
 * cannot. So this runs in the "C" locale, where it cannot, and its warnings
 * about that are not passed on.
 */
#include "store/import/ingest_tar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/archive/archive_path.h"
#include "store/base/log.h"
#include "store/import/ingest_place.h"
#include "store/import/ingest_unpack.h"

#define WINDOW_MAX (16u << 20) /* one entry's headers; libarchive takes 1 MiB of each kind */

struct tar_import {
	struct ingest *in;
	const struct ingest_tar_source *src;
	struct archive *archive;
	struct archive_entry *entry;
	struct buf window; /* what was read of the archive, from window_at to the block */
	uint64_t window_at;
	const uint8_t *block; /* what libarchive was given last, until it asks for more */
	size_t block_len;
	uint64_t entry_at; /* where the entry begins; UINT64_MAX: not being read */
	struct buf path;   /* of the entry, clean */
	struct buf target; /* of its hard link, clean */
};

static int fail_entry(struct tar_import *t, int code, const char *why)
{
	const char *name = t->entry ? archive_entry_pathname(t->entry) : NULL;

	if (atomic_load(&t->in->failed))
		return code;
	return ingest_fail(t->in, code, "%s%.300s: %s", t->src->label, name ? name : "archive",
			   why);
}

static int fail_archive(struct tar_import *t)
{
	const char *why = t->src->unpack ? ingest_unpack_why(t->src->unpack) : NULL;
	const char *text = why ? why : archive_error_string(t->archive);
	int e = archive_errno(t->archive);

	return fail_entry(t, e == ENOMEM || e == EIO ? -e : -EBADMSG, text ? text : "damaged");
}

/* -EBADMSG if r is a failure; logs warnings that are not about charsets. */
static int check_archive(struct tar_import *t, int r)
{
	if (r == ARCHIVE_OK)
		return 0;
	if (r != ARCHIVE_WARN)
		return fail_archive(t);
	const char *text = archive_error_string(t->archive);
	if (text && !strstr(text, "current locale")) {
		const char *name = archive_entry_pathname(t->entry);

		ingest_remark(t->in, REMARK_ARCHIVE, name ? name : "?");
		log_warn("import: %.300s: %s", name ? name : "?", text);
	}
	return 0;
}

static int read_data(struct tar_import *t, struct ingest_inode *i, uint64_t size)
{
	struct ingest_file f;
	uint64_t at = 0;
	int r = ingest_file_begin(&f, t->in, i, size);

	while (r == 0) {
		const void *data;
		size_t len;
		la_int64_t offset;
		int a = archive_read_data_block(t->archive, &data, &len, &offset);

		if (a == ARCHIVE_EOF)
			break;
		r = check_archive(t, a);
		if (r < 0 || len == 0)
			continue;
		if (offset < 0 || (uint64_t)offset < at || (uint64_t)offset > size ||
		    len > size - (uint64_t)offset)
			return fail_entry(t, -EBADMSG, "data outside of the file");
		r = ingest_file_feed(&f, (uint64_t)offset, data, len);
		at = (uint64_t)offset + len;
		if (r == 0 && progress_cancelled(t->in->progress))
			r = ingest_fail(t->in, -ECANCELED, "cancelled");
	}
	return r < 0 ? r : ingest_file_end(&f, size);
}

static int read_contents(struct tar_import *t, struct ingest_inode *i)
{
	int64_t size = archive_entry_size(t->entry);

	if (size < 0)
		return fail_entry(t, -EBADMSG, "negative size");
	t->entry_at = UINT64_MAX; /* the headers are read; the contents may have any size */
	return read_data(t, i, (uint64_t)size);
}

static int set_symlink(struct tar_import *t, struct ingest_inode *i)
{
	const char *target = archive_entry_symlink(t->entry);
	size_t len = target ? strlen(target) : 0;

	if (len == 0 || len > SYMLINK_MAX)
		return fail_entry(t, -EINVAL, "symlink with an empty or overlong target");
	if (ingest_count_meta(t->in, len) < 0)
		return -EFBIG;
	int r = ingest_inode_set_target(t->in->tree, i, target, len);
	return r < 0 ? fail_entry(t, r, strerror(-r)) : 0;
}

/*
 * libarchive says only what it makes of an entry's extended headers, so we read
 * them again (tar_records.h). The window and the block after it have the bytes
 * that libarchive was given, from its position or from the start of the entry on.
 * A block is copied only where some of it is still needed when the next one comes.
 */

/* Forget what is before `at`; the rest goes to the window, and there is no block. */
static int keep_from(struct tar_import *t, uint64_t at)
{
	size_t drop = (size_t)(at - t->window_at);
	size_t old = MIN(drop, t->window.len), used = drop - old;
	int r = 0;

	if (old > 0)
		memmove(t->window.data, t->window.data + old, t->window.len - old);
	t->window.len -= old;
	t->window_at = at;
	if (t->block_len > used)
		r = buf_append(&t->window, t->block + used, t->block_len - used);
	t->block_len = 0;
	return r;
}

/* The entry's bytes as far as they were read. They are good until more are. */
static int entry_bytes(struct tar_import *t, struct ingest_tar_entry *e)
{
	uint64_t block_at = t->window_at + t->window.len;

	e->entry = t->entry;
	if (t->entry_at >= block_at && t->block_len) {
		e->headers = t->block + (t->entry_at - block_at);
		e->headers_len = t->block_len - (size_t)(t->entry_at - block_at);
		return 0;
	}
	int r = keep_from(t, t->entry_at);

	e->headers = t->window.data;
	e->headers_len = t->window.len;
	return r;
}

static int apply_attributes(struct tar_import *t, struct ingest_inode *i)
{
	const char *why = "";
	struct ingest_tar_entry e;
	int r = entry_bytes(t, &e);

	if (r < 0)
		return fail_entry(t, r, strerror(-r));
	r = ingest_tar_attributes(t->in, &e, i, &why);
	return r < 0 ? fail_entry(t, r, why) : 0;
}

/* Make room for a new name in place of `old`. */
static int replace(struct tar_import *t, struct ingest_name *old)
{
	if (old && old->is_dir && !t->src->is_layer)
		return fail_entry(t, -EINVAL, "would replace a directory");
	if (old)
		ingest_tree_remove(t->in->tree, old);
	return 0;
}

static int add_name(struct tar_import *t, struct ingest_inode *dir, const char *name, size_t len,
		    uint32_t mode, struct ingest_inode *inode, struct ingest_name **out)
{
	int r = ingest_tree_add(t->in->tree, dir, name, len, mode, inode, out);

	if (r < 0)
		return fail_entry(t, r, strerror(-r));
	(*out)->layer = t->src->layer;
	return 0;
}

static int place_failed(struct tar_import *t, int r, const char *what)
{
	char why[128];

	if (r == -EINVAL)
		snprintf(why, sizeof(why), "%s leads out of the archive", what);
	else
		snprintf(why, sizeof(why), "%s: %s", what, strerror(-r));
	return fail_entry(t, r, why);
}

/* Find the inode that a hard link is to. */
static int find_target(struct tar_import *t, struct ingest_inode **out)
{
	const char *raw = archive_entry_hardlink(t->entry), *name;
	struct ingest_inode *dir;
	size_t len;
	int r = archive_path_clean(raw, strlen(raw), &t->target);

	if (r == 0 && t->target.len == 0)
		r = -EISDIR;
	if (r == 0)
		r = ingest_place(t->in, (const char *)t->target.data, t->target.len, false, 0, &dir,
				 &name, &len);
	struct ingest_name *n = r == 0 ? ingest_tree_lookup(t->in->tree, dir, name, len) : NULL;
	if (r == -ENOENT || r == -ENOTDIR || (r == 0 && !n))
		return fail_entry(t, -EINVAL, "hard link to a file that no earlier entry made");
	if (r < 0)
		return place_failed(t, r, "hard link's target");
	if (n->is_dir)
		return fail_entry(t, -EINVAL, "hard link to a directory");
	*out = n->inode;
	return 0;
}

static int apply_hardlink(struct tar_import *t, struct ingest_inode *dir, const char *name,
			  size_t len, struct ingest_name *old)
{
	struct ingest_inode *target = NULL;
	struct ingest_name *n;
	int r = find_target(t, &target);

	if (r < 0)
		return r;
	if (old && old->inode == target) {
		old->layer = t->src->layer;
	} else {
		r = replace(t, old);
		if (r == 0)
			r = add_name(t, dir, name, len, target->mode, target, &n);
	}
	if (r < 0 || archive_entry_size(t->entry) <= 0 || !S_ISREG(target->mode))
		return r;
	/* pax allows contents with a link: they are the file's new ones. */
	r = ingest_file_wait(t->in);
	if (r < 0)
		return r;
	ingest_inode_clear_data(target);
	return read_contents(t, target);
}

static int apply_entry_at(struct tar_import *t, struct ingest_inode *dir, const char *name,
			  size_t len)
{
	struct ingest_name *old = ingest_tree_lookup(t->in->tree, dir, name, len), *n;
	uint32_t mode = archive_entry_filetype(t->entry);
	int r;

	if (archive_entry_hardlink(t->entry))
		return apply_hardlink(t, dir, name, len, old);
	if (mode == S_IFDIR && old && old->is_dir) {
		old->layer = t->src->layer;
		return apply_attributes(t, old->inode);
	}
	if (mode != S_IFREG && mode != S_IFDIR && mode != S_IFLNK && mode != S_IFCHR &&
	    mode != S_IFBLK && mode != S_IFIFO && mode != S_IFSOCK)
		return fail_entry(t, -EINVAL, "unknown type of file");
	r = replace(t, old);
	if (r == 0)
		r = add_name(t, dir, name, len, mode, NULL, &n);
	if (r == 0)
		r = apply_attributes(t, n->inode);
	if (r == 0 && mode == S_IFREG)
		r = read_contents(t, n->inode);
	if (r == 0 && mode == S_IFLNK)
		r = set_symlink(t, n->inode);
	return r;
}

static int apply_whiteout(struct tar_import *t, enum whiteout w, const char *hidden,
			  size_t hidden_len)
{
	struct ingest_inode *dir;
	const char *name;
	size_t len;
	int r = ingest_place(t->in, (const char *)t->path.data, t->path.len, false, 0, &dir, &name,
			     &len);

	if (w == WHITEOUT_BAD)
		return fail_entry(t, -EINVAL, "whiteout of nothing");
	if (w == WHITEOUT_IGNORE || r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0)
		return place_failed(t, r, "name");
	if (w == WHITEOUT_OPAQUE) {
		r = ingest_hide_children(t->in, dir, t->src->layer);
	} else {
		struct ingest_name *n = ingest_tree_lookup(t->in->tree, dir, hidden, hidden_len);

		r = n ? ingest_hide_name(t->in, n, t->src->layer) : 0;
	}
	return r < 0 ? fail_entry(t, r, strerror(-r)) : 0;
}

static enum whiteout whiteout_of(const struct tar_import *t, const char **hidden, size_t *len)
{
	const char *path = (const char *)t->path.data;
	const char *slash = memrchr(path, '/', t->path.len);
	const char *name = slash ? slash + 1 : path;

	return archive_whiteout(name, t->path.len - (size_t)(name - path), hidden, len);
}

static int apply_root(struct tar_import *t)
{
	if (archive_entry_filetype(t->entry) != S_IFDIR || archive_entry_hardlink(t->entry))
		return fail_entry(t, -EINVAL, "the root is not a directory");
	return apply_attributes(t, ingest_tree_root(t->in->tree));
}

static int apply_entry(struct tar_import *t)
{
	const char *raw = archive_entry_pathname(t->entry), *name, *hidden = NULL;
	struct ingest_inode *dir;
	size_t len;
	int r = raw ? archive_path_clean(raw, strlen(raw), &t->path) : -EINVAL;

	if (r < 0)
		return place_failed(t, r, "name");
	if (t->path.len == 0)
		return apply_root(t);
	if (t->src->is_layer) {
		enum whiteout w = whiteout_of(t, &hidden, &len);

		if (w != WHITEOUT_NONE)
			return apply_whiteout(t, w, hidden, len);
	}
	r = ingest_place(t->in, (const char *)t->path.data, t->path.len, true, t->src->layer, &dir,
			 &name, &len);
	if (r < 0)
		return place_failed(t, r, "directory of the name");
	return apply_entry_at(t, dir, name, len);
}

static ssize_t next_block(void *arg, const uint8_t **block)
{
	struct tar_import *t = arg;
	/* NULL: libarchive is still detecting the format. */
	uint64_t used = t->archive ? (uint64_t)archive_filter_bytes(t->archive, 0) : 0;
	int r = keep_from(t, MIN(used, t->entry_at));

	if (r < 0)
		return r;
	if (t->window.len > WINDOW_MAX)
		return -EFBIG;
	ssize_t n = t->src->next(t->src->arg, block);

	t->block = *block;
	t->block_len = n > 0 ? (size_t)n : 0;
	return n;
}

/* To the next entry: an archive status. */
static int next_entry(struct tar_import *t)
{
	int a = t->entry ? archive_read_data_skip(t->archive) : ARCHIVE_OK;

	if (a != ARCHIVE_OK && a != ARCHIVE_WARN && a != ARCHIVE_EOF)
		return a;
	t->entry_at = (uint64_t)archive_filter_bytes(t->archive, 0);
	return archive_read_next_header(t->archive, &t->entry);
}

static int apply_all(struct tar_import *t)
{
	for (;;) {
		int a = next_entry(t), r;

		if (a == ARCHIVE_EOF) {
			t->entry = NULL;
			if (archive_format(t->archive) == ARCHIVE_FORMAT_EMPTY && !t->src->is_layer)
				return fail_entry(t, -EBADMSG, "no data");
			return 0;
		}
		if (a != ARCHIVE_OK && a != ARCHIVE_WARN)
			t->entry = NULL;
		r = check_archive(t, a);
		if (r == 0)
			r = ingest_count_entry(t->in);
		if (r == 0)
			r = apply_entry(t);
		if (r < 0)
			return r;
		t->entry_at = UINT64_MAX;
	}
}

int ingest_tar_stream(struct ingest *in, const struct ingest_tar_source *src)
{
	struct tar_import t = { .in = in, .src = src, .entry_at = UINT64_MAX };
	struct ingest_locale locale;
	int r;

	ingest_locale_enter(&locale);
	t.archive = ingest_archive_open_blocks(next_block, &t);
	r = t.archive ? apply_all(&t) : ingest_fail(in, -ENOMEM, "out of memory");
	ingest_archive_free(t.archive);
	ingest_locale_leave(&locale);
	buf_fini(&t.path);
	buf_fini(&t.target);
	buf_fini(&t.window);
	return r;
}

static ssize_t read_fd(void *arg, void *buf, size_t len)
{
	const int *fd = arg;
	ssize_t n;

	do
		n = read(*fd, buf, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int ingest_tar(struct store *s, int fd, const struct ingest_options *opt, struct progress *p,
	       struct ingest_result *out, struct error *err)
{
	struct ingest_unpack unpack = { 0 };
	struct ingest_tar_source src = {
		.next = ingest_unpack_next, .arg = &unpack, .unpack = &unpack, .label = ""
	};
	struct ingest in;
	int r = ingest_init(&in, s, opt, true, p, err);

	if (r == 0) {
		r = ingest_unpack_init(&unpack, read_fd, &fd);
		if (r == 0)
			r = ingest_tar_stream(&in, &src);
		r = ingest_finish(&in, r, out, err);
	}
	ingest_unpack_fini(&unpack);
	ingest_fini(&in);
	return r;
}
