/*
 * Export of a tree as a tar. Directories are walked depth first, a directory's
 * names in bytewise order, its own member ("./" for the root) before them. An
 * inode's keys are adjacent, so one seek finds its record, xattrs, names and
 * extents. Sockets have no form in a tar and are left out.
 */
#include "store/export/export.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "store/archive/archive_path.h"
#include "store/export/export_stream.h"
#include "store/archive/tar_header.h"
#include "store/archive/tar_records.h"

#define LINK_PATHS_MAX_BYTES (256u << 20)

struct dir_entry {
	uint64_t ino;
	size_t name; /* offset in names */
	uint8_t name_len, type;
};

/* A directory on the way to the current member. */
struct dir_frame {
	uint64_t ino;
	struct buf names;
	struct dir_entry *entries; /* sorted by name */
	size_t n, cap, next;
	size_t path_len; /* of this directory's path with its slash */
};

struct run {
	uint64_t offset, len;
};

struct link_path {    /* the path where an inode with several names was first written */
	uint64_t ino; /* 0: free */
	char *path;
};

struct tar_export {
	struct store *store;
	struct tree_fs fs;
	struct tree_iter *iter;
	struct export_stream *out;
	struct progress *progress;
	struct buf path;  /* of the current member */
	struct buf extra; /* its xattrs as pax records */
	struct buf target;
	struct buf map; /* scratch: a sparse map */
	struct run *runs;
	size_t n_runs, cap_runs;
	struct dir_frame *frames;
	size_t depth, cap_frames;
	struct link_path *links;
	size_t n_links, cap_links, link_bytes;
};

/* The array with room for one more, or NULL. */
static void *grow(void *array, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return array;
	size_t more = *cap ? *cap * 2 : 32;
	void *bigger = reallocarray(array, more, size);

	if (bigger)
		*cap = more;
	return bigger;
}

static struct link_path *link_find(struct tar_export *x, uint64_t ino)
{
	size_t k = (size_t)(ino * 0x9e3779b97f4a7c15ull >> 20) & (x->cap_links - 1);

	while (x->links[k].ino && x->links[k].ino != ino)
		k = (k + 1) & (x->cap_links - 1);
	return &x->links[k];
}

static int links_grow(struct tar_export *x)
{
	struct link_path *old = x->links;
	size_t n = x->cap_links;

	if (x->n_links * 2 < n)
		return 0;
	x->links = calloc(n ? n * 2 : 64, sizeof(*x->links));
	if (!x->links) {
		x->links = old;
		return -ENOMEM;
	}
	x->cap_links = n ? n * 2 : 64;
	for (size_t i = 0; i < n; i++)
		if (old[i].ino)
			*link_find(x, old[i].ino) = old[i];
	free(old);
	return 0;
}

static bool run_ends_at(const struct run *r, uint64_t offset)
{
	return r->offset + r->len == offset;
}

static int add_run(struct tar_export *x, uint64_t offset, uint64_t len)
{
	if (x->n_runs && run_ends_at(&x->runs[x->n_runs - 1], offset)) {
		x->runs[x->n_runs - 1].len += len;
		return 0;
	}
	struct run *runs = grow(x->runs, x->n_runs, &x->cap_runs, sizeof(*runs));
	if (!runs)
		return -ENOMEM;
	x->runs = runs;
	runs[x->n_runs++] = (struct run){ offset, len };
	return 0;
}

static int put_acl_text(struct tar_export *x, const char *key, const uint8_t *v, size_t vlen)
{
	struct buf text CLEANUP(buf_fini_p) = BUF_INIT;

	/* For GNU tar --acls. A malformed ACL is written only as an xattr. */
	if (tar_acl_text(v, vlen, &text) < 0)
		return 0;
	return tar_put_record(&x->extra, key, strlen(key), text.data, text.len);
}

