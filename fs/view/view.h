/*
 * view.h - what a mount shows: the upper over the epoch that is being sealed
 * (if there is one) over the base tree. Knows no libfuse.
 *
 * Every operation takes an inode number and returns 0 or a count or -errno as
 * the kernel wants it from a filesystem; damage comes as -ENODATA, -EBADMSG or
 * -EIO (ops.c maps it). Operations may run in any number of threads.
 *
 * -EINPROGRESS: what the operation needs of the base is far away. It has changed nothing (of a
 * write: nothing that it may not do again); what it wants is noted for this thread
 * (store/chunk/want.h), and it is to be called again once that was fetched. view_names fetches it
 * itself, and waits; view_drop_orphans does without.
 *
 * Locks, in their order:
 *   layers    rwlock, shared by every operation; exclusive to exchange layers
 *   stripes   64 rwlocks; an inode's is stripes[upper_shard(ino)]. Several are
 *             taken in ascending order (view_lock).
 * Writes and file I/O happen under them: the kernel orders operations on one inode anyway, and an
 * operation's write and its change in memory must not be overtaken by another on the same inode.
 * Chunks and nodes are read without them (view_read.c, view_look).
 */
#ifndef VARVE_FS_VIEW_H
#define VARVE_FS_VIEW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/statvfs.h>

#include "fs/upper/live.h"
#include "fs/upper/staging.h"
#include "fs/upper/upper.h"
#include "store/store.h"
#include "store/tree/tree_fs.h"

struct view {
	struct store *store;
	struct journal *journal;
	struct staging *staging;
	struct live *live;
	bool read_only;
	bool is_volatile;
	bool container_root;	      /* see mount_options; for ops alone */
	_Atomic uint64_t quota_bytes; /* of data and metadata (upper_bytes); 0: none */
	uint64_t metadata_bytes;      /* prices of metadata, which is held in memory; 0: no limit */
	_Atomic uint64_t quota_inodes; /* that may be made beside the base's; 0: no limit */
	_Atomic bool others_told;  /* the kernel of inodes, too: `live` counts less than it has */
	void (*before_wait)(void); /* called when an operation may wait for a disk; or NULL */
	_Atomic uint64_t no_space; /* writes refused for the quota or a full disk */
	/* Opens, in cache mode `shared`: of files that mounts share, and others. */
	_Atomic uint64_t shared_opens, other_opens;
	_Atomic uint64_t next_ino;
	/* Counts of what an fsync has to make permanent in the database, see view_sync. */
	_Atomic uint64_t records, records_synced;
	pthread_rwlock_t layers;
	struct tree_fs base; /* guarded by layers, as the next two */
	struct upper *cur;
	struct upper *sealed; /* NULL: none */
	pthread_rwlock_t stripes[UPPER_SHARDS];
};

void view_init(struct view *v, struct store *s, const struct digest *base, struct journal *j,
	       struct staging *st);
void view_fini(struct view *v); /* frees the layers; not the journal and the staging file */

/* Take layers (shared) and the stripes of n inodes; n <= 6; duplicates are fine. */
struct view_lock {
	unsigned n;
	uint8_t stripe[6];
};
void view_lock(struct view *v, struct view_lock *l, bool write, unsigned n, const uint64_t *inos);
void view_unlock(struct view *v, struct view_lock *l);

/*
 * A look at the layers need not read nodes out of the database under its locks. At a node that is
 * in no cache it gives up, as at one that is far away; view_look_again reads that node without the
 * locks, and the operation begins again. It has changed nothing by then, or may change it again (a
 * write).
 *
 *	unsigned looks = 0;
 *	do {
 *		view_look(looks);
 *		r = ...; (locks, looks, unlocks)
 *	} while (view_look_again(v, &looks, r));
 *
 * A collection may take away what is read without the locks, and a small cache forgets it. So the
 * last look reads what it needs under them: the one after a failure, and number VIEW_LOOKS_MAX.
 */
#define VIEW_LOOKS_MAX 16
static inline void view_look(unsigned looks)
{
	want_later(looks < VIEW_LOOKS_MAX);
}
/* r: what the look returned. */
bool view_look_again(struct view *v, unsigned *looks, int64_t r);

/* A record in effect; the target lives until view_rec_fini, under the stripe's lock. */
struct view_rec {
	struct inode_rec rec;
	struct tree_value pin;
};
static inline void view_rec_fini(struct view_rec *r)
{
	tree_value_release(&r->pin);
}
/* Stripe held. 0 or -ENOENT. */
MUST_CHECK int view_rec_locked(struct view *v, uint64_t ino, struct view_rec *out);
/* The same below the current epoch. */
MUST_CHECK int view_rec_below_locked(struct view *v, uint64_t ino, struct view_rec *out);

