/* config_check.h - whether a daemon of this configuration could start on this host: --check-config.
 */
#ifndef VARVE_SNAPSHOTD_CONFIG_CHECK_H
#define VARVE_SNAPSHOTD_CONFIG_CHECK_H

#include "snapshotd/config.h"

/*
 * -EINVAL, naming the setting: a group or an address that there is not, an OCI runtime that is not
 * installed. Only told on standard error: the default runtime, which a daemon without sandboxes
 * does not need, an address that the resolver does not know just now, a relative state directory.
 */
MUST_CHECK int config_check_host(const struct config *c, struct error *err);

#endif
