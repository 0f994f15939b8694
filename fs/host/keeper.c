#include "fs/host/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "store/base/log.h"

#define FIRST_FD 3

struct kept {
	char name[KEEPER_NAME_MAX + 1];
	int fd; /* -1: taken */
};

struct keeper {
	int socket;
	struct sockaddr_un to; /* of a service manager */
	socklen_t to_len;      /* 0: the socket is connected */
	unsigned generation;
	bool has_crashed, is_trial;
	pthread_mutex_t lock; /* guards what follows */
	struct kept *found;
	size_t n_found;
};

/* ---- the start ---- */

static int number(const char *name)
{
	const char *text = getenv(name);

	return text ? atoi(text) : 0;
}

static int find_fds(struct keeper *k)
{
	char *names = getenv("LISTEN_FDNAMES"), *copy, *at;
	int n = number("LISTEN_PID") == getpid() ? number("LISTEN_FDS") : 0;

	if (n <= 0 || !names)
		return 0;
	k->found = calloc((size_t)n, sizeof(*k->found));
	at = copy = strdup(names);
	if (!k->found || !copy) {
		free(copy);
		return -ENOMEM;
	}
	for (int i = 0; i < n && at; i++) {
		struct kept *f = &k->found[k->n_found++];
		const char *name = strsep(&at, ":");

		f->fd = FIRST_FD + i;
		(void)fcntl(f->fd, F_SETFD, FD_CLOEXEC);
		snprintf(f->name, sizeof(f->name), "%s", name);
	}
	free(copy);
	return 0;
}

/* The socket of a service manager that keeps descriptors. */
static int find_manager(struct keeper *k)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	if (!number("FDSTORE") || len < 2 || len >= sizeof(k->to.sun_path))
		return -ENOENT;
	k->to.sun_family = AF_UNIX;
	memcpy(k->to.sun_path, path, len);
	if (path[0] == '@')
		k->to.sun_path[0] = 0;
	k->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	k->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return k->socket < 0 ? -errno : 0;
}

static int find_socket(struct keeper *k)
{
	k->socket = number("VARVE_KEEPER");
	if (k->socket <= 0)
		return find_manager(k);
	return fcntl(k->socket, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

struct keeper *keeper_open(void)
{
	static const char *const names[] = { "VARVE_KEEPER", "VARVE_GENERATION", "VARVE_CRASHED",
					     "VARVE_TRIAL",  "FDSTORE",		 "LISTEN_PID",
					     "LISTEN_FDS",   "LISTEN_FDNAMES" };
	/* Sockets that a service manager hands over are others' business, too. */
	const size_t n_names = getenv("VARVE_KEEPER") ? ARRAY_SIZE(names) : 5;
	struct keeper *k = calloc(1, sizeof(*k));
	int r = k ? find_socket(k) : -ENOMEM;

	if (!r)
		r = find_fds(k);
	if (!r) {
		k->generation = (unsigned)number("VARVE_GENERATION");
		k->has_crashed = number("VARVE_CRASHED") != 0;
		k->is_trial = number("VARVE_TRIAL") != 0;
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

/* ---- messages ---- */

static int tell(struct keeper *k, const char *text, int fd)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = { (void *)text, strlen(text) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (k->to_len) {
		msg.msg_name = &k->to;
		msg.msg_namelen = k->to_len;
	}
	if (fd >= 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	}
	return sendmsg(k->socket, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void keeper_ready(struct keeper *k)
{
	int r = k ? tell(k, "READY=1", -1) : 0;

	if (r)
		log_warn("the keeper does not know that this daemon is ready: %s", strerror(-r));
}

int keeper_upgrade(struct keeper *k)
{
	return k && !k->to_len ? tell(k, "UPGRADE=1", -1) : -ENOTSUP;
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

void keeper_drop_untaken(struct keeper *k)
{
	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	for (size_t i = 0; i < k->n_found; i++) {
		struct kept *f = &k->found[i];

		if (f->fd < 0)
			continue;
		close(f->fd);
		f->fd = -1;
		keeper_drop(k, f->name);
	}
	pthread_mutex_unlock(&k->lock);
}
