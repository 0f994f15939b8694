/*
 * sandbox_record.h - what is kept of sandboxes, their checkpoints and patches,
 * and its JSON in the meta family. Pure but for the writing itself.
 *
 * Keys: "sandbox/ID", "checkpoint/SNAPSHOT-ID", "checkpointing/ID" (of a sandbox),
 * "patch/SNAPSHOT-ID/PATCH-ID".
 *
 * Records, version 1; what is empty may be absent:
 *   sandbox     {"version", "id", "status": "running", "stopped" or "failed",
 *               "idle" (true: stopped, and started again by the next call),
 *               "reason", "mount", "snapshot", "snapshotName", "contentHash",
 *               "template", "startedAtMs", "endedAtMs", "timeout" (seconds),
 *               "memoryMB", "diskMB", "cpus", "sharedCache", "envs", "metadata", "config" (of
 *               the image: Env, WorkingDir, User)}
 *   checkpoint  {"version", "id", "sandbox", "name", "sequence", "createdAtMs",
 *               "memoryMB", "diskMB", "cpus", "sharedCache", "envs", "template"}
 *   patch       {"version", "id", "snapshot", "sequence", "createdAtMs",
 *               "script", "description"}
 *
 * Records are written without a sync: they survive any end of the daemon; a
 * power cut may lose those of the last moments, with the mounts that they name.
 */
#ifndef VARVE_SNAPSHOTD_SANDBOX_RECORD_H
#define VARVE_SNAPSHOTD_SANDBOX_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/kv/meta.h"
#include "store/names/snapshot.h"

#define SANDBOX_ID_SIZE 20 /* "sb-" and 16 lower-case hex digits */
#define CHECKPOINT_NAME_MAX 128

enum sandbox_status { SANDBOX_RUNNING, SANDBOX_STOPPED, SANDBOX_FAILED };
extern const char *const sandbox_status_names[];

/* What a sandbox is given; a checkpoint hands it on to those made from it. */
struct sandbox_config {
	char template_id[SNAPSHOT_NAME_MAX + 1]; /* "" for none */
	uint64_t memory_mb, disk_mb;		 /* disk_mb 0: no quota */
	double cpus;				 /* 0: no limit */
	bool shared_cache;			 /* its mount's cache mode */
	json_t *envs;				 /* owned object of strings, or NULL */
};

/* -EINVAL, with a reason, where one is of a version that this program does not know. */
MUST_CHECK int sandbox_records_check(struct kv *kv, struct error *err);

struct sandbox_record {
	char id[SANDBOX_ID_SIZE];
	enum sandbox_status status;
	bool idle;	  /* stopped because nobody used it: the next call starts it again */
	char reason[256]; /* why it does not run */
	char mount_id[SNAPSHOT_ID_SIZE];
	char snapshot_id[SNAPSHOT_ID_SIZE]; /* that it was made from or restored to */
	char snapshot_name[SNAPSHOT_NAME_MAX + 1];
	char content_hash[DIGEST_HEX_SIZE];
	int64_t started_at_ms, ended_at_ms; /* ended: 0 while it runs */
	uint64_t timeout_s;
	struct sandbox_config config;
	json_t *metadata; /* owned object or NULL */
	json_t *image;	  /* owned: OCI config object or NULL */
};

struct checkpoint_record {
	char id[SNAPSHOT_ID_SIZE]; /* of the snapshot */
	char sandbox_id[SANDBOX_ID_SIZE];
	char name[CHECKPOINT_NAME_MAX + 1];
	uint64_t sequence; /* grows with every checkpoint of the daemon */
	int64_t created_at_ms;
	struct sandbox_config config;
};

struct patch_record {
	char id[SNAPSHOT_ID_SIZE];
	char snapshot_id[SNAPSHOT_ID_SIZE];
	uint64_t sequence; /* from 1; the order of running */
	int64_t created_at_ms;
	char *script, *description; /* owned */
};

void sandbox_config_fini(struct sandbox_config *c);
/* A reference to the same envs. */
void sandbox_config_copy(struct sandbox_config *to, const struct sandbox_config *from);
void sandbox_record_fini(struct sandbox_record *r);
void checkpoint_record_fini(struct checkpoint_record *r);
void patch_record_fini(struct patch_record *r);

/* Malloc'd JSON text. -ENOMEM. */
MUST_CHECK int sandbox_record_encode(const struct sandbox_record *r, char **out);
MUST_CHECK int checkpoint_record_encode(const struct checkpoint_record *r, char **out);
MUST_CHECK int patch_record_encode(const struct patch_record *r, char **out);
/* -EBADMSG where it is none, or names what cannot be; -ENOMEM. */
MUST_CHECK int sandbox_record_decode(const void *text, size_t len, struct sandbox_record *out);
MUST_CHECK int checkpoint_record_decode(const void *text, size_t len,
					struct checkpoint_record *out);
MUST_CHECK int patch_record_decode(const void *text, size_t len, struct patch_record *out);

/* A new random id. */
void sandbox_id_random(char out[SANDBOX_ID_SIZE]);
/* The one that stands for a UUID. */
void sandbox_id_of(const char uuid[SNAPSHOT_ID_SIZE], char out[SANDBOX_ID_SIZE]);
bool sandbox_id_is_valid(const char *s);
/* 0 or -EINVAL with why: 1..128 bytes of UTF-8 without control characters. */
MUST_CHECK int checkpoint_name_check(const char *name, struct error *err);
/* 0 or -EINVAL: an object of strings whose names are not empty and have no '='. */
MUST_CHECK int envs_check(const json_t *envs, struct error *err);

/* Write a record; json is taken. As meta_put. */
MUST_CHECK int record_put(struct kv *kv, enum meta_kind kind, const char *id, char *json,
			  enum kv_durability d);

#endif
