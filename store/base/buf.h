/* buf.h - a growable byte buffer. A zeroed struct is an empty buffer. */
#ifndef VARVE_BASE_BUF_H
#define VARVE_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"

struct buf {
	uint8_t *data; /* owned; NULL while cap is 0 */
	size_t len;    /* bytes in use */
	size_t cap;    /* bytes allocated */
};

#define BUF_INIT           \
	{                  \
		NULL, 0, 0 \
	}

void buf_fini(struct buf *b);
static inline void buf_fini_p(struct buf *b)
{
	buf_fini(b);
}

/* Make room for `extra` more bytes after len. -ENOMEM, or -EOVERFLOW. */
MUST_CHECK int buf_reserve(struct buf *b, size_t extra);
MUST_CHECK int buf_append(struct buf *b, const void *data, size_t len);
MUST_CHECK int buf_append_str(struct buf *b, const char *s);
MUST_CHECK int buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Append a NUL that len does not count, and return data as a C string, or NULL. */
const char *buf_cstr(struct buf *b);
static inline void buf_clear(struct buf *b)
{
	b->len = 0;
}

#endif
