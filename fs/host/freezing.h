/*
 * freezing.h - processes that are held up, and are let go in time.
 *
 * Whoever has frozen a cgroup may wait for a disk that others keep busy. A thread
 * thaws it when the time is over, whatever he waits for.
 */
#ifndef VARVE_FS_FREEZING_H
#define VARVE_FS_FREEZING_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"

struct freezing {
	const char *cgroup; /* borrowed */
	uint64_t begin_ns, until_ns;
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t ended_cond;
	bool ended, late;
	uint64_t thawed_ns; /* 0: not yet */
};

/* Freeze the cgroup for max_ms at most. On failure it is not frozen, and f is not to be ended. */
MUST_CHECK int freezing_begin(struct freezing *f, const char *cgroup, unsigned max_ms,
			      struct error *err);
/* Was the time over, and the cgroup let go? */
bool freezing_is_late(struct freezing *f);
/* Let it go; *out_ns: how long it stood still. False where the time was over before. */
bool freezing_end(struct freezing *f, uint64_t *out_ns);

#endif
