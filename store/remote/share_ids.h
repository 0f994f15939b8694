/*
 * share_ids.h - which local snapshot is which one in a bucket: records of the store, by the
 * bucket's uuid, so that they outlive a remote's name.
 *
 * META_SHARED "UUID/to/LOCAL" -> 32 hex digits; "UUID/from/REMOTE" -> the local id. A pair says
 * that both have one tree. One whose local snapshot was deleted says nothing and goes when it is
 * met.
 *
 * What was published there (publish.h): "UUID/name/LOCAL" -> the name that was set for a snapshot,
 * "UUID/image/KEY" -> the local snapshot that was made the image of a key.
 */
#ifndef VARVE_SHARE_IDS_H
#define VARVE_SHARE_IDS_H

#include "store/base/macros.h"
#include "store/kv/kv.h"
#include "store/names/snapshot.h"
#include "store/layout/share_key.h"

/* Into the caller's batch, with the record of the snapshot. -ENOMEM. */
MUST_CHECK int share_ids_put(struct kv *kv, struct kv_batch *b, const char *uuid, const char *local,
			     const struct share_id *remote);
/* 0, -ENOENT or -EIO. */
MUST_CHECK int share_ids_to(struct kv *kv, const char *uuid, const char *local,
			    struct share_id *out);
MUST_CHECK int share_ids_from(struct kv *kv, const char *uuid, const struct share_id *remote,
			      char out_local[SNAPSHOT_ID_SIZE]);
/* Forget a pair. */
MUST_CHECK int share_ids_drop(struct kv *kv, const char *uuid, const char *local,
			      const struct share_id *remote);
/* Each pair of a bucket, in no order. A non-zero result of fn ends it. */
typedef int (*share_ids_fn)(void *arg, const char *local, const struct share_id *remote);
MUST_CHECK int share_ids_each(struct kv *kv, const char *uuid, share_ids_fn fn, void *arg);

enum share_note {
	SHARE_NOTE_NAME,
	SHARE_NOTE_IMAGE,
};
#define SHARE_NOTE_SIZE (SNAPSHOT_NAME_MAX + 1)
/* Of a local id, or of a key. 0, -ENOENT, -EIO, -EBADMSG. */
MUST_CHECK int share_note_get(struct kv *kv, const char *uuid, enum share_note kind,
			      const char *subject, char out[SHARE_NOTE_SIZE]);
MUST_CHECK int share_note_put(struct kv *kv, const char *uuid, enum share_note kind,
			      const char *subject, const char *value);
MUST_CHECK int share_note_drop(struct kv *kv, const char *uuid, enum share_note kind,
			       const char *subject);
/* Each; fn may drop it. A non-zero result of fn ends it. */
typedef int (*share_note_fn)(void *arg, const char *subject, const char *value);
MUST_CHECK int share_note_each(struct kv *kv, const char *uuid, enum share_note kind,
			       share_note_fn fn, void *arg);

#endif
