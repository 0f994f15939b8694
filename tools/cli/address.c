/*
 * address.c - a host may have several addresses: they are tried one after the other, in the order
 * of getaddrinfo(3), each for its share of the time that is left.
 */
#include "tools/cli/address.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/clock.h"

#define CONNECT_TIMEOUT_S 10
#define LOOK_MS 1000 /* between two looks at `cancelled` */
/*
 * A host that is gone without a word is noticed after so many seconds. Not by TCP_USER_TIMEOUT,
 * which also ends a connection whose other end only reads nothing: a program may leave its input
 * for long.
 */
#define SILENT_IDLE_S 30
#define SILENT_PROBE_S 10
#define SILENT_PROBES 3

/* ---- what is typed ---- */

int address_of_socket(struct address *a, const char *path, struct error *err)
{
	*a = (struct address){ .connect_timeout_s = CONNECT_TIMEOUT_S };
	if (strlen(path) >= sizeof(a->socket))
		return error_set(err, -ENAMETOOLONG, "the socket's path is longer than %zu bytes",
				 sizeof(a->socket) - 1);
	snprintf(a->socket, sizeof(a->socket), "%s", path);
	snprintf(a->text, sizeof(a->text), "%s", path);
	return 0;
}

/* "HOST", "HOST:PORT", "[IPV6]:PORT" */
static int parse_host(struct address *a, const char *s, size_t len, struct error *err)
{
	const char *end = s + len, *host = s, *host_end, *port;
	bool bracket = len > 0 && *s == '[';
	unsigned long number = 0;

	host_end = bracket ? memchr(s, ']', len) : memchr(s, ':', len);
	if (bracket && !host_end)
		return error_set(err, -EINVAL, "a [ without its ] in the URL");
	if (!host_end)
		host_end = end;
	port = bracket ? host_end + 1 : host_end;
	host += bracket;
	len = (size_t)(host_end - host);
	if (len == 0 || len > ADDRESS_HOST_MAX)
		return error_set(err, -EINVAL, "%s in the URL",
				 len ? "too long a host" : "no host");
	snprintf(a->host, sizeof(a->host), "%.*s", (int)len, host);
	snprintf(a->port, sizeof(a->port), "80");
	if (port < end && *port++ != ':')
		return error_set(err, -EINVAL, "something between host and port in the URL");
	for (const char *p = port; p < end; p++) {
		if (*p < '0' || *p > '9' || (number = number * 10 + (size_t)(*p - '0')) > 65535)
			return error_set(err, -EINVAL,
					 "the port in the URL is no number up to "
					 "65535");
	}
	if (port < end && number == 0)
		return error_set(err, -EINVAL, "the port in the URL is 0");
	if (port < end)
		snprintf(a->port, sizeof(a->port), "%lu", number);
	snprintf(a->text, sizeof(a->text), bracket ? "http://[%s]:%s" : "http://%s:%s", a->host,
		 a->port);
	return 0;
}

/* What follows the host: nothing, or the API's own place. Else it may be a secret, and is not told.
 */
static int check_path(const struct address *a, const char *path, struct error *err)
{
	size_t len = strlen(path);

	while (len > 0 && path[len - 1] == '/')
		len--;
	if (len == 0 || (len == 4 && memcmp(path, "/api", 4) == 0))
		return 0;
	return error_set(err, -EINVAL, "the URL has a path: the API is at the top, so %s is all",
			 a->text);
}

static int check_scheme(const char *url, struct error *err)
{
	const char *colon = strstr(url, "://");

	if (strncasecmp(url, "http://", 7) == 0)
		return 0;
	if (strncasecmp(url, "https://", 8) == 0)
		return error_set(err, -EINVAL,
				 "the URL begins with https:// and varve speaks no TLS: forward a "
				 "port (ssh -L 8080:HOST:PORT), and name http://localhost:8080");
	/* Not all of it: a password may be in it. */
	return error_set(err, -EINVAL, "the URL is no http://HOST:PORT or unix:///PATH%s%.*s%s",
			 colon ? ", but one of \"" : "", colon ? (int)MIN(colon - url, 20) : 0, url,
			 colon ? "://\"" : "");
}

