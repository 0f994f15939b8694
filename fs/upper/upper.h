/*
 * upper.h - what a mount has changed, one epoch of it.
 *
 * In memory: a table of changed inodes (struct unode), each with its record and
 * an ordered map of changed entries whose keys are the tree's keys without the
 * inode number. In the mount's journal (journal.h), and from there in the
 * `upper` family: the same, written first. So the database is only read when a
 * mount is loaded, and memory grows with what was touched since the last
 * checkpoint.
 *
 * Format in the family, version 1:
 *   key    mount id[16], u32 epoch (big-endian), tree key (store/tree/key.h)
 *   value  inode:  u8 0 gone; or u8 1, u8 fresh, inode record
 *          other:  u8 0 tombstone; or u8 1, value of the tree, but for extents:
 *          extent: u8 1, u8 kind (enum upper_extent_kind), u64 length, u64 pos,
 *                  u32 chunk_off, digest[32], little-endian; 0 if unused. DATA: in the
 *                  place of chunk_off, 1 if it is there only because a copy was made
 *
 * What it takes is counted, entry by entry as it is linked in or out: the bytes of
 * file data in the staging file, and `meta_bytes`, the price of all the rest. A
 * price is not the exact size in memory or on disk, but of the same order, so a
 * quota bounds both. It depends only on what is held: a reload counts the same.
 *
 * Locking: the unodes of shard i are guarded by the view's stripe lock i
 * (view.h); hold an inode's stripe to find, read or change its unode.
 */
#ifndef VARVE_FS_UPPER_H
#define VARVE_FS_UPPER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/upper/journal.h"
#include "fs/upper/omap.h"
#include "fs/upper/staging.h"
#include "store/base/buf.h"
#include "store/base/macros.h"
#include "store/chunk/want.h"
#include "store/kv/kv.h"
#include "store/tree/record.h"
#include "store/base/space.h"

#define UPPER_SHARDS 64u
/* Prices of a changed inode and of an entry, beside the bytes of keys, values and targets. */
#define UPPER_INODE_PRICE 256u
#define UPPER_ENTRY_PRICE 64u
#define UPPER_ID_SIZE 16
/* How many times what one copy may cost all of them may. */
#define UPPER_COPIES 8u

static inline unsigned upper_shard(uint64_t ino)
{
	return (unsigned)((ino * 0x9e3779b97f4a7c15ull) >> 58);
}

/* A changed inode. */
struct unode {
	struct unode *next; /* in its hash chain */
	uint64_t ino;
	bool has_rec;	      /* rec replaces the record below */
	bool gone;	      /* the inode is deleted here; nothing else counts */
	bool fresh;	      /* nothing below: made in this epoch, or carried whole into it */
	bool counted;	      /* in the upper's new_inodes */
	bool caps_checked;    /* known to have no security.capability */
	struct inode_rec rec; /* target is owned */
	struct omap entries;  /* xattrs, dirents, extents, backrefs */
};

struct upper_shard {
	struct unode **buckets;
	size_t n_buckets; /* power of two, or 0 */
	size_t count;
};

struct upper {
	uint8_t id[UPPER_ID_SIZE];
	uint32_t epoch;
	_Atomic bool changed; /* anything was ever committed */
	_Atomic uint64_t n_unodes;
	_Atomic uint64_t data_bytes; /* staged file data */
	_Atomic uint64_t meta_bytes; /* prices of inodes and entries */
	/*
	 * Of these, the prices of extents that are there only because copies were made
	 * (upper_tx.copy_budget): nobody's limit counts them. Then what it was when the last copy
	 * began to cost something, and which one that was.
	 */
	_Atomic uint64_t copy_bytes, copy_start, copy_number;
	_Atomic uint64_t new_inodes; /* with a record, and fresh */
	struct upper_shard shards[UPPER_SHARDS];
};

struct upper *upper_new(const uint8_t id[UPPER_ID_SIZE], uint32_t epoch);
void upper_free(struct upper *up);
DEFINE_CLEANUP(struct upper *, upper_free)
/* NULL if the inode is unchanged. */
struct unode *upper_find(struct upper *up, uint64_t ino);
/* Find or make (it hides nothing until something is applied); NULL when out of memory. */
struct unode *upper_get(struct upper *up, uint64_t ino);
/* Unlink and free a unode that must leave no trace. */
void upper_remove(struct upper *up, struct unode *u);
/* What u costs without its entries. */
uint64_t unode_price(const struct unode *u);
/* Count an entry that enters (sign 1) or leaves (-1) a unode. */
void upper_count_entry(struct upper *up, const struct omap_entry *e, int sign);
/* Count an inode with a record, if it is a new one. */
void upper_count_new(struct upper *up, struct unode *u);
/* The four bytes of an epoch in a key of the family. */
void upper_put_epoch(uint8_t *out, uint32_t epoch);
/* What an entry adds to data_bytes and to meta_bytes together, and to meta_bytes alone. */
uint64_t upper_entry_bytes(const struct omap_entry *e);
uint64_t upper_entry_price(const struct omap_entry *e);
/* data_bytes and meta_bytes; NULL: 0. */
uint64_t upper_bytes(struct upper *up);
/* Call fn for each unode, in no order; the caller makes sure that nothing changes. */
int upper_each(struct upper *up, int (*fn)(void *arg, struct unode *u), void *arg);

