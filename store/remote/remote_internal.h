/* remote_internal.h - for remote_rekey.c and remote_alternate.c. */
#ifndef VARVE_SHARE_REMOTE_INTERNAL_H
#define VARVE_SHARE_REMOTE_INTERNAL_H

#include "store/layout/share_format.h"
#include "store/remote/remote.h"

/* The object `format`, into r. -ENOENT, and those of share_format_decode. */
MUST_CHECK int remote_read_format(struct remote *r, unsigned timeout_ms, struct error *err);
/* Have the bucket ask for those features, too, for good. -ENOTSUP: it cannot. */
MUST_CHECK int remote_need(struct remote *r, const struct share_format *want, struct error *err);

#endif
