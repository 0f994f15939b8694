/*
 * reaper.h - a process that ends what runs in containers when the daemon has
 * been killed (snapshotd/container/init/reap.c). It lives as long as the daemon does, and
 * then until nothing of its containers runs any more.
 */
#ifndef VARVE_SNAPSHOTD_REAPER_H
#define VARVE_SNAPSHOTD_REAPER_H

#include <sys/types.h>

#include "store/base/error.h"
#include "store/base/macros.h"

struct reaper {
	int life; /* the other end of its pipe: closed, also by our end, it begins */
	pid_t pid;
};

#define REAPER_NONE    \
	{              \
		-1, -1 \
	}

struct reaper_options {
	const char *agent;		   /* the program */
	const char *lock;		   /* a file that it holds locked while it lives */
	const char *bundles_dir, *oci_dir; /* absolute, as in runtime.h */
};

/*
 * Waits for a former daemon's reaper: names of containers come again. -EBUSY
 * when it does not end; -errno where it cannot be started.
 */
MUST_CHECK int reaper_start(const struct reaper_options *o, struct reaper *out, struct error *err);
/* Containers that are left end. For one that was not started, nothing. */
void reaper_stop(struct reaper *r);

#endif
