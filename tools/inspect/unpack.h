/*
 * unpack.h - a tar stream of plain files and directories into a directory.
 * For OCI layouts: whatever else a stream may hold is refused, and nothing is
 * ever written outside the directory.
 */
#ifndef VARVE_TOOLS_UNPACK_H
#define VARVE_TOOLS_UNPACK_H

#include "store/base/error.h"
#include "store/base/macros.h"

/* Unpack what comes from in_fd, up to its end, into dir_fd. -EBADMSG where it is refused. */
MUST_CHECK int unpack_tar(int in_fd, int dir_fd, struct error *err);

#endif
