/*
 * collect_hooks.h - the part of a collection that deletes hooks (hooks.h) of snapshots that are not
 * in use any more, and of pushes that came to nothing. After the rounds: nobody relies on a hook.
 */
#ifndef VARVE_SHARE_COLLECT_HOOKS_H
#define VARVE_SHARE_COLLECT_HOOKS_H

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/bucket/object_store.h"
#include "store/share/collect_mark.h"

/* -ECANCELED, -ENOMEM, failures of the bucket. */
MUST_CHECK int collect_hooks_run(struct object_store *os, const struct mark *mark,
				 struct progress *p, struct error *err);

#endif
