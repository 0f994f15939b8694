#include "fs/host/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/host/service_manager.h"
#include "store/base/log.h"

/* Of /dev/fuse: Linux, Documentation/admin-guide/devices.txt */
#define FUSE_MAJOR 10
#define FUSE_MINOR 229

struct kept {
	char name[KEEPER_NAME_MAX + 1];
	int fd; /* -1: taken */
};

struct keeper {
	int socket;
	struct manager_address manager; /* len 0: the socket is connected, to our own keeper */
	unsigned generation;
	bool has_crashed, is_trial, goes_on, watches;
	pthread_mutex_t lock; /* guards what follows */
	struct kept *found;
	size_t n_found;
};

/* ---- the start ---- */

/* What listens for a socket unit is the service's to serve, and not given up by us. */
static bool is_of_socket_unit(const struct keeper *k, const char *name, int fd)
{
	socklen_t len = sizeof(int);
	int listens = 0;

	return k->manager.len &&
	       strncmp(name, KEEPER_OWN_SOCKETS, strlen(KEEPER_OWN_SOCKETS)) != 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens;
}

static int find_fds(struct keeper *k)
{
	char *names = getenv("LISTEN_FDNAMES"), *copy, *at;
	const unsigned n = manager_fds(KEEPER_FDS_MAX);

	if (!n || !names)
		return 0;
	k->found = calloc(n, sizeof(*k->found));
	at = copy = strdup(names);
	if (!k->found || !copy) {
		free(copy);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < n && at; i++) {
		struct kept *f = &k->found[k->n_found];
		const char *name = strsep(&at, ":");

		f->fd = MANAGER_FIRST_FD + (int)i;
		if (is_of_socket_unit(k, name, f->fd))
			continue;
		k->n_found++;
		(void)fcntl(f->fd, F_SETFD, FD_CLOEXEC);
		snprintf(f->name, sizeof(f->name), "%s", name);
	}
	free(copy);
	return 0;
}

/* The socket of a service manager that keeps descriptors. */
static int find_manager(struct keeper *k)
{
	if (!manager_number("FDSTORE") || !manager_find(&k->manager))
		return -ENOENT;
	k->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return k->socket < 0 ? -errno : 0;
}

static int find_socket(struct keeper *k)
{
	k->socket = (int)manager_number("VARVE_KEEPER");
	if (k->socket <= 0)
		return find_manager(k);
	return fcntl(k->socket, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

struct keeper *keeper_open(void)
{
	static const char *const names[] = { "VARVE_KEEPER",  "VARVE_GENERATION", "VARVE_CRASHED",
					     "VARVE_TRIAL",   "VARVE_GOES_ON",	  "VARVE_WATCH",
					     "FDSTORE",	      "LISTEN_PID",	  "LISTEN_FDS",
					     "LISTEN_FDNAMES" };
	/* Sockets that a service manager hands over are others' business, too. */
	const size_t n_names = ARRAY_SIZE(names) - (getenv("VARVE_KEEPER") ? 0 : 3);
	struct keeper *k = calloc(1, sizeof(*k));
	int r = k ? find_socket(k) : -ENOMEM;

	if (!r)
		r = find_fds(k);
	if (!r) {
		k->generation = (unsigned)manager_number("VARVE_GENERATION");
		k->has_crashed = manager_number("VARVE_CRASHED") != 0;
		k->watches = manager_number("VARVE_WATCH") != 0;
		k->is_trial = manager_number("VARVE_TRIAL") != 0;
		k->goes_on = manager_number("VARVE_GOES_ON") != 0;
		pthread_mutex_init(&k->lock, NULL);
	} else if (k) {
		if (r != -ENOENT)
			log_warn("nothing is kept for a successor: %s", strerror(-r));
		free(k->found);
		free(k);
		k = NULL;
	}
	for (size_t i = 0; i < n_names; i++)
		unsetenv(names[i]); /* not for children */
	return k;
}

void keeper_close(struct keeper *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < k->n_found; i++)
		if (k->found[i].fd >= 0)
			close(k->found[i].fd);
	close(k->socket);
	pthread_mutex_destroy(&k->lock);
	free(k->found);
	free(k);
}

unsigned keeper_generation(const struct keeper *k)
{
	return k && k->generation ? k->generation : 1;
}

bool keeper_has_crashed(const struct keeper *k)
{
	return k && k->has_crashed;
}

bool keeper_is_trial(const struct keeper *k)
{
	return k && k->is_trial;
}

bool keeper_goes_on(const struct keeper *k)
{
	return k && k->goes_on;
}

/* ---- messages ---- */

static int tell(struct keeper *k, const char *text, int fd)
{
	return manager_send(k->socket, k->manager.len ? &k->manager : NULL, text, fd);
}

/* A service manager would not know what this means. */
static bool is_ours(const struct keeper *k)
{
	return k && !k->manager.len;
}

bool keeper_watches(const struct keeper *k)
{
	return k && k->watches;
}

void keeper_sign_of_life(struct keeper *k)
{
	int r = keeper_watches(k) ? tell(k, "WATCHDOG=1", -1) : 0;

	if (r)
		log_warn("the keeper gets no sign of life: %s", strerror(-r));
}

void keeper_adopted(struct keeper *k)
{
	int r = is_ours(k) ? tell(k, "ADOPTED=1", -1) : 0;

	if (r)
		log_warn("the keeper does not know that mounts are served: %s", strerror(-r));
}

void keeper_stopping(struct keeper *k)
{
	int r = is_ours(k) ? tell(k, "STOPPING=1", -1) : 0;

	if (r)
		log_warn("the keeper does not know that this daemon stops: %s", strerror(-r));
}

void keeper_ready(struct keeper *k)
{
	int r = k ? tell(k, "READY=1", -1) : 0;

	if (r)
		log_warn("the keeper does not know that this daemon is ready: %s", strerror(-r));
}

int keeper_upgrade(struct keeper *k)
{
	return is_ours(k) ? tell(k, "UPGRADE=1", -1) : -ENOTSUP;
}

int keeper_put(struct keeper *k, const char *name, int fd)
{
	char text[sizeof("FDSTORE=1\nFDNAME=") + KEEPER_NAME_MAX];

	if (!k)
		return -ENOTSUP;
	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name);
	return tell(k, text, fd);
}

