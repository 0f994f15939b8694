/*
 * The log's line of a call: "POST by 127.0.0.1: 401 /api/gc". Whoever sends a path chooses it, so
 * it comes last of what is always there, is cut, and has no spaces. Anybody who reaches the port
 * can be refused: more than REFUSALS_TOLD of them in a second are only counted.
 */
#include "snapshotd/api/api.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "store/base/clock.h"
#include "store/base/log.h"

#define REFUSALS_TOLD 10
#define REFUSALS_MS 1000

/* Of the process, as its log is. */
static struct {
	pthread_mutex_t lock; /* of the others */
	int64_t begun_ms;     /* of the second that is counted; CLOCK_MONOTONIC */
	unsigned told, more;
} refusals = { .lock = PTHREAD_MUTEX_INITIALIZER };

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

	if (*c->who || c->untold || !changes(r) || is_of_program(r))
		return;
	http_peer(c->rq, c->who);
	if (resource_of(r) == METRICS_FILES && path)
		snprintf(c->what, sizeof(c->what), " path=%s", path);
}

/* Where a second has passed: says how many refusals it has left out. */
static void refusals_next(int64_t now_ms)
{
	unsigned more = 0;

	pthread_mutex_lock(&refusals.lock);
	if (now_ms - refusals.begun_ms >= REFUSALS_MS) {
		more = refusals.more;
		refusals.begun_ms = now_ms;
		refusals.told = refusals.more = 0;
	}
	pthread_mutex_unlock(&refusals.lock);
	if (more)
		log_info("%u more were refused", more);
}

void api_audit_refused(struct api_call *c)
{
	refusals_next(monotonic_ms());
	pthread_mutex_lock(&refusals.lock);
	c->untold = refusals.told == REFUSALS_TOLD;
	if (c->untold)
		refusals.more++;
	else
		refusals.told++;
	pthread_mutex_unlock(&refusals.lock);
	if (!c->untold)
		http_peer(c->rq, c->who);
}

void api_audit_path(const char *path, char out[AUDIT_PATH_SIZE])
{
	size_t n = 0;

	for (; *path && n < AUDIT_PATH_MAX; path++)
		if ((unsigned char)*path > ' ' && *path != 0x7f)
			out[n++] = *path;
		else
			n += (size_t)snprintf(out + n, 4, "%%%02X", (unsigned char)*path);
	strcpy(out + n, *path ? "..." : "");
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
	char path[AUDIT_PATH_SIZE];

	if (r)
		metrics_call(&c->api->metrics, resource_of(r), changes(r),
			     monotonic_us() - c->begun_us);
	if (*c->who) {
		api_audit_path(http_path(c->rq), path);
		log_info("%.20s by %s: %d %s%s", http_method(c->rq), c->who,
			 c->fail_status ? c->fail_status : http_status(c->rq), path, c->what);
	}
	if (!c->untold)
		refusals_next(monotonic_ms());
}
