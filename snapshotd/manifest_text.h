/* manifest_text.h - the strings of a manifest: text and paths. Private to manifest*.c. */
#ifndef VARVE_SNAPSHOTD_MANIFEST_TEXT_H
#define VARVE_SNAPSHOTD_MANIFEST_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"

/* The string that v is, borrowed; NULL if it is none, has a NUL or more than max bytes. */
const char *manifest_text(const json_t *v, size_t max);

/* Any of U+0000 to U+001F, and U+007F. */
bool manifest_has_control(const char *s);

/*
 * -EINVAL unless v is a path to something in an image: absolute, without NUL,
 * without "..", each name of 255 bytes at most and not of control characters
 * alone. A directory may be "/" and may end in a slash; a file has a name.
 */
MUST_CHECK int manifest_check_path(const json_t *v, const char *name, bool is_directory,
				   struct error *err);
/* The same for one below a directory of dir_len bytes: relative, no name is empty or ".". */
MUST_CHECK int manifest_check_relative(const json_t *v, size_t dir_len, const char *where,
				       struct error *err);

#endif
