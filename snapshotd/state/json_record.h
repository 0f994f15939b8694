/* json_record.h - records of the meta family (store/kv/meta.h) whose values are JSON objects. */
#ifndef VARVE_JSON_RECORD_H
#define VARVE_JSON_RECORD_H

#include <jansson.h>

#include "store/base/macros.h"
#include "store/kv/meta.h"

/* *out: a new reference. -ENOENT; -EBADMSG where it is no JSON object. */
MUST_CHECK int json_record_get(struct kv *kv, enum meta_kind kind, const char *name, json_t **out);
/* Into a batch; borrows j. -ENOMEM, -ENAMETOOLONG. */
MUST_CHECK int json_record_batch_put(struct kv *kv, struct kv_batch *b, enum meta_kind kind,
				     const char *name, const json_t *j);
/* One write of its own. */
MUST_CHECK int json_record_put(struct kv *kv, enum meta_kind kind, const char *name,
			       const json_t *j, enum kv_durability d);

/*
 * Each record of a kind, in the order of names; damaged ones are left out.
 * fn may change the records. What it returns, if not 0, ends the walk and is
 * returned.
 */
typedef int (*json_record_fn)(void *arg, const char *name, const json_t *j);
MUST_CHECK int json_record_each(struct kv *kv, enum meta_kind kind, json_record_fn fn, void *arg);

/* An object's string member, "" where there is none. */
const char *json_record_text(const json_t *o, const char *name);
/* 0 where there is none. */
static inline json_int_t json_record_int(const json_t *o, const char *name)
{
	return json_integer_value(json_object_get(o, name));
}

#endif
