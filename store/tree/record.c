#include "store/tree/record.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "store/base/wire.h"

#define RECORD_VERSION 1
#define SUPER_SIZE 28
#define INODE_FIXED_SIZE 96
#define DIRENT_FIXED_SIZE 11
#define CHUNK_EXTENT_SIZE (1 + 4 + DIGEST_SIZE)
#define NSEC_PER_SEC 1000000000u

/* ---- super ---- */

int super_encode(const struct super_rec *r, struct buf *out)
{
	uint8_t b[SUPER_SIZE];
	wire_set32(b, RECORD_VERSION);
	wire_set64(b + 4, r->next_ino);
	wire_set64(b + 12, r->inode_count);
	wire_set64(b + 20, r->data_bytes);
	return buf_append(out, b, sizeof(b));
}

int super_decode(const void *data, size_t len, struct super_rec *out)
{
	const uint8_t *p = data;
	if (len != SUPER_SIZE || wire_get32(p) != RECORD_VERSION)
		return -EBADMSG;
	out->next_ino = wire_get64(p + 4);
	out->inode_count = wire_get64(p + 12);
	out->data_bytes = wire_get64(p + 20);
	return 0;
}

/* ---- inode ---- */

uint8_t mode_to_dtype(uint32_t mode)
{
	return (uint8_t)((mode & S_IFMT) >> 12);
}

static bool dtype_is_valid(uint8_t type)
{
	switch (type) {
	case DT_FIFO:
	case DT_CHR:
	case DT_DIR:
	case DT_BLK:
	case DT_REG:
	case DT_LNK:
	case DT_SOCK:
		return true;
	default:
		return false;
	}
}

static bool inode_is_valid(const struct inode_rec *r)
{
	if (r->mode & ~(uint32_t)(S_IFMT | 07777) || !dtype_is_valid(mode_to_dtype(r->mode)))
		return false;
	if (r->atime.tv_nsec < 0 || r->atime.tv_nsec >= NSEC_PER_SEC || r->mtime.tv_nsec < 0 ||
	    r->mtime.tv_nsec >= NSEC_PER_SEC || r->ctime.tv_nsec < 0 ||
	    r->ctime.tv_nsec >= NSEC_PER_SEC)
		return false;
	if (r->size > INT64_MAX || r->alloc_bytes > INT64_MAX)
		return false;
	if (!S_ISLNK(r->mode))
		return r->target_len == 0;
	return r->target_len >= 1 && r->target_len <= SYMLINK_MAX && r->size == r->target_len &&
	       !memchr(r->target, 0, r->target_len);
}

static void put_time(uint8_t *p, const struct timespec *t)
{
	wire_set64(p, (uint64_t)t->tv_sec);
	wire_set32(p + 8, (uint32_t)t->tv_nsec);
}

static struct timespec get_time(const uint8_t *p)
{
	return (struct timespec){ .tv_sec = (time_t)wire_get64(p),
				  .tv_nsec = (long)wire_get32(p + 8) };
}

int inode_encode(const struct inode_rec *r, struct buf *out)
{
	if (!inode_is_valid(r))
		return -EINVAL;
	uint8_t b[INODE_FIXED_SIZE] = { RECORD_VERSION, 0, (uint8_t)r->target_len,
					(uint8_t)(r->target_len >> 8) };
	wire_set32(b + 4, r->mode);
	wire_set32(b + 8, r->uid);
	wire_set32(b + 12, r->gid);
	wire_set32(b + 16, r->nlink);
	wire_set64(b + 20, r->rdev);
	wire_set64(b + 28, r->size);
	wire_set64(b + 36, r->alloc_bytes);
	put_time(b + 44, &r->atime);
	put_time(b + 56, &r->mtime);
	put_time(b + 68, &r->ctime);
	wire_set64(b + 80, r->parent);
	wire_set64(b + 88, r->name_hash);
	int rc = buf_reserve(out, sizeof(b) + r->target_len);
	if (rc == 0)
		rc = buf_append(out, b, sizeof(b));
	if (rc == 0 && r->target_len)
		rc = buf_append(out, r->target, r->target_len);
	return rc;
}

