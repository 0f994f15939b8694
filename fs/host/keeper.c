#include "fs/host/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/host/service_manager.h"
#include "store/base/clock.h"
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
	int64_t down_ms; /* CLOCK_MONOTONIC: since when nobody had served the mounts; 0 */
	struct keeper_counts counts; /* as of the start */
	_Atomic int64_t takeover_ms;
	pthread_mutex_t lock; /* guards what follows */
	struct kept *found;
	size_t n_found;
	/*
	 * What the keeper has by now, which does not answer. Guarded by names_lock, inside which it
	 * is told, so that it learns of changes in their order.
	 */
	pthread_mutex_t names_lock;
	char (*names)[KEEPER_NAME_MAX + 1];
	size_t n_names, limit;
	unsigned long long refused;
};

/* ---- what is kept ---- */

/* Its index, or n_names. */
static size_t find_name(const struct keeper *k, const char *name)
{
	size_t i = 0;

	while (i < k->n_names && strcmp(k->names[i], name) != 0)
		i++;
	return i;
}

static void add_name(struct keeper *k, const char *name)
{
	snprintf(k->names[k->n_names++], sizeof(*k->names), "%s", name);
}

/* Those that were found are kept on. */
static int begin_names(struct keeper *k)
{
	k->limit = KEEPER_FDS_MAX;
	if (k->manager.len)
		k->limit = (size_t)MIN(manager_number("FDSTORE"), (uint64_t)KEEPER_FDS_MAX);
	k->names = calloc(MAX(k->limit, k->n_found), sizeof(*k->names));
	if (!k->names)
		return -ENOMEM;
	for (size_t i = 0; i < k->n_found; i++)
		add_name(k, k->found[i].name);
	return 0;
}

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

/* A number for each cause. */
static void find_counts(struct keeper *k)
{
	const char *s = getenv("VARVE_TAKEOVERS");

	for (int i = 0; s && *s && i < KEEPER_CAUSES; i++) {
		char *end;

		k->counts.takeovers[i] = strtoull(s, &end, 10);
		s = *end ? end + 1 : end;
	}
	k->down_ms = (int64_t)manager_number("VARVE_DOWN_MS");
}

struct keeper *keeper_open(void)
{
	static const char *const names[] = {
		"VARVE_KEEPER",	 "VARVE_GENERATION", "VARVE_CRASHED",	"VARVE_TRIAL",
		"VARVE_GOES_ON", "VARVE_WATCH",	     "VARVE_TAKEOVERS", "VARVE_DOWN_MS",
		"FDSTORE",	 "LISTEN_PID",	     "LISTEN_FDS",	"LISTEN_FDNAMES"
	};
	/* Sockets that a service manager hands over are others' business, too. */
	const size_t n_names = ARRAY_SIZE(names) - (getenv("VARVE_KEEPER") ? 0 : 3);
	struct keeper *k = calloc(1, sizeof(*k));
	int r = k ? find_socket(k) : -ENOMEM;

	if (!r)
		r = find_fds(k);
	if (!r)
		r = begin_names(k);
	if (!r) {
		find_counts(k);
		k->generation = (unsigned)manager_number("VARVE_GENERATION");
		k->has_crashed = manager_number("VARVE_CRASHED") != 0;
		k->watches = manager_number("VARVE_WATCH") != 0;
		k->is_trial = manager_number("VARVE_TRIAL") != 0;
		k->goes_on = manager_number("VARVE_GOES_ON") != 0;
		pthread_mutex_init(&k->lock, NULL);
		pthread_mutex_init(&k->names_lock, NULL);
	} else if (k) {
		if (r != -ENOENT)
			log_warn("nothing is kept for a successor: %s", strerror(-r));
		free(k->found);
		free(k->names);
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
	pthread_mutex_destroy(&k->names_lock);
	free(k->names);
	free(k->found);
	free(k);
}

void keeper_get_counts(struct keeper *k, struct keeper_counts *out)
{
	*out = (struct keeper_counts){ .kept = 0 };
	if (!k)
		return;
	*out = k->counts;
	out->takeover_ms = atomic_load(&k->takeover_ms);
	pthread_mutex_lock(&k->names_lock);
	out->kept = k->n_names;
	out->limit = k->limit;
	out->refused = k->refused;
	pthread_mutex_unlock(&k->names_lock);
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

bool keeper_is_ours(const struct keeper *k)
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

void keeper_writes(struct keeper *k)
{
	int r = keeper_is_ours(k) ? tell(k, "WRITES=1", -1) : 0;

	if (r)
		log_warn("the keeper does not know that this daemon writes: %s", strerror(-r));
}

void keeper_adopted(struct keeper *k)
{
	int r = keeper_is_ours(k) ? tell(k, "ADOPTED=1", -1) : 0;

	if (k && k->down_ms)
		atomic_store(&k->takeover_ms, MAX(monotonic_ms() - k->down_ms, (int64_t)1));
	if (r)
		log_warn("the keeper does not know that mounts are served: %s", strerror(-r));
}

void keeper_stopping(struct keeper *k)
{
	int r = keeper_is_ours(k) ? tell(k, "STOPPING=1", -1) : 0;

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
	return keeper_is_ours(k) ? tell(k, "UPGRADE=1", -1) : -ENOTSUP;
}

static int tell_of(struct keeper *k, const char *what, const char *name, int fd)
{
	char text[sizeof("FDSTOREREMOVE=1\nFDNAME=") + KEEPER_NAME_MAX];

	snprintf(text, sizeof(text), "%s=1\nFDNAME=%s", what, name);
	return tell(k, text, fd);
}

int keeper_put(struct keeper *k, const char *name, int fd)
{
	int r = 0;

	if (!k)
		return -ENOTSUP;
	pthread_mutex_lock(&k->names_lock);
	const bool is_new = find_name(k, name) == k->n_names;

	if (is_new && k->n_names >= k->limit)
		r = -ENOBUFS;
	else if (!is_new && !keeper_is_ours(k)) /* which keeps several of a name */
		r = tell_of(k, "FDSTOREREMOVE", name, -1);
	if (!r)
		r = tell_of(k, "FDSTORE", name, fd);

	if (r == -ENOBUFS)
		k->refused++;
	else if (!r && is_new)
		add_name(k, name);
	pthread_mutex_unlock(&k->names_lock);
	return r;
}

void keeper_drop(struct keeper *k, const char *name)
{
	if (!k)
		return;
	pthread_mutex_lock(&k->names_lock);
	const size_t i = find_name(k, name);
	int r = tell_of(k, "FDSTOREREMOVE", name, -1);

	if (!r && i < k->n_names && i != --k->n_names)
		memcpy(k->names[i], k->names[k->n_names], sizeof(*k->names));
	pthread_mutex_unlock(&k->names_lock);
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
