#include "snapshotd/api/api.h"

#include <stdio.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/log.h"

static const struct {
	const char *begin;
	enum metrics_resource resource;
} resources[] = {
	{ "/api/snapshots", METRICS_SNAPSHOTS }, { "/api/remotes", METRICS_REMOTES },
	{ "/api/mounts", METRICS_MOUNTS },	 { "/api/builds", METRICS_BUILDS },
	{ "/api/images", METRICS_IMAGES },	 { "/api/sandboxes", METRICS_SANDBOXES },
};

static enum metrics_resource resource_of(const struct route *r)
{
	if (strstr(r->pattern, "/exec"))
		return METRICS_EXEC;
	if (strstr(r->pattern, "/files"))
		return METRICS_FILES;
	for (size_t i = 0; i < ARRAY_SIZE(resources); i++)
		if (strncmp(r->pattern, resources[i].begin, strlen(resources[i].begin)) == 0)
			return resources[i].resource;
	return METRICS_OTHER;
}

static bool changes(const struct route *r)
{
	return strcmp(r->method, "GET") != 0;
}

/* Programs are begun, and fed, too often for a line each. */
static bool is_of_program(const struct route *r)
{
	return resource_of(r) == METRICS_EXEC && !strstr(r->pattern, "/signal");
}

void api_audit_begin(struct api_call *c)
{
	const struct route *r = c->match.route;
	const char *path = query_get(&c->query, "path");

	if (!changes(r) || is_of_program(r))
		return;
	http_peer(c->rq, c->who);
	if (resource_of(r) == METRICS_FILES && path)
		snprintf(c->what, sizeof(c->what), " path=%s", path);
}

void api_audit_refused(struct api_call *c)
{
	http_peer(c->rq, c->who);
}

void api_audit_result(struct api_call *c, const json_t *result)
{
	static const char *const members[] = { "sandboxID", "id",	  "name",
					       "snapshot",  "mountpoint", "path" };

	for (size_t i = 0; *c->who && i < ARRAY_SIZE(members); i++) {
		const char *s = json_string_value(json_object_get(result, members[i]));
		size_t len = strlen(c->what);

		if (s && *s)
			snprintf(c->what + len, sizeof(c->what) - len, " %s=%s", members[i], s);
	}
}

void api_audit_end(struct api_call *c)
{
	const struct route *r = c->match.route;

	if (r)
		metrics_call(&c->api->metrics, resource_of(r), changes(r),
			     monotonic_us() - c->begun_us);
	if (*c->who)
		log_info("%s %s by %s: %d%s", http_method(c->rq), http_path(c->rq), c->who,
			 c->fail_status ? c->fail_status : http_status(c->rq), c->what);
}
