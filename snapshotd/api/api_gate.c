/*
 * Who may call. The unix socket is guarded by its mode: what comes through it
 * needs no key, unless a browser sends it, since anyone's page may speak to an
 * address that leads there (`ssh -L`). Then it needs the token that
 * `varve dashboard` tells, or the key. TCP needs the key. Where a page of
 * another site may be behind a request, it is refused on every way in.
 */
#include "snapshotd/api/api.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fs/host/mountinfo.h"
#include "snapshotd/api/host_place.h"
#include "snapshotd/http/origin.h"
#include "store/base/hash.h"

/* Compares digests, and all of their bytes: its time tells nothing of the key. */
static bool key_equal(const char *given, const char *key)
{
	struct digest a, b;
	unsigned char differ = 0;

	if (hash_bytes(given, strlen(given), &a) < 0 || hash_bytes(key, strlen(key), &b) < 0)
		return false;
	for (size_t i = 0; i < DIGEST_SIZE; i++)
		differ |= a.b[i] ^ b.b[i];
	return differ == 0;
}

/* The key that the request carries, or NULL. */
static const char *key_given(struct http_request *rq)
{
	static const char bearer[] = "Bearer ";
	const char *given = http_header(rq, "X-API-Key");

	if (given)
		return given;
	given = http_header(rq, "Authorization");
	if (!given || strncasecmp(given, bearer, sizeof(bearer) - 1) != 0)
		return NULL;
	return given + sizeof(bearer) - 1;
}

static bool has_key(const struct api *a, struct http_request *rq)
{
	const char *given = key_given(rq);

	if (!given)
		return false;
	if (a->api_key && key_equal(given, a->api_key))
		return true;
	return !http_needs_key(rq) && key_equal(given, a->dashboard_token);
}

static struct origin_facts facts_of(struct http_request *rq)
{
	return (struct origin_facts){
		.host = http_header(rq, "Host"),
		.many_hosts = http_header_count(rq, "Host") > 1,
		.origin = http_header(rq, "Origin"),
		.referer = http_header(rq, "Referer"),
		.cookie = http_header(rq, "Cookie"),
		.user_agent = http_header(rq, "User-Agent"),
		.content_type = http_header(rq, "Content-Type"),
		.fetch_site = http_header(rq, "Sec-Fetch-Site"),
		.fetch_mode = http_header(rq, "Sec-Fetch-Mode"),
		.fetch_dest = http_header(rq, "Sec-Fetch-Dest"),
		.fetch_user = http_header(rq, "Sec-Fetch-User"),
	};
}

int api_gate(struct api_call *c, bool open, struct error *err)
{
	struct http_request *rq = c->rq;
	char local[HTTP_ADDRESS_SIZE];
	const struct origin_names names = { .unix_socket = !http_needs_key(rq),
					    .listen_host = c->api->listen_host,
					    .local_address = http_local_address(rq, local),
					    .allowed_hosts = c->api->allowed_hosts };
	struct origin_facts f = facts_of(rq);
	int rc = origin_check(&f, &names, err);

	if (rc < 0)
		return rc;
	c->keyed = has_key(c->api, rq);
	if (open)
		return 0;
	if (c->keyed || (!http_needs_key(rq) && !origin_is_browser(&f))) {
		http_set_trusted(rq);
		return 0;
	}
	c->fail_status = 401;
	http_reply_header(rq, "WWW-Authenticate", "Bearer");
	if (!http_needs_key(rq))
		return error_set(err, -EACCES,
				 "a browser needs the token that `varve dashboard` prints, as "
				 "X-API-Key");
	return error_set(err, -EACCES, "an API key is needed: X-API-Key, or Authorization: Bearer");
}

int api_gate_body(struct api_call *c, bool stream, struct error *err)
{
	struct http_request *rq = c->rq;
	struct origin_facts f = facts_of(rq);
	const char *length = http_header(rq, "Content-Length");
	bool put = strcmp(http_method(rq), "PUT") == 0;
	int rc;

	if (strcmp(http_method(rq), "GET") == 0 || strcmp(http_method(rq), "HEAD") == 0)
		return 0;
	if (!f.content_type && (!length || strcmp(length, "0") == 0) &&
	    !http_header(rq, "Transfer-Encoding"))
		return 0; /* no body */
	rc = origin_check_type(&f,
			       !stream ? ORIGIN_BODY_JSON
			       : put   ? ORIGIN_BODY_FILE
				       : ORIGIN_BODY_STREAM,
			       c->keyed, err);
	if (rc < 0)
		c->fail_status = 415;
	return rc;
}

