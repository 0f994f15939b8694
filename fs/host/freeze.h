/* freeze.h - freezes the processes of a cgroup: v2 (cgroup.freeze) or v1's freezer. */
#ifndef VARVE_FS_FREEZE_H
#define VARVE_FS_FREEZE_H

#include "store/base/error.h"
#include "store/base/macros.h"

/*
 * Freeze `dir` (a cgroup's directory) and the cgroups below it; returns when
 * every process stands still. -ETIMEDOUT after two seconds, thawed again;
 * -ENOENT and the like if it is not such a directory.
 */
MUST_CHECK int cgroup_freeze(const char *dir, struct error *err);
/*
 * -errno if it cannot be thawed, for example because it is gone. Thawing what
 * is not frozen is fine.
 */
MUST_CHECK int cgroup_thaw(const char *dir);

#endif
