/*
 * service.h - the daemon under a service manager: what it tells systemd (sd_notify(3), a datagram
 * to $NOTIFY_SOCKET), the sockets that it is handed, and the wait for signals. Without systemd all
 * of it does nothing. One thread, that of main().
 */
#ifndef VARVE_SNAPSHOTD_SERVICE_H
#define VARVE_SNAPSHOTD_SERVICE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/macros.h"

/* How often it wants a sign of life of this process, in microseconds; 0: never. Of the environment.
 */
uint64_t service_watchdog_us(void);
/* service_notify works from now on; the environment stays as it is. service_begin does it, too. */
void service_find(void);
/* Takes the variables out of the environment, so that no child sees them. Before there are any. */
void service_begin(void);
/* The listening unix socket that systemd has handed over, close-on-exec; -1: there is none. */
int service_socket(void);
#define SERVICE_FDS_MAX 64
/* Systemd hands over whatever its unit says; the API without a key is for a unix socket alone. */
bool service_is_unix_listener(int fd);
/* "READY=1", "STOPPING=1", "STATUS=...", lines of sd_notify(3). */
void service_notify(const char *state);
/*
 * Wait for one of the signals in `set`, which are blocked, and return it. On SIGHUP, which is to be
 * among them, reload(arg) is called and the wait goes on. Meanwhile alive(arg) is called in time
 * for the watchdog; NULL: systemd's is fed.
 */
struct service_calls {
	void (*reload)(void *arg);
	void (*alive)(void *arg);
};
int service_wait(const sigset_t *set, const struct service_calls *calls, void *arg);

#endif
