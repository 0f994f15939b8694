/*
 * store.h - the facade: opens a store's directory and hands out its parts.
 *
 * Layout of a store: DIR/db (RocksDB), DIR/staging/ and DIR/journal/ (mounts' data and
 * changes), DIR/shared/ (files that mounts share), DIR/FORMAT ("varve store 1\n"; 2 if a chunk
 * may need a dictionary: dict.h; 3 if a mount's journal may be of version 2:
 * fs/upper/journal.h; 4 if chunks of a tree may be in a bucket alone: lazy/far.h), DIR/remote/
 * (where these are: remote/lazy_index.h). A read-write store holds an exclusive lock on DIR/LOCK.
 */
#ifndef VARVE_STORE_H
#define VARVE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/chunk/chunk_store.h"
#include "store/chunk/guard.h"
#include "store/chunk/want.h"
#include "store/kv/kv.h"
#include "store/tree/node_store.h"
#include "store/names/snapshot.h"
#include "store/base/space.h"
#include "store/tree/tree_fs.h"

struct store_options {
	bool read_only; /* for inspection; works beside a daemon that has it open */
	int zstd_level; /* 0: CODEC_LEVEL_DEFAULT */
	/*
	 * The memory of all caches and write buffers, at least STORE_MEMORY_MIN; 0:
	 * STORE_MEMORY_DEFAULT. Decoded nodes get two fifths; decoded chunks, the
	 * database's blocks and its write buffers one each. A size below that is not 0
	 * overrides its part.
	 */
	size_t memory_bytes;
	size_t node_cache_bytes, chunk_cache_bytes, block_cache_bytes;
	uint64_t reserve_bytes; /* of disk, see space_init */
	/*
	 * A descriptor of LOCK, with the lock, that a process before this one had (store_lock_fd).
	 * It is the store's then, and closed if it cannot be opened; 0: there is none.
	 */
	int lock_fd;
};

#define STORE_MEMORY_DEFAULT ((size_t)320 << 20)
#define STORE_MEMORY_MIN ((size_t)16 << 20)

/*
 * An open store as all others see it: its parts, which store_open makes, in the order in which they
 * stand on each other. They are fields, not functions: nearly every call is to one part
 * (`snapshots_get(s->snapshots, ...)`), and store_snapshots(s) would say no more. None changes
 * before store_close, so reading them takes no lock; nobody but store*.c sets one. What changes
 * (the format, holds, locks) is behind `own`.
 */
struct store {
	char *dir; /* absolute */
	int dir_fd;
	struct space space; /* read-only: zeroed, refuses nothing */
	struct kv *kv;
	struct guard *guard;
	struct chunk_store *chunks;
	struct node_store *nodes;
	struct snapshots *snapshots;
	struct source *far;    /* store_set_far; borrowed; NULL: none */
	struct store_own *own; /* store_internal.h */
};

/*
 * Open, creating the directory and an empty store unless read_only. Errors:
 * -EBUSY (another process has it open to write), -EINVAL (not a store, or of a
 * newer format), -ENOENT; -EXDEV (lock_fd is of another store; nothing has been made in dir).
 */
MUST_CHECK int store_open(const char *dir, const struct store_options *opt, struct store **out,
			  struct error *err);
void store_close(struct store *s);
DEFINE_CLEANUP(struct store *, store_close)
/*
 * LOCK, borrowed; -1 in a store that is read only. The lock belongs to what was opened: it lasts
 * until every copy of this descriptor is closed, in other processes, too.
 */
int store_lock_fd(const struct store *s);
/* Opened to be read only: nothing of it may be written. */
bool store_is_read_only(const struct store *s);

/*
 * Call this before writing anything that a program which knows only older formats
 * would take for damage. After it, such a program refuses to open the store.
 */
