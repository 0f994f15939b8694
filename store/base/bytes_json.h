/*
 * bytes_json.h - names, paths and messages as JSON. They may hold any bytes, but JSON only
 * UTF-8. So o[key] is the text with U+FFFD for each byte that is not part of a character;
 * if that loses something, o[key + "Base64"] has all the bytes. Pure.
 */
#ifndef VARVE_BASE_BYTES_JSON_H
#define VARVE_BASE_BYTES_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

/* A JSON string of len bytes; what is not UTF-8 becomes U+FFFD. NULL: no memory. */
json_t *bytes_json(const void *s, size_t len);
/* Whether bytes_json keeps all of s: it is UTF-8. */
bool bytes_json_is_exact(const void *s, size_t len);
/* All bytes, in base64. NULL: no memory. */
json_t *bytes_json_base64(const void *s, size_t len);

/* Set o[key] and, if needed, o[key + "Base64"]. -ENOMEM. */
MUST_CHECK int bytes_json_set(json_t *o, const char *key, const void *s, size_t len);
/* Append the bytes of o[key], taken from o[key + "Base64"] if that exists. -ENOENT, -EBADMSG. */
MUST_CHECK int bytes_json_get(const json_t *o, const char *key, struct buf *out);

#endif
