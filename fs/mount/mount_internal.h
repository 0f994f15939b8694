/*
 * mount_internal.h - shared by the mount_*.c files.
 *
 * What must be on disk before what, in a state directory, and who sees to it:
 *   the names FORMAT, db, staging, journal  before anything below them   store_open
 *   FORMAT 3               before a journal of version 2    mount_new
 *   a mount's record       before an fsync in it returns    view_sync
 *   staged data            before the journal calls it synced, or drops what it has
 *                          logged of it, the file's name with it   journal_sync_data
 *   the journal            before what it says is dead is punched   staging_reclaim
 *   a segment's changes, in the database's synced log, before its place is written
 *                          again   journal_apply
 *   a change of epoch      before operations of the epoch it begins: both are in the
 *                          journal, in this order   begin_epoch
 *   chunks and nodes, which RocksDB does not log, before the record that names their
 *                          tree   kv_flush_content in adopt
 *   what is carried of open files, in journal and staging, before the epoch that had it
 *                          is deleted   adopt
 *   that deletion          before the epoch's staged data is punched   carry_punch_rest
 *   "discarding" in a record  before its changes and files go   mount_discard
 * Nothing needs an order in shared/, which every start empties, nor between a mount's
 * record and its journal: whichever is older, the other one is right.
 *
 * What mounts share, its bound, and what one mount can do to another by it:
 *   serving threads        4 a core, at least 8. A mount has half of them, of n busy ones each an
 *                          (n + 1)th, and a visit of 64 requests while others wait
 *                          (session_turns.c)
 *   syncs, seeks, opens    4 threads each; a mount has one, which takes all that it has queued.
 *                          Four mounts that wait for the disk delay a fifth: unlimited, the disk
 *                          is one. Of serving threads half may sync, one a mount (session.c)
 *   reading ahead          2 threads, 16 places. A mount has 4 places, and one thread while
 *                          others wait (ahead.h). What finds no place is not loaded ahead, no
 *                          more
 *   far content            16 threads at most, which wait for the far source; a mount has half of
 *                          the free ones, and 1,024 requests that wait. Requests that need
 *                          nothing from afar never wait for them (fuse/parked.h). A seal that
 *                          needs content from afar keeps its turn while it waits
 *   polling                one thread looks for requests without sleep, at one mount; it costs
 *                          the others a wake-up, and the guard calls others in after 2 ms
 *   drain                  waits for passes of threads that are with its own mount alone
 *   journal, staging       a file, a lock and a thread for each mount. Operations wait for the
 *                          database when both segments are full; a change of epoch never does
 *   database: log          one, synced for all who wait at once. A slow sync delays records of
 *                          all mounts. So nothing is written there while processes are frozen,
 *                          nor under a lock that a request or a listing waits for (mount.writing)
 *   database: buffers      64 MiB. An import or a seal waits before RocksDB would stall all
 *                          (see kv_throttle). A mount has one segment of 4 MiB under way: it is
 *                          not throttled
 *   snapshots' lock        held during a synced write. Whoever makes or changes a snapshot waits
 *                          for those before him, in no order; readers take none
 *   seals                  one for each core, at least 2, in the order of asking, one a mount; 16
 *                          places for chunks of big files (seal_turns.h)
 *   guard                  sessions wait for none. A key's stripe is held for one lookup
 *   chunk and node caches  8 and 32 shards, whose locks are held for a lookup. A mount that reads
 *                          much evicts others' chunks: it costs them decoding, bounded by the
 *                          cache
 *   shared files           one lock, 4096 jobs, one thread; none of a request waits for a job. A
 *                          mount that opens much fills the queue, or has the names forgotten:
 *                          others then have pages of their own for a time. Not limited for each
 *                          mount
 *   disk                   quotas, and a reserve for the daemon. Bandwidth is the cgroups'
 *                          (blkio), but that of the daemon's own writes for a mount is limited by
 *                          nothing
 *   processor              a sandbox has a cgroup, so its programs count as one among others.
 *                          What the daemon does for it counts as the daemon's
 *   log                    a write to standard error for each line, without a lock
 */
#ifndef VARVE_FS_MOUNT_INTERNAL_H
#define VARVE_FS_MOUNT_INTERNAL_H

#include <pthread.h>

#include "fs/mount/mount.h"
#include "fs/fuse/session.h"
#include "fs/view/view.h"

#ifndef MOUNT_RECORD_VERSION
#define MOUNT_RECORD_VERSION 1
#endif