static int add_xattr(struct tar_export *x, const struct key_parts *k, const uint8_t *v, size_t vlen)
{
	static const char prefix[] = "SCHILY.xattr.";
	static const char access[] = "system.posix_acl_access";
	static const char dflt[] = "system.posix_acl_default";
	struct buf key CLEANUP(buf_fini_p) = BUF_INIT;
	int r = buf_append_str(&key, prefix);

	if (r == 0)
		r = tar_xattr_encode((const char *)k->sub, k->sub_len, &key);
	if (r == 0)
		r = tar_put_record(&x->extra, (const char *)key.data, key.len, v, vlen);
	if (r == 0 && k->sub_len == sizeof(access) - 1 && !memcmp(k->sub, access, k->sub_len))
		r = put_acl_text(x, "SCHILY.acl.access", v, vlen);
	if (r == 0 && k->sub_len == sizeof(dflt) - 1 && !memcmp(k->sub, dflt, k->sub_len))
		r = put_acl_text(x, "SCHILY.acl.default", v, vlen);
	return r;
}

static int add_names(struct dir_frame *d, const uint8_t *list, size_t len)
{
	struct dirent_reader reader;
	struct dirent_rec e;
	int r;

	dirent_reader_init(&reader, list, len);
	while ((r = dirent_next(&reader, &e)) > 0) {
		struct dir_entry *entries = grow(d->entries, d->n, &d->cap, sizeof(*entries));

		if (!entries)
			return -ENOMEM;
		d->entries = entries;
		r = buf_append(&d->names, e.name, e.name_len);
		if (r < 0)
			return r;
		entries[d->n++] =
			(struct dir_entry){ e.ino, d->names.len - e.name_len, e.name_len, e.type };
	}
	return r;
}

static int load_key(struct tar_export *x, const struct key_parts *k, struct dir_frame *d)
{
	size_t len;
	const uint8_t *v = tree_iter_value(x->iter, &len);
	struct extent_rec e;
	int r;

	switch (k->kind) {
	case KEY_XATTR:
		return add_xattr(x, k, v, len);
	case KEY_DIRENT:
		return d ? add_names(d, v, len) : -EBADMSG;
	case KEY_EXTENT:
		r = extent_decode(v, len, &e);
		return r < 0 ? r : add_run(x, key_sub_u64(k), e.len);
	default:
		return 0;
	}
}

/* Scan all keys of ino. rec->target goes to x->target; names to d, if it is not NULL. */
static int load_inode(struct tar_export *x, uint64_t ino, struct inode_rec *rec,
		      struct dir_frame *d)
{
	struct key key;
	struct key_parts k;
	size_t len;

	buf_clear(&x->extra);
	buf_clear(&x->target);
	x->n_runs = 0;
	key_inode(&key, ino);
	int r = tree_iter_seek(x->iter, key.bytes, key.len);
	if (r == 0)
		return -EBADMSG;
	for (bool first = true; r > 0; r = tree_iter_next(x->iter), first = false) {
		const uint8_t *bytes = tree_iter_key(x->iter, &len);

		r = key_parse(bytes, len, &k);
		if (r == 0 && k.ino != ino)
			return first ? -EBADMSG : 0;
		if (r == 0 && first) {
			const uint8_t *v = tree_iter_value(x->iter, &len);

			r = k.kind == KEY_INODE ? inode_decode(v, len, rec) : -EBADMSG;
			if (r == 0 && rec->target_len)
				r = buf_append(&x->target, rec->target, rec->target_len);
			rec->target = NULL;
		} else if (r == 0) {
			r = load_key(x, &k, d);
		}
		if (r < 0)
			return r;
	}
	return r;
}

/*
 * GNU tar reads each run of a sparse file in whole blocks, so runs begin and end with blocks; zeros
 * fill them up.
 */
static void align_runs(struct tar_export *x, uint64_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < x->n_runs; i++) {
		uint64_t from = x->runs[i].offset / TAR_BLOCK * TAR_BLOCK;
		uint64_t end = x->runs[i].offset + x->runs[i].len;
		uint64_t left = (TAR_BLOCK - end % TAR_BLOCK) % TAR_BLOCK;

		end += MIN(left, size > end ? size - end : 0);
		if (n && x->runs[n - 1].offset + x->runs[n - 1].len >= from)
			x->runs[n - 1].len = end - x->runs[n - 1].offset;
		else
			x->runs[n++] = (struct run){ from, end - from };
	}
	x->n_runs = n;
}

/* Where the output is in the runs. */
struct run_place {
	size_t run;
	uint64_t offset;
};

