/*
 * reaper.h - a process that ends what runs in containers when the daemon has
 * been killed (snapshotd/container/init/reap.c). It lives as long as the daemon does, or its
 * keeper, and then until nothing of its containers runs any more.
 */
#ifndef VARVE_SNAPSHOTD_REAPER_H
#define VARVE_SNAPSHOTD_REAPER_H

#include <stdbool.h>
#include <sys/types.h>

#include "fs/host/keeper.h"
#include "store/base/error.h"
#include "store/base/macros.h"

#define REAPER_KEPT_NAME "reaper" /* to the keeper */

struct reaper {
	int life;  /* the other end of its pipe: closed, also by our end, it begins */
	pid_t pid; /* -1: a predecessor's child */
	struct keeper *keeper;
	char *lock;
};

#define REAPER_NONE                \
	{                          \
		-1, -1, NULL, NULL \
	}

struct reaper_options {
	const char *agent;		   /* the program */
	const char *lock;		   /* a file that it holds locked while it lives */
	const char *bundles_dir, *oci_dir; /* absolute, as in runtime.h */
	struct keeper *keeper;		   /* holds its pipe, too; may be NULL */
};

/*
 * Goes on with the reaper that the keeper has a pipe of; if that was killed, with a new one. Then
 * the containers go on as well, *out_kept. Else waits for a former daemon's: names of containers
 * come again. -EBUSY when that does not end; -errno where one cannot be started.
 */
MUST_CHECK int reaper_start(const struct reaper_options *o, struct reaper *out, bool *out_kept,
			    struct error *err);
/* Containers that are left end. For one that was not started, nothing. */
void reaper_stop(struct reaper *r);

#endif
