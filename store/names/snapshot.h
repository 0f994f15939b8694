/*
 * snapshot.h - snapshot records and their names, kept in the meta family.
 *
 * Keys: "snapshot/ID" -> JSON record; "name/NAME" -> ID. IDs are random UUIDs
 * (lower-case text). Several writers are serialised inside; every change is one
 * synced batch, and chunk and node are flushed before a record that names a
 * root is written (the write rule in store/README.md).
 *
 * Record, version 1: {"version": 1, "id", "name", "status": "building", "ready" or
 * "failed", "root": hex (absent without one), "parent", "source", "mount",
 * "contentHash", "buildID", "createdAtMs", "lastUsedAtMs", "pinned", "ttlSeconds",
 * "sizeBytes", "newBytes", "fileCount", "error", "config": object (absent without
 * one), "takes"}. Empty strings may be absent.
 */
#ifndef VARVE_SNAPSHOT_H
#define VARVE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/hash.h"
#include "store/kv/kv.h"

#ifndef SNAPSHOT_RECORD_VERSION
#define SNAPSHOT_RECORD_VERSION 1
#endif
#define SNAPSHOT_ID_SIZE 37
#define SNAPSHOT_NAME_MAX 128

enum snapshot_status { SNAPSHOT_BUILDING, SNAPSHOT_READY, SNAPSHOT_FAILED };

struct snapshot {
	char id[SNAPSHOT_ID_SIZE];
	char name[SNAPSHOT_NAME_MAX + 1]; /* "" if unnamed */
	enum snapshot_status status;
	bool has_root; /* false while building or failed */
	struct digest root;
	char parent[SNAPSHOT_ID_SIZE];	    /* "" for none; may have been deleted */
	char source[64];		    /* "dir", "tar", "oci", "checkpoint", ... */
	char mount_id[SNAPSHOT_ID_SIZE];    /* the mount a checkpoint is of, or "" */
	char content_hash[DIGEST_HEX_SIZE]; /* cache key of the manifest it was built from, or "" */
	char build_id[SNAPSHOT_ID_SIZE];    /* the build that made it, or "" */
	int64_t created_at_ms;		    /* Unix time */
	int64_t last_used_at_ms;
	bool pinned;
	int64_t ttl_seconds; /* 0: none; unpinned snapshots unused for longer are removed by gc */
	uint64_t size_bytes; /* logical: sum of regular files */
	uint64_t new_bytes;  /* stored by it: frames that were not there before */
	uint64_t file_count; /* inodes */
	char error[512];     /* SNAPSHOT_FAILED: why */
	json_t *config;	     /* owned; OCI image config (object) or NULL */
	char takes[SNAPSHOT_NAME_MAX + 1]; /* until it has it: the name it is to take, or "" */
};
void snapshot_fini(struct snapshot *s); /* drops config */

struct snapshots; /* the table; part of a store */
struct snapshots *snapshots_new(struct kv *kv);
void snapshots_free(struct snapshots *ss);

/* 0 or -EINVAL with why: 1..128 of [A-Za-z0-9._-], the first alphanumeric. */
MUST_CHECK int snapshot_name_check(const char *name, struct error *err);

/*
 * Fill s->id and created_at if empty and write the record, with its name.
 * -EEXIST if another snapshot has the name. `also` (may be NULL) is written in
 * the same atomic batch; the record is added to it, so the caller must not
 * write it again. A record of the same id is replaced.
 */
MUST_CHECK int snapshots_put(struct snapshots *ss, struct snapshot *s, struct kv_batch *also,
			     struct error *err);
/*
 * Change a record that exists: fn alters what was read (not the id), and the
 * result is written as by snapshots_put, with nothing in between, so a rename
 * or pin made meanwhile is kept. fn must not call back into ss; the snapshot
 * owns and drops what fn sets as config. *out (may be NULL) gets the new state:
 * snapshot_fini. -ENOENT if the record has been deleted.
 */
typedef void (*snapshot_change_fn)(void *arg, struct snapshot *s);
MUST_CHECK int snapshots_update(struct snapshots *ss, const char *id, snapshot_change_fn fn,
				void *arg, struct kv_batch *also, struct snapshot *out,
				struct error *err);
