/*
 * json_bounds.h - how deep JSON text nests and how many values it has, counted
 * without memory: a parser's tree takes some hundred bytes for each value, however
 * short its text is.
 */
#ifndef VARVE_SNAPSHOTD_JSON_BOUNDS_H
#define VARVE_SNAPSHOTD_JSON_BOUNDS_H

#include <stddef.h>

#include "store/base/error.h"
#include "store/base/macros.h"

#define JSON_DEPTH_MAX 64
#define JSON_VALUES_MAX 250000 /* of a request's body */
#define JSON_VALUE_BYTES 256   /* that a parsed value takes at most, beside its text */
#define JSON_PARSE_FACTOR 2    /* of the text: what the parser itself takes meanwhile, at most */

/*
 * -E2BIG, saying why, where text has more than values_max values or nests deeper
 * than JSON_DEPTH_MAX. Text that is no JSON passes, unless it looks like too much.
 * *out_values: about how many there are, not less.
 */
MUST_CHECK int json_bounds_check(const char *text, size_t len, size_t values_max,
				 size_t *out_values, struct error *err);

#endif
