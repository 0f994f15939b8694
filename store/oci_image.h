/*
 * oci_image.h - which layers an image has, from the JSON of an OCI layout
 * (image-spec 1.1: image-layout.md, image-index.md, manifest.md, config.md) or a
 * docker-archive (`docker save`: manifest.json). Private to ingest_oci.c and its
 * tests.
 */
#ifndef VARVE_OCI_IMAGE_H
#define VARVE_OCI_IMAGE_H

#include <jansson.h>

#include "store/hash.h"
#include "store/oci_files.h"

#define OCI_LAYERS_MAX 4096u

struct oci_layer {
	char *file; /* in struct oci_files; owned */
	bool has_digest, has_diff_id;
	struct digest digest;  /* of the file */
	struct digest diff_id; /* of the tar in it */
};

struct oci_image {
	json_t *config; /* the image config's "config" object; owned; never NULL */
	struct oci_layer *layers;
	size_t n_layers;
};
void oci_image_fini(struct oci_image *img);

/*
 * tag: NULL or "" for the only image, else the one tagged "latest". -EINVAL with
 * what tags there are; -EBADMSG for JSON or digests that are wrong; -ENOENT for
 * a blob that is missing; -ENOTSUP.
 */
MUST_CHECK int oci_image_find(struct oci_files *f, const char *tag, struct oci_image *out,
			      struct error *err);

/* This host's architecture as images name it ("amd64"), or "unknown". */
const char *oci_architecture(void);

#endif
