/*
 * sandboxes_internal.h - what the files of sandboxes share; for nobody else. A file calls only
 * those that stand before it:
 *   sandboxes.c             the entity and its table, on async_exec.c and sandbox_record.c
 *   kept_exec.c             the end of a program that outlives the daemon
 *   sandbox_life.c          its place, mount and container; killing, restoring
 *   sandbox_idle.c          its rest while nobody uses it
 *   sandbox_enter.c         being used
 *   sandbox_json.c          as the API shows it
 *   sandbox_exec.c          programs
 *   sandbox_patches.c       scripts for what is made from a snapshot
 *   sandbox_checkpoints.c   snapshots of it
 *   sandbox_create.c        making one
 *   sandbox_load.c          coming back after a restart
 *   sandboxes_open.c        all of them: opening, the reaper, closing
 *
 * Locks, in the order in which they are taken: sandbox.change, then either
 * sandboxes.lock or sandbox.lock, never both; last the lock of async_exec.c.
 * Containers are started and stopped, and mounts made, under `change` alone, which is
 * one sandbox's. patch_lock and the checkpoints' lock are held with none of these.
 */
#ifndef VARVE_SNAPSHOTD_SANDBOXES_INTERNAL_H
#define VARVE_SNAPSHOTD_SANDBOXES_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "snapshotd/sandbox/async_exec.h"
#include "snapshotd/sandbox/sandboxes.h"
#include "store/base/clock.h"

struct checkpoints;

struct sandbox {
	struct sandboxes *owner;
	char id[SANDBOX_ID_SIZE];
	struct image_config image; /* constant, as the next */
	struct async_execs *execs; /* owned */

	TAILQ_ENTRY(sandbox) link; /* guarded by owner->lock, as the next two */
	unsigned users;		   /* the table is one */
	bool listed;

	pthread_mutex_t change; /* held by who changes what it is */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* one of the fields below */
	/* Guarded by lock; all but inside and used_ms are written under change too. */
	struct sandbox_record rec;   /* id, config, metadata, image: constant once listed */
	struct mount_entry *mount;   /* in use by us; NULL where there is none */
	struct container *container; /* NULL while it does not run */
	unsigned inside;	     /* between sandbox_enter and sandbox_leave */
	bool closing;		     /* the container is about to go, or not there yet */
	bool gone;		     /* killed */
	int64_t used_ms;	     /* CLOCK_MONOTONIC */
};
TAILQ_HEAD(sandbox_list, sandbox);

struct sandboxes {
	struct store *store;
	struct mounts *mounts;
	struct runtime *runtime;
	struct keeper *keeper;
	bool network_none, shared_cache;
	uint64_t disk_mb, inodes, keep_s, cpu_shares;
	unsigned checkpoint_limit, patch_limit; /* 0: none */
	struct budget *output;
	char *dir; /* DIR/sandboxes, symlinks resolved */
	struct checkpoints *checkpoints;

	pthread_mutex_t patch_lock; /* held over a change of patches */

	atomic_bool stopping;
	pthread_t reaper;
	bool has_reaper;
	struct pool *starters; /* of those that come back */

	pthread_mutex_t lock;
	pthread_cond_t changed;	  /* a sandbox's users, or stopping */
	struct sandbox_list list; /* guarded by lock, newest first; as the next */
	size_t n;
};

/* ---- sandboxes.c ---- */

/* In no table; the caller is its only user. Takes rec over in any case. NULL with err. */
struct sandbox *sandbox_new(struct sandboxes *ss, struct sandbox_record *rec, struct error *err);
void sandbox_free(struct sandbox *sb);
/* The table is a user from here on. */
void sandbox_list(struct sandbox *sb);
/* False where it was not listed. The table's use becomes the caller's. */
bool sandbox_unlist(struct sandbox *sb);
void sandbox_hold(struct sandbox *sb);
bool sandboxes_has(struct sandboxes *ss, const char *id);
void sandbox_touch(struct sandbox *sb);
MUST_CHECK int sandbox_put_record(struct sandbox *sb);

/* ---- sandbox_life.c; change held ---- */

/* Start the container on the mount; clears closing. */
MUST_CHECK int sandbox_up(struct sandbox *sb, struct error *err);
/* Go on with the container that a predecessor of this daemon has left. False: there is none. */
MUST_CHECK bool sandbox_adopt(struct sandbox *sb);
/* Stop it, once nobody is inside. Leaves closing set. */
void sandbox_down(struct sandbox *sb);
/* Change the status and write the record; a failure of that is logged. reason may be NULL. */
int sandbox_set_status(struct sandbox *sb, enum sandbox_status status, const char *reason);
/* Unmount it; its changes are kept. */
MUST_CHECK int sandbox_detach(struct sandbox *sb, struct error *err);
/* Mount it where it is not, and start its container. Its status is the caller's. */
MUST_CHECK int sandbox_come_back(struct sandbox *sb, struct error *err);
/* As sandbox_kill. */
MUST_CHECK int sandbox_kill_locked(struct sandbox *sb, struct error *err);
/* Make the directory that it is mounted upon, or see that it is there. */
MUST_CHECK int sandbox_make_place(struct sandbox *sb, struct error *err);
void sandbox_remove_place(const struct sandboxes *ss, const char *id);
/* A new mount of the snapshot at its place, as its record says. */
MUST_CHECK int sandbox_mount_at_place(struct sandbox *sb, const struct snapshot *snap,
				      struct mount_entry **out, struct error *err);
/* Detach and delete a mount; what fails is logged and left to the next start. */
void sandbox_discard_mount(struct sandboxes *ss, struct mount_entry *e);

/* ---- sandbox_idle.c ---- */

/* change held: where its container has died by itself, it is stopped from now on. */
void sandbox_note_death(struct sandbox *sb);
/* Start it again where it was stopped because nobody used it; else nothing. No lock held. */
MUST_CHECK int sandbox_wake(struct sandbox *sb, struct error *err);
/* When it will be removed, left alone (clock_ms); 0: never, or it runs. lock held. */
int64_t sandbox_removal_ms_locked(const struct sandbox *sb);
/*
 * From the reaper: note that its container has died, stop it where nobody has
 * used it for its timeout, remove it where it has been stopped for long enough.
 */
void sandbox_tend(struct sandbox *sb);

/* ---- sandbox_load.c ---- */

MUST_CHECK int sandboxes_load(struct sandboxes *ss, struct error *err);

#endif
