/*
 * held.h - the descriptors that daemons leave with their keeper (supervise.h), by name: what
 * fs/host/keeper.h sends and finds, from the other side.
 *
 * Whatever comes from a daemon is checked, for one that dies may have been sick before. Not
 * thread-safe.
 */
#ifndef VARVE_SNAPSHOTD_HELD_H
#define VARVE_SNAPSHOTD_HELD_H

#include <stdbool.h>
#include <stddef.h>

#include "fs/host/keeper.h"
#include "store/base/macros.h"

/* All zeros: none. */
struct held {
	size_t n;
	struct held_fd {
		char name[KEEPER_NAME_MAX + 1];
		int fd;
	} fds[KEEPER_FDS_MAX];
};

/* Takes fd over, in place of what had this name. With KEEPER_FDS_MAX others it is closed. */
void held_put(struct held *h, const char *name, int fd);
/* Close what has this name, if anything has. */
void held_drop(struct held *h, const char *name);

/*
 * Take one datagram from a daemon: hold or drop what it says, and call fn with each line that says
 * anything else. False: there is none.
 */
MUST_CHECK bool held_receive(struct held *h, int socket, void (*fn)(void *arg, const char *line),
			     void *arg);

/* All names, separated by colons, for the caller to free; NULL: out of memory. */
MUST_CHECK char *held_names(const struct held *h);
/*
 * In a child that becomes a daemon: make all of them the descriptors from `first` on, in the order
 * of their names; those in between are lost. above: more than all that they become; one more is
 * needed from there on. -errno.
 */
MUST_CHECK int held_lay_out(struct held *h, int first, int above);

#endif
