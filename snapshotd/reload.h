/*
 * reload.h - the config file, read again while the daemon runs. What can change then, changes; what
 * cannot is named in the log, each time, until the daemon is started anew.
 */
#ifndef VARVE_SNAPSHOTD_RELOAD_H
#define VARVE_SNAPSHOTD_RELOAD_H

#include "snapshotd/config.h"
#include "snapshotd/state/collector.h"
#include "store/remote/remotes.h"

/*
 * Live: logLevel, remotes, gcInterval, gcGarbageBytes, gcFreeBytes, detachedMountAge,
 * detachedChangedMountAge. These are changed in *c, too. A file with a mistake in it changes
 * nothing, and the log has the mistake. argv is that of the start.
 */
void reload_config(struct config *c, int argc, char *const *argv, struct remotes *remotes,
		   struct collector *collector);

/* The part of a configuration that the collector takes. */
struct collector_reasons config_collector_reasons(const struct config *c);

#endif
