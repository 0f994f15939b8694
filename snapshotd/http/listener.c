#include "snapshotd/http/listener.h"

#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 512
#define SOCKET_MODE 0660

/* Make way for a socket at addr: remove one that nobody listens on. */
static int stale_remove(const struct sockaddr_un *addr, struct error *err)
{
	const char *path = addr->sun_path;
	struct stat st;
	int fd, rc;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : error_set_errno(err, -errno, "socket %s", path);
	if (!S_ISSOCK(st.st_mode))
		return error_set(err, -EEXIST, "socket %s: exists and is not a socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set_errno(err, -errno, "socket");
	rc = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ? -errno : 0;
	close(fd);
	/* EAGAIN: a listener whose backlog is full */
	if (rc == 0 || rc == -EAGAIN)
		return error_set(err, -EADDRINUSE, "socket %s: snapshotd is already running", path);
	if (rc != -ECONNREFUSED && rc != -ENOENT)
		return error_set_errno(err, rc, "socket %s", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return error_set_errno(err, -errno, "cannot remove the stale socket %s", path);
	return 0;
}

static int group_set(const char *path, const char *group, struct error *err)
{
	struct group *g;

	if (!group)
		return 0;
	errno = 0;
	g = getgrnam(group); /* before there are other threads that would */
	if (!g)
		return error_set(err, errno ? -errno : -ENOENT, "socketGroup: no group \"%s\"",
				 group);
	if (chown(path, (uid_t)-1, g->gr_gid) < 0)
		return error_set_errno(err, -errno, "cannot give %s to group %s", path, group);
	return 0;
}

/*
 * On Linux the socket file gets the mode of the socket's own inode, less the
 * umask: it is never more open than it should be, and is widened once owned.
 */
static int unix_bind(struct listener *l, const struct sockaddr_un *addr, const char *group,
		     struct error *err)
{
	const char *path = addr->sun_path;
	struct stat st;
	int rc;

	if (fchmod(l->fd, SOCKET_MODE) < 0 ||
	    bind(l->fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
		return error_set_errno(err, -errno, "socket %s", path);
	if (lstat(path, &st) < 0)
		return error_set_errno(err, -errno, "socket %s", path);
	l->dev = st.st_dev;
	l->inode = st.st_ino;
	l->made = st.st_mtim;
	l->path = strdup(path);
	if (!l->path)
		return error_set(err, -ENOMEM, "out of memory");
	rc = group_set(path, group, err);
	if (rc < 0)
		return rc;
	if (chmod(path, SOCKET_MODE) < 0 || listen(l->fd, BACKLOG) < 0)
		return error_set_errno(err, -errno, "socket %s", path);
	return 0;
}

int listener_unix(struct listener *l, const char *path, const char *group, struct error *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int rc;

	*l = (struct listener)LISTENER_NONE;
	if (strlen(path) >= sizeof(addr.sun_path))
		return error_set(err, -ENAMETOOLONG, "socket %s: longer than 107 bytes", path);
	strcpy(addr.sun_path, path);
	rc = stale_remove(&addr, err);
	if (rc < 0)
		return rc;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return error_set_errno(err, -errno, "socket");
	rc = unix_bind(l, &addr, group, err);
	if (rc < 0) {
		listener_unlink(l);
		listener_fini(l);
	}
	return rc;
}

static int tcp_try(const struct addrinfo *ai)
{
	int one = 1, rc;
	int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, ai->ai_protocol);

	if (fd < 0)
		return -errno;
	/* Connections inherit SO_KEEPALIVE: a peer that is lost without a word is found out. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one)) < 0 ||
	    bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static uint16_t bound_port(int fd)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a = { 0 };
	socklen_t len = sizeof(a);

	if (getsockname(fd, &a.sa, &len) < 0)
		return 0;
	return ntohs(a.sa.sa_family == AF_INET6 ? a.in6.sin6_port : a.in.sin_port);
}

/* *out is freeaddrinfo's. */
static int resolve(const char *host, uint16_t port, struct addrinfo **out, struct error *err)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC,
					.ai_socktype = SOCK_STREAM,
					.ai_flags = AI_NUMERICSERV };
	char service[8];

	snprintf(service, sizeof(service), "%u", port);
	int rc = getaddrinfo(host, service, &hints, out);

	if (rc != 0)
		return error_set(err, rc == EAI_AGAIN ? -EAGAIN : -EINVAL, "listen %s:%u: %s", host,
				 port, gai_strerror(rc));
	return 0;
}

int listener_check_host(const char *host, uint16_t port, struct error *err)
{
	struct addrinfo *list;
	int rc = resolve(host, port, &list, err);

	if (rc == 0)
		freeaddrinfo(list);
	return rc;
}

int listener_tcp(struct listener *l, const char *host, uint16_t port, uint16_t *out_port,
		 struct error *err)
{
	struct addrinfo *list;
	int fd = -EADDRNOTAVAIL, rc;

	*l = (struct listener)LISTENER_NONE;
	rc = resolve(host, port, &list, err);
	if (rc < 0)
		return rc;
	for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next)
		fd = tcp_try(ai);
	freeaddrinfo(list);
	if (fd < 0)
		return error_set_errno(err, fd, "listen %s:%u", host, port);
	l->fd = fd;
	*out_port = bound_port(fd);
	return 0;
}

/* Is that what clients reach by the path? */
static int find_path(struct listener *l, const char *path)
{
	struct sockaddr_un addr = { 0 };
	socklen_t len = sizeof(addr);
	struct stat st;

	if (getsockname(l->fd, (struct sockaddr *)&addr, &len) < 0 || lstat(path, &st) < 0)
		return -errno;
	if (addr.sun_family != AF_UNIX || strncmp(addr.sun_path, path, sizeof(addr.sun_path)) != 0)
		return -ESTALE;
	l->dev = st.st_dev;
	l->inode = st.st_ino;
	l->made = st.st_mtim;
	l->path = strdup(path);
	return l->path ? 0 : -ENOMEM;
}

int listener_adopt(struct listener *l, int fd, const char *path)
{
	int listens = 0, r = 0;
	socklen_t len = sizeof(listens);

	*l = (struct listener)LISTENER_NONE;
	l->fd = fd;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || !listens)
		r = -EINVAL;
	if (!r && path)
		r = find_path(l, path);
	if (r)
		listener_fini(l);
	return r;
}

void listener_unlink(struct listener *l)
{
	struct stat st;

	if (l->path && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->inode &&
	    st.st_mtim.tv_sec == l->made.tv_sec && st.st_mtim.tv_nsec == l->made.tv_nsec)
		unlink(l->path);
}

void listener_fini(struct listener *l)
{
	if (l->fd >= 0)
		close(l->fd);
	free(l->path);
	*l = (struct listener)LISTENER_NONE;
}