int address_of_url(struct address *a, const char *url, const char *key, struct error *err)
{
	const char *host;
	int r;

	if (strncasecmp(url, "unix:", 5) == 0) {
		const char *path = url + 5;

		path += strncmp(path, "///", 3) == 0 ? 2 : 0;
		return *path == '/' && path[1] != '/'
			       ? address_of_socket(a, path, err)
			       : error_set(err, -EINVAL, "the URL is no unix:///PATH");
	}
	r = check_scheme(url, err);
	if (r < 0)
		return r;
	host = url + strlen("http://");
	size_t len = strcspn(host, "/?#");

	*a = (struct address){ .connect_timeout_s = CONNECT_TIMEOUT_S };
	if (strchr(host, '@')) /* wherever: a password may have a slash */
		return error_set(err, -EINVAL,
				 "the URL has a name or password in it: the key goes into "
				 "VARVE_API_KEY");
	for (const char *p = url; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			return error_set(err, -EINVAL, "the URL has a space or a line break");
	for (const char *p = key ? key : ""; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return error_set(err, -EINVAL,
					 "the key in VARVE_API_KEY has a line break or another "
					 "control character");
	r = parse_host(a, host, len, err);
	a->key = key && *key ? key : NULL;
	return r < 0 ? r : check_path(a, host + len, err);
}

bool address_is_tcp(const struct address *a)
{
	return !a->socket[0];
}

const char *address_host(const struct address *a)
{
	return address_is_tcp(a) ? a->text + strlen("http://") : "localhost";
}

/* ---- connecting ---- */

static int connect_socket(const struct address *a, bool (*cancelled)(void *), void *arg,
			  struct error *err)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = a->connect_timeout_s };
	int r = 0, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return error_set_errno(err, -errno, "a socket");
	memcpy(to.sun_path, a->socket, sizeof(a->socket));
	/* For where many wait to be accepted. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		r = -errno;
	while (r == 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
		if (errno != EINTR)
			r = errno == EAGAIN ? -ETIMEDOUT : -ENOTCONN;
		else if (cancelled && cancelled(arg))
			r = -EINTR;
		else
			continue;
		error_set(err, r, "%s", strerror(errno));
	}
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* Until the connection is there, or has failed: 0 or -errno, -EINTR where it is cancelled. */
static int wait_connected(int fd, int64_t end_ms, bool (*cancelled)(void *), void *arg)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int failure = 0;
	socklen_t len = sizeof(failure);

	for (;;) {
		int64_t left = end_ms - monotonic_ms();

		if (cancelled && cancelled(arg))
			return -EINTR;
		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)MIN(left, (int64_t)LOOK_MS)) > 0)
			break;
	}
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &len) < 0 ? -errno : -failure;
}

/* A small request is not held back; an end that says nothing any more is noticed. */
static int set_options(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, SILENT_IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, SILENT_PROBE_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, SILENT_PROBES },
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
			       sizeof(options[i].value)) < 0)
			return -errno;
	return 0;
}

/* A descriptor that blocks, or -errno. */
static int connect_one(const struct addrinfo *to, int64_t end_ms, bool (*cancelled)(void *),
		       void *arg)
{
	int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r;

	if (fd < 0)
		return -errno;
	r = set_options(fd);
	if (r == 0 && connect(fd, to->ai_addr, to->ai_addrlen) < 0)
		r = errno == EINPROGRESS || errno == EINTR
			    ? wait_connected(fd, end_ms, cancelled, arg)
			    : -errno;
	if (r == 0 && fcntl(fd, F_SETFL, 0) < 0)
		r = -errno;
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

static int connect_tcp(const struct address *a, bool (*cancelled)(void *), void *arg,
		       struct error *err)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC,
					.ai_socktype = SOCK_STREAM,
					.ai_flags = AI_NUMERICSERV };
	const int64_t end_ms = monotonic_ms() + (int64_t)a->connect_timeout_s * 1000;
	struct addrinfo *list = NULL;
	int64_t count = 0;
	int r = getaddrinfo(a->host, a->port, &hints, &list);

	if (r == EAI_MEMORY)
		return -ENOMEM;
	if (r)
		return error_set(err, -ENOTCONN, "%s",
				 r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
	for (const struct addrinfo *to = list; to; to = to->ai_next)
		count++;
	r = -ENOTCONN;
	for (const struct addrinfo *to = list; to && r < 0 && r != -EINTR; to = to->ai_next) {
		int64_t now = monotonic_ms();

		r = connect_one(to, now + (end_ms - now) / count--, cancelled, arg);
	}
	freeaddrinfo(list);
	if (r >= 0 || r == -EINTR || r == -ENOMEM)
		return r;
	if (r == -ETIMEDOUT)
		return error_set(err, r, "no answer within %u seconds", a->connect_timeout_s);
	return error_set(err, -ENOTCONN, "%s", strerror(-r));
}

int address_connect(const struct address *a, bool (*cancelled)(void *), void *arg,
		    struct error *err)
{
	return address_is_tcp(a) ? connect_tcp(a, cancelled, arg, err)
				 : connect_socket(a, cancelled, arg, err);
}
