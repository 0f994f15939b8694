/*
 * key.h - the keys of a filesystem tree: (inode u64 big-endian, kind u8, sub-key).
 *
 * kind      sub-key                        value (record.h)
 * SUPER     -   (inode 0 only)             struct super_rec
 * INODE     -                              struct inode_rec, symlink target
 * XATTR     name, without NUL              value bytes
 * DIRENT    u64 big-endian name hash       dirent list
 * EXTENT    u64 big-endian file offset     extent
 * BACKREF   u64 be parent, u64 be hash     name bytes; only where nlink > 1 and not a directory
 *
 * The root directory is inode 1, as FUSE wants it.
 */
#ifndef VARVE_KEY_H
#define VARVE_KEY_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"

#define ROOT_INO 1ull
#define NAME_LEN_MAX 255u
#define XATTR_NAME_MAX 255 /* spelt as in <linux/limits.h>, which defines it too */
#define XATTR_VALUE_MAX 65536u

enum key_kind {
	KEY_INODE = 0,
	KEY_XATTR = 1,
	KEY_DIRENT = 2,
	KEY_EXTENT = 3,
	KEY_BACKREF = 4,
	KEY_KIND_COUNT
};

#define KEY_PREFIX_SIZE 9 /* inode and kind */
#define KEY_SIZE_MAX (KEY_PREFIX_SIZE + XATTR_NAME_MAX)

struct key {
	uint16_t len;
	uint8_t bytes[KEY_SIZE_MAX];
};

void key_super(struct key *k); /* inode 0, KEY_INODE */
void key_inode(struct key *k, uint64_t ino);
/* name_len <= XATTR_NAME_MAX. */
void key_xattr(struct key *k, uint64_t ino, const char *name, size_t name_len);
void key_dirent(struct key *k, uint64_t dir, uint64_t name_hash);
void key_extent(struct key *k, uint64_t ino, uint64_t offset);
void key_backref(struct key *k, uint64_t ino, uint64_t parent, uint64_t name_hash);
/* The first key of a kind: a prefix to seek to. */
void key_kind_start(struct key *k, uint64_t ino, enum key_kind kind);

/* A parsed key; sub borrows from the input. */
struct key_parts {
	uint64_t ino;
	enum key_kind kind;
	const uint8_t *sub;
	size_t sub_len;
};
/* -EBADMSG if the bytes are not a key of ours (kind, or sub-key length). */
MUST_CHECK int key_parse(const void *bytes, size_t len, struct key_parts *out);
/* The u64 of a dirent's or extent's sub-key. */
uint64_t key_sub_u64(const struct key_parts *p);

/*
 * Hash of a file name: the first 8 bytes, big-endian, of its SHA-256, with the
 * top bit cleared and never below 16. It is also the readdir cookie.
 */
uint64_t name_hash(const char *name, size_t len);

#endif
