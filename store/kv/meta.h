/*
 * meta.h - the records of the meta family: which kinds there are, and their keys.
 *
 * A key is the prefix of a kind and a name. The owner of a kind knows its values: it writes and
 * reads them, and tells versions apart. A new kind is one more line here and in meta.c.
 */
#ifndef VARVE_META_H
#define VARVE_META_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/macros.h"
#include "store/kv/kv.h"

enum meta_kind {
	META_SNAPSHOT,	    /* ID: JSON; store/names/snapshot.h */
	META_NAME,	    /* NAME: the id of its snapshot */
	META_DICT,	    /* NUMBER/COPY: a dictionary; store/chunk/dict.h */
	META_PIN_TREE,	    /* OWNER: a root in use; store/store.h */
	META_PIN_CHUNK,	    /* OWNER/DIGEST: empty */
	META_GC,	    /* cursor: where a sweep goes on; last: when one ended */
	META_MOUNT,	    /* ID: JSON; fs/mount */
	META_STATS,	    /* TIME: a sample; snapshotd/state/stats_history.h */
	META_BUILD,	    /* ID: JSON; snapshotd/build/builds.h */
	META_IMAGE,	    /* KEY: JSON; snapshotd/build/image_cache.h */
	META_IMAGE_STEP,    /* KEY: JSON */
	META_MANIFEST,	    /* KEY: JSON */
	META_SANDBOX,	    /* ID: JSON; snapshotd/sandbox/sandbox_record.h */
	META_CHECKPOINT,    /* SNAPSHOT: JSON */
	META_CHECKPOINTING, /* SANDBOX: JSON */
	META_PATCH,	    /* SNAPSHOT/ID: JSON */
	META_REMOTE,	    /* NAME: JSON; store/remote/remotes.h */
	META_SHARED,	    /* UUID/to/ID and others: store/remote/share_ids.h */
	META_IDEMPOTENCY,   /* KEY: JSON; snapshotd/state/idempotency.h */
	META_VERIFY,	    /* last: what a verification found; snapshotd/state/verified.h */
	META_KIND_COUNT
};

/* With its '/'. */
const char *meta_prefix(enum meta_kind kind);

/* Longest name, in bytes. Some come from clients: what is longer is no record's. */
#define META_NAME_MAX 400

struct meta_key {
	char text[META_NAME_MAX + 32];
	size_t len;
};

/* For a name of META_NAME_MAX bytes at most. */
struct meta_key meta_key(enum meta_kind kind, const char *name);

/* -ENOENT, -EIO; else *out is to be released. */
MUST_CHECK int meta_get(struct kv *kv, enum meta_kind kind, const char *name, struct kv_value *out);
/* 1, 0 or -EIO. */
MUST_CHECK int meta_has(struct kv *kv, enum meta_kind kind, const char *name);

/* -ENAMETOOLONG. */
MUST_CHECK int meta_batch_put(struct kv *kv, struct kv_batch *b, enum meta_kind kind,
			      const char *name, const void *value, size_t len);
MUST_CHECK int meta_batch_del(struct kv *kv, struct kv_batch *b, enum meta_kind kind,
			      const char *name);
/* One write of its own. -ENAMETOOLONG, -ENOMEM, -EIO, -ENOSPC. */
MUST_CHECK int meta_put(struct kv *kv, enum meta_kind kind, const char *name, const void *value,
			size_t len, enum kv_durability d);
MUST_CHECK int meta_del(struct kv *kv, enum meta_kind kind, const char *name, enum kv_durability d);

/*
 * Each record of a kind whose name begins with `start`, in the order of names; fn gets the whole
 * name. It may change the records. What it returns, if not 0, ends the walk and is returned.
 * -ENOMEM, -EIO.
 */
typedef int (*meta_fn)(void *arg, const char *name, const void *value, size_t len);
MUST_CHECK int meta_each(struct kv *kv, enum meta_kind kind, const char *start, meta_fn fn,
			 void *arg);

#endif
