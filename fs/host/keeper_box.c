#include "fs/host/keeper_box.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
	struct cmsghdr head;
	char bytes[CMSG_SPACE(KEEPER_BOX_FDS * sizeof(int))];
};

static int fill(int to, const void *data, size_t len, const int *fds, unsigned n)
{
	union control control = { .bytes = { 0 } };
	struct iovec iov = { (void *)data, len };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = CMSG_SPACE(n * sizeof(int)) };

	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(&control.head), fds, n * sizeof(int));
	return sendmsg(to, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int keeper_box_put(struct keeper *k, const char *name, const void *data, size_t len, const int *fds,
		   unsigned n)
{
	int pair[2], r;

	if (!k)
		return -ENOTSUP;
	if (!n || n > KEEPER_BOX_FDS)
		return -EINVAL;
	/* Datagrams: the box does not hang up when its other end is closed. */
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	r = fill(pair[1], data, len, fds, n);
	if (!r)
		r = keeper_put(k, name, pair[0]);
	close(pair[0]);
	close(pair[1]);
	return r;
}

int keeper_box_open(int box, void *data, size_t len, int *fds, unsigned n)
{
	union control control = { .bytes = { 0 } };
	struct iovec iov = { data, len };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	ssize_t got = recvmsg(box, &msg, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	unsigned n_got = 0;
	int all[KEEPER_BOX_FDS];

	if (got < 0)
		return errno == EAGAIN ? -EBADMSG : -errno;
	if (msg.msg_controllen && control.head.cmsg_type == SCM_RIGHTS)
		n_got = (unsigned)((control.head.cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(all, CMSG_DATA(&control.head), n_got * sizeof(int));
	if ((size_t)got == len && n_got == n && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		memcpy(fds, all, n * sizeof(int));
		return 0;
	}
	while (n_got > 0)
		close(all[--n_got]);
	return -EBADMSG;
}
