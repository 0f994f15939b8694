/* ingest_dir_internal.h - parts of ingest_dir.c: one file's data, xattrs, hard links. */
#ifndef VARVE_INGEST_DIR_INTERNAL_H
#define VARVE_INGEST_DIR_INTERNAL_H

#include <sys/types.h>

#include "store/import/ingest_internal.h"

/* Where a file's bytes go: `chunks`, already begun, or `file` (exactly one is not NULL). */
struct file_source {
	struct ingest *in;
	struct ingest_inode *inode;
	uint8_t *buffer; /* INGEST_READ_SIZE */
	struct file_chunks *chunks;
	struct ingest_file *file;
};

/*
 * Read the regular file inode->name in dirfd: attributes, xattrs, data. One
 * that vanished is marked gone. Failures are kept by ingest_fail. Any thread.
 * *ino: whose the name was when it was read; 0 if it vanished. May be NULL.
 */
MUST_CHECK int ingest_dir_file(const struct file_source *src, int dirfd, ino_t *ino);

/* Read all xattrs of fd or, if fd is -1, of path (not followed). */
MUST_CHECK int ingest_dir_xattrs(struct ingest *in, struct ingest_inode *i, int fd,
				 const char *path);

/* (device, inode) -> inode of the import, for files with several names. */
struct link_slot {
	dev_t dev;
	ino_t ino;
	struct ingest_inode *inode;
	bool used;
};
struct link_table {
	struct link_slot *slots; /* free() it */
	size_t cap, n;
};
/* The slot for the key's value, which holds NULL if the key is new; NULL when out of memory. */
struct ingest_inode **link_table_at(struct link_table *t, dev_t dev, ino_t ino);

#endif
