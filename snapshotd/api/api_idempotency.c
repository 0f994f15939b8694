/*
 * Idempotency-Key: a call that carries one is done once, however often it is sent. What it has
 * answered is answered again; where a daemon has died of it, the call itself looks for what that
 * has made (c->once.again), before it makes it.
 */
#include "snapshotd/api/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/state/idempotency.h"
#include "store/base/hash.h"

#define WAIT_MS 30000 /* for the same call, that is under way */

int api_once_key(struct api_call *c, struct error *err)
{
	static const char name[] = "Idempotency-Key";
	const char *key = http_header(c->rq, name);
	size_t len;

	if (strcmp(c->match.route->method, "GET") == 0 || !key ||
	    (c->match.route->flags & ROUTE_UNKEPT))
		return 0;
	len = strlen(key);
	if (len >= 2 && key[0] == '"' && key[len - 1] == '"') { /* RFC 8941 has a string so */
		key++;
		len -= 2;
	}
	if (http_header_count(c->rq, name) > 1)
		return error_set(err, -EINVAL, "there is more than one %s", name);
	if (len == 0 || len > IDEMPOTENCY_KEY_MAX)
		return error_set(err, -EINVAL, "%s has 1 to %d characters", name,
				 IDEMPOTENCY_KEY_MAX);
	memcpy(c->once_key, key, len);
	c->once_key[len] = '\0';
	return 0;
}

/* Of what the call is to do. */
static int print_of(const struct api_call *c, struct digest *out)
{
	CLEANUP(hasher_free_p) struct hasher *h = hasher_new();
	const char *const parts[] = { http_method(c->rq), http_path(c->rq), http_query(c->rq) };
	size_t len;
	const char *body = http_body(c->rq, &len);
	int rc = h ? 0 : -ENOMEM;

	for (size_t i = 0; i < ARRAY_SIZE(parts) && rc == 0; i++)
		rc = hasher_update(h, parts[i], strlen(parts[i]) + 1);
	if (rc == 0)
		rc = hasher_update(h, body, len);
	return rc == 0 ? hasher_final(h, out) : rc;
}

static bool is_cancelled(void *arg)
{
	struct api_call *c = arg;

	return http_cancelled(c->rq);
}

int api_once_begin(struct api_call *c, struct error *err)
{
	const struct idempotency_wait wait = { WAIT_MS, is_cancelled, c };
	struct digest print;
	int rc;

	if (!*c->once_key)
		return 0;
	rc = print_of(c, &print);
	if (rc < 0)
		return error_set(err, rc, "out of memory");
	rc = idempotency_begin(c->api->idempotency, c->once_key, &print, &wait, &c->once, err);
	if (rc == -EEXIST)
		c->fail_status = 422;
	if (rc == -EBUSY) {
		c->fail_status = 503;
		c->once_pending = true;
	}
	if (rc < 0)
		return rc;
	if (!c->once.again || (c->match.route->flags & ROUTE_AGAIN))
		return 0;
	idempotency_leave(c->api->idempotency, &c->once);
	return error_set(err, -EBUSY,
			 "this request has begun before, and how it ended is not known: snapshotd "
			 "or the connection has ended meanwhile, or its answer was not kept");
}

void api_once_result(struct api_call *c, int status, const json_t *j)
{
	char *text;

	if (!c->once.name[0] || c->once.status)
		return;
	text = j ? json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY) : strdup("");
	if (text)
		idempotency_done(c->api->idempotency, &c->once, status, text);
	free(text);
}

void api_once_leave(struct api_call *c)
{
	idempotency_leave(c->api->idempotency, &c->once);
}

void api_once_end(struct api_call *c, int rc)
{
	if (rc < 0 && !c->once_effect)
		idempotency_forget(c->api->idempotency, &c->once);
	else
		idempotency_leave(c->api->idempotency, &c->once);
}

bool api_once_made(const struct api_call *c, int64_t created_at_ms)
{
	return c->once.again && created_at_ms >= c->once.begun_ms;
}

/* One that has failed has the id, and another cannot. */
static bool snapshot_get(const struct api_call *c, struct snapshot *out)
{
	return c->once.again && snapshots_get(c->api->store->snapshots, c->once.id, out, NULL) == 0;
}

const char *api_once_id(const struct api_call *c)
{
	struct snapshot s = { 0 };
	const bool taken = snapshot_get(c, &s);

	snapshot_fini(&s);
	return *c->once.id && !taken ? c->once.id : NULL;
}

bool api_once_snapshot(const struct api_call *c, struct snapshot *out)
{
	struct snapshot s = { 0 };

	if (!snapshot_get(c, &s))
		return false;
	if (s.status != SNAPSHOT_FAILED) {
		*out = s;
		return true;
	}
	snapshot_fini(&s);
	return false;
}