/* The zeros before `offset`, or (UINT64_MAX) before the end. */
static int fill_up(struct tar_export *x, struct run_place *at, uint64_t offset)
{
	static const uint8_t zeros[TAR_BLOCK];
	int r = 0;

	while (r == 0 && at->run < x->n_runs) {
		const struct run *run = &x->runs[at->run];
		const uint64_t to = MIN(offset, run->offset + run->len);

		at->offset = MAX(at->offset, run->offset);
		for (uint64_t n; r == 0 && at->offset < to; at->offset += n) {
			n = MIN(to - at->offset, (uint64_t)sizeof(zeros));
			r = buf_append(export_stream_buf(x->out), zeros, n);
			r = r < 0 ? r : export_stream_flow(x->out);
		}
		if (offset < run->offset + run->len)
			break;
		at->run++;
	}
	return r;
}

static int put_data(struct tar_export *x, uint64_t ino)
{
	struct run_place at = { 0, 0 };
	struct key key;
	struct key_parts k;
	struct extent_rec e;
	size_t len;

	key_kind_start(&key, ino, KEY_EXTENT);
	int r = tree_iter_seek(x->iter, key.bytes, key.len);
	for (; r > 0; r = tree_iter_next(x->iter)) {
		const uint8_t *bytes = tree_iter_key(x->iter, &len);

		r = key_parse(bytes, len, &k);
		if (r == 0 && (k.ino != ino || k.kind != KEY_EXTENT))
			break;
		if (r == 0) {
			const uint8_t *v = tree_iter_value(x->iter, &len);

			r = extent_decode(v, len, &e);
		}
		if (r == 0)
			r = fill_up(x, &at, key_sub_u64(&k));
		if (r == 0)
			r = export_stream_extent(x->out, ino, &e);
		at.offset += e.len;
		if (r == 0 && progress_cancelled(x->progress))
			r = -ECANCELED;
		if (r < 0)
			return r;
		if (x->progress) {
			x->progress->done_bytes += e.len;
			progress_tick(x->progress, false);
		}
	}
	return r < 0 ? r : fill_up(x, &at, UINT64_MAX);
}

/* GNU.sparse 1.0: the number of runs, then each offset and length; whole blocks. */
static int make_map(struct tar_export *x, uint64_t size)
{
	uint64_t end = x->n_runs ? x->runs[x->n_runs - 1].offset + x->runs[x->n_runs - 1].len : 0;
	bool hole_at_end = end < size;
	int r;

	buf_clear(&x->map);
	r = buf_printf(&x->map, "%zu\n", x->n_runs + (hole_at_end ? 1 : 0));
	for (size_t i = 0; i < x->n_runs && r == 0; i++)
		r = buf_printf(&x->map, "%" PRIu64 "\n%" PRIu64 "\n", x->runs[i].offset,
			       x->runs[i].len);
	if (r == 0 && hole_at_end)
		r = buf_printf(&x->map, "%" PRIu64 "\n0\n", size);
	return r < 0 ? r : tar_put_padding(&x->map, x->map.len);
}

static int put_file(struct tar_export *x, uint64_t ino, const struct inode_rec *rec,
		    struct tar_member *m)
{
	uint64_t data = 0;
	int r = 0;

	align_runs(x, rec->size);
	for (size_t i = 0; i < x->n_runs; i++)
		data += x->runs[i].len;
	m->sparse = data != rec->size;
	m->real_size = rec->size;
	if (m->sparse)
		r = make_map(x, rec->size);
	m->size = m->sparse ? data + x->map.len : data;
	if (r == 0)
		r = tar_put_header(export_stream_buf(x->out), m);
	if (r == 0 && m->sparse)
		r = buf_append(export_stream_buf(x->out), x->map.data, x->map.len);
	if (r == 0)
		r = export_stream_flow(x->out);
	if (r == 0 && data)
		r = put_data(x, ino);
	return r < 0 ? r : tar_put_padding(export_stream_buf(x->out), data);
}

