/* listener.h - the listening sockets of the API: a unix socket, and TCP. */
#ifndef VARVE_SNAPSHOTD_LISTENER_H
#define VARVE_SNAPSHOTD_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "store/base/error.h"
#include "store/base/macros.h"

struct listener {
	int fd;	    /* -1: none */
	char *path; /* unix: owned */
	/* Of the socket file, so that another daemon's is left alone. */
	dev_t dev;
	ino_t inode;
	struct timespec made; /* inode numbers are used again */
};
#define LISTENER_NONE           \
	{                       \
		-1, NULL, 0, 0, \
		{               \
			0, 0    \
		}               \
	}

/*
 * Mode 0660; group NULL: leave it. A socket that nobody listens on is
 * replaced; -EADDRINUSE with "already running" where somebody does; -EEXIST
 * where path is no socket; -ENOENT for an unknown group.
 */
MUST_CHECK int listener_unix(struct listener *l, const char *path, const char *group,
			     struct error *err);
/* Port 0: any; *out_port is the one taken. */
MUST_CHECK int listener_tcp(struct listener *l, const char *host, uint16_t port, uint16_t *out_port,
			    struct error *err);
/* Whether there is such an address: -EINVAL; -EAGAIN: the resolver cannot tell now. */
MUST_CHECK int listener_check_host(const char *host, uint16_t port, struct error *err);
/*
 * Go on with a socket that a former process has made, which is taken over; path: of a unix
 * socket, or NULL. -ESTALE: it is not the one at the path; -EINVAL: it does not listen.
 */
MUST_CHECK int listener_adopt(struct listener *l, int fd, const char *path);
/* Remove the socket file, where it still is this listener's. */
void listener_unlink(struct listener *l);
/* Closes fd where it is still there; frees. Does not remove the file. */
void listener_fini(struct listener *l);

#endif
