/*
 * jcs.h - canonical JSON (RFC 8785, JSON Canonicalization Scheme): equal values
 * give equal bytes, so their hash can name them.
 */
#ifndef VARVE_JCS_H
#define VARVE_JCS_H

#include <jansson.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/hash.h"

/*
 * Append the canonical text of j, UTF-8 without a NUL: no spaces, members in
 * the order of their names' UTF-16 code units, \b \t \n \f \r \" \\ and \u00xx
 * (lower case) for the other controls, nothing else escaped. -EINVAL for a
 * real, for an integer beyond +-(2^53 - 1), which not every JSON reader keeps,
 * and for more than JCS_DEPTH_MAX levels; -ENOMEM. After a failure out may hold
 * a part of the text.
 */
#define JCS_DEPTH_MAX 128
MUST_CHECK int jcs_dump(const json_t *j, struct buf *out, struct error *err);

/* SHA-256 of that text, in hex. */
MUST_CHECK int jcs_hash(const json_t *j, char out[DIGEST_HEX_SIZE], struct error *err);

#endif
