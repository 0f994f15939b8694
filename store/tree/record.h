/*
 * record.h - the values of a filesystem tree, and their encodings (pure).
 * All numbers little-endian. Decoders check everything and return -EBADMSG.
 */
#ifndef VARVE_RECORD_H
#define VARVE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "store/base/buf.h"
#include "store/base/macros.h"
#include "store/chunk/chunker.h"
#include "store/base/hash.h"
#include "store/tree/key.h"

/* Files of at most this size that are one segment live inside the tree. */
#define INLINE_MAX 512u
#define SYMLINK_MAX 4095u

/*
 * Super record, version 1: u32 version, u64 next_ino, u64 inode_count,
 * u64 data_bytes.
 */
struct super_rec {
	uint64_t next_ino; /* never given out in this tree or its ancestors */
	uint64_t inode_count;
	uint64_t data_bytes; /* sum of regular files' sizes */
};
MUST_CHECK int super_encode(const struct super_rec *r, struct buf *out);
MUST_CHECK int super_decode(const void *data, size_t len, struct super_rec *out);

/*
 * Inode record, version 1:
 *   u8 version, u8 zero, u16 target_len, u32 mode, u32 uid, u32 gid, u32 nlink,
 *   u64 rdev, u64 size, u64 alloc_bytes, (i64 sec, u32 nsec) x atime, mtime, ctime,
 *   u64 parent, u64 name_hash, u8 target[target_len]
 */
struct inode_rec {
	uint32_t mode; /* type and permissions, as st_mode */
	uint32_t uid;
	uint32_t gid;
	uint32_t nlink;	      /* directories: 2 + subdirectories */
	uint64_t rdev;	      /* as st_rdev (glibc encoding), devices only */
	uint64_t size;	      /* bytes; symlinks: target length; directories: 0 */
	uint64_t alloc_bytes; /* bytes of data extents (holes not counted) */
	struct timespec atime, mtime, ctime;
	/*
	 * The one link of an inode (directory, or nlink 1): where it is. Root:
	 * parent is itself, hash 0. nlink > 1: both 0, see KEY_BACKREF.
	 */
	uint64_t parent;
	uint64_t name_hash;
	/* Symlinks: the target, not NUL-terminated, borrowed from the encoding. */
	const char *target;
	size_t target_len;
};
MUST_CHECK int inode_encode(const struct inode_rec *r, struct buf *out);
/* Checks the type bits, nsec < 1e9, target only and always for symlinks, no NUL in it. */
MUST_CHECK int inode_decode(const void *data, size_t len, struct inode_rec *out);

/*
 * Dirent list, version 1: one or more of
 *   u8 version, u8 type (DT_*), u8 name_len, u64 ino, u8 name[name_len]
 * Several only if names share a hash; sorted by name. Names are 1..255 bytes
 * without '/' and NUL, and not "." or "..".
 */
struct dirent_rec {
	uint64_t ino;
	uint8_t type; /* DT_REG, ... */
	uint8_t name_len;
	const char *name; /* borrowed, not NUL-terminated */
};
struct dirent_reader {
	const uint8_t *p, *end;
	const char *last; /* name before, to check the order; NULL at the start */
	size_t last_len;
};
void dirent_reader_init(struct dirent_reader *r, const void *list, size_t len);
/* 1 an entry, 0 the end, -EBADMSG. */
MUST_CHECK int dirent_next(struct dirent_reader *r, struct dirent_rec *out);
/* 0, -ENOENT, -EBADMSG. */
MUST_CHECK int dirent_find(const void *list, size_t len, const char *name, size_t name_len,
			   struct dirent_rec *out);
/* Append to out the list with the entry added (replacing one of the same name) ... */
MUST_CHECK int dirent_list_put(const void *list, size_t len, const struct dirent_rec *e,
			       struct buf *out);
/* ... or without the named one (-ENOENT if it is not in it); empty if it was the last. */
MUST_CHECK int dirent_list_del(const void *list, size_t len, const char *name, size_t name_len,
			       struct buf *out);
/* 0 or -EINVAL (empty, ".", "..", '/' or NUL inside) or -ENAMETOOLONG. */
MUST_CHECK int name_check(const char *name, size_t len);

/*
 * Extent, version 1: u8 kind, then
 *   EXTENT_CHUNK  u32 len (1..CHUNK_MAX), digest[32]
 *   EXTENT_INLINE bytes (1..INLINE_MAX)
 * What no extent covers, up to the file's size, is a hole. Extents of a file
 * do not overlap and do not pass its size.
 */
enum extent_kind { EXTENT_CHUNK = 1, EXTENT_INLINE = 2 };
struct extent_rec {
	enum extent_kind kind;
	uint32_t len;	      /* bytes of file data */
	struct digest digest; /* EXTENT_CHUNK */
	const uint8_t *data;  /* EXTENT_INLINE: borrowed */
};
MUST_CHECK int extent_encode(const struct extent_rec *r, struct buf *out);
MUST_CHECK int extent_decode(const void *data, size_t len, struct extent_rec *out);

/*
 * The chunk that a leaf's entry refers to: 1 and *out, or 0 if it refers to none; -EBADMSG.
 */
MUST_CHECK int leaf_entry_chunk(const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen,
				struct digest *out);

/* DT_* of a mode. */
uint8_t mode_to_dtype(uint32_t mode);

#endif
