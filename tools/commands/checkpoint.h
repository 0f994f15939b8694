/* checkpoint.h - taking a checkpoint, for the commands that need one. */
#ifndef VARVE_TOOLS_CHECKPOINT_H
#define VARVE_TOOLS_CHECKPOINT_H

#include "tools/cli/cli.h"

struct checkpoint_options {
	const char *mount_id;
	const char *name;   /* NULL: unnamed */
	const char *cgroup; /* to freeze; NULL: none */
	bool wait;	    /* until it is stored; a failed one is -EIO */
	unsigned ttl_s;	    /* it expires when it is unused for so long; 0: never */
};

/* *out is its SnapshotInfo, a new reference. */
MUST_CHECK int checkpoint_take(struct cli *cli, const struct checkpoint_options *opt, json_t **out,
			       struct error *err);

#endif
