/*
 * keeper_box.h - several descriptors, with some bytes, under one name of a keeper: the box is
 * a socket with one message in its queue, which opening it does not take out. So a box can be
 * opened by one successor after the other, and costs the keeper one descriptor.
 */
#ifndef VARVE_FS_KEEPER_BOX_H
#define VARVE_FS_KEEPER_BOX_H

#include <stddef.h>

#include "fs/host/keeper.h"

#define KEEPER_BOX_FDS 8u

/*
 * Store copies of the descriptors, in the place of what has that name. -ENOTSUP: nobody
 * keeps them; -EINVAL: too many of them.
 */
MUST_CHECK int keeper_box_put(struct keeper *k, const char *name, const void *data, size_t len,
			      const int *fds, unsigned n);
/*
 * What keeper_take has given, which stays the caller's. Exactly len bytes and n descriptors
 * (close-on-exec), which are the caller's. -EBADMSG: something else is in it.
 */
MUST_CHECK int keeper_box_open(int box, void *data, size_t len, int *fds, unsigned n);

#endif