/* Extents of an upper. Ranges of one inode do not overlap. */
enum upper_extent_kind {
	UPPER_DATA = 1, /* bytes at `pos` of the staging file */
	UPPER_HOLE = 2, /* zeros, whatever is below */
	UPPER_CHUNK = 3 /* bytes of a chunk from chunk_off on (carried inodes) */
};
#define UPPER_EXTENT_SIZE (1 + 8 + 8 + 4 + DIGEST_SIZE)
struct upper_extent {
	uint64_t off; /* in the file: from the key */
	uint64_t len;
	enum upper_extent_kind kind;
	uint64_t pos;
	uint32_t chunk_off;
	bool copied; /* DATA: there only because a copy was made */
	struct digest digest;
};
void upper_extent_decode(const struct omap_entry *e, struct upper_extent *out);
struct subkey;
void upper_extent_encode(const struct upper_extent *x, struct subkey *k,
			 uint8_t value[UPPER_EXTENT_SIZE]);
/* The extent that covers off, or the first after it. */
struct omap_entry *upper_extent_seek(const struct unode *u, uint64_t off, struct upper_extent *out);
struct omap_entry *upper_extent_next(const struct unode *u, const struct upper_extent *prev,
				     struct upper_extent *out);

/*
 * The changes of one operation: staged, then written to the journal and applied
 * in memory, both or neither. Each begin needs an end. A failure is kept until
 * commit, so neither begin nor staging calls need checks.
 */
struct tx_change;
struct upper_tx {
	struct upper *up;
	struct journal *journal;
	struct staging *staging;
	struct buf op;	   /* as it is logged */
	uint64_t made_ino; /* the inode that the operation makes, or 0; also logged */
	struct tx_change *changes;
	size_t n, cap;
	struct buf scratch;
	int error; /* first failure of a staging call */
	/*
	 * Limits of upper_bytes(up), up->new_inodes and up->meta_bytes; UINT64_MAX: none. The
	 * caller may lower them after begin. Commit gives -EDQUOT if the transaction would raise
	 * one of them beyond its limit, and counts that in *refused, if set.
	 */
	uint64_t max_bytes, max_inodes, max_meta;
	_Atomic uint64_t *refused;
	/* Commit gives -ENOSPC if only the reserve is left on the disk; NULL: not asked. */
	struct space *space;
	/*
	 * If not 0: data is written anew only because a copy is made (staging_freeze). What that
	 * adds counts for no limit but this one, of what this copy adds to up->copy_bytes, and
	 * UPPER_COPIES times as much for all: -EDQUOT, and nobody is told.
	 */
	uint64_t copy_budget;
	uint64_t copy_number; /* which copy that is: staging_copies */
	bool repeatable;      /* the operation may begin again after it, see store/chunk/want.h */
	bool unlimited;	      /* ignores the limits: it deletes, or must not fail */
};
void upper_tx_begin(struct upper_tx *tx, struct upper *up, struct journal *j,
		    struct staging *staging);
/* 0: all of it happened; a failure: none of it. */
MUST_CHECK int upper_tx_commit(struct upper_tx *tx);
/* Frees; without a commit the changes are dropped. */
void upper_tx_end(struct upper_tx *tx);

/* Sub-keys are tree keys without their first 8 bytes. */
struct subkey {
	uint8_t bytes[1 + XATTR_NAME_MAX];
	uint16_t len;
};
void subkey_u64(struct subkey *k, enum key_kind kind, uint64_t v); /* dirent, extent */
void subkey_xattr(struct subkey *k, const char *name, size_t len);
void subkey_backref(struct subkey *k, uint64_t parent, uint64_t hash);

/* The record; rec->target is copied. fresh is remembered with it. */
void upper_tx_rec(struct upper_tx *tx, struct unode *u, const struct inode_rec *rec);
void upper_tx_put(struct upper_tx *tx, struct unode *u, const struct subkey *k, const void *val,
		  size_t len);
/* tombstone: hide what is below; otherwise no trace is left. */
void upper_tx_del(struct upper_tx *tx, struct unode *u, const struct subkey *k, bool tombstone);
/* Delete the inode with all it has; frees its staged data. The transaction is unlimited. */
void upper_tx_drop(struct upper_tx *tx, struct unode *u);
/*
 * [x->off, x->off + x->len) becomes x; what was there before is trimmed and its
 * staged space freed. At most one call per inode and transaction.
 */
void upper_tx_extent(struct upper_tx *tx, struct unode *u, const struct upper_extent *x);
/* The extent alone, after the caller has uncovered its range. */
void upper_tx_place(struct upper_tx *tx, struct unode *u, const struct upper_extent *x);
/* The range shows what is below again. At most one range per inode and transaction. */
void upper_tx_uncover(struct upper_tx *tx, struct unode *u, uint64_t from, uint64_t to);

/* Load an epoch from the database. -EBADMSG if a record is damaged. */
MUST_CHECK int upper_load(struct upper *up, struct kv *kv, struct error *err);
/* Add to b the deletion of every key of (id, epoch), or of id in all epochs. */
void upper_delete_range(struct kv *kv, struct kv_batch *b, const uint8_t id[UPPER_ID_SIZE],
			uint32_t epoch, bool all_epochs);

#endif
