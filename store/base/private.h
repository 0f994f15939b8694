/* private.h - a store's files are its owner's alone, whoever made them, with whatever umask. */
#ifndef VARVE_PRIVATE_H
#define VARVE_PRIVATE_H

#include "store/base/macros.h"

/*
 * Take what group and others may do from the store's directory, the directories
 * of ours in it and the files in those. Places where snapshots are mounted are
 * left alone: they are below the store's own. Returns how many were changed, or
 * -errno.
 */
MUST_CHECK int private_close(int dir_fd);

#endif
