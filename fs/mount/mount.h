/*
 * mount.h - one live copy-on-write filesystem: an immutable base tree, a
 * mutable upper, and a FUSE superblock that shows upper over base.
 *
 * A mount has a record in the meta family ("mount/ID", JSON) that outlives the
 * daemon: detached (unmounted, upper kept) or attached. Every function may be
 * called from any thread; calls on one mount that change its state
 * (checkpoint, detach, discard) are serialised inside.
 */
#ifndef VARVE_FS_MOUNT_H
#define VARVE_FS_MOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "store/diff/fsdiff.h"
#include "store/base/progress.h"
#include "store/store.h"

struct session_pool;

enum mount_cache { MOUNT_CACHE_PRIVATE, MOUNT_CACHE_SHARED };

struct mount_options {
	const char *mountpoint; /* absolute; an existing directory */
	int place_fd;		/* the same, open, where its path leads to a wait; 0: none */
	const char *fsname;	/* source shown in /proc/mounts; NULL: the snapshot's name */
	bool read_only;
	bool is_volatile; /* fsync does nothing */
	enum mount_cache cache;
	bool allow_dev, allow_suid, no_exec;
	/*
	 * For a container's root: the directories /proc, /sys and /dev, and the files
	 * resolv.conf, hosts and hostname of what /etc leads to, can be mounted upon and
	 * leave nothing in checkpoints, where they are missing or something else (a
	 * symlink, say). They are in no listing and cannot be made or written.
	 */
	bool container_root;
	uint64_t quota_inodes; /* that may be made since then; 0: no limit */
	uint64_t quota_bytes;  /* of data and metadata since the last checkpoint; 0: none */
};

/* What may be another each time that a mount is attached. */
struct mount_limits {
	uint64_t quota_bytes, quota_inodes; /* as in mount_options */
	bool allow_dev, allow_suid, no_exec;
};

struct mount_info {
	char id[SNAPSHOT_ID_SIZE];
	char snapshot_id[SNAPSHOT_ID_SIZE]; /* last snapshot it is based on (checkpoints move it) */
	char snapshot_name[SNAPSHOT_NAME_MAX + 1];
	char mountpoint[4096];
	bool attached; /* at its place */
	/* No more, but others have it by open files, a bind mount or in another namespace. */
	bool held;
	bool kept; /* it goes on when this process dies (fs/host/keeper.h) */
	bool read_only, is_volatile;
	enum mount_cache cache;
	struct mount_limits limits;
	int64_t created_at_ms;
	int64_t detached_at_ms;	 /* 0: it is attached, or will be at the next start */
	struct digest base;	 /* root of the base tree */
	uint64_t changed_inodes; /* inodes with a record in the upper */
	uint64_t upper_bytes;	 /* file data held by the upper */
	uint64_t meta_bytes;	 /* what the rest of it counts for, see fs/upper/upper.h */
	uint64_t new_inodes;	 /* of those that quota_inodes limits */
	/*
	 * Writes refused so far for the quota or a full disk: a program that writes
	 * through a mapping and does not ask msync or fsync misses that.
	 */
	uint64_t no_space;
	/* Opens of files so far that other mounts share, and others; cache mode `shared`. */
	uint64_t shared_opens, other_opens;
	uint64_t epoch;
	bool sealing; /* a checkpoint is being sealed */
	/* Of the last checkpoint since the daemon's start; see mount_last_pause_ns. */
	uint64_t last_pause_ns, last_frozen_ns;
};

struct mount;

/* Make a mount of a ready snapshot and attach it. -EINVAL, -ENOENT, -EBUSY ... */
MUST_CHECK int mount_create(struct store *s, struct session_pool *sp, const struct snapshot *snap,
			    const struct mount_options *opt, struct mount **out, struct error *err);

/*
 * Before anything of the store is changed: -EINVAL, with a reason, where a journal or the record of
 * a mount is of a version that this program does not know.
 */
MUST_CHECK int mount_check_formats(struct store *s, struct error *err);

/*
 * After a restart, and mount_check_formats: load every "mount/ID" record. Finishes or redoes what a
 * crash interrupted (checkpoints, discards), removes uppers of no mount.
 * Mounts that were attached are attached again at their places, those that others
 * have their places in first (a stale FUSE mount there is unmounted before). Those at automount
 * points become detached: whoever uses one has it attached. One
 * that cannot be is left detached with a log line, and tried again at the next
 * start. *out: malloc'd array of all mounts, detached ones included.
 */
MUST_CHECK int mount_load_all(struct store *s, struct session_pool *sp, struct mount ***out,
			      size_t *out_n, struct error *err);

/*
 * Attach a mount that is not at a place, at `mountpoint` or (NULL) where it was. One
 * that others still hold goes on for them as well. On failure nothing has changed.
 */
