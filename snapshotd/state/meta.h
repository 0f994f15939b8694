/* meta.h - JSON records of the daemon in the meta family: PREFIX + NAME -> object. */
#ifndef VARVE_SNAPSHOTD_META_H
#define VARVE_SNAPSHOTD_META_H

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/kv/kv.h"

/* *out: a new reference. -ENOENT; -EBADMSG where it is no JSON object. */
MUST_CHECK int meta_get(struct kv *kv, const char *prefix, const char *name, json_t **out);
/* Into a batch; borrows j. -ENOMEM. */
MUST_CHECK int meta_batch_put(struct kv *kv, struct kv_batch *b, const char *prefix,
			      const char *name, const json_t *j);
MUST_CHECK int meta_batch_del(struct kv *kv, struct kv_batch *b, const char *prefix,
			      const char *name);
/* One write of its own. */
MUST_CHECK int meta_put(struct kv *kv, const char *prefix, const char *name, const json_t *j,
			enum kv_durability d);
MUST_CHECK int meta_del(struct kv *kv, const char *prefix, const char *name, enum kv_durability d);

/*
 * Each record of a prefix, in the order of names; damaged ones are left out.
 * fn may change the records. What it returns, if not 0, ends the walk and is
 * returned.
 */
typedef int (*meta_fn)(void *arg, const char *name, const json_t *j);
MUST_CHECK int meta_each(struct kv *kv, const char *prefix, meta_fn fn, void *arg);

/* An object's string member, "" where there is none. */
const char *meta_text(const json_t *o, const char *name);

#endif
