/*
 * prefetch_make_internal.h - the hot object that a use leaves.
 */
#ifndef VARVE_SHARE_PREFETCH_MAKE_INTERNAL_H
#define VARVE_SHARE_PREFETCH_MAKE_INTERNAL_H

#include "store/base/buf.h"
#include "store/base/macros.h"
#include "store/lazy/prefetch_use_internal.h"

/* Append it to out. The use has ended, with no request of its own under way. -EINVAL: nothing. */
MUST_CHECK int prefetch_make(const struct use *u, struct buf *out);

#endif
