/* sync_dir.h - make a name that was created, renamed or removed survive a power cut. */
#ifndef VARVE_BASE_SYNC_DIR_H
#define VARVE_BASE_SYNC_DIR_H

#include "store/base/macros.h"

/* Sync the directory that holds `path`, relative to dir_fd (or AT_FDCWD). -errno. */
MUST_CHECK int sync_parent_dir(int dir_fd, const char *path);

#endif