/* A value in effect for a sub-key, lent like a record. */
struct view_value {
	const uint8_t *data;
	size_t len;
	struct tree_value pin;
};
static inline void view_value_fini(struct view_value *x)
{
	tree_value_release(&x->pin);
}
MUST_CHECK int view_value_locked(struct view *v, uint64_t ino, const struct subkey *k,
				 struct view_value *out);
/* Does the layer below the current epoch have this entry? 1, 0, or a failure. */
MUST_CHECK int view_below_has_locked(struct view *v, uint64_t ino, const struct subkey *k);
/*
 * Call fn for every entry of a kind in effect whose sub-key is above `after`
 * (NULL: all), in order, each once. Non-zero from fn ends it and is returned.
 */
typedef int (*view_entry_fn)(void *arg, const uint8_t *sub, size_t sub_len, const uint8_t *val,
			     size_t val_len);
MUST_CHECK int view_entries_locked(struct view *v, uint64_t ino, enum key_kind kind,
				   const struct subkey *after, view_entry_fn fn, void *arg);
/* The same from layer `depth` on (0 all, 1 below the current epoch). */
MUST_CHECK int view_entries_at(struct view *v, unsigned depth, uint64_t ino, enum key_kind kind,
			       const struct subkey *after, view_entry_fn fn, void *arg);
MUST_CHECK int view_rec_at(struct view *v, unsigned depth, uint64_t ino, struct view_rec *out);

/* --- names (view_names.c, view_rename.c) --- */
struct view_attr {
	uint64_t ino;
	struct inode_rec rec; /* without target */
};
struct view_cred {
	uint32_t uid, gid, umask;
};
MUST_CHECK int view_lookup(struct view *v, uint64_t dir, const char *name, struct view_attr *out);
/* mode with type; target for symlinks, else NULL. */
MUST_CHECK int view_create(struct view *v, uint64_t dir, const char *name, uint32_t mode,
			   uint64_t rdev, const char *target, const struct view_cred *cred,
			   struct view_attr *out);
/* A file without a name (O_TMPFILE), with the owner of one made in dir, and looked up once. */
MUST_CHECK int view_tmpfile(struct view *v, uint64_t dir, uint32_t mode,
			    const struct view_cred *cred, struct view_attr *out);
MUST_CHECK int view_link(struct view *v, uint64_t ino, uint64_t dir, const char *name,
			 struct view_attr *out);
MUST_CHECK int view_unlink(struct view *v, uint64_t dir, const char *name);
MUST_CHECK int view_rmdir(struct view *v, uint64_t dir, const char *name);
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT. */
MUST_CHECK int view_rename(struct view *v, uint64_t dir, const char *name, uint64_t to_dir,
			   const char *to_name, unsigned flags);
MUST_CHECK int view_parent(struct view *v, uint64_t dir, struct view_attr *out); /* ".." */
/* The kernel forgot n lookups; an unlinked inode goes when none is left. */
void view_forget(struct view *v, uint64_t ino, uint64_t n);
/*
 * Drop every inode without a name (after a load: nobody has one open). What only a far source knows
 * stays for the next time.
 */
MUST_CHECK int view_drop_orphans(struct view *v);
/* The same of those that `keep` does not say true of; called under the view's lock. */
typedef bool (*view_keep_fn)(void *arg, uint64_t ino);
MUST_CHECK int view_drop_orphans_but(struct view *v, view_keep_fn keep, void *arg);

typedef int (*view_dirent_fn)(void *arg, uint64_t cookie, const struct dirent_rec *e);
/*
 * Entries after `cookie`, without "." and "..". A non-zero result of fn ends
 * the walk, without an error.
 */
MUST_CHECK int view_readdir(struct view *v, uint64_t dir, uint64_t cookie, view_dirent_fn fn,
			    void *arg);

/* --- attributes (view_attr.c) --- */
#define VIEW_SET_MODE (1u << 0)
#define VIEW_SET_UID (1u << 1)
#define VIEW_SET_GID (1u << 2)
#define VIEW_SET_SIZE (1u << 3)
#define VIEW_SET_ATIME (1u << 4)
#define VIEW_SET_MTIME (1u << 5)
#define VIEW_KILL_SUIDGID (1u << 6)
#define VIEW_KILL_SGID (1u << 7) /* as VIEW_WRITE_KILL_SGID */
struct view_setattr {
	unsigned valid; /* VIEW_SET_* */
	uint32_t mode, uid, gid;
	uint64_t size;
	struct timespec atime, mtime;
};
MUST_CHECK int view_getattr(struct view *v, uint64_t ino, struct view_attr *out);
MUST_CHECK int view_setattr(struct view *v, uint64_t ino, const struct view_setattr *set,
			    struct view_attr *out);
