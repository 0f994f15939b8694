/* mount_holders.h - who keeps a FUSE mount that is no longer at its place. */
#ifndef VARVE_FS_MOUNT_HOLDERS_H
#define VARVE_FS_MOUNT_HOLDERS_H

#include <stddef.h>

#include "fs/host/kernel_mount.h"

/*
 * Say who holds k's superblock: "a bind mount at /b holds it", "process 7 (sleep) has
 * it in its mount namespace, at /m", "process 7 (sh) is inside or has files of it
 * open". Names up to three. Looks at every process; asks the filesystem nothing.
 */
void mount_holders(const struct kernel_mount *k, char *out, size_t size);

#endif
