/*
 * kept.h - containers that the keeper holds for a successor: the control socket and the pidfd
 * of each, in a box. An agent sees no end of its socket while the keeper has it.
 */
#ifndef VARVE_SNAPSHOTD_KEPT_H
#define VARVE_SNAPSHOTD_KEPT_H

#include <stdbool.h>
#include <sys/types.h>

#include "fs/host/keeper.h"
#include "store/base/macros.h"

#define KEPT_PREFIX "container-"

struct kept {
	char *name; /* the container's */
	int control, pidfd;
	pid_t pid;
	struct kept *next;
};

/* False: it will end with the daemon. */
bool kept_put(struct keeper *k, const char *name, int control, int pidfd, pid_t pid);
void kept_drop(struct keeper *k, const char *name);
/*
 * What a predecessor has left of a container whose first process lives and speaks as we do;
 * for kept_free. NULL: nothing.
 */
struct kept *kept_take(struct keeper *k, const char *name);
/* 0: kept_take would understand what is in this box, which it does not open; -EPROTO. */
MUST_CHECK int kept_check(int box);
/* Closes what it still has. */
void kept_free(struct kept *c);

#endif