int api_host_place(struct api_call *c, const char *member, const char *path, int *out_fd,
		   struct error *err)
{
	bool tcp = http_needs_key(c->rq);
	const json_t *roots = tcp ? c->api->host_roots : c->api->socket_host_roots;
	int fd;

	*out_fd = -1;
	if (!path || (!tcp && !roots))
		return 0;
	fd = host_place_open(roots, path, err);
	if (fd == -EACCES)
		error_set(err, fd,
			  "\"%.200s\" is no place that clients %s may name: %s in the config "
			  "file lists the directories that they may",
			  path, tcp ? "over TCP" : "of the socket",
			  tcp ? "hostRoots" : "socketHostRoots");
	if (fd < 0)
		return error_prefix(err, fd, "%s", member);
	*out_fd = fd;
	return 0;
}

int api_host_path(struct api_call *c, json_t *body, const char *member, const char **path,
		  struct error *err)
{
	char *real = NULL;
	int fd, rc = api_host_place(c, member, *path, &fd, err);

	if (rc < 0 || fd < 0)
		return rc;
	rc = host_place_path(fd, &real);
	close(fd);
	if (rc == 0 && json_object_set_new(body, member, json_string(real)) < 0)
		rc = -EINVAL; /* no UTF-8 */
	free(real);
	if (rc < 0)
		return error_set_errno(err, rc, "%s \"%.200s\"", member, *path);
	*path = json_string_value(json_object_get(body, member));
	return 0;
}

/* In an indirect map what is below the automount point is no mount point of its own. */
static int check_automount(const char *mountpoint)
{
	struct mountinfo mi;
	int rc = mountinfo_read("/proc/self/mountinfo", &mi);

	if (rc == 0 && !mountinfo_has_automount(&mi, mountpoint))
		rc = -EINVAL;
	mountinfo_fini(&mi);
	return rc;
}

/* Without following a path to it, which would wait for this mount. */
static int open_automount(const char *mountpoint, pid_t pid, uint64_t number, int *out_fd)
{
	char link[64], *real = NULL;
	struct statfs fs;
	int fd, rc;

	snprintf(link, sizeof(link), "/proc/%d/fd/%llu", (int)pid, (unsigned long long)number);
	fd = open(link, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = fstatfs(fd, &fs) < 0 ? -errno : host_place_path(fd, &real);
	if (rc == 0 && (fs.f_type != AUTOFS_SUPER_MAGIC || strcmp(real, mountpoint) != 0))
		rc = -EINVAL;
	if (rc == 0)
		rc = check_automount(mountpoint);
	free(real);
	if (rc < 0)
		close(fd);
	else
		*out_fd = fd;
	return rc;
}

int api_automount(struct api_call *c, uint64_t fd, const char *mountpoint, int *out_fd,
		  struct error *err)
{
	const pid_t pid = http_peer_pid(c->rq);
	int rc;

	*out_fd = 0;
	if (!fd)
		return 0;
	if (pid <= 0 || c->api->socket_host_roots)
		return error_set(err, -EACCES,
				 "automountFD is for clients of a socket without socketHostRoots");
	rc = mountpoint ? open_automount(mountpoint, pid, fd, out_fd) : -EINVAL;
	if (rc == -EINVAL)
		return error_set(err, rc,
				 "automountFD %llu is not open at an automount point \"%.200s\"",
				 (unsigned long long)fd, mountpoint ? mountpoint : "");
	return rc < 0 ? error_set_errno(err, rc, "automountFD %llu", (unsigned long long)fd) : 0;
}

int api_gate_init(struct api *a, struct error *err)
{
	uint8_t bytes[DASHBOARD_TOKEN_BYTES];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return error_set_errno(err, -errno, "random numbers");
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(a->dashboard_token + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

/* Only through the socket, and not to a page: that is what the token is to prove. */
int api_dashboard_token(struct api_call *c, struct error *err)
{
	int rc = api_query(c, err, NULL);

	if (rc < 0)
		return rc;
	if (http_needs_key(c->rq))
		return error_set(err, -EACCES, "the token is told through the unix socket only");
	return api_result(c, 200, json_pack("{s:s}", "token", c->api->dashboard_token), err);
}
