/* A mount by the API: POST /api/mounts on a kept-alive connection of the unix socket. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/perf/mountbench/mountbench.h"

struct connection {
	int fd;
	char snapshot[256];
	char id[64]; /* of the mount */
	char answer[16384];
};

static struct connection *connection_open(const char *arg)
{
	struct connection *c = calloc(1, sizeof(*c));
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char *colon = strrchr(arg, ':');

	if (!c || !colon || (size_t)(colon - arg) >= sizeof(addr.sun_path))
		die("'%s' is not SOCKET:SNAPSHOT", arg);
	memcpy(addr.sun_path, arg, (size_t)(colon - arg));
	snprintf(c->snapshot, sizeof(c->snapshot), "%s", colon + 1);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die("%s", addr.sun_path);
	return c;
}

/* Whether answer[0..len) holds the whole answer, by its Content-Length. */
static bool answer_is_whole(const char *answer, size_t len)
{
	const char *body = strstr(answer, "\r\n\r\n");
	const char *length = strcasestr(answer, "\r\ncontent-length:");

	if (!body)
		return false;
	if (!length || length > body)
		return strncmp(answer, "HTTP/1.1 204", 12) == 0;
	return (size_t)(body + 4 - answer) + strtoul(length + 17, NULL, 10) <= len;
}

static void call(struct connection *c, const char *method, const char *path, const char *body)
{
	char request[8192];
	size_t got = 0;
	int len = snprintf(request, sizeof(request),
			   "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
			   "Content-Length: %zu\r\n\r\n%s",
			   method, path, strlen(body), body);

	if (len >= (int)sizeof(request) || send(c->fd, request, (size_t)len, MSG_NOSIGNAL) != len)
		die("sending %s %s", method, path);
	do {
		ssize_t n = recv(c->fd, c->answer + got, sizeof(c->answer) - 1 - got, 0);
		if (n <= 0)
			die("the answer to %s %s", method, path);
		got += (size_t)n;
		c->answer[got] = '\0';
	} while (!answer_is_whole(c->answer, got));
	if (strncmp(c->answer, "HTTP/1.1 2", 10) != 0) {
		errno = 0;
		die("%s %s: %s", method, path, c->answer);
	}
}

void varve_mount(struct subject *s)
{
	char body[4608];

	if (!s->state)
		s->state = connection_open(s->arg);
	struct connection *c = s->state;
	snprintf(body, sizeof(body), "{\"snapshot\": \"%s\", \"mountpoint\": \"%s\"}", c->snapshot,
		 s->dir);
	call(c, "POST", "/api/mounts", body);
	const char *id = strstr(c->answer, "\"id\":");
	if (!id || sscanf(id, "\"id\": \"%63[^\"]\"", c->id) != 1) {
		errno = 0;
		die("no id in %s", c->answer);
	}
}

void varve_unmount(struct subject *s)
{
	struct connection *c = s->state;
	char path[128];

	snprintf(path, sizeof(path), "/api/mounts/%s?discard=1", c->id);
	call(c, "DELETE", path, "");
}
