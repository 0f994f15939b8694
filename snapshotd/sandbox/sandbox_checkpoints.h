/*
 * sandbox_checkpoints.h - checkpoints of sandboxes: unnamed snapshots (their
 * ids are the snapshots'), each with a record that says whose it is and what it
 * is called there. They outlive their sandbox, and can be deleted while
 * sandboxes made from them live on.
 */
#ifndef VARVE_SNAPSHOTD_SANDBOX_CHECKPOINTS_H
#define VARVE_SNAPSHOTD_SANDBOX_CHECKPOINTS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "snapshotd/sandbox/sandbox_record.h"
#include "snapshotd/state/json_record.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/store.h"

#define RETENTION_MAX_DEFAULT 10 /* where a policy says no number */

struct sandbox;
struct sandboxes;

/* The records, in memory; part of a struct sandboxes. */
struct checkpoints;
MUST_CHECK int checkpoints_open(struct store *s, struct checkpoints **out, struct error *err);
void checkpoints_close(struct checkpoints *cs);

/* How long a checkpoint held up operations, and the sandbox's processes altogether. */
struct checkpoint_times {
	uint64_t pause_ns, frozen_ns;
};
/* Add them to a reply. -ENOMEM. */
MUST_CHECK int checkpoint_times_tell(const struct checkpoint_times *t, json_t *reply);

struct sandbox_checkpoint_wish {
	const char *id; /* that no snapshot has; or NULL: a new one */
	const char *name;
	uint64_t keep; /* delete the oldest of this sandbox's, so that so many are left; 0: keep all
			*/
};

/*
 * Take one. What is dirty is flushed; then the sandbox is frozen for a second
 * flush and the swap, no longer (mount_checkpoint). *out: the API's object,
 * whose status may still be "processing".
 * -EEXIST where it has one of that name that has not failed. -EBUSY: all sandboxes have as many
 * as the daemon's checkpoint_limit, and none of this one's would go.
 */
MUST_CHECK int sandbox_checkpoint(struct sandbox *sb, const struct sandbox_checkpoint_wish *w,
				  json_t **out, struct checkpoint_times *times, struct error *err);
/*
 * Call fn with the id and the API's object of each, oldest first, while nothing is locked;
 * what it returns, if not 0, ends the walk and is returned. -ENOENT where there is no such
 * sandbox and nothing is left of it.
 */
MUST_CHECK int checkpoints_each(struct sandboxes *ss, const char *sandbox_id, json_record_fn fn,
				void *arg, struct error *err);
/* With its patches. -ENOENT; -EBUSY where it is pinned. */
MUST_CHECK int checkpoint_delete(struct sandboxes *ss, const char *sandbox_id, const char *id,
				 struct error *err);
/*
 * Its snapshot, once that is sealed (snapshot_fini). sandbox_id NULL: of any
 * sandbox, or any other snapshot. out_config (may be NULL) gets what the sandbox
 * had, or zeros: sandbox_config_fini. -ENOENT; -EBUSY where it has failed or is
 * still being built.
 */
MUST_CHECK int checkpoint_ready(struct sandboxes *ss, const char *sandbox_id, const char *id,
				struct snapshot *out, struct sandbox_config *out_config,
				struct error *err);

/* After a restart: drops the snapshot of a checkpoint that had got no record. */
MUST_CHECK int checkpoints_recover(struct sandboxes *ss, struct error *err);

#endif
