/* ingest_tar.h - one tar stream into a namespace. Private to ingest*.c. */
#ifndef VARVE_INGEST_TAR_H
#define VARVE_INGEST_TAR_H

#include <archive.h>
#include <archive_entry.h>

#include "store/ingest_impl.h"

/* Bytes of an archive: > 0, 0 at the end, -errno. */
typedef ssize_t (*ingest_read_fn)(void *arg, void *buf, size_t len);

struct ingest_tar_source {
	ingest_read_fn read;
	void *arg;
	/* Of an OCI image: not compressed, has whiteouts, anything may replace anything. */
	bool is_layer;
	uint16_t layer;	   /* from 0 */
	const char *label; /* goes before messages; "" for none */
};

/* All entries into in->tree. Failures are kept by ingest_fail. */
MUST_CHECK int ingest_tar_stream(struct ingest *in, const struct ingest_tar_source *src);

enum ingest_archive {
	INGEST_ARCHIVE_TAR,	  /* compressed or not */
	INGEST_ARCHIVE_PLAIN_TAR, /* not compressed */
	INGEST_ARCHIVE_RAW,	  /* one entry: the bytes, decompressed */
};
/*
 * libarchive, without formats and filters that run programs or open files,
 * reading from fn; NULL when out of memory. Names stay bytes only in the "C"
 * locale: see ingest_locale_enter.
 */
struct archive *ingest_archive_open(enum ingest_archive kind, ingest_read_fn fn, void *arg);
void ingest_archive_free(struct archive *a);
DEFINE_CLEANUP(struct archive *, ingest_archive_free)

/* The calling thread in the "C" locale until leave. */
struct ingest_locale {
	void *ours, *before;
};
void ingest_locale_enter(struct ingest_locale *l);
void ingest_locale_leave(struct ingest_locale *l);

/*
 * Mode, owner, device, mtime, xattrs and ACLs of an entry, over those that the
 * inode has. -EINVAL, -E2BIG, -ENOMEM with *why set; *why borrows.
 */
MUST_CHECK int ingest_tar_attributes(struct ingest *in, struct archive_entry *e,
				     struct ingest_inode *i, const char **why);

#endif
