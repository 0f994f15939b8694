/* base64.h - RFC 4648 section 4: the plain alphabet, with padding. */
#ifndef VARVE_BASE_BASE64_H
#define VARVE_BASE_BASE64_H

#include <stddef.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

/*
 * Append the bytes that text encodes. -EINVAL if text is not the one canonical
 * encoding: other characters, line breaks, missing or excess padding, stray
 * bits in the last digit. out is then unchanged. -ENOMEM.
 */
MUST_CHECK int base64_decode(const char *text, struct buf *out);
MUST_CHECK int base64_decode_n(const char *text, size_t len, struct buf *out);
/* As base64_decode_n, but only count the bytes. -EINVAL. */
MUST_CHECK int64_t base64_check(const char *text, size_t len);
/* Append the encoding of len bytes. -ENOMEM, -EOVERFLOW. */
MUST_CHECK int base64_encode(const void *data, size_t len, struct buf *out);

#endif
