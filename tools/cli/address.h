/*
 * address.h - where a daemon is: its unix socket, or a host and port that it is reached at over
 * TCP, with the key that this needs.
 */
#ifndef VARVE_TOOLS_ADDRESS_H
#define VARVE_TOOLS_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

#include "store/base/error.h"
#include "store/base/macros.h"

#define ADDRESS_HOST_MAX 253 /* bytes; a DNS name has no more */

struct address {
	char socket[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* path, or "": TCP */
	char host[ADDRESS_HOST_MAX + 1]; /* name or number, an IPv6 one without its brackets */
	char port[6];
	const char *key; /* lent; NULL: none. Goes to `host` alone, and into no message. */
	/* What messages call it: the path, or "http://HOST:PORT"; behind the "//": for `Host:`. */
	char text[ADDRESS_HOST_MAX + 24];
	unsigned connect_timeout_s; /* 10, unless the caller sets another */
};

/* -ENAMETOOLONG where no socket can have that path. */
MUST_CHECK int address_of_socket(struct address *a, const char *path, struct error *err);
/*
 * "http://HOST[:PORT]", with "/" or "/api" behind it if need be, or "unix:///PATH". -EINVAL with
 * what is wrong, which repeats neither the key nor a password in the URL.
 */
MUST_CHECK int address_of_url(struct address *a, const char *url, const char *key,
			      struct error *err);

bool address_is_tcp(const struct address *a);
/* For the header Host. */
const char *address_host(const struct address *a);

/*
 * A connection: a descriptor, or -ENOTCONN, -ETIMEDOUT (none within connect_timeout_s), -EINTR
 * (`cancelled` said so, which is asked every second; it may be NULL), -ENOMEM, each but the last
 * two with the reason alone in err, for -ENOTCONN the system's ("Connection refused").
 */
MUST_CHECK int address_connect(const struct address *a, bool (*cancelled)(void *arg), void *arg,
			       struct error *err);

#endif
