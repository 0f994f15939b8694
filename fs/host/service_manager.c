#include "fs/host/service_manager.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool manager_find(struct manager_address *out)
{
	const char *s = getenv("NOTIFY_SOCKET");
	size_t len = s ? strlen(s) : 0;

	*out = (struct manager_address){ .len = 0 };
	if (len < 2 || (*s != '/' && *s != '@') || len >= sizeof(out->to.sun_path))
		return false;
	out->to.sun_family = AF_UNIX;
	memcpy(out->to.sun_path, s, len);
	if (*s == '@')
		out->to.sun_path[0] = '\0';
	out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	return true;
}

int manager_send(int socket, const struct manager_address *to, const char *text, int fd)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = { (void *)text, strlen(text) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (to) {
		msg.msg_name = (void *)&to->to;
		msg.msg_namelen = to->len;
	}
	if (fd >= 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	}
	return sendmsg(socket, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

uint64_t manager_number(const char *name)
{
	const char *s = getenv(name);
	char *end;

	if (!s || *s < '0' || *s > '9')
		return 0;
	errno = 0;
	unsigned long long n = strtoull(s, &end, 10);
	return errno || *end ? 0 : n;
}

bool manager_means_us(const char *name)
{
	return !getenv(name) || manager_number(name) == (uint64_t)getpid();
}

unsigned manager_fds(unsigned most)
{
	if (!getenv("LISTEN_PID") || !manager_means_us("LISTEN_PID"))
		return 0;
	return (unsigned)MIN(manager_number("LISTEN_FDS"), (uint64_t)most);
}
