/* host_place.h - which places of this host a client may name. */
#ifndef VARVE_SNAPSHOTD_HOST_PLACE_H
#define VARVE_SNAPSHOTD_HOST_PLACE_H

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"

/*
 * Opens (O_PATH) what an absolute path means, which must be one of the roots (an
 * array of absolute paths) or beneath one; so must be whatever symlinks in it
 * lead through. The fd, or -EACCES where it is not, or why it is not there.
 */
MUST_CHECK int host_place_open(const json_t *roots, const char *path, struct error *err);
/* The path of an open place, without symlinks; the caller's to free. -ENOMEM and the like. */
MUST_CHECK int host_place_path(int fd, char **out);

#endif
