/*
 * sandbox_patches.h - patches: scripts that are run, in the order in which they
 * were added, in every sandbox that is made from a snapshot.
 */
#ifndef VARVE_SNAPSHOTD_SANDBOX_PATCHES_H
#define VARVE_SNAPSHOTD_SANDBOX_PATCHES_H

#include <stdbool.h>

#include <jansson.h>

#include "snapshotd/state/json_record.h"
#include "store/base/error.h"
#include "store/base/macros.h"

#define PATCH_SCRIPT_MAX (120u << 10) /* a program's argument has at most 128 KiB */
#define PATCH_TIMEOUT_S 600	      /* of one script */

struct sandbox;
struct sandboxes;

/*
 * *out: the API's PatchInfo. -ENOENT: no such snapshot. -EFBIG: of the script. -EBUSY: it has
 * as many as the daemon's patch_limit.
 */
MUST_CHECK int patches_add(struct sandboxes *ss, const char *snapshot_id, const char *script,
			   const char *description, json_t **out, struct error *err);
/*
 * Call fn with the id and the API's object of each, in their order, while nothing is locked;
 * what it returns, if not 0, ends the walk and is returned. -ENOENT: no such snapshot.
 */
MUST_CHECK int patches_each(struct sandboxes *ss, const char *snapshot_id, json_record_fn fn,
			    void *arg, struct error *err);
MUST_CHECK int patches_delete(struct sandboxes *ss, const char *snapshot_id, const char *patch_id,
			      struct error *err);
/* All of a snapshot that goes. */
void patches_drop(struct sandboxes *ss, const char *snapshot_id);
/* Those of snapshots that went in another way: deleted by name, or expired. At the start. */
MUST_CHECK int patches_sweep(struct sandboxes *ss, struct error *err);

/*
 * Run those of the snapshot in a sandbox that runs. The first that does not end
 * with 0 ends it: -ECHILD, with which it was and the end of what it said.
 * cancelled (may be NULL) is polled: -ECANCELED.
 */
MUST_CHECK int patches_run(struct sandbox *sb, const char *snapshot_id,
			   bool (*cancelled)(void *arg), void *arg, struct error *err);

#endif
