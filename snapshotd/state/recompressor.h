/*
 * recompressor.h - the daemon's thread that makes chunks smaller (store/gc/recompress.h)
 * while nothing else goes on: no import, no checkpoint being sealed, and hardly
 * a request to a mount, for a while before it begins and all the time it works.
 */
#ifndef VARVE_SNAPSHOTD_RECOMPRESSOR_H
#define VARVE_SNAPSHOTD_RECOMPRESSOR_H

#include "fs/mount/mount.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/gc/recompress.h"

struct recompressor_options {
	struct store *store;	   /* borrowed, as the pool */
	struct session_pool *pool; /* whose requests count; NULL: none do */
	int level;		   /* 0: never in the background */
	unsigned quiet_s;	   /* how long nothing goes on before it begins */
};

struct recompressor;
/* Starts the thread. */
MUST_CHECK int recompressor_open(const struct recompressor_options *opt, struct recompressor **out,
				 struct error *err);
/* Ends it, within a chunk. NULL is accepted. */
void recompressor_close(struct recompressor *r);

/*
 * Do it now, on every core, instead of the thread; which waits meanwhile. At its
 * level, or the default. As recompress_run; -EBUSY where another does it.
 */
MUST_CHECK int recompressor_run(struct recompressor *r, struct progress *p,
				struct recompress_result *out, struct error *err);

#endif
