/*
 * recompress.h - chunks are stored quickly; this stores them again, smaller.
 *
 * A chunk's name is the hash of what it holds, so which frame holds it is nobody
 * else's business: this may run beside readers, writers, gc and verify. What was
 * tried is noted beside the chunk (kv.h) and not tried again, so a run that is
 * ended in the middle, by a crash too, is gone on with by the next.
 *
 * The note is the level, and RECOMPRESS_WITH_DICT where there was a dictionary.
 */
#ifndef VARVE_RECOMPRESS_H
#define VARVE_RECOMPRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/progress.h"
#include "store/store.h"

/*
 * Of a Debian root filesystem's chunks: level 3 makes 92.5 MB; 15 82.0 MB (10 MB of
 * data a second and core), and 76.4 MB with a dictionary (dict.h); 19 81.2 MB.
 */
#define RECOMPRESS_LEVEL_DEFAULT 15
#define RECOMPRESS_LEVEL_MAX 19
#define RECOMPRESS_WITH_DICT 0x80

struct recompress_options {
	int level;	  /* 1..RECOMPRESS_LEVEL_MAX; 0: the default */
	unsigned threads; /* that compress; 0: one a core */
	/*
	 * In the background: one thread, which gets what no other wants (SCHED_IDLE) and
	 * not more than half of the time.
	 */
	bool is_idle;
	/* May be NULL. True: wait. Asked every few chunks, and while it waits. */
	bool (*is_busy)(void *arg);
	void *arg;
};

struct recompress_result {
	uint64_t tried_chunks;
	uint64_t replaced_chunks;	    /* of them: those that got smaller */
	uint64_t before_bytes, after_bytes; /* that the replaced ones take */
	uint64_t damaged_chunks;	    /* left alone; verify says what they are of */
};

/*
 * Of every chunk that snapshots and pins reach; what else there is, gc removes.
 * Gives the space back (kv_compact_content) where it is worth it; the store
 * grows by an eighth or 256 MiB at most meanwhile. Memory: a few MiB a thread. out is
 * written after a failure, too. One run at a time. -ECANCELED, -EROFS, -ENOMEM, -EIO, -ENOSPC.
 */
MUST_CHECK int recompress_run(struct store *s, const struct recompress_options *opt,
			      struct progress *p, struct recompress_result *out, struct error *err);

#endif
