/* freeze.h - hold up the processes of a cgroup: v2 (cgroup.freeze) or v1's freezer. */
#ifndef VARVE_FS_FREEZE_H
#define VARVE_FS_FREEZE_H

#include "store/base/error.h"
#include "store/base/macros.h"

/*
 * Returns when every process of `dir` (a cgroup's directory) and below stands
 * still. -ETIMEDOUT after two seconds, thawed again; -ENOENT and the like where
 * it is no such directory.
 */
MUST_CHECK int cgroup_freeze(const char *dir, struct error *err);
/* -errno where it cannot be written, gone included. Thawing what is not frozen is fine. */
MUST_CHECK int cgroup_thaw(const char *dir);

#endif
