/*
 * json_items.h - the items of a JSON array, one at a time: for a list that comes
 * from somebody who may lie, and of which a tree would be many times its text.
 */
#ifndef VARVE_SNAPSHOTD_JSON_ITEMS_H
#define VARVE_SNAPSHOTD_JSON_ITEMS_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "store/base/macros.h"

/* item: an object or array, valid during the call. Non-zero ends it and is returned. */
typedef int (*json_item_fn)(void *arg, const json_t *item);
/*
 * -EBADMSG: text is no array of objects or arrays of at most item_max bytes each; fn
 * may have been called for those before.
 */
MUST_CHECK int json_items_each(const char *text, size_t len, size_t item_max, json_item_fn fn,
			       void *arg);

#endif
