#include "snapshotd/http/origin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define HOST_MAX 256

/* ---- the host ---- */

/* The name or address of "HOST", "HOST:PORT" or "[V6]:PORT", in lower case, without a last dot. */
static bool host_split(const char *s, char out[HOST_MAX])
{
	bool bracket = s[0] == '[';
	const char *from = s + bracket;
	size_t len = strcspn(from, bracket ? "]" : ":");
	const char *rest = from + len + bracket;

	if (len == 0 || len >= HOST_MAX || (bracket && from[len] != ']'))
		return false;
	if (*rest && (rest[0] != ':' || rest[1 + strspn(rest + 1, "0123456789")]))
		return false;
	for (size_t i = 0; i < len; i++)
		out[i] = (char)(from[i] >= 'A' && from[i] <= 'Z' ? from[i] + 32 : from[i]);
	if (!bracket && len > 1 && out[len - 1] == '.')
		len--;
	out[len] = '\0';
	return true;
}

static bool is_loopback(const char *host)
{
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	if (inet_pton(AF_INET6, host, &v6) != 1)
		return false;
	return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

static bool same_address(const char *a, const char *b)
{
	unsigned char x[sizeof(struct in6_addr)], y[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, a, x) == 1)
		return inet_pton(AF_INET, b, y) == 1 && memcmp(x, y, 4) == 0;
	return inet_pton(AF_INET6, a, x) == 1 && inet_pton(AF_INET6, b, y) == 1 &&
	       memcmp(x, y, sizeof(x)) == 0;
}

static bool is_localhost(const char *host)
{
	static const char name[] = "localhost";
	size_t len = strlen(host), n = sizeof(name) - 1;

	return strcmp(host, name) == 0 ||
	       (len > n + 1 && host[len - n - 1] == '.' && strcmp(host + len - n, name) == 0);
}

static bool is_listed(const char *host, const json_t *list)
{
	const json_t *v;
	size_t i;

	json_array_foreach(list, i, v)
		if (strcasecmp(json_string_value(v), host) == 0)
			return true;
	return false;
}

static bool host_is_ours(const char *host, const struct origin_names *n)
{
	if (is_localhost(host) || is_loopback(host) || is_listed(host, n->allowed_hosts))
		return true;
	if (n->unix_socket) /* a label that clients make up; no stranger owns it */
		return !strpbrk(host, ".:");
	return (n->listen_host && strcasecmp(host, n->listen_host) == 0) ||
	       (n->local_address && same_address(host, n->local_address));
}

static bool origin_is_host(const char *origin, const char *host)
{
	const char *at = strstr(origin, "://");

	if (!at || (strncmp(origin, "http:", 5) != 0 && strncmp(origin, "https:", 6) != 0))
		return false;
	return strcasecmp(at + 3, host) == 0;
}

int origin_check(const struct origin_facts *f, const struct origin_names *names, struct error *err)
{
	char host[HOST_MAX];

	if (f->many_hosts)
		return error_set(err, -EACCES, "the request has more than one Host");
	if (f->host && *f->host && (!host_split(f->host, host) || !host_is_ours(host, names)))
		return error_set(
			err, -EACCES,
			"the request is for the host \"%.200s\", which this daemon is not: "
			"name it in allowedHosts of the config file if it is",
			f->host);
	if (f->origin && !origin_is_host(f->origin, f->host ? f->host : ""))
		return error_set(err, -EACCES, "the request comes from a page of \"%.200s\"",
				 f->origin);
	if (f->fetch_site && strcmp(f->fetch_site, "same-origin") != 0 &&
	    strcmp(f->fetch_site, "none") != 0)
		return error_set(err, -EACCES,
				 "the request comes from another site's page (%.40s): open the "
				 "address by hand",
				 f->fetch_site);
	return 0;
}

/* ---- browsers ---- */

bool origin_is_browser(const struct origin_facts *f)
{
	/* The fetch() of programs sends the mode, and nothing else of these. */
	bool mode = f->fetch_mode && strcmp(f->fetch_mode, "cors") != 0;

	return mode || f->fetch_site || f->fetch_dest || f->fetch_user || f->origin || f->referer ||
	       f->cookie || (f->user_agent && strncmp(f->user_agent, "Mozilla/", 8) == 0);
}

/* Whether the content type, without its parameters, is `type`. */
static bool type_is(const char *given, const char *type)
{
	size_t len = strcspn(given, "; \t,");

	return strlen(type) == len && strncasecmp(given, type, len) == 0;
}

static bool type_is_json(const char *given)
{
	size_t len = strcspn(given, "; \t,");

	return type_is(given, "application/json") ||
	       (len > 5 && strncasecmp(given + len - 5, "+json", 5) == 0);
}

int origin_check_type(const struct origin_facts *f, enum origin_body body, bool keyed,
		      struct error *err)
{
	const char *given = f->content_type ? f->content_type : "";

	given += strspn(given, " \t");
	if (!*given || type_is(given, "application/x-www-form-urlencoded")) {
		/* What curl sends by itself. */
		if (!origin_is_browser(f) || (keyed && body == ORIGIN_BODY_FILE))
			return 0;
	} else if (type_is(given, "text/plain") || type_is(given, "multipart/form-data")) {
		if (keyed && body == ORIGIN_BODY_FILE)
			return 0;
	} else if (body != ORIGIN_BODY_JSON || type_is_json(given)) {
		return 0;
	}
	return error_set(err, -EINVAL, "the content type %s%.100s%s is not taken here: send %s",
			 *given ? "\"" : "", *given ? given : "(none)", *given ? "\"" : "",
			 body == ORIGIN_BODY_JSON ? "application/json"
						  : "application/octet-stream");
}
