#include "snapshotd/held.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/log.h"

#define MESSAGE_MAX 4096

void held_drop(struct held *h, const char *name)
{
	for (size_t i = 0; i < h->n; i++) {
		if (strcmp(h->fds[i].name, name) != 0)
			continue;
		close(h->fds[i].fd);
		h->fds[i] = h->fds[--h->n];
		return;
	}
}

void held_put(struct held *h, const char *name, int fd)
{
	held_drop(h, name);
	if (h->n == KEEPER_FDS_MAX) {
		log_warn("%s will end with the daemon: %u descriptors are held already", name,
			 KEEPER_FDS_MAX);
		close(fd);
		return;
	}
	snprintf(h->fds[h->n].name, sizeof(h->fds[h->n].name), "%s", name);
	h->fds[h->n++].fd = fd;
}

/* ---- messages ---- */

static bool is_name(const char *name)
{
	size_t len =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.");

	return len && len <= KEEPER_NAME_MAX && !name[len];
}

/* Takes fd, -1: none, over. */
static void handle(struct held *h, char *text, int fd, void (*fn)(void *arg, const char *line),
		   void *arg)
{
	bool store = false, remove = false;
	const char *name = NULL;

	for (char *line; (line = strsep(&text, "\n"));) {
		if (strcmp(line, "FDSTORE=1") == 0)
			store = true;
		else if (strcmp(line, "FDSTOREREMOVE=1") == 0)
			remove = true;
		else if (strncmp(line, "FDNAME=", 7) == 0)
			name = line + 7;
		else
			fn(arg, line);
	}
	if (name && is_name(name) && store && fd >= 0) {
		held_put(h, name, fd);
		return;
	}
	if (name && remove)
		held_drop(h, name);
	if (fd >= 0)
		close(fd);
}

bool held_receive(struct held *h, int socket, void (*fn)(void *arg, const char *line), void *arg)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char text[MESSAGE_MAX + 1];
	struct iovec iov = { text, MESSAGE_MAX };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int fd = -1;

	if (n < 0)
		return errno == EINTR;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	text[n] = 0;
	handle(h, text, fd, fn, arg);
	return true;
}

/* ---- a daemon's start ---- */

char *held_names(const struct held *h)
{
	char *names = malloc(h->n * (KEEPER_NAME_MAX + 1) + 1), *at = names;

	if (!names)
		return NULL;
	*at = 0;
	for (size_t i = 0; i < h->n; i++)
		at += sprintf(at, "%s%s", i ? ":" : "", h->fds[i].name);
	return names;
}

/* Whose descriptor is one of those that they become. */
struct layout {
	struct held *held;
	int first, above;
	size_t *owner; /* of first + i: its index, and 1; 0: nobody's */
};

static void set_owner(struct layout *l, int fd, size_t owner)
{
	if (fd >= l->first && (size_t)(fd - l->first) < l->held->n)
		l->owner[fd - l->first] = owner;
}

/* Who is at the place of one that is laid out gets that one's number. */
static int exchange(struct layout *l, size_t i)
{
	struct held_fd *mine = &l->held->fds[i], *other = &l->held->fds[l->owner[i] - 1];
	const int to = other->fd, copy = fcntl(mine->fd, F_DUPFD_CLOEXEC, l->above);
	int r = copy < 0 || dup3(to, mine->fd, O_CLOEXEC) < 0 || dup2(copy, to) < 0 ? -errno : 0;

	if (copy >= 0)
		close(copy);
	if (r < 0)
		return r;
	set_owner(l, mine->fd, l->owner[i]);
	other->fd = mine->fd;
	mine->fd = to;
	return 0;
}

static int lay_out(struct layout *l, size_t i)
{
	struct held_fd *f = &l->held->fds[i];
	const int to = l->first + (int)i;

	if (f->fd == to)
		return fcntl(to, F_SETFD, 0) < 0 ? -errno : 0;
	if (l->owner[i])
		return exchange(l, i);
	if (dup2(f->fd, to) < 0)
		return -errno;
	close(f->fd);
	set_owner(l, f->fd, 0);
	f->fd = to;
	return 0;
}

/* One after the other, with one descriptor more at most: there may be no room for all of them
 * twice. */
int held_lay_out(struct held *h, int first, int above)
{
	struct layout l = { h, first, above, calloc(h->n + 1, sizeof(size_t)) };
	int r = l.owner ? 0 : -ENOMEM;

	for (size_t i = 0; i < h->n && !r; i++)
		set_owner(&l, h->fds[i].fd, i + 1);
	for (size_t i = 0; i < h->n && !r; i++)
		r = lay_out(&l, i);
	free(l.owner);
	return r;
}