void keeper_drop(struct keeper *k, const char *name)
{
	char text[sizeof("FDSTOREREMOVE=1\nFDNAME=") + KEEPER_NAME_MAX];

	if (!k)
		return;
	snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	int r = tell(k, text, -1);

	if (r)
		log_warn("%s: the keeper cannot be told to give it up: %s", name, strerror(-r));
}

/* ---- what was found ---- */

/* The first whose name has these first n bytes; name (may be NULL) gets all of it. */
static int take(struct keeper *k, const char *prefix, size_t n, char *name)
{
	int fd = -ENOENT;

	if (!k)
		return -ENOENT;
	pthread_mutex_lock(&k->lock);
	for (size_t i = 0; i < k->n_found && fd < 0; i++) {
		struct kept *f = &k->found[i];

		if (f->fd < 0 || strncmp(f->name, prefix, n) != 0)
			continue;
		fd = f->fd;
		f->fd = -1;
		if (name)
			memcpy(name, f->name, sizeof(f->name));
	}
	pthread_mutex_unlock(&k->lock);
	return fd;
}

int keeper_take(struct keeper *k, const char *name)
{
	return take(k, name, strlen(name) + 1, NULL); /* its end, too */
}

int keeper_take_any(struct keeper *k, const char *prefix, char *name)
{
	return take(k, prefix, strlen(prefix), name);
}

int keeper_each(const struct keeper *k, int (*fn)(void *arg, const char *name, int fd), void *arg)
{
	int r = 0;

	for (size_t i = 0; k && i < k->n_found && !r; i++)
		if (k->found[i].fd >= 0)
			r = fn(arg, k->found[i].name, k->found[i].fd);
	return r;
}

/* A mount's connection that has not ended? */
static bool is_connection(int fd)
{
	struct pollfd p = { .fd = fd };
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == makedev(FUSE_MAJOR, FUSE_MINOR) && poll(&p, 1, 0) == 0;
}

void keeper_drop_untaken(struct keeper *k)
{
	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	for (size_t i = 0; i < k->n_found; i++) {
		struct kept *f = &k->found[i];

		if (f->fd < 0)
			continue;
		if (is_connection(f->fd))
			log_error("nothing is known of the mount %s, which ends", f->name);
		close(f->fd);
		f->fd = -1;
		keeper_drop(k, f->name);
	}
	pthread_mutex_unlock(&k->lock);
}
