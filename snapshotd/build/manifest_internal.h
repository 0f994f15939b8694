/*
 * manifest_internal.h - what manifest*.c share: checks of a manifest's strings (text and
 * paths, manifest_text.c) and of its files (contents, modes, trees, manifest_files.c).
 */
#ifndef VARVE_SNAPSHOTD_MANIFEST_INTERNAL_H
#define VARVE_SNAPSHOTD_MANIFEST_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "snapshotd/build/manifest.h"

/* ---- manifest_text.c ---- */

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

/* ---- manifest_files.c ---- */

/* Each: 0, or -EINVAL with why, which names `name` (an argument, "files[2]: mode"). */
MUST_CHECK int manifest_check_content(const json_t *v, const char *name, struct error *err);
MUST_CHECK int manifest_check_mode(const json_t *v, const char *name, struct error *err);
/* The lists alone: the members of each entry, and all but its path. */
MUST_CHECK int manifest_check_files(const json_t *list, const char *name, struct error *err);
MUST_CHECK int manifest_check_dirs(const json_t *list, const char *name, struct error *err);

/*
 * The paths of add_dir's files and dirs, once its arguments are checked: each
 * is sound and there once, and what others lie below is a directory. -ENOMEM.
 */
MUST_CHECK int manifest_check_tree(const json_t *args, struct error *err);

#endif
