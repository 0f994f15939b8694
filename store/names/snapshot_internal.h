/* snapshot_internal.h - what the files behind snapshot.h share. */
#ifndef VARVE_SNAPSHOT_INTERNAL_H
#define VARVE_SNAPSHOT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "store/base/macros.h"
#include "store/kv/meta.h"
#include "store/names/snapshot.h"

struct snapshots {
	struct kv *kv;
	pthread_mutex_t lock; /* held by writers, from their reads to their write */
	_Atomic uint64_t deleted_bytes;
};

/* Each record, in the order of ids. What fn returns, if not 0, ends the walk. */
MUST_CHECK int snapshots_each_record(struct snapshots *ss, snapshot_fn fn, void *arg,
				     struct error *err);
/* For snapshots_each_record and the like: a copy into a struct buf. */
int snapshot_append(void *list, const struct snapshot *s);
/* False: it is not being built, and takes no name; a guess from the text, quick. */
bool snapshot_may_be_unfinished(const void *text, size_t len);
/* *out: malloc'd JSON text, *out_len bytes. -ENOMEM. */
MUST_CHECK int snapshot_encode(const struct snapshot *s, char **out, size_t *out_len);
/* -EBADMSG if the text is not a record of a version that we know. *out: snapshot_fini. */
MUST_CHECK int snapshot_decode(const void *text, size_t len, struct snapshot *out);

#endif
