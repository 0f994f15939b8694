/* config_check.h - whether a daemon of this configuration could start on this host: --check-config.
 */
#ifndef VARVE_SNAPSHOTD_CONFIG_CHECK_H
#define VARVE_SNAPSHOTD_CONFIG_CHECK_H

#include "snapshotd/config.h"

/*
 * -EINVAL, naming the setting: a relative state directory, a group or an address that there is not,
 * an OCI runtime that is not installed. Where the runtime is the default, which a daemon without
 * sandboxes does not need, that is only told on standard error. Asks the resolver.
 */
MUST_CHECK int config_check_host(const struct config *c, struct error *err);

#endif
