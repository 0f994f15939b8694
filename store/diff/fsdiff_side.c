/* What both ways of a diff ask of its sides: records, comparisons, where a directory is. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/wire.h"
#include "store/diff/fsdiff_internal.h"

/* Directories above an inode; only a damaged tree, whose parents form a ring, has more. */
#define DEPTH_MAX (1u << 20)

int side_inode(struct fsdiff *d, int side, uint64_t ino, struct inode_rec *out, struct buf *pin)
{
	const struct fsdiff_side *s = &d->side[side];
	struct key k;
	key_inode(&k, ino);
	int rc = s->get(s->ctx, k.bytes, k.len, pin);
	return rc ? rc : inode_decode(pin->data, pin->len, out);
}

/* ---- comparing two inodes ---- */

struct summing {
	struct hasher *hasher;
};

/* Adds sub-key and value, each with its length. */
static int sum_one(void *arg, const struct tree_span *key, const struct tree_span *value)
{
	struct hasher *h = ((struct summing *)arg)->hasher;
	uint8_t lens[16];
	wire_set64(lens, key->len);
	wire_set64(lens + 8, value->len);
	int rc = hasher_update(h, lens, sizeof(lens));
	if (rc == 0)
		rc = hasher_update(h, key->data + KEY_PREFIX_SIZE, key->len - KEY_PREFIX_SIZE);
	return rc ? rc : hasher_update(h, value->data, value->len);
}

/* A digest of all that an inode has of one kind, without its number. */
static int sum_kind(struct fsdiff *d, int side, uint64_t ino, enum key_kind kind,
		    struct digest *out)
{
	const struct fsdiff_side *s = &d->side[side];
	CLEANUP(hasher_free_p) struct hasher *h = hasher_new();
	struct summing sum = { h };
	struct key k;
	if (!h)
		return -ENOMEM;
	key_kind_start(&k, ino, kind);
	int rc = s->scan(s->ctx, k.bytes, k.len, sum_one, &sum);
	return rc ? rc : hasher_final(h, out);
}

/* 1 if the two inodes have the same of one kind, 0, or a failure. */
static int same_kind(struct fsdiff *d, uint64_t x, uint64_t y, enum key_kind kind)
{
	struct digest a, b;
	int rc = sum_kind(d, SIDE_A, x, kind, &a);
	if (rc == 0)
		rc = sum_kind(d, SIDE_B, y, kind, &b);
	return rc ? rc : digest_equal(&a, &b);
}

/* 1, 0, or a failure. The types are the same. */
static int same_data(struct fsdiff *d, uint64_t x, const struct inode_rec *a, uint64_t y,
		     const struct inode_rec *b)
{
	if (S_ISLNK(a->mode))
		return a->target_len == b->target_len &&
		       memcmp(a->target, b->target, a->target_len) == 0;
	if (S_ISCHR(a->mode) || S_ISBLK(a->mode))
		return a->rdev == b->rdev;
	if (!S_ISREG(a->mode))
		return 1;
	return a->size == b->size ? same_kind(d, x, y, KEY_EXTENT) : 0;
}

static bool same_times(const struct inode_rec *a, const struct inode_rec *b)
{
	return a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec &&
	       a->atime.tv_sec == b->atime.tv_sec && a->atime.tv_nsec == b->atime.tv_nsec;
}

/* 1, 0, or a failure. */
static int same_meta(struct fsdiff *d, uint64_t x, const struct inode_rec *a, uint64_t y,
		     const struct inode_rec *b, bool dir_times)
{
	if (a->mode != b->mode || a->uid != b->uid || a->gid != b->gid)
		return 0;
	if ((dir_times || !S_ISDIR(a->mode)) && !same_times(a, b))
		return 0;
	return same_kind(d, x, y, KEY_XATTR);
}

int compare_inodes(struct fsdiff *d, uint64_t x, uint64_t y, bool dir_times, uint8_t *out_changes,
		   uint32_t *out_mode_b)
{
	CLEANUP(buf_fini_p) struct buf pin_a = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf pin_b = BUF_INIT;
	struct inode_rec a, b;
	int rc = side_inode(d, SIDE_A, x, &a, &pin_a);
	if (rc == 0)
		rc = side_inode(d, SIDE_B, y, &b, &pin_b);
	if (rc != 0)
		return rc == -ENOENT ? -EBADMSG : rc;
	uint8_t changes = 0;
	rc = (a.mode & S_IFMT) == (b.mode & S_IFMT) ? same_data(d, x, &a, y, &b) : 0;
	if (rc == 0)
		changes = PLACE_MODIFIED;
	if (rc == 1)
		rc = same_meta(d, x, &a, y, &b, dir_times);
	if (rc < 0)
		return rc;
	if (rc == 0 && !changes)
		changes = PLACE_META;
	*out_changes = changes;
	*out_mode_b = b.mode;
	return 0;
}

