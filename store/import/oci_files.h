/*
 * oci_files.h - the files of a container image on disk: a directory, or a tar of
 * one (compressed or not), which is spooled into an unnamed file first. Private
 * to oci_image.c and ingest_oci.c.
 */
#ifndef VARVE_OCI_FILES_H
#define VARVE_OCI_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"

struct oci_files;
struct store;

/*
 * The spool is in the store's directory; max_bytes and the free disk space bound
 * it. -ENOENT, -EFBIG, -ENOSPC, -EBADMSG (no tar), ...
 */
MUST_CHECK int oci_files_open(const char *path, struct store *s, uint64_t max_bytes,
			      struct progress *p, struct oci_files **out, struct error *err);
void oci_files_close(struct oci_files *f);
DEFINE_CLEANUP(struct oci_files *, oci_files_close)

/* One file, read from its start with oci_file_read. */
struct oci_file {
	int fd; /* owned if own_fd */
	bool own_fd;
	uint64_t at, end; /* of the fd */
};
/* -ENOENT; -EINVAL for a name that leads outside. Symlinks are followed inside. */
MUST_CHECK int oci_files_find(struct oci_files *f, const char *name, struct oci_file *out);
void oci_file_close(struct oci_file *f);
/* > 0 bytes, 0 at the end, -errno. */
ssize_t oci_file_read(struct oci_file *f, void *buf, size_t len);

/* The whole of a small file; -EFBIG above max. */
MUST_CHECK int oci_files_load(struct oci_files *f, const char *name, size_t max, struct buf *out);

/* A new file without a name in dir_fd, to be closed; or -errno. */
int oci_spool_open(int dir_fd);

#endif
