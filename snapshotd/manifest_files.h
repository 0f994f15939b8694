/* manifest_files.h - what a manifest says of files: contents, modes, trees. Private to manifest*.c.
 */
#ifndef VARVE_SNAPSHOTD_MANIFEST_FILES_H
#define VARVE_SNAPSHOTD_MANIFEST_FILES_H

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"

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