static enum tar_type type_of(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return TAR_DIRECTORY;
	case S_IFLNK:
		return TAR_SYMLINK;
	case S_IFCHR:
		return TAR_CHAR;
	case S_IFBLK:
		return TAR_BLOCK_DEVICE;
	case S_IFIFO:
		return TAR_FIFO;
	default:
		return TAR_FILE;
	}
}

/* 1: the inode is already in the archive; m becomes a hard link to it. */
static int as_hardlink(struct tar_export *x, uint64_t ino, struct tar_member *m)
{
	int r = links_grow(x);

	if (r < 0)
		return r;
	struct link_path *l = link_find(x, ino);
	if (l->ino) {
		m->type = TAR_HARDLINK;
		m->link = l->path;
		m->link_len = strlen(l->path);
		return 1;
	}
	x->link_bytes += x->path.len;
	if (x->link_bytes > LINK_PATHS_MAX_BYTES)
		return -E2BIG;
	l->path = strndup((const char *)x->path.data, x->path.len);
	if (!l->path)
		return -ENOMEM;
	l->ino = ino;
	x->n_links++;
	return 0;
}

/* Write the member at x->path. */
static int put_member(struct tar_export *x, uint64_t ino, const struct inode_rec *rec)
{
	struct tar_member m = { .type = type_of(rec->mode),
				.path = (const char *)x->path.data,
				.path_len = x->path.len,
				.mode = rec->mode & 07777,
				.uid = rec->uid,
				.gid = rec->gid,
				.rdev = rec->rdev,
				.mtime = rec->mtime,
				.extra = &x->extra };
	int r = 0;

	if (S_ISSOCK(rec->mode))
		return 0; /* export_check counts them */
	if (!S_ISDIR(rec->mode) && rec->nlink > 1)
		r = as_hardlink(x, ino, &m);
	if (r < 0)
		return r;
	if (r > 0)
		m.extra = NULL;
	else if (S_ISREG(rec->mode))
		return put_file(x, ino, rec, &m);
	if (m.type == TAR_SYMLINK) {
		m.link = (const char *)x->target.data;
		m.link_len = x->target.len;
	}
	r = tar_put_header(export_stream_buf(x->out), &m);
	return r < 0 ? r : export_stream_flow(x->out);
}

static int cmp_entries(const void *a, const void *b, void *names)
{
	const struct dir_entry *x = a, *y = b;
	const uint8_t *base = ((const struct buf *)names)->data;

	return node_key_cmp(base + x->name, x->name_len, base + y->name, y->name_len);
}

/* Load a directory whose path (with its slash) is x->path, write it, go into it. */
static int enter_dir(struct tar_export *x, uint64_t ino, uint64_t parent)
{
	struct inode_rec rec;
	struct dir_frame *frames = grow(x->frames, x->depth, &x->cap_frames, sizeof(*frames));

	if (!frames)
		return -ENOMEM;
	x->frames = frames;
	struct dir_frame *d = &frames[x->depth];
	*d = (struct dir_frame){ .ino = ino, .path_len = x->depth ? x->path.len : 0 };
	x->depth++;
	int r = load_inode(x, ino, &rec, d);
	if (r == 0 && (!S_ISDIR(rec.mode) || rec.parent != parent))
		r = -EBADMSG; /* else a damaged tree could lead us in circles */
	if (r == 0)
		r = put_member(x, ino, &rec);
	if (r == 0 && d->n > 1)
		qsort_r(d->entries, d->n, sizeof(*d->entries), cmp_entries, &d->names);
	return r;
}

static void leave_dir(struct tar_export *x)
{
	struct dir_frame *d = &x->frames[--x->depth];

	buf_fini(&d->names);
	free(d->entries);
}

static int put_entry(struct tar_export *x, struct dir_frame *d)
{
	struct dir_entry e = d->entries[d->next++];
	bool is_dir = e.type == mode_to_dtype(S_IFDIR);
	struct inode_rec rec;
	int r;

	x->path.len = d->path_len;
	r = buf_append(&x->path, d->names.data + e.name, e.name_len);
	if (r == 0 && is_dir)
		r = buf_append(&x->path, "/", 1);
	if (r == 0 && x->path.len > ARCHIVE_PATH_MAX)
		r = -ENAMETOOLONG;
	if (r == 0 && x->progress) {
		x->progress->done_items++;
		progress_tick(x->progress, false);
	}
	if (r == 0 && progress_cancelled(x->progress))
		r = -ECANCELED;
	if (r < 0)
		return r;
	if (is_dir)
		return enter_dir(x, e.ino, d->ino);
	r = load_inode(x, e.ino, &rec, NULL);
	return r < 0 ? r : put_member(x, e.ino, &rec);
}

