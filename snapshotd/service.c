#include "snapshotd/service.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/base/log.h"

#define FIRST_SOCKET 3 /* SD_LISTEN_FDS_START */
#define WATCHDOG_MIN_US ((uint64_t)1000)
#define WATCHDOG_MAX_US (24ull * 3600 * 1000000)

static struct {
	struct sockaddr_un to; /* $NOTIFY_SOCKET; sun_family 0: there is none */
	socklen_t to_len;
	uint64_t watchdog_us; /* 0: none */
	int socket;
} service = { .socket = -1 };

/* The number in a variable, 0 where there is none. */
static uint64_t env_number(const char *name)
{
	const char *s = getenv(name);
	char *end;

	if (!s || *s < '0' || *s > '9')
		return 0;
	errno = 0;
	unsigned long long n = strtoull(s, &end, 10);
	return errno || *end ? 0 : n;
}

/* A variable that names a process is meant for that one alone. */
static bool env_is_mine(const char *name)
{
	return !getenv(name) || env_number(name) == (uint64_t)getpid();
}

/* A path, or "@name" of the abstract namespace. */
static void find_notify_socket(void)
{
	const char *s = getenv("NOTIFY_SOCKET");
	size_t len = s ? strlen(s) : 0;

	if (len < 2 || (*s != '/' && *s != '@') || len >= sizeof(service.to.sun_path))
		return;
	service.to.sun_family = AF_UNIX;
	memcpy(service.to.sun_path, s, len);
	if (*s == '@')
		service.to.sun_path[0] = '\0';
	service.to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

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
	const uint64_t n = getenv("LISTEN_PID") && env_is_mine("LISTEN_PID")
				   ? MIN(env_number("LISTEN_FDS"), (uint64_t)SERVICE_FDS_MAX)
				   : 0;

	for (int fd = FIRST_SOCKET; fd < FIRST_SOCKET + (int)n; fd++) {
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
		if (service.socket < 0 && service_is_unix_listener(fd))
			service.socket = fd;
	}
}

void service_begin(void)
{
	static const char *const names[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
					     "LISTEN_PID",    "LISTEN_FDS",    "LISTEN_FDNAMES" };

	find_notify_socket();
	find_socket();
	if (env_is_mine("WATCHDOG_PID"))
		service.watchdog_us = MIN(env_number("WATCHDOG_USEC"), (uint64_t)WATCHDOG_MAX_US);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
}

int service_socket(void)
{
	return service.socket;
}

void service_notify(const char *state)
{
	int fd;

	if (!service.to.sun_family)
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL,
			     (const struct sockaddr *)&service.to, service.to_len) < 0)
		log_warn("cannot notify systemd: %s", strerror(errno));
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

int service_wait(const sigset_t *set, void (*reload)(void *arg), void *arg)
{
	/* Twice as often as must be. */
	const uint64_t us = MAX(service.watchdog_us / 2, WATCHDOG_MIN_US);
	const struct timespec pause = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };

	for (;;) {
		int sig = sigtimedwait(set, NULL, service.watchdog_us ? &pause : NULL);

		if (sig == SIGHUP)
			run_reload(reload, arg);
		else if (sig > 0)
			return sig;
		if (service.watchdog_us)
			service_notify("WATCHDOG=1");
	}
}
