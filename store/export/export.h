/*
 * export.h - from a tree to a tar (pax, deterministic: the same tree gives the
 * same bytes; paths sorted; sparse files as GNU.sparse 1.0 pax; hard links, xattrs
 * and ACLs as SCHILY.xattr.*, ACLs as SCHILY.acl.* too) or an OCI image layout of
 * one layer. Neither can hold sockets: they are left out. In a layer a name that
 * starts with ".wh." means a deletion, so a tree with such a name cannot become an
 * image: -EINVAL. export_check() tells this beforehand.
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
 * Find what the format cannot hold: *out counts what an export leaves out;
 * -EINVAL, with the first path in err, if an export would refuse. Reads the whole
 * tree but no file contents.
 */
MUST_CHECK int export_check(struct store *s, const struct digest *root, enum export_format format,
			    struct remarks *out, struct error *err);

MUST_CHECK int export_tar(struct store *s, const struct digest *root, export_write_fn fn, void *arg,
			  struct progress *p, struct error *err);

/* An image to be. All is borrowed. */
struct export_image {
	const struct digest *root;
	const json_t *config; /* the image's; may be NULL */
	const char *ref;      /* its tag annotation */
};
/*
 * Write into directory `path`, made if it is missing, which must not contain blobs or
 * index.json. The layer is gzip.
 */
MUST_CHECK int export_oci(struct store *s, const struct export_image *img, const char *path,
			  struct progress *p, struct error *err);
/* The same layout as one tar stream (oci-archive). */
MUST_CHECK int export_oci_stream(struct store *s, const struct export_image *img,
				 export_write_fn fn, void *arg, struct progress *p,
				 struct error *err);
#endif