int inode_decode(const void *data, size_t len, struct inode_rec *out)
{
	const uint8_t *p = data;
	if (len < INODE_FIXED_SIZE || p[0] != RECORD_VERSION || p[1] != 0)
		return -EBADMSG;
	struct inode_rec r = {
		.mode = wire_get32(p + 4),
		.uid = wire_get32(p + 8),
		.gid = wire_get32(p + 12),
		.nlink = wire_get32(p + 16),
		.rdev = wire_get64(p + 20),
		.size = wire_get64(p + 28),
		.alloc_bytes = wire_get64(p + 36),
		.atime = get_time(p + 44),
		.mtime = get_time(p + 56),
		.ctime = get_time(p + 68),
		.parent = wire_get64(p + 80),
		.name_hash = wire_get64(p + 88),
		.target_len = wire_get16(p + 2),
	};
	if (len != INODE_FIXED_SIZE + r.target_len)
		return -EBADMSG;
	if (r.target_len)
		r.target = (const char *)p + INODE_FIXED_SIZE;
	if (!inode_is_valid(&r))
		return -EBADMSG;
	*out = r;
	return 0;
}

/* ---- directory entries ---- */

int name_check(const char *name, size_t len)
{
	if (len == 0 || (len == 1 && name[0] == '.') || (len == 2 && memcmp(name, "..", 2) == 0))
		return -EINVAL;
	if (memchr(name, '/', len) || memchr(name, 0, len))
		return -EINVAL;
	return len > NAME_LEN_MAX ? -ENAMETOOLONG : 0;
}

static int name_cmp(const char *a, size_t alen, const char *b, size_t blen)
{
	int c = memcmp(a, b, MIN(alen, blen));
	if (c != 0)
		return c;
	return (alen > blen) - (alen < blen);
}

void dirent_reader_init(struct dirent_reader *r, const void *list, size_t len)
{
	const uint8_t *p = list;
	*r = (struct dirent_reader){ .p = p, .end = p ? p + len : NULL };
}

int dirent_next(struct dirent_reader *r, struct dirent_rec *out)
{
	if (r->p == r->end)
		return 0;
	const uint8_t *p = r->p;
	size_t left = (size_t)(r->end - p);
	if (left < DIRENT_FIXED_SIZE || p[0] != RECORD_VERSION || left - DIRENT_FIXED_SIZE < p[2])
		return -EBADMSG;
	struct dirent_rec e = {
		.type = p[1],
		.name_len = p[2],
		.ino = wire_get64(p + 3),
		.name = (const char *)p + DIRENT_FIXED_SIZE,
	};
	if (!dtype_is_valid(e.type) || e.ino == 0 || name_check(e.name, e.name_len) != 0)
		return -EBADMSG;
	if (r->last && name_cmp(r->last, r->last_len, e.name, e.name_len) >= 0)
		return -EBADMSG;
	r->last = e.name;
	r->last_len = e.name_len;
	r->p = p + DIRENT_FIXED_SIZE + e.name_len;
	*out = e;
	return 1;
}

int dirent_find(const void *list, size_t len, const char *name, size_t name_len,
		struct dirent_rec *out)
{
	struct dirent_reader r;
	struct dirent_rec e;
	int rc;
	dirent_reader_init(&r, list, len);
	while ((rc = dirent_next(&r, &e)) == 1) {
		if (e.name_len == name_len && memcmp(e.name, name, name_len) == 0) {
			*out = e;
			return 0;
		}
	}
	return rc < 0 ? rc : -ENOENT;
}

static int dirent_append(const struct dirent_rec *e, struct buf *out)
{
	uint8_t b[DIRENT_FIXED_SIZE] = { RECORD_VERSION, e->type, e->name_len };
	wire_set64(b + 3, e->ino);
	int rc = buf_append(out, b, sizeof(b));
	return rc ? rc : buf_append(out, e->name, e->name_len);
}

