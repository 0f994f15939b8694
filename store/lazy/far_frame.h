/* far_frame.h - a chunk's frame that came from a bucket. Pure. */
#ifndef VARVE_LAZY_FAR_FRAME_H
#define VARVE_LAZY_FAR_FRAME_H

#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/chunk/source.h"

/*
 * Decode it and compare it with its digest: f->chunk is set. A failure releases the frame:
 * -EBADMSG, -ENOMEM.
 */
MUST_CHECK int far_frame_check(struct source_frame *f, const struct digest *d);

#endif
