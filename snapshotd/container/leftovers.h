/*
 * leftovers.h - what runs on when a daemon has been killed: calls of the OCI
 * runtime, and containers. The reaper ends them at once; the next daemon does
 * so again, for the reaper may have been killed, too.
 */
#ifndef VARVE_SNAPSHOTD_LEFTOVERS_H
#define VARVE_SNAPSHOTD_LEFTOVERS_H

#include "snapshotd/container/cgroup.h"

/* A container's name to the runtime and to cgroups begins so. */
#define CONTAINER_PREFIX "varve-"

/*
 * Kill the calls of a runtime with `--root oci_dir`. They were told to die
 * with the daemon, but may still be dying, in the middle of making what is to
 * be removed. -EBUSY when one does not end.
 */
MUST_CHECK int leftovers_end_calls(const char *oci_dir, struct error *err);
/*
 * Kill what is in the cgroups of the containers that have a bundle, thaw it,
 * and remove these cgroups. Waits for all of it together. -EBUSY when some do
 * not end, with which.
 */
MUST_CHECK int leftovers_kill(const char *bundles_dir, const struct cgroups *cs, struct error *err);

#endif
