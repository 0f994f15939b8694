/*
 * Adopting a connection that another process has served, and that a keeper has kept.
 *
 * The kernel holds what that process has read and not answered, and sends it again when it
 * is told to (FUSE_NOTIFY_RESEND, Linux 6.9), with a bit of `unique` set, before anything
 * else. So it can be asked twice: once to learn which requests those are, before the journal
 * is recovered, which tells which of them were done (upper/journal_requests.h); then to serve
 * them. INIT's reply is the same for all connections to one kernel (session_wire.c), and the
 * kernel keeps to itself what else it has learned: that OPEN and OPENDIR need not be asked.
 *
 * Which inodes the kernel knows is not known: it is asked. A notification of one that it does
 * not have fails with ENOENT.
 */
#include "fs/fuse/session_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* include/uapi/linux/fuse.h, protocol 7.40 */
#define NOTIFY_RESEND 7

static int notify(int fd, int what, const void *payload, size_t len)
{
	struct fuse_out_header out = { .error = what, .len = (uint32_t)(sizeof(out) + len) };
	struct iovec iov[2] = { { &out, sizeof(out) }, { (void *)payload, len } };

	return writev(fd, iov, len ? 2 : 1) < 0 ? -errno : 0;
}

static bool knows_node(struct session *s, uint64_t node)
{
	/* Attributes alone, which waits for nothing. */
	struct fuse_notify_inval_inode_out what = { .ino = node, .off = -1 };

	return notify(s->fd, FUSE_NOTIFY_INVAL_INODE, &what, sizeof(what)) != -ENOENT;
}

struct question {
	struct session *s;
	bool known;
};

static void look_at_node(void *arg, uint64_t node)
{
	struct question *q = arg;

	q->known = q->known || knows_node(q->s, node);
}

bool session_kernel_knows(struct session *s, uint64_t ino)
{
	struct question q = { s, knows_node(s, ino) };

	if (!q.known && s->is_shared)
		passthrough_each_node(s->passthrough, ino, look_at_node, &q);
	return q.known;
}

static int add_unique(struct session_waiting *w, uint64_t unique)
{
	if (w->n == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 64;
		uint64_t *p = reallocarray(w->uniques, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		w->uniques = p;
		w->cap = cap;
	}
	w->uniques[w->n++] = unique;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Up to the first request that is new; what is read stays to be sent again. */
static int read_resent(int fd, struct session_waiting *w)
{
	char *buf = malloc(session_buffer_size());
	const struct fuse_in_header *in = (const void *)buf;
	int r = buf ? 0 : -ENOMEM;

	while (!r) {
		ssize_t n = read(fd, buf, session_buffer_size());

		if (n < 0 && (errno == EINTR || errno == ENOENT))
			continue;
		if (n < 0) {
			r = errno == EAGAIN ? 0 : errno == ENODEV ? -ENOTCONN : -errno;
			break;
		}
		if ((size_t)n < sizeof(*in))
			break;
		if (in->unique & SESSION_RESENT)
			r = add_unique(w, in->unique & ~SESSION_RESENT);
		else if (in->opcode != FUSE_FORGET && in->opcode != FUSE_BATCH_FORGET &&
			 in->opcode != FUSE_INTERRUPT)
			break;
		/*
		 * A FORGET is lost with it: after the adoption the kernel is asked what it knows
		 * of what has no name (drop_unused, mount_place.c).
		 */
	}
	free(buf);
	return r;
}

void session_waiting_fini(struct session_waiting *w)
{
	free(w->uniques);
	*w = (struct session_waiting){ NULL, 0, 0 };
}

int session_find_waiting(int fd, struct session_waiting *out)
{
	int flags = fcntl(fd, F_GETFL), r;

	*out = (struct session_waiting){ NULL, 0, 0 };
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	r = notify(fd, NOTIFY_RESEND, NULL, 0);
	if (r)
		return r == -EINVAL ? -EOPNOTSUPP : r == -ENODEV || r == -EPERM ? -ENOTCONN : r;
	r = read_resent(fd, out);
	if (r)
		session_waiting_fini(out);
	else if (out->n)
		qsort(out->uniques, out->n, sizeof(*out->uniques), by_number);
	return r;
}

int session_resume(struct session *s)
{
	return notify(s->fd, NOTIFY_RESEND, NULL, 0);
}
