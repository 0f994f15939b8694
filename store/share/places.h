/* places.h - in which remotes a snapshot of the store is, as far as the store knows. */
#ifndef VARVE_SHARE_PLACES_H
#define VARVE_SHARE_PLACES_H

#include <jansson.h>

#include "store/kv/kv.h"

/* [{"remote", "id"}], by the remote's name. Asks no bucket. A new reference; NULL on failure. */
json_t *share_places(struct kv *kv, const char *local);

#endif
