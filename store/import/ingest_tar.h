/* ingest_tar.h - one tar stream into a namespace. Private to ingest*.c. */
#ifndef VARVE_INGEST_TAR_H
#define VARVE_INGEST_TAR_H

#include "store/import/ingest_archive.h"
#include "store/import/ingest_internal.h"

struct ingest_unpack;

struct ingest_tar_source {
	ingest_block_fn next; /* of the tar, not compressed */
	void *arg;
	const struct ingest_unpack *unpack; /* where that comes from, for its messages */
	bool is_layer;	   /* of an OCI image: has whiteouts, anything may replace anything */
	uint16_t layer;	   /* from 0 */
	const char *label; /* goes before messages; "" for none */
};

/* Import all entries into in->tree. Failures are kept by ingest_fail. */
MUST_CHECK int ingest_tar_stream(struct ingest *in, const struct ingest_tar_source *src);

/* An entry, with its bytes from its first extended header on, as far as read. */
struct ingest_tar_entry {
	struct archive_entry *entry;
	const uint8_t *headers;
	size_t headers_len;
};
/*
 * Give the inode the entry's mode, owner, device, mtime, xattrs and ACLs; other
 * xattrs stay. -EINVAL, -E2BIG, -ENOMEM with *why set; *why is borrowed.
 */
MUST_CHECK int ingest_tar_attributes(struct ingest *in, const struct ingest_tar_entry *e,
				     struct ingest_inode *i, const char **why);

#endif