/* ---- where a directory is ---- */

static struct dir_slot *slot_of(const struct dir_map *m, uint64_t ino)
{
	size_t i = (size_t)((ino * 0x9e3779b97f4a7c15ull) >> 20);
	for (;; i++) {
		struct dir_slot *s = &m->v[i & (m->cap - 1)];
		if (s->ino == 0 || s->ino == ino)
			return s;
	}
}

static int dir_map_grow(struct dir_map *m)
{
	struct dir_map bigger = { .cap = m->cap ? m->cap * 2 : 64, .count = m->count };
	bigger.v = calloc(bigger.cap, sizeof(*bigger.v));
	if (!bigger.v)
		return -ENOMEM;
	for (size_t i = 0; i < m->cap; i++) {
		if (m->v[i].ino)
			*slot_of(&bigger, m->v[i].ino) = m->v[i];
	}
	free(m->v);
	*m = bigger;
	return 0;
}

int dir_map_add(struct dir_map *m, uint64_t ino, uint32_t place)
{
	int rc = m->count * 2 >= m->cap ? dir_map_grow(m) : 0;
	if (rc != 0)
		return rc;
	struct dir_slot *s = slot_of(m, ino);
	if (s->ino)
		return -EEXIST;
	*s = (struct dir_slot){ ino, place };
	m->count++;
	return 0;
}

static bool dir_map_find(const struct dir_map *m, uint64_t ino, uint32_t *out)
{
	if (ino == ROOT_INO) {
		*out = PLACE_ROOT;
		return true;
	}
	if (!m->cap)
		return false;
	const struct dir_slot *s = slot_of(m, ino);
	*out = s->place;
	return s->ino != 0;
}

/* A directory whose place is not known yet, on the way up. */
struct step {
	uint64_t ino;
	uint8_t name_len;
	char name[NAME_LEN_MAX];
};

static int step_up(struct fsdiff *d, int side, uint64_t ino, struct step *out, uint64_t *out_parent)
{
	const struct fsdiff_side *s = &d->side[side];
	CLEANUP(buf_fini_p) struct buf value = BUF_INIT;
	struct dirent_reader reader;
	struct dirent_rec e;
	struct inode_rec r;
	struct key k;
	int rc = side_inode(d, side, ino, &r, &value);
	if (rc == 0 && !S_ISDIR(r.mode))
		rc = -EBADMSG;
	if (rc != 0)
		return rc;
	*out_parent = r.parent;
	key_dirent(&k, r.parent, r.name_hash);
	rc = s->get(s->ctx, k.bytes, k.len, &value);
	if (rc != 0)
		return rc;
	dirent_reader_init(&reader, value.data, value.len);
	while ((rc = dirent_next(&reader, &e)) == 1) {
		if (e.ino != ino)
			continue;
		*out = (struct step){ .ino = ino, .name_len = e.name_len };
		memcpy(out->name, e.name, e.name_len);
		return 0;
	}
	return -EBADMSG;
}

int dir_place(struct fsdiff *d, int side, uint64_t ino, uint32_t *out)
{
	CLEANUP(buf_fini_p) struct buf steps = BUF_INIT;
	struct dir_map *m = &d->dirs[side];
	uint32_t place;
	struct step step;
	int rc = 0;
	while (!dir_map_find(m, ino, &place)) {
		uint64_t parent;
		rc = step_up(d, side, ino, &step, &parent);
		if (rc == 0)
			rc = buf_append(&steps, &step, sizeof(step));
		if (rc == 0 && steps.len / sizeof(step) > DEPTH_MAX)
			rc = -EBADMSG;
		if (rc != 0)
			return rc == -ENOENT ? -EBADMSG : rc;
		ino = parent;
	}
	while (steps.len) {
		steps.len -= sizeof(step);
		memcpy(&step, steps.data + steps.len, sizeof(step));
		rc = place_get(&d->places, place, step.name, step.name_len, &place);
		if (rc == 0)
			rc = dir_map_add(m, step.ino, place);
		if (rc != 0)
			return rc == -EEXIST ? -EBADMSG : rc;
	}
	*out = place;
	return 0;
}
