/*
 * freezing.h - freezes a cgroup, for a limited time.
 *
 * The thread that froze a cgroup may get stuck on a busy disk. So another
 * thread thaws the cgroup when the time is over.
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

/* Freeze the cgroup for max_ms at most. On failure it is not frozen; do not call freezing_end. */
MUST_CHECK int freezing_begin(struct freezing *f, const char *cgroup, unsigned max_ms,
			      struct error *err);
/* Whether the time ran out, so that the cgroup was thawed. */
bool freezing_is_late(struct freezing *f);
/* Thaw it; *out_ns: how long it was frozen. False if the time had run out before. */
bool freezing_end(struct freezing *f, uint64_t *out_ns);

#endif
