/*
 * formats.h - what another version of the daemon has written, in the store and in memory that the
 * keeper has, is refused by name before anything is changed.
 */
#ifndef VARVE_SNAPSHOTD_FORMATS_H
#define VARVE_SNAPSHOTD_FORMATS_H

#include "fs/host/keeper.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/store.h"

/*
 * In an upgrade: -EINVAL, with a reason, where the keeper has something that this program does not
 * understand; the program before it goes on then. Else it is dropped by whoever finds it: nobody
 * could go on with it. Before threads, and before the store is open.
 */
MUST_CHECK int formats_check_kept(const struct keeper *k, struct error *err);
/* -EINVAL, with a reason, where a journal or a record is of a newer version. */
MUST_CHECK int formats_check_store(struct store *s, struct error *err);

#endif
