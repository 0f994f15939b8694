/*
 * live.h - how often the kernel has been told of each inode (FUSE's lookup
 * count), so that an unlinked inode goes away when the kernel forgets it and
 * not before. 16 bytes a slot, open addressing, sharded. Thread-safe.
 */
#ifndef VARVE_FS_LIVE_H
#define VARVE_FS_LIVE_H

#include <stdint.h>

#include "store/base/macros.h"

struct live;
struct live *live_new(void);
void live_free(struct live *l);
/* -ENOMEM: the inode must not be handed to the kernel. */
MUST_CHECK int live_add(struct live *l, uint64_t ino, uint64_t n);
/* The count that is left. */
uint64_t live_sub(struct live *l, uint64_t ino, uint64_t n);
uint64_t live_count(struct live *l, uint64_t ino);
/* Forget all counts, as the kernel has. */
void live_clear(struct live *l);

#endif
