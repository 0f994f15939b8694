/* remote_internal.h - for remote_rekey.c. */
#ifndef VARVE_SHARE_REMOTE_INTERNAL_H
#define VARVE_SHARE_REMOTE_INTERNAL_H

#include "store/remote/remote.h"

/* The object `format`, into r. -ENOENT, and those of share_format_decode. */
MUST_CHECK int remote_read_format(struct remote *r, unsigned timeout_ms, struct error *err);

#endif