/* By name or id. -ENOENT, with the nearest name suggested in err. */
MUST_CHECK int snapshots_get(struct snapshots *ss, const char *name_or_id, struct snapshot *out,
			     struct error *err);
/* All, newest first; *out is malloc'd, each element to be fini'd: snapshots_list_free. */
MUST_CHECK int snapshots_list(struct snapshots *ss, struct snapshot **out, size_t *out_n,
			      struct error *err);
void snapshots_list_free(struct snapshot *list, size_t n);
/*
 * Call fn for each, newest first, with one record in memory at a time. One that
 * is deleted meanwhile may be left out. A non-zero result of fn ends the walk
 * and is returned.
 */
typedef int (*snapshot_fn)(void *arg, const struct snapshot *s);
MUST_CHECK int snapshots_each(struct snapshots *ss, snapshot_fn fn, void *arg, struct error *err);
/* Those being built, or with a name to take, in the order of ids; cheap if they are few of many. */
MUST_CHECK int snapshots_each_unfinished(struct snapshots *ss, snapshot_fn fn, void *arg,
					 struct error *err);
/* Atomic; -ENOENT, -EEXIST, -EINVAL. */
MUST_CHECK int snapshots_rename(struct snapshots *ss, const char *name_or_id, const char *new_name,
				struct error *err);
/*
 * The same, but a snapshot that already has the name is deleted in the same
 * batch, so at any moment one of the two has it. -EBUSY if that one is pinned
 * or still being built.
 */
MUST_CHECK int snapshots_replace(struct snapshots *ss, const char *name_or_id, const char *name,
				 struct error *err);
/*
 * Let the snapshot `id` have the name that the snapshot `from` gives up in the same batch; `from`
 * stays, without a name. -ENOENT; -EEXIST if `from` does not have that name any more.
 */
MUST_CHECK int snapshots_move_name(struct snapshots *ss, const char *id, const char *from,
				   const char *name, struct error *err);
/* -ENOENT, -EBUSY if pinned. */
MUST_CHECK int snapshots_delete(struct snapshots *ss, const char *name_or_id, struct error *err);
MUST_CHECK int snapshots_pin(struct snapshots *ss, const char *name_or_id, bool pinned,
			     int64_t ttl_seconds, struct error *err);
/* last_used_at = now; not synced. */
MUST_CHECK int snapshots_touch(struct snapshots *ss, const char *id);
/*
 * The most garbage that deletions and unfinished snapshots can have left since
 * the store was opened: what deleted snapshots had stored when they were made,
 * at least a byte each, plus what snapshots_note_garbage was told.
 */
uint64_t snapshots_deleted_bytes(struct snapshots *ss);
/* Note that so many bytes were stored for a snapshot that was never made. */
void snapshots_note_garbage(struct snapshots *ss, uint64_t bytes);
/*
 * Delete every snapshot that has a ttl, is neither pinned nor building, and has
 * been unused for longer than its ttl at now_ms. *out_count: how many.
 */
MUST_CHECK int snapshots_expire(struct snapshots *ss, int64_t now_ms, uint64_t *out_count,
				struct error *err);
/* Whether that would delete it. */
bool snapshot_is_expired(const struct snapshot *s, int64_t now_ms);
/* From s towards its oldest known ancestor: s first. */
MUST_CHECK int snapshots_history(struct snapshots *ss, const char *name_or_id,
				 struct snapshot **out, size_t *out_n, struct error *err);
/* The same, one record at a time, as snapshots_each. */
MUST_CHECK int snapshots_history_each(struct snapshots *ss, const char *name_or_id, snapshot_fn fn,
				      void *arg, struct error *err);

/* The API's SnapshotInfo object (a new reference), with root, parent, sizeBytes, ... */
json_t *snapshot_to_json(const struct snapshot *s);

void id_random(char out[SNAPSHOT_ID_SIZE]); /* UUID version 4 */
/* ISO 8601, UTC, milliseconds: "2024-01-31T23:59:59.999Z". */
#define TIME_TEXT_SIZE 40
void time_to_text(int64_t ms, char out[TIME_TEXT_SIZE]);

#endif
