/*
 * records.h - what the daemon says of sandboxes, checkpoints, ... as the structs
 * of varve.h. A record is one allocation with the struct at its front; it keeps
 * the JSON, which the struct's strings belong to.
 */
#ifndef VARVE_IMAGE_RECORDS_H
#define VARVE_IMAGE_RECORDS_H

#include <stddef.h>

#include <jansson.h>

#include "store/base/macros.h"
#include "tools/libvarve/varve.h"

/* A member of an object, and where it goes: a const char *, uint64_t, int, or JSON as text. */
struct record_field {
	const char *name;
	size_t offset;
	enum { RECORD_TEXT, RECORD_NUMBER, RECORD_FLAG, RECORD_JSON } type;
};

struct record_type {
	const char *what; /* "a sandbox" */
	const struct record_field *fields;
	size_t n_fields;
	size_t size;	    /* of the struct */
	size_t json_offset; /* of its `json`, or NO_JSON */
};
#define NO_JSON ((size_t)-1)

#define TEXT_FIELD(type, member, name)                    \
	{                                                 \
		name, offsetof(type, member), RECORD_TEXT \
	}
#define NUMBER_FIELD(type, member, name)                    \
	{                                                   \
		name, offsetof(type, member), RECORD_NUMBER \
	}
#define FLAG_FIELD(type, member, name)                    \
	{                                                 \
		name, offsetof(type, member), RECORD_FLAG \
	}

/* *out of the object j, a reference that is given up. -EBADMSG unless it is one. */
MUST_CHECK int record_new(const struct record_type *type, json_t *j, void **out,
			  struct varve_error *err);
void record_free(void *record);
/* *out, an array that ends in NULL, of the array j, given up. */
MUST_CHECK int records_new(const struct record_type *type, json_t *j, void ***out,
			   struct varve_error *err);
void records_free(void **list);
/* The JSON that it was made of. */
const json_t *record_json(const void *record);

#endif
