/* fields.h - the members of a JSON object, checked against a table of names and types. */
#ifndef VARVE_SNAPSHOTD_FIELDS_H
#define VARVE_SNAPSHOTD_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"

enum field_type {
	FIELD_STRING, /* const char **, borrowed from the object */
	FIELD_BOOL,   /* bool * */
	FIELD_U64,    /* uint64_t *, 0..2^63-1 */
	FIELD_NUMBER, /* double *, not negative */
	FIELD_OBJECT, /* json_t **, borrowed */
	FIELD_ARRAY,  /* json_t **, borrowed */
	FIELD_ANY,    /* json_t **, borrowed */
	FIELD_IMAGE,  /* the same, but strings in it may have U+0000: for manifest_parse */
};

struct field {
	const char *name;
	enum field_type type;
	void *out; /* left as it is where the member is absent or null */
	bool required;
};

/*
 * -EINVAL, naming the member that is unknown, missing or of another type, or has
 * U+0000 in a string at any depth.
 */
MUST_CHECK int fields_parse(const json_t *object, const struct field *fields, size_t n,
			    struct error *err);

/* The one of that name, or NULL. */
const struct field *field_find(const struct field *fields, size_t n, const char *name);

#endif
