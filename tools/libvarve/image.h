/* image.h - images inside: a chain of steps, each shared by all that were made of it. */
#ifndef VARVE_IMAGE_IMAGE_H
#define VARVE_IMAGE_IMAGE_H

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "tools/libvarve/varve.h"

/*
 * img with one more step, whose args are given up to it; NULL for them means
 * that memory ran out. Or with the error of img.
 */
struct varve_image *image_append(struct varve_image *img, const char *type, json_t *args);
/* An image with this error. */
struct varve_image *image_failed(const struct error *err);

/* The manifest, builderMemoryMB included: a new reference. -errno of a failed image. */
MUST_CHECK int image_manifest(const struct varve_image *img, json_t **out, struct error *err);

/* A JSON string of s. -EINVAL where it is NULL, -EILSEQ where it is not UTF-8; `what` says which.
 */
MUST_CHECK int image_text(const char *s, const char *what, json_t **out, struct error *err);
/* {NAME: VALUE} of "NAME=VALUE"s. */
MUST_CHECK int image_pairs(const char *const *list, const char *what, json_t **out,
			   struct error *err);

/* "0755" of permission bits. */
json_t *image_mode(unsigned mode);

/* err's code and message to where a user of the library looks. Returns the code. */
int image_report(const struct error *err, int code, struct varve_error *out);

#endif