/* What the record "mount/ID" says. */
struct mount_record {
	char id[SNAPSHOT_ID_SIZE];
	char snapshot_id[SNAPSHOT_ID_SIZE];
	char snapshot_name[SNAPSHOT_NAME_MAX + 1];
	struct digest base;
	char *mountpoint; /* owned */
	char *fsname;	  /* owned */
	bool read_only, is_volatile, container_root;
	enum mount_cache cache;
	struct mount_limits limits;
	int64_t created_at_ms;
	bool attached;				 /* to be attached again by the next daemon */
	int64_t detached_at_ms;			 /* since when it is not; 0: it is */
	bool discarding;			 /* its upper is being deleted */
	uint32_t epoch;				 /* the current one */
	uint32_t sealing_epoch;			 /* 0: none */
	uint64_t sealing_next_ino;		 /* of the mount, at the swap */
	char sealing_snapshot[SNAPSHOT_ID_SIZE]; /* what it will become; "" for none */
	char sealing_boot[JOURNAL_BOOT_TEXT];	 /* of the kernel, at the swap; "" not known */
};
void mount_record_fini(struct mount_record *r);
/* -EBADMSG. */
MUST_CHECK int mount_record_decode(const void *json, size_t len, struct mount_record *out);
/* Put the record and the pin of its base into b. -ENOMEM. */
MUST_CHECK int mount_record_put(struct store *s, struct kv_batch *b, const struct mount_record *r);
void mount_record_del(struct store *s, struct kv_batch *b, const char *id);
/* Set `attached`, and since when it is not. */
void mount_record_set_attached(struct mount_record *r, bool attached);
/* Write just the record. Where others know it, under mount.writing and not under mount.state. */
MUST_CHECK int mount_record_write(struct store *s, const struct mount_record *r,
				  enum kv_durability d);
/* The id as the upper's key prefix. */
MUST_CHECK int mount_id_bytes(const char *id, uint8_t out[UPPER_ID_SIZE]);

/*
 * Lock order: op, writing, then the view's, then state. on_end of a session takes only
 * writing and state. The record changes under both of these, so one is enough to read it;
 * it is written under `writing` alone, so nobody who asks how a mount is waits for a disk.
 */
struct mount {
	struct store *store;
	struct session_pool *pool;
	pthread_mutex_t op;	 /* one attach, detach, checkpoint or discard at a time */
	struct session *session; /* guarded by op */
	int place_fd;		 /* guarded by op: where it is about to be attached; 0: by path */

	pthread_mutex_t writing; /* held while the record is written */
	pthread_mutex_t state;	 /* guards what follows */
	pthread_cond_t seal_done;
	struct mount_record rec;
	/*
	 * served, placed: mounted. served alone: others hold what was unmounted from its
	 * place, by open files, a bind mount or in another mount namespace. Neither:
	 * detached. Never placed alone.
	 */
	bool served, placed;
	bool closing;	 /* the record's "attached" is not to be changed by the session's end */
	bool sealing;	 /* a thread is at it */
	int seal_result; /* of the last one: 0 or -errno, then the epoch is kept */
	char seal_error[256];
	bool has_seal_thread;
	pthread_t seal_thread;
	uint64_t last_pause_ns;
	_Atomic bool is_kept;		 /* of the session: session_is_kept */
	_Atomic uint64_t last_frozen_ns; /* from before the freeze to after the thaw; 0: none */
	uint64_t sealing_end; /* end of the staging file at the swap: the old epoch's is below */

	struct view view;
};

/* A mount with its record's contents taken over (also on failure freed); layers loaded. */
/* found NULL: it is fresh. */
struct mount_found {
	int fuse_fd; /* of its connection, which a former process has served; -1: none */
	struct session_waiting waiting;
};
MUST_CHECK int mount_new(struct store *s, struct session_pool *sp, struct mount_record *rec,
			 const struct mount_found *found, struct mount **out, struct error *err);
void mount_free(struct mount *m);
/* Begin to seal v->sealed in the background; op held or not yet shared. */
void mount_start_seal(struct mount *m);
/* The same with what a restart has interrupted, if anything; others may write meanwhile. */
void mount_resume_seal(struct mount *m);
/* Wait until nothing is being sealed. */
void mount_join_seal(struct mount *m);

/* --- mount_place.c --- */

/* op held: mount at rec.mountpoint and begin to serve, or go on if others hold it. */
MUST_CHECK int mount_attach_locked(struct mount *m, struct error *err);
/* Nobody else has it yet: go on with the connection. It is taken over if that succeeds. */
MUST_CHECK int mount_adopt(struct mount *m, const struct mount_found *found, struct error *err);
/* writing held: the record is now what `next` says. */
void mount_record_become(struct mount *m, const struct mount_record *next);
/* op held. Write dirty pages of the mount back; failures are logged. -ETIMEDOUT, which is not,
 * where writes have not ended after max_ms. */
int mount_flush(struct mount *m, unsigned max_ms);
MUST_CHECK int mount_check_place(const char *path, struct error *err);
/* op held: nobody has it, so that it can go. -EBUSY, and err says who does. */
MUST_CHECK int mount_check_free(struct mount *m, struct error *err);
/* No connection is up: no file is open, and the kernel knows no inode. */
void mount_nobody_is_inside(struct mount *m);

#endif
