/*
 * oci_platform.h - what a container image runs on: operating system,
 * architecture and variant, named as in the OCI image spec (Go's names). Pure,
 * apart from asking what this host is.
 *
 * A variant is a level of its architecture: amd64/v3 runs on processors of v3
 * and later (v1 is the same as none), arm/v6 on v6 and later (none is v7),
 * arm64/v8.2 likewise (none is v8). Levels of other architectures are not known.
 */
#ifndef VARVE_OCI_PLATFORM_H
#define VARVE_OCI_PLATFORM_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"

struct oci_platform {
	char os[32], architecture[32], variant[32]; /* variant "": none given */
};

/* "OS/ARCHITECTURE[/VARIANT]". -EINVAL; err says what is wrong. */
MUST_CHECK int oci_platform_parse(const char *text, struct oci_platform *out, struct error *err);
/* This host, with the highest variant that its processor is known to run. */
void oci_platform_host(struct oci_platform *out);
/* This host's architecture as images name it ("amd64"), or "unknown". */
const char *oci_architecture(void);

/*
 * How well `image`, an object with "os", "architecture" and "variant" (an index
 * entry's platform, an image's config), runs on `on`: 0 not at all; higher is
 * better.
 */
unsigned oci_platform_fit(const struct oci_platform *on, const json_t *image);

/* "os/architecture[/variant]" of such an object, with '?' for what is missing. */
#define OCI_PLATFORM_TEXT 128u
void oci_platform_text(const json_t *image, char out[OCI_PLATFORM_TEXT]);

#endif
