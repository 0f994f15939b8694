/* checkpoint.h - taking a checkpoint, for the commands that need one. */
#ifndef VARVE_TOOLS_CHECKPOINT_H
#define VARVE_TOOLS_CHECKPOINT_H

#include "tools/cli/cli.h"

/*
 * name NULL: unnamed; cgroup NULL: none is frozen. wait: until it is stored; a
 * failed one is -EIO. *out is its SnapshotInfo, a new reference.
 */
MUST_CHECK int checkpoint_take(struct cli *cli, const char *mount_id, const char *name,
			       const char *cgroup, bool wait, json_t **out, struct error *err);

#endif
