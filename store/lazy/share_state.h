/*
 * share_state.h - in which remotes a snapshot of the store is, and whether all of it is here, as
 * far as the store knows without a walk. Asks no bucket.
 */
#ifndef VARVE_SHARE_STATE_H
#define VARVE_SHARE_STATE_H

#include <jansson.h>

#include "store/base/macros.h"
#include "store/kv/kv.h"
#include "store/remote/lazy_index.h"

/*
 * Set in o, a snapshot's object:
 *   "remotes"  [{"remote", "id"}], by the remote's name
 *   "share"    "local": it is in none of them; "pushed"; or "lazy": in one of them, and parts of it
 *              may be there alone (presence.h tells how much)
 * ix NULL: nothing is lazy. -ENOMEM or -EIO.
 */
MUST_CHECK int share_state_tell(struct kv *kv, struct lazy_index *ix, const char *local, json_t *o);

#endif
