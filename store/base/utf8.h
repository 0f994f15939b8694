/* utf8.h - which bytes form a character. */
#ifndef VARVE_BASE_UTF8_H
#define VARVE_BASE_UTF8_H

#include <stddef.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

/*
 * Length of the well-formed UTF-8 character (Unicode, table 3-7) at s, which
 * has len > 0 bytes; 0 if there is none.
 */
size_t utf8_len(const char *s, size_t len);
/* Append len bytes; each that is not part of a character becomes U+FFFD. -ENOMEM. */
MUST_CHECK int utf8_append_valid(struct buf *out, const char *s, size_t len);

#endif
