#include "snapshotd/service.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "fs/host/service_manager.h"
#include "store/base/clock.h"
#include "store/base/log.h"

#define WATCHDOG_MIN_US ((uint64_t)1000)
#define WATCHDOG_MAX_US (24ull * 3600 * 1000000)

static struct {
	struct manager_address to;
	uint64_t watchdog_us; /* 0: none */
	int socket;
} service = { .socket = -1 };

bool service_is_unix_listener(int fd)
{
	struct sockaddr_un a;
	socklen_t len = sizeof(a);
	int listens = 0;

	if (getsockname(fd, (struct sockaddr *)&a, &len) < 0 || a.sun_family != AF_UNIX)
		return false;
	len = sizeof(listens);
	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens;
}

/* The first that is one; others are nobody's. */
static void find_socket(void)
{
	const int end = MANAGER_FIRST_FD + (int)manager_fds(SERVICE_FDS_MAX);

	for (int fd = MANAGER_FIRST_FD; fd < end; fd++) {
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
		if (service.socket < 0 && service_is_unix_listener(fd))
			service.socket = fd;
	}
}

uint64_t service_watchdog_us(void)
{
	if (!manager_means_us("WATCHDOG_PID"))
		return 0;
	return MIN(manager_number("WATCHDOG_USEC"), (uint64_t)WATCHDOG_MAX_US);
}

void service_find(void)
{
	(void)manager_find(&service.to);
}

void service_begin(void)
{
	static const char *const names[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
					     "LISTEN_PID",    "LISTEN_FDS",    "LISTEN_FDNAMES" };

	service_find();
	find_socket();
	service.watchdog_us = service_watchdog_us();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
}

int service_socket(void)
{
	return service.socket;
}

void service_notify(const char *state)
{
	int fd, r;

	if (!service.to.len)
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	r = fd < 0 ? -errno : manager_send(fd, &service.to, state, -1);
	if (r < 0)
		log_warn("cannot notify systemd: %s", strerror(-r));
	if (fd >= 0)
		close(fd);
}

/* systemd wants to know when a reload has begun (Type=notify-reload), in its clock. */
static void run_reload(void (*reload)(void *arg), void *arg)
{
	char state[80];

	snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%" PRId64, monotonic_us());
	service_notify(state);
	reload(arg);
	service_notify("READY=1");
}

static void feed_watchdog(void *arg)
{
	(void)arg;
	service_notify("WATCHDOG=1");
}

int service_wait(const sigset_t *set, const struct service_calls *calls, void *arg)
{
	/* Twice as often as must be. */
	const uint64_t us = MAX(service.watchdog_us / 2, WATCHDOG_MIN_US);
	void (*alive)(void *) = calls->alive ? calls->alive : feed_watchdog;
	const struct timespec pause = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };

	for (;;) {
		int sig = sigtimedwait(set, NULL, service.watchdog_us ? &pause : NULL);

		if (sig == SIGHUP)
			run_reload(calls->reload, arg);
		else if (sig > 0)
			return sig;
		if (service.watchdog_us)
			alive(arg);
	}
}