MUST_CHECK int view_readlink(struct view *v, uint64_t ino, struct buf *out);
MUST_CHECK int view_getxattr(struct view *v, uint64_t ino, const char *name, struct buf *out);
/*
 * Names, each with its NUL; trusted.* only if privileged; -E2BIG for more than 64 KiB. What Linux
 * cannot show of such a file (store/tree/xattr.h, a malformed ACL) is neither listed nor found.
 */
MUST_CHECK int view_listxattr(struct view *v, uint64_t ino, bool privileged, struct buf *out);
MUST_CHECK int view_setxattr(struct view *v, uint64_t ino, const char *name, const void *value,
			     size_t size, int flags, bool kill_sgid);
MUST_CHECK int view_removexattr(struct view *v, uint64_t ino, const char *name);

/* --- data (view_data.c, view_read.c) --- */
/*
 * Every byte is one that the file had there at some time during the call; beside a write the bytes
 * may be of different times. Short only at the end of the file.
 */
MUST_CHECK int64_t view_read(struct view *v, uint64_t ino, uint64_t off, void *out, size_t len);
#define VIEW_WRITE_CACHED (1u << 0)    /* from a mapping's pages, not from a system call */
#define VIEW_WRITE_KILL (1u << 1)      /* clear setuid, and setgid if the group may execute */
#define VIEW_WRITE_KILL_SGID (1u << 2) /* with it: any setgid; caller not in the group */
MUST_CHECK int64_t view_write(struct view *v, uint64_t ino, uint64_t off, const void *data,
			      size_t len, unsigned flags);
/* mode: FALLOC_FL_*. kill: 0, or VIEW_WRITE_KILL and VIEW_WRITE_KILL_SGID. */
MUST_CHECK int view_fallocate(struct view *v, uint64_t ino, int mode, uint64_t off, uint64_t len,
			      unsigned kill);
MUST_CHECK int64_t view_seek(struct view *v, uint64_t ino, uint64_t off, int whence);
MUST_CHECK int view_statfs(struct view *v, struct statvfs *out);
/* Make everything that returned so far survive a power cut. */
MUST_CHECK int view_sync(struct view *v);
/* Note that a record was logged on which all that comes after it in the journal depends. */
static inline void view_note_record(struct view *v)
{
	atomic_fetch_add(&v->records, 1);
}

/* --- for cache mode `shared` (view_shared.c) --- */
struct view_base_file {
	struct tree_fs base; /* as of then; always set */
	uint64_t size;
	bool has_name;
};
/* 1 if the inode is a regular file whose whole content is the base's; 0 if not; or a failure. */
MUST_CHECK int view_base_file(struct view *v, uint64_t ino, struct view_base_file *out);
/* Append every name of the inode: u64 directory (little-endian), u8 length, the bytes. */
MUST_CHECK int view_names(struct view *v, uint64_t ino, struct buf *out);

/* A piece of a file in effect. */
enum piece_kind { PIECE_HOLE, PIECE_STAGED, PIECE_CHUNK, PIECE_INLINE };
struct piece {
	enum piece_kind kind;
	uint64_t off, len;  /* in the file */
	uint64_t pos;	    /* STAGED: in the staging file */
	uint32_t chunk_off; /* CHUNK: first byte used; INLINE: data points at it */
	struct digest digest;
	const uint8_t *data; /* INLINE: lives during the call */
};
typedef int (*piece_fn)(void *arg, const struct piece *p);
/* The pieces of [from, to), in order, without gaps, as seen from layer `depth`
 * (0 all, 1 below the current epoch, 2 the base alone). Stripe held. */
MUST_CHECK int view_pieces_locked(struct view *v, unsigned depth, uint64_t ino, uint64_t from,
				  uint64_t to, piece_fn fn, void *arg);
/* Gets a chunk in the place where it is called: the stripe is held, or the piece's layers stay. */
MUST_CHECK int view_read_piece(struct view *v, const struct piece *p, uint64_t off, void *out,
			       size_t len);
/* Inodes made since the base that still exist, with or without a name. layers held. */
uint64_t view_new_inodes(struct view *v);
/* quota_bytes, and what a backup has cost since the last checkpoint; 0: none. Locked. */
uint64_t view_quota(const struct view *v);
/* For view_attr.c: truncate inside a transaction; *rec is updated. */
void view_truncate_tx(struct view *v, struct upper_tx *tx, struct unode *u, struct inode_rec *rec,
		      uint64_t size);
struct timespec view_now(void);
/*
 * upper_tx_end ends it. The quota limits it. An operation that deletes sets
 * tx->unlimited, so that a full mount can be emptied.
 */
void view_tx_begin(struct view *v, struct upper_tx *tx);

#endif
