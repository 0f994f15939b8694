/*
 * origin.h - whether a web page may be behind a request. A browser sends a
 * page's requests to any address, with nothing of its user's but that address,
 * and a name that a stranger owns may be made to mean this host (DNS
 * rebinding). What gives a page away is what browsers add and pages cannot
 * leave out or forge. Pure; knows no HTTP library.
 */
#ifndef VARVE_SNAPSHOTD_ORIGIN_H
#define VARVE_SNAPSHOTD_ORIGIN_H

#include <stdbool.h>

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"

/* Headers of a request, by name; NULL where absent. */
struct origin_facts {
	const char *host;
	bool many_hosts; /* more than one header Host */
	const char *origin, *referer, *cookie, *user_agent, *content_type;
	const char *fetch_site, *fetch_mode, *fetch_dest, *fetch_user;
};

/* What the daemon is called; members may be NULL. */
struct origin_names {
	bool unix_socket;	     /* the request came through it */
	const char *listen_host;     /* as configured */
	const char *local_address;   /* numeric, of the connection's own end; "" on a socket */
	const json_t *allowed_hosts; /* array of strings */
};

/*
 * Refuse a Host that does not mean this daemon, an Origin other than that Host,
 * and what the browser says comes from another site. No Host at all is allowed
 * (HTTP/1.0): browsers always send one. -EACCES.
 */
MUST_CHECK int origin_check(const struct origin_facts *f, const struct origin_names *names,
			    struct error *err);

/* Whether a browser has sent it. Programs that claim to be one count. */
bool origin_is_browser(const struct origin_facts *f);

enum origin_body {
	ORIGIN_BODY_JSON,   /* parsed */
	ORIGIN_BODY_STREAM, /* any bytes, by POST: what a page's form could send */
	ORIGIN_BODY_FILE,   /* any bytes, by PUT, which no form sends */
};
/*
 * Refuse the content types that a page may send without asking (CORS), for a
 * request that changes something. keyed: it carries a right key. -EINVAL.
 */
MUST_CHECK int origin_check_type(const struct origin_facts *f, enum origin_body body, bool keyed,
				 struct error *err);

#endif
