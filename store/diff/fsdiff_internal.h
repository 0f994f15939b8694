/*
 * fsdiff_internal.h - a diff as the files behind fsdiff.h see it. Calls go from fsdiff.c to
 * fsdiff_inode.c and fsdiff_walk.c, from these to fsdiff_side.c and fsdiff_feed.c, and from all
 * to fsdiff_place.c.
 */
#ifndef VARVE_FSDIFF_INTERNAL_H
#define VARVE_FSDIFF_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/diff/fsdiff.h"

/* ---- places: the paths that changed, as a tree of names (fsdiff_place.c) ---- */

#define PLACE_ROOT 0u
#define PLACE_NONE UINT32_MAX

/* Changes of a place, as bits; a place has at most one of the first three. */
enum {
	PLACE_ADDED = 1,
	PLACE_REMOVED = 2,
	PLACE_RENAMED = 4, /* with `from` */
	PLACE_MODIFIED = 8,
	PLACE_META = 16,
};

struct place {
	size_t name;	       /* offset in names */
	uint64_t ino_a, ino_b; /* the name's link on either side, if it changed; else 0 */
	uint32_t mode;
	uint32_t parent;
	uint32_t from;	   /* PLACE_RENAMED: the old place */
	uint32_t next;	   /* of the hash chain */
	uint32_t children; /* list of those below, by `sibling` */
	uint32_t sibling;
	uint8_t name_len;
	uint8_t changes; /* PLACE_* */
};

struct places {
	struct place *v; /* v[PLACE_ROOT] always exists */
	uint32_t count, cap;
	uint32_t *buckets;
	uint32_t bucket_count; /* power of two */
	struct buf names;
};
MUST_CHECK int places_init(struct places *ps);
void places_fini(struct places *ps);
/* Find or make the place of a name below parent. Moves v. */
MUST_CHECK int place_get(struct places *ps, uint32_t parent, const char *name, size_t len,
			 uint32_t *out);
/* Call fn for every change, by path. */
MUST_CHECK int places_emit(const struct places *ps, fsdiff_fn fn, void *arg);

/* ---- the diff ---- */

enum { SIDE_A = 0, SIDE_B = 1 };

/* What the feed said about an inode. */
struct inode_change {
	uint64_t ino;
	uint32_t mode[2]; /* by side; 0 if absent there, or if the record did not change */
	uint16_t flags;
};
enum {
	CHANGE_RECORD = 1,   /* its record is in the feed */
	CHANGE_CONTENT = 2,  /* symlink target, device number, size of a file */
	CHANGE_EXTENTS = 4,  /* some extent */
	CHANGE_META = 8,     /* permissions, owner */
	CHANGE_XATTR = 16,   /* some xattr */
	CHANGE_ENTRIES = 32, /* some name in a directory */
	CHANGE_MTIME = 64,
	CHANGE_ATIME = 128,
	CHANGE_SINGLE_A = 256, /* has one link on that side */
	CHANGE_SINGLE_B = 512,
	CHANGE_EMPTY = 1024, /* a file without data on both sides */
};

/* A name that only one side has, or that is another inode's on the other side. */
struct link_change {
	uint64_t dir, ino;
	size_t name;	/* offset in names */
	uint32_t place; /* where it is, once that is known */
	uint8_t name_len, type, side;
};

struct dir_slot {
	uint64_t ino; /* 0: free */
	uint32_t place;
};
struct dir_map {
	struct dir_slot *v;
	size_t count, cap; /* cap: power of two or 0 */
};

struct fsdiff {
	struct fsdiff_side side[2];
	struct buf changes; /* struct inode_change, by inode */
	struct buf links;   /* struct link_change */
	struct buf names;
	struct places places;
	struct dir_map dirs[2]; /* place of a directory, by side */
};

/* What the feed said about an inode; NULL: nothing. */
struct inode_change *find_change(const struct fsdiff *d, uint64_t ino);

/* ---- the sides (fsdiff_side.c) ---- */

/* The record of an inode on a side, decoded; pin holds it. -ENOENT. */
MUST_CHECK int side_inode(struct fsdiff *d, int side, uint64_t ino, struct inode_rec *out,
			  struct buf *pin);

/*
 * How inode y of side b differs from x of side a, as PLACE_MODIFIED or
 * PLACE_META or 0. Times of directories count only with dir_times.
 */
MUST_CHECK int compare_inodes(struct fsdiff *d, uint64_t x, uint64_t y, bool dir_times,
			      uint8_t *out_changes, uint32_t *out_mode_b);

/* The place of a directory that exists on a side. */
MUST_CHECK int dir_place(struct fsdiff *d, int side, uint64_t ino, uint32_t *out);
/* 0, or -EEXIST if the directory has a place already. */
MUST_CHECK int dir_map_add(struct dir_map *m, uint64_t ino, uint32_t place);

/* ---- the two ways (fsdiff_inode.c, fsdiff_walk.c) ---- */

/* Fill the places: by inode from the feed, or by walking both sides. */
MUST_CHECK int fsdiff_by_inode(struct fsdiff *d);
MUST_CHECK int fsdiff_by_path(struct fsdiff *d);
/* By what the feed says, do inode numbers mean the same on both sides? 1, 0. */
MUST_CHECK int fsdiff_is_related(struct fsdiff *d);

#endif
