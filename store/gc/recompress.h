/*
 * recompress.h - chunks are stored quickly; this stores them again, smaller.
 *
 * A chunk is named by the hash of its bytes, whichever frame holds them, so this
 * may run beside readers, writers, gc and verify. A note beside the chunk (kv.h)
 * says what was tried, and that is not tried again. So if a run ends in the
 * middle, even by a crash, the next one continues it.
 *
 * The note is the level, plus RECOMPRESS_WITH_DICT if there was a dictionary.
 */
#ifndef VARVE_RECOMPRESS_H
#define VARVE_RECOMPRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/progress.h"
#include "store/store.h"

/*
 * Of a Debian root filesystem's chunks: level 3 makes 92.5 MB; level 15 makes 82.0
 * MB (10 MB of data per second and core), or 76.4 MB with a dictionary (dict.h);
 * level 19 makes 81.2 MB.
 */
#define RECOMPRESS_LEVEL_DEFAULT 15
#define RECOMPRESS_LEVEL_MAX 19
#define RECOMPRESS_WITH_DICT 0x80

struct recompress_options {
	int level;	  /* 1..RECOMPRESS_LEVEL_MAX; 0: the default */
	unsigned threads; /* that compress; 0: one per core */
	/*
	 * Work in the background: with one thread, which runs only when a core would be
	 * idle (SCHED_IDLE), and at most half of the time.
	 */
	bool is_idle;
	/* May be NULL. True: wait. Asked every few chunks, and again while waiting. */
	bool (*is_busy)(void *arg);
	void *arg;
};

struct recompress_result {
	uint64_t tried_chunks;
	uint64_t replaced_chunks;	    /* those of them that got smaller */
	uint64_t before_bytes, after_bytes; /* that the replaced ones take */
	uint64_t damaged_chunks;	    /* left alone; verify says which files have them */
};

/*
 * Recompress every chunk that snapshots and pins reach; gc removes the others. Gives the space
 * back (kv_compact_content) when it is worth it; meanwhile the store grows by at most an
 * eighth or 256 MiB. Memory: a few MiB per thread. out is written after a failure, too. One
 * run at a time. -ECANCELED, -EROFS, -ENOMEM, -EIO, -ENOSPC.
 */
MUST_CHECK int recompress_run(struct store *s, const struct recompress_options *opt,
			      struct progress *p, struct recompress_result *out, struct error *err);

#endif
