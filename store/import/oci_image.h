/*
 * oci_image.h - which layers an image has, from the JSON of an OCI layout
 * (image-spec 1.1: image-layout.md, image-index.md, manifest.md, config.md) or a
 * docker-archive (`docker save`: manifest.json). Used by ingest_oci.c; export
 * uses oci_platform_members alone.
 */
#ifndef VARVE_OCI_IMAGE_H
#define VARVE_OCI_IMAGE_H

#include <jansson.h>

#include "store/base/hash.h"
#include "store/import/oci_files.h"

#define OCI_LAYERS_MAX 4096u

struct oci_layer {
	char *file; /* in struct oci_files; owned */
	bool has_digest, has_diff_id;
	struct digest digest;  /* of the file */
	struct digest diff_id; /* of the tar in it */
};

struct oci_image {
	/* The image config's "config" object, with oci_platform_members; owned; never NULL. */
	json_t *config;
	struct oci_layer *layers;
	size_t n_layers;
};
void oci_image_fini(struct oci_image *img);

/*
 * The members of an image config that describe its platform, beside "config". A
 * snapshot keeps them in its config under the same names, so that an export writes
 * them back. NULL-terminated.
 */
extern const char *const oci_platform_members[];

/*
 * tag: NULL or "" for the only image, else the one tagged "latest". -EINVAL, with the tags in err.
 * platform: the one to take (oci_platform_parse), even of a single image; NULL or "": of several
 * images the one that this host runs best, or a single image whatever its platform. -EINVAL, with
 * the platforms in err; -EBADMSG for wrong JSON or digests; -ENOENT for a missing blob; -ENOTSUP.
 */
MUST_CHECK int oci_image_find(struct oci_files *f, const char *tag, const char *platform,
			      struct oci_image *out, struct error *err);

#endif
