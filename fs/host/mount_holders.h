/* mount_holders.h - who has a FUSE mount that is not at its place any more. */
#ifndef VARVE_FS_MOUNT_HOLDERS_H
#define VARVE_FS_MOUNT_HOLDERS_H

#include <stddef.h>

#include "fs/host/kernel_mount.h"

/*
 * Say who holds k's superblock: "a bind mount at /b holds it", "process 7 (sleep) has
 * it in its mount namespace", "process 7 (sh) is inside". Up to three of them. Looks
 * at every process; asks the filesystem nothing.
 */
void mount_holders(const struct kernel_mount *k, char *out, size_t size);

#endif