MUST_CHECK int mount_attach(struct mount *m, const char *mountpoint, struct error *err);
/*
 * The same with other limits (NULL: as they were), or upon an open directory (0: none), that of
 * `mountpoint`: an automount point, which waits for this.
 */
MUST_CHECK int mount_attach_upon(struct mount *m, const char *mountpoint, int place_fd,
				 const struct mount_limits *limits, struct error *err);

enum mount_detach_how {
	MOUNT_GENTLY, /* -EBUSY where files are open */
	MOUNT_LAZILY, /* whoever is inside stays until he leaves (MNT_DETACH) */
	MOUNT_FORCED, /* he is cut off, when what he has written is safe: -ENOTCONN from then on */
};
enum mount_detach_reason {
	MOUNT_DETACH, /* it stays, with what it holds */
	/* It is to be discarded next: a power cut may already take what it holds. */
	MOUNT_DETACH_DISCARD,
};
/*
 * Unmount it from its place - it alone: -EEXIST where others have mounted something
 * over it - and sync but for MOUNT_DETACH_DISCARD. Others may hold it afterwards
 * (mount_info.held). One that was held before is -EBUSY with who holds it, or cut
 * off if forced.
 */
MUST_CHECK int mount_detach(struct mount *m, enum mount_detach_how how,
			    enum mount_detach_reason why, struct error *err);
/*
 * End it for whoever still has it, by an open file or in another mount namespace (a
 * runtime that starts a container copies all mounts); they get -ENOTCONN. What they
 * have written and not synced may be lost.
 */
void mount_cut_off(struct mount *m);
struct mountinfo;
/* Others may have unmounted it from its place while somebody holds it: notes that. */
void mount_note_place(struct mount *m, const struct mountinfo *mi);
/* Who holds it, for people: "a bind mount at /b". Slow: looks at all processes. */
void mount_describe_holders(struct mount *m, char *out, size_t size);
/* Delete a detached mount with its upper and record, and free m. -EBUSY: see mount_detach. */
MUST_CHECK int mount_discard(struct mount *m, struct error *err);
/* How deep a path is: whatever is mounted below it is deeper. */
unsigned mountpoint_depth(const char *mountpoint);

/*
 * The daemon is about to end: whoever unmounts it from now on, the next daemon
 * attaches it again if it is attached now. With a mount it loses those inside it.
 */
void mount_keep_attached(struct mount *m);
/*
 * The daemon ends: detach if needed (lazily), keep everything on disk, free m. What
 * others have mounted over it stays. NULL is accepted.
 */
void mount_close(struct mount *m);

void mount_get_info(struct mount *m, struct mount_info *out);
/* "2024-01-31T12:00:00.000Z", of milliseconds since 1970. */
#define MOUNT_TIME_SIZE 96
void mount_time_text(int64_t ms, char out[MOUNT_TIME_SIZE]);
json_t *mount_info_to_json(const struct mount_info *i);

/*
 * Take a checkpoint under `name` ("" or NULL: unnamed). Returns when the swap
 * is done, with the record, status "building"; sealing goes on in the
 * background and ends with status ready or failed. For an unchanged mount the
 * record is ready at once. A second checkpoint waits for the first to seal.
 * freeze_cgroup: a cgroup's directory (v2, or v1's freezer) to freeze from a second
 * flush to the swap, or NULL. It is frozen for 5 s at a time at most, and twice;
 * -ETIMEDOUT where the flush takes longer.
 * -EEXIST (name taken), -ENOTCONN (detached), -EIO. Works detached as well.
 */
MUST_CHECK int mount_checkpoint(struct mount *m, const char *name, const char *freeze_cgroup,
				struct snapshot *out, struct error *err);
/* The same; id: for the snapshot, that none has (id_random). */
MUST_CHECK int mount_checkpoint_as(struct mount *m, const char *id, const char *name,
				   const char *freeze_cgroup, struct snapshot *out,
				   struct error *err);
/* Wait until no checkpoint is being sealed; the last one's result (0 or -errno). */
MUST_CHECK int mount_wait_sealed(struct mount *m, struct error *err);
/* Nanoseconds that operations were held up in the last checkpoint's swap. */
uint64_t mount_last_pause_ns(struct mount *m);
/* Nanoseconds that processes stood still for the last checkpoint; 0 without a cgroup. */
uint64_t mount_last_frozen_ns(struct mount *m);

/*
 * Say that a record was logged (KV_LOG) without which what is in the mount is lost: the next
 * fsync in it makes the record survive a power cut, too.
 */
void mount_note_record(struct mount *m);

/*
 * What the upper has changed against the base. Flushes first. fn is called when no
 * lock is held any more, so it may wait.
 */
MUST_CHECK int mount_diff(struct mount *m, fsdiff_fn fn, void *arg, struct error *err);

#endif