/* Copy the list to out, with `put` (may be NULL) in its place, and without the named one. */
static int dirent_list_edit(const void *list, size_t len, const char *name, size_t name_len,
			    const struct dirent_rec *put, bool *found, struct buf *out)
{
	struct dirent_reader r;
	struct dirent_rec e;
	int rc;
	bool put_done = !put;
	*found = false;
	dirent_reader_init(&r, list, len);
	while ((rc = dirent_next(&r, &e)) == 1) {
		int c = name_cmp(e.name, e.name_len, name, name_len);
		if (c >= 0 && !put_done) {
			put_done = true;
			if ((rc = dirent_append(put, out)) != 0)
				return rc;
		}
		if (c == 0) {
			*found = true;
			continue;
		}
		if ((rc = dirent_append(&e, out)) != 0)
			return rc;
	}
	if (rc == 0 && !put_done)
		rc = dirent_append(put, out);
	return rc;
}

int dirent_list_put(const void *list, size_t len, const struct dirent_rec *e, struct buf *out)
{
	if (!dtype_is_valid(e->type) || e->ino == 0)
		return -EINVAL;
	int rc = name_check(e->name, e->name_len);
	if (rc != 0)
		return rc;
	bool found;
	size_t start = out->len;
	rc = dirent_list_edit(list, len, e->name, e->name_len, e, &found, out);
	if (rc != 0)
		out->len = start;
	return rc;
}

int dirent_list_del(const void *list, size_t len, const char *name, size_t name_len,
		    struct buf *out)
{
	bool found;
	size_t start = out->len;
	int rc = dirent_list_edit(list, len, name, name_len, NULL, &found, out);
	if (rc == 0 && !found)
		rc = -ENOENT;
	if (rc != 0)
		out->len = start;
	return rc;
}

/* ---- extents ---- */

static bool extent_is_valid(const struct extent_rec *r)
{
	if (r->kind == EXTENT_CHUNK)
		return r->len >= 1 && r->len <= CHUNK_MAX;
	return r->kind == EXTENT_INLINE && r->len >= 1 && r->len <= INLINE_MAX;
}

int extent_encode(const struct extent_rec *r, struct buf *out)
{
	if (!extent_is_valid(r))
		return -EINVAL;
	uint8_t b[CHUNK_EXTENT_SIZE] = { (uint8_t)r->kind };
	if (r->kind == EXTENT_CHUNK) {
		wire_set32(b + 1, r->len);
		memcpy(b + 5, r->digest.b, DIGEST_SIZE);
		return buf_append(out, b, sizeof(b));
	}
	int rc = buf_reserve(out, 1 + r->len);
	if (rc == 0)
		rc = buf_append(out, b, 1);
	return rc ? rc : buf_append(out, r->data, r->len);
}

int extent_decode(const void *data, size_t len, struct extent_rec *out)
{
	const uint8_t *p = data;
	struct extent_rec r = { 0 };
	if (len < 2)
		return -EBADMSG;
	if (p[0] == EXTENT_CHUNK) {
		if (len != CHUNK_EXTENT_SIZE)
			return -EBADMSG;
		r.kind = EXTENT_CHUNK;
		r.len = wire_get32(p + 1);
		memcpy(r.digest.b, p + 5, DIGEST_SIZE);
	} else if (p[0] == EXTENT_INLINE && len - 1 <= INLINE_MAX) {
		r.kind = EXTENT_INLINE;
		r.len = (uint32_t)(len - 1);
		r.data = p + 1;
	} else {
		return -EBADMSG;
	}
	if (!extent_is_valid(&r))
		return -EBADMSG;
	*out = r;
	return 0;
}

int leaf_entry_chunk(const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen,
		     struct digest *out)
{
	struct key_parts parts;
	struct extent_rec e;
	int rc = key_parse(key, klen, &parts);

	if (rc != 0 || parts.kind != KEY_EXTENT)
		return rc;
	rc = extent_decode(val, vlen, &e);
	if (rc != 0 || e.kind != EXTENT_CHUNK)
		return rc;
	*out = e.digest;
	return 1;
}