#define STORE_FORMAT_DICT 2
#define STORE_FORMAT_JOURNAL 3
#define STORE_FORMAT_FAR 4 /* chunks of a tree may be in a bucket: store/lazy */
MUST_CHECK int store_need_format(struct store *s, int format, struct error *err);

/*
 * Ask this source (store/chunk/source.h; borrowed, until store_close) for chunks and nodes that the
 * database does not have. Call before the first of them is got.
 */
void store_set_far(struct store *s, struct source *far);
static inline bool store_has_far(const struct store *s)
{
	return s->far != NULL;
}
/* Where the far source should have a chunk, for a person; "" where there is no such place. */
void store_where_far(struct store *s, const struct digest *chunk, char *out, size_t size);
/* The process ends: who waits for the far source, or would, gets -ECANCELED. */
void store_stop_far(struct store *s);

/*
 * Fetch what runs have noted (store/chunk/want.h) from the far source, each 64 with one call for
 * chunks and one for nodes, and set the results. Waits; whoever calls holds no lock.
 */
void store_fetch(struct store *s, struct want *wants, size_t n);
/*
 * The same with what this thread's run has noted; the next run begins. The first failure, or 0:
 *	do
 *		r = operation();
 *	while (r == -EINPROGRESS && (r = store_fetch_wanted(s)) == 0);
 */
MUST_CHECK int store_fetch_wanted(struct store *s);

/* A tree of this store as a filesystem. */
static inline struct tree_fs store_tree(const struct store *s, const struct digest *root)
{
	return (struct tree_fs){ s->nodes, s->chunks, *root };
}

/*
 * Roots beside snapshots that gc keeps: "pin/tree/OWNER" -> 32 byte digest,
 * "pin/chunk/OWNER/HEX" -> "". Put into the caller's batch, so that a pin
 * and what needs it are written together. OWNER is a mount's or build's id.
 */
void store_pin_tree(struct store *s, struct kv_batch *b, const char *owner,
		    const struct digest *root);
void store_pin_chunk(struct store *s, struct kv_batch *b, const char *owner,
		     const struct digest *chunk);
/* Drops every pin of owner, trees and chunks. */
void store_unpin_all(struct store *s, struct kv_batch *b, const char *owner);
/* Drops only the chunk pins of owner. */
void store_unpin_chunks(struct store *s, struct kv_batch *b, const char *owner);

/*
 * Keep a tree while this process reads it: an export, a diff, a check. gc treats
 * it as a root until store_release. The caller keeps h in place.
 *
 * How to make a tree safe from a collection that may be running: hold or pin it
 * first, then check that the record that named it still exists. gc lists
 * snapshots first, then pins, then holds. So if the record existed after the
 * pin was made, gc finds the record, or it was deleted before gc looked, and
 * then gc finds the pin.
 */
struct store_hold {
	struct digest root;
	LIST_ENTRY(store_hold) link;
};
void store_hold(struct store *s, const struct digest *root, struct store_hold *h);
void store_release(struct store *s, struct store_hold *h);
/* Append the root of each hold (struct digest). -ENOMEM. */
MUST_CHECK int store_holds(struct store *s, struct buf *out);
/*
 * Read a snapshot's record and hold its tree. -ENOENT; -EINVAL if it has no
 * tree yet. *out: snapshot_fini.
 */
MUST_CHECK int store_hold_snapshot(struct store *s, const char *name_or_id, struct snapshot *out,
				   struct store_hold *h, struct error *err);

struct store_stats {
	uint64_t snapshot_count;
	uint64_t logical_bytes; /* sum over snapshots of their size_bytes */
	uint64_t unique_bytes;	/* raw bytes of distinct chunks, garbage included */
	uint64_t stored_bytes;	/* files of the database on disk */
	uint64_t chunk_count, node_count;
	uint64_t node_cache_bytes;
};
/* Counts up to 65,536 chunks exactly; beyond that it estimates from a sample. */
MUST_CHECK int store_stats(struct store *s, struct store_stats *out, struct error *err);

#endif
