/*
 * export.h - from a tree to a tar (pax, deterministic: the same tree gives the
 * same bytes; paths sorted; sparse files as GNU.sparse 1.0 pax; hard links,
 * xattrs and ACLs as SCHILY.xattr.*, ACLs as SCHILY.acl.* too) or an OCI image
 * layout of one layer. Sockets have no place in a tar and are left out with a
 * log line. In a layer, names that start with ".wh." mean whiteouts.
 */
#ifndef VARVE_EXPORT_H
#define VARVE_EXPORT_H

#include <jansson.h>

#include "store/progress.h"
#include "store/store.h"

/* Receives bytes in order; 0 or -errno, which ends the export. */
typedef int (*export_write_fn)(void *arg, const void *data, size_t len);

MUST_CHECK int export_tar(struct store *s, const struct digest *root, export_write_fn fn, void *arg,
			  struct progress *p, struct error *err);

/*
 * Into directory `path` (made; must be empty or not there), gzip layer, with
 * `config` (may be NULL) as the image's and `ref` as its tag annotation.
 */
MUST_CHECK int export_oci(struct store *s, const struct digest *root, const json_t *config,
			  const char *ref, const char *path, struct progress *p, struct error *err);
/* The same layout as one tar stream (oci-archive). */
MUST_CHECK int export_oci_stream(struct store *s, const struct digest *root, const json_t *config,
				 const char *ref, export_write_fn fn, void *arg, struct progress *p,
				 struct error *err);
#endif
