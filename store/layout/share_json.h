/*
 * share_json.h - reading and writing the bucket's JSON objects, for the modules that say what is
 * in them. Each has "varve": 1.
 */
#ifndef VARVE_SHARE_JSON_H
#define VARVE_SHARE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/layout/share_key.h"
#include "store/layout/share_packs.h"

static inline void share_json_free_p(json_t **j)
{
	json_decref(*j);
}

/*
 * Append o with "varve": 1 to out, members sorted, without spaces. `what` is for err. -EFBIG beyond
 * max bytes; -EINVAL for what is no JSON; -ENOMEM.
 */
MUST_CHECK int share_json_dump(json_t *o, const char *what, size_t max, struct buf *out,
			       struct error *err);
/* An object with "varve": 1. -ENOTSUP for another, -EFBIG, -EBADMSG, -ENOMEM. */
MUST_CHECK int share_json_load(const void *text, size_t len, const char *what, size_t max,
			       json_t **out, struct error *err);

/* Setters: 0, or not 0 without memory or for a text that is no UTF-8. */
int share_json_set_id(json_t *o, const char *key, const struct share_id *id); /* none: null */
int share_json_set_u64(json_t *o, const char *key, uint64_t v);	    /* beyond INT64_MAX: that */
int share_json_set_text(json_t *o, const char *key, const char *s); /* "": absent */
int share_json_set_packs(json_t *o, const char *key, const struct share_packs *p);

/*
 * Reads members of one object. The first that is wrong sets `bad` to its name, and result;
 * later ones change neither.
 */
struct share_fields {
	const json_t *o;
	const char *bad; /* NULL while all is well */
	int result;	 /* -EBADMSG, -ENOMEM */
};
void share_get_fail(struct share_fields *f, const char *key, int result);
void share_get_id(struct share_fields *f, const char *key, struct share_id *out);
/* null or absent: none. */
void share_get_id_or_none(struct share_fields *f, const char *key, struct share_id *out);
int64_t share_get_int(struct share_fields *f, const char *key);
uint64_t share_get_number(struct share_fields *f, const char *key, uint64_t min, uint64_t max);
/* Absent: "". Shorter than size. */
void share_get_text(struct share_fields *f, const char *key, char *out, size_t size);
void share_get_packs(struct share_fields *f, const char *key, struct share_packs *out);
/* 0, or the result with "WHAT: MEMBER is missing or wrong". */
MUST_CHECK int share_fields_check(const struct share_fields *f, const char *what,
				  struct error *err);

#endif
