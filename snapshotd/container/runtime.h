/*
 * runtime.h - the OCI runtime (runc, crun, ...) and what all containers of a
 * daemon share: the agent's file (STATE/run/varve-init), the runtime's own
 * state (STATE/run/oci) and the bundles (STATE/run/bundles).
 */
#ifndef VARVE_SNAPSHOTD_RUNTIME_H
#define VARVE_SNAPSHOTD_RUNTIME_H

#include "store/base/error.h"
#include "store/base/macros.h"

struct runtime;

struct keeper;

struct runtime_options {
	const char *program;   /* a path, or a name that is looked up in PATH */
	const char *state_dir; /* STATE: the store's directory, absolute */
	struct keeper *keeper; /* what holds containers for a successor; NULL: none */
};

/*
 * Kills and deletes the containers that a former daemon left, but those that it left to
 * the keeper: they are for container_adopt, until runtime_drop_kept. A runtime that
 * is not installed is no failure: container_start says so. -EIO and the like
 * where STATE/run cannot be made.
 */
MUST_CHECK int runtime_open(const struct runtime_options *o, struct runtime **out,
			    struct error *err);
/* Kill and delete those that a predecessor kept and nobody has adopted. */
void runtime_drop_kept(struct runtime *rt);
/* Every container has been stopped before. NULL is accepted. */
void runtime_close(struct runtime *rt);

#endif
