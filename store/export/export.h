/*
 * export.h - from a tree to a tar (pax, deterministic: the same tree gives the
 * same bytes; paths sorted; sparse files as GNU.sparse 1.0 pax; hard links,
 * xattrs and ACLs as SCHILY.xattr.*, ACLs as SCHILY.acl.* too) or an OCI image
 * layout of one layer. Sockets have no place in either and are left out. In a
 * layer, a name that starts with ".wh." means a deletion, so that a tree with such
 * a name is no image: -EINVAL. export_check() tells before.
 */
#ifndef VARVE_EXPORT_H
#define VARVE_EXPORT_H

#include <jansson.h>

#include "store/base/progress.h"
#include "store/archive/remarks.h"
#include "store/store.h"

/* Receives bytes in order; 0 or -errno, which ends the export. */
typedef int (*export_write_fn)(void *arg, const void *data, size_t len);

enum export_format { EXPORT_TAR, EXPORT_OCI };
/*
 * What the format cannot hold of the tree: *out counts what an export leaves out;
 * -EINVAL, with the first path, where it would refuse. Reads all of the tree but
 * no contents.
 */
MUST_CHECK int export_check(struct store *s, const struct digest *root, enum export_format format,
			    struct remarks *out, struct error *err);

MUST_CHECK int export_tar(struct store *s, const struct digest *root, export_write_fn fn, void *arg,
			  struct progress *p, struct error *err);

/*
 * Into directory `path` (made where it is missing; may have no blobs and no index.json), gzip
 * layer, with `config` (may be NULL) as the image's and `ref` as its tag annotation.
 */
MUST_CHECK int export_oci(struct store *s, const struct digest *root, const json_t *config,
			  const char *ref, const char *path, struct progress *p, struct error *err);
/* The same layout as one tar stream (oci-archive). */
MUST_CHECK int export_oci_stream(struct store *s, const struct digest *root, const json_t *config,
				 const char *ref, export_write_fn fn, void *arg, struct progress *p,
				 struct error *err);
#endif
