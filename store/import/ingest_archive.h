/* ingest_archive.h - libarchive as imports use it. Private to the import. */
#ifndef VARVE_INGEST_ARCHIVE_H
#define VARVE_INGEST_ARCHIVE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <archive.h>
#include <archive_entry.h>

#include "store/base/macros.h"

/* Bytes of an archive into buf: how many, 0 at the end, -errno. */
typedef ssize_t (*ingest_read_fn)(void *arg, void *buf, size_t len);
/*
 * The next bytes of an archive, where its reader has them: how many, 0 at the end,
 * -errno. The block is good until the next call.
 */
typedef ssize_t (*ingest_block_fn)(void *arg, const uint8_t **block);

enum ingest_archive {
	INGEST_ARCHIVE_TAR, /* compressed or not */
	INGEST_ARCHIVE_RAW, /* one entry: the bytes, decompressed */
};
/*
 * libarchive, without formats and filters that run programs or open files,
 * reading from fn; NULL when out of memory. Names stay bytes only in the "C"
 * locale: see ingest_locale_enter.
 */
struct archive *ingest_archive_open(enum ingest_archive kind, ingest_read_fn fn, void *arg);
/* The same for a tar that is not compressed, of which nothing is copied. */
struct archive *ingest_archive_open_blocks(ingest_block_fn fn, void *arg);
void ingest_archive_free(struct archive *a);
DEFINE_CLEANUP(struct archive *, ingest_archive_free)

/* The calling thread in the "C" locale until leave. */
struct ingest_locale {
	void *ours, *before;
};
void ingest_locale_enter(struct ingest_locale *l);
void ingest_locale_leave(struct ingest_locale *l);

#endif