static int put_all(struct tar_export *x)
{
	int r = buf_append(&x->path, "./", 2);

	if (r == 0)
		r = enter_dir(x, ROOT_INO, ROOT_INO);
	while (r == 0 && x->depth > 0) {
		struct dir_frame *d = &x->frames[x->depth - 1];

		if (d->next < d->n)
			r = put_entry(x, d);
		else
			leave_dir(x);
	}
	if (r == 0)
		r = tar_put_end(export_stream_buf(x->out));
	return r < 0 ? r : export_stream_end(x->out);
}

static void export_fini(struct tar_export *x)
{
	export_stream_free(x->out);
	tree_iter_free(x->iter);
	while (x->depth > 0)
		leave_dir(x);
	free(x->frames);
	for (size_t i = 0; i < x->cap_links; i++)
		free(x->links[i].path);
	free(x->links);
	free(x->runs);
	buf_fini(&x->path);
	buf_fini(&x->extra);
	buf_fini(&x->target);
	buf_fini(&x->map);
}

/* A chunk was not to be had. -EREMOTEIO, with its place: a bucket should give it. */
static int chunk_error(struct tar_export *x, const char *path, const struct digest *chunk, int r,
		       struct error *err)
{
	char at[200], hex[DIGEST_HEX_SIZE];

	digest_to_hex(chunk, hex);
	store_where_far(x->store, chunk, at, sizeof(at));
	if (*at && (r == -ENODATA || r == -EIO || r == -ETIMEDOUT))
		return error_set(err, -EREMOTEIO, "cannot read %.300s: chunk %s, %s, %s", path, hex,
				 at, r == -ENODATA ? "is not there" : "cannot be fetched");
	return error_set_errno(err, r, "cannot read %.300s: chunk %s", path, hex);
}

static int export_error(struct tar_export *x, int r, struct error *err)
{
	struct buf path CLEANUP(buf_fini_p) = BUF_INIT;
	struct digest chunk = { 0 };
	uint64_t ino = x->out ? export_stream_failed_ino(x->out, &chunk) : 0;

	if (ino && tree_fs_path(&x->fs, ino, &path) == 0 && buf_cstr(&path))
		return chunk_error(x, (char *)path.data, &chunk, r, err);
	if (r == -EBADMSG || r == -ENODATA)
		return error_set_errno(err, r, "cannot read %.*s",
				       (int)MIN(x->path.len, (size_t)300),
				       x->path.len ? (char *)x->path.data : "");
	if (r == -ENAMETOOLONG)
		return error_set(err, r,
				 "cannot export %.*s...: it has paths of more than %u bytes, which "
				 "an import refuses",
				 100, (char *)x->path.data, ARCHIVE_PATH_MAX);
	if (r == -E2BIG)
		return error_set(err, r,
				 "cannot export: the paths of files with several names have more "
				 "than %u MiB",
				 LINK_PATHS_MAX_BYTES >> 20);
	return error_set_errno(err, r, "cannot export");
}

int export_tar(struct store *s, const struct digest *root, export_write_fn fn, void *arg,
	       struct progress *p, struct error *err)
{
	struct tar_export x = { .store = s, .fs = store_tree(s, root), .progress = p };
	struct super_rec super;
	int r = tree_fs_super(&x.fs, &super);

	if (r == 0 && p) {
		p->phase = "writing";
		p->done_items = p->done_bytes = 0;
		p->total_items = super.inode_count;
		p->total_bytes = super.data_bytes;
	}
	if (r == 0) {
		x.iter = tree_iter_new(s->nodes, root);
		x.out = export_stream_new(s, fn, arg);
		r = x.iter && x.out ? put_all(&x) : -ENOMEM;
	}
	if (r < 0)
		r = export_error(&x, r, err);
	progress_tick(p, true);
	export_fini(&x);
	return r;
}
