/*
 * private.h - keeps a store's files private to its owner, whoever made them and
 * with whatever umask.
 */
#ifndef VARVE_PRIVATE_H
#define VARVE_PRIVATE_H

#include "store/base/macros.h"

/*
 * Take the permissions of group and others away from the store's directory, our
 * directories in it, and the files in all of these. Leaves places where
 * snapshots are mounted alone: they lie deeper. Returns the number changed, or
 * -errno.
 */
MUST_CHECK int private_close(int dir_fd);

#endif
