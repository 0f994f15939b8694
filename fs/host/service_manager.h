/*
 * service_manager.h - the protocol of a service manager: datagrams of lines NAME=VALUE, maybe
 * with a descriptor (sd_notify(3)), and what the environment says of descriptors and a watchdog
 * (sd_listen_fds(3), sd_watchdog_enabled(3)). systemd speaks it, and our own keeper.
 */
#ifndef VARVE_FS_SERVICE_MANAGER_H
#define VARVE_FS_SERVICE_MANAGER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "store/base/macros.h"

#define MANAGER_FIRST_FD 3 /* of those that are handed over */

/* len 0: there is none. */
struct manager_address {
	struct sockaddr_un to;
	socklen_t len;
};

/* What $NOTIFY_SOCKET names: a path, or "@name" of the abstract namespace. False: nothing. */
bool manager_find(struct manager_address *out);
/*
 * Send lines, and a descriptor unless it is -1, over a socket: to that address, or to whom it is
 * connected (NULL). -errno.
 */
MUST_CHECK int manager_send(int socket, const struct manager_address *to, const char *text, int fd);

/* The number in a variable, 0 where there is none. */
uint64_t manager_number(const char *name);
/* Does a variable that names a process name this one, or is there none? */
bool manager_means_us(const char *name);
/* How many descriptors from MANAGER_FIRST_FD on this process was handed, `most` at most. */
unsigned manager_fds(unsigned most);

#endif
