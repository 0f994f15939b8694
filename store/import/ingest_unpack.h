/*
 * ingest_unpack.h - a stream decompressed by libarchive, whichever compression it
 * has, if any. Private to ingest*.c. One thread.
 */
#ifndef VARVE_INGEST_UNPACK_H
#define VARVE_INGEST_UNPACK_H

#include <stdbool.h>
#include <stdint.h>

#include "store/import/ingest_archive.h"

struct ingest_unpack {
	struct archive *raw;
	const uint8_t *data; /* of raw's current block, not yet handed out */
	size_t len;
	bool begun, ended;
};

/* Read from fn(arg), both borrowed until fini. -ENOMEM. */
MUST_CHECK int ingest_unpack_init(struct ingest_unpack *u, ingest_read_fn fn, void *arg);
void ingest_unpack_fini(struct ingest_unpack *u); /* of a zeroed one too */
/* An ingest_read_fn, for arg a struct ingest_unpack. -EBADMSG where it is damaged. */
ssize_t ingest_unpack_read(void *arg, void *buf, size_t len);
/* Why that failed; NULL where libarchive does not say. */
const char *ingest_unpack_why(const struct ingest_unpack *u);

#endif
