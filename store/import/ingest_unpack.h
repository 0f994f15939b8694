/*
 * ingest_unpack.h - decompresses a stream with libarchive, whatever its
 * compression, if any. Private to ingest*.c. One thread.
 */
#ifndef VARVE_INGEST_UNPACK_H
#define VARVE_INGEST_UNPACK_H

#include <stdbool.h>
#include <stdint.h>

#include "store/import/ingest_archive.h"

struct ingest_unpack {
	struct archive *raw;
	const uint8_t *data; /* of raw's current block, not yet given out */
	size_t len;
	bool begun, ended;
};

/* Read from fn(arg), both borrowed until fini. -ENOMEM. */
MUST_CHECK int ingest_unpack_init(struct ingest_unpack *u, ingest_read_fn fn, void *arg);
void ingest_unpack_fini(struct ingest_unpack *u); /* also for a zeroed one */
/* An ingest_block_fn, for arg a struct ingest_unpack. -EBADMSG if it is damaged. */
ssize_t ingest_unpack_next(void *arg, const uint8_t **block);
/* Why that failed; NULL if libarchive does not say. */
const char *ingest_unpack_why(const struct ingest_unpack *u);

#endif
