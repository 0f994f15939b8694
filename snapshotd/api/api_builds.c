/* Builds, and what is made by them: images for other calls, and named snapshots. */
#include "snapshotd/api/api.h"

#include <errno.h>
#include <string.h>

#include "snapshotd/build/image_cache.h"
#include "snapshotd/build/manifest.h"
#include "store/base/log.h"
#include "store/lazy/share_state.h"

json_t *api_snapshot_json(struct api_call *c, const struct snapshot *s)
{
	json_t *j = snapshot_to_json(s);
	json_t *m = builds_manifest(c->api->builds, s->content_hash);

	int failed = j == NULL;

	if (!failed && m)
		failed = json_object_set(j, "manifest", m);
	if (!failed)
		failed = share_state_tell(c->api->store->kv, remotes_index(c->api->remotes), s->id,
					  j);
	json_decref(m);
	if (failed) {
		json_decref(j);
		return NULL;
	}
	return j;
}

/* ---- waiting for a build ---- */

static void send_log(void *arg, const json_t *event)
{
	struct api_call *c = arg;

	if (api_event(c, "build_log", json_incref((json_t *)event)) == -ENOMEM)
		log_debug("out of memory: an event is not sent");
}

static bool is_cancelled(void *arg)
{
	struct api_call *c = arg;

	return http_cancelled(c->rq);
}

static struct build_request request_of(struct api_call *c, const char *name)
{
	return (struct build_request){
		.name = name, .log = send_log, .cancelled = is_cancelled, .arg = c
	};
}

static int request_flags(struct api_call *c, struct build_request *rq, struct error *err)
{
	int rc = query_bool(&c->query, "force", &rq->force, err);

	if (c->once.again) /* what was forced has begun, and goes on */
		rq->force = false;
	return rc < 0 ? rc : query_bool(&c->query, "keepFailed", &rq->keep_failed, err);
}

int api_resolve_image(struct api_call *c, const struct manifest *m, const char *name,
		      struct build_outcome *out, struct error *err)
{
	struct build_request rq = request_of(c, name);
	int rc = request_flags(c, &rq, err);

	if (rc < 0)
		return rc;
	if (!c->events && !api_progress(c, err))
		return err->code;
	rc = builds_resolve(c->api->builds, m, &rq, out, err);
	c->fail_step = rc < 0 ? out->failed_step : 0;
	return rc;
}

/* ---- named snapshots ---- */

struct creation {
	const char *name;
	json_t *image; /* borrowed from the body */
	bool is_async;
	struct build_request rq;
	struct manifest m;
};

static int creation_parse(struct api_call *c, struct creation *cr, json_t **body, struct error *err)
{
	const struct field fields[] = {
		{ "name", FIELD_STRING, &cr->name, true },
		{ "image", FIELD_IMAGE, &cr->image, true },
		{ "force", FIELD_BOOL, &cr->rq.force, false },
		{ "keepFailed", FIELD_BOOL, &cr->rq.keep_failed, false },
		{ "replace", FIELD_BOOL, &cr->rq.replace, false },
	};
	int rc = api_query(c, err, "async", "force", "keepFailed", NULL);

	if (rc == 0)
		rc = api_body_known(c, fields, ARRAY_SIZE(fields), body, err);
	if (rc == 0)
		rc = query_bool(&c->query, "async", &cr->is_async, err);
	if (rc == 0)
		rc = request_flags(c, &cr->rq, err);
	if (rc == 0)
		rc = snapshot_name_check(cr->name, err);
	return rc < 0 ? rc : manifest_parse(cr->image, &cr->m, err);
}

/* With the build's log, until it has ended; *s is then what became of it. */
static int wait_created(struct api_call *c, const struct creation *cr, struct snapshot *s,
			struct error *err)
{
	struct build_outcome oc = { 0 };
	char id[SNAPSHOT_ID_SIZE];
	int rc;

	if (!api_progress(c, err))
		return err->code;
	if (s->status != SNAPSHOT_BUILDING)
		return 0;
	rc = builds_wait(c->api->builds, s->build_id, &cr->rq, &oc, err);
	c->fail_step = rc < 0 ? oc.failed_step : 0;
	if (rc < 0)
		return rc;
	memcpy(id, s->id, sizeof(id));
	snapshot_fini(s);
	*s = (struct snapshot){ 0 };
	return snapshots_get(c->api->store->snapshots, id, s, err);
}

/* A daemon that has died has begun it for this call, or another the same of that name. */
static bool is_made(struct api_call *c, const struct creation *cr, struct snapshot *s)
{
	if (!c->once.again || snapshots_get(c->api->store->snapshots, cr->name, s, NULL) < 0)
		return false;
	if (strcmp(s->name, cr->name) == 0 && api_once_made(c, s->created_at_ms) &&
	    s->status != SNAPSHOT_FAILED && strcmp(s->content_hash, cr->m.key) == 0)
		return true;
	snapshot_fini(s);
	*s = (struct snapshot){ 0 };
	return false;
}

static int create(struct api_call *c, const struct creation *cr, struct error *err)
{
	struct build_outcome oc;
	struct snapshot s = { 0 };
	int rc = is_made(c, cr, &s)
			 ? 0
			 : builds_snapshot(c->api->builds, &cr->m, cr->name, &cr->rq, &oc, &s, err);

	if (rc < 0)
		return rc;
	if (!cr->is_async)
		rc = wait_created(c, cr, &s, err);
	if (rc == 0)
		rc = api_result(c, cr->is_async && s.status == SNAPSHOT_BUILDING ? 202 : 201,
				api_snapshot_json(c, &s), err);
	snapshot_fini(&s);
	return rc;
}

int api_snapshot_create(struct api_call *c, struct error *err)
{
	struct creation cr = { 0 };
	json_t *body = NULL;
	int rc;

	rc = creation_parse(c, &cr, &body, err);
	if (rc == 0) {
		struct build_request rq = request_of(c, cr.name);

		rq.force = cr.rq.force;
		rq.keep_failed = cr.rq.keep_failed;
		rq.replace = cr.rq.replace;
		cr.rq = rq;
		rc = create(c, &cr, err);
	}
	manifest_fini(&cr.m);
	json_decref(body);
	return rc;
}

/* ---- builds ---- */

int api_builds_list(struct api_call *c, struct error *err)
{
	struct api_list l;
	int rc = api_list_begin_plain(&l, c, err);

	if (rc < 0)
		return rc;
	rc = builds_each(c->api->builds, api_list_item, &l, err);
	return api_list_end(&l, rc, err);
}

int api_build_get(struct api_call *c, struct error *err)
{
	json_t *j = NULL, *m;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = builds_get(c->api->builds, api_capture(c, 0), &j, err);
	if (rc < 0)
		return rc;
	m = builds_manifest(c->api->builds, json_string_value(json_object_get(j, "key")));
	if (json_object_set_new(j, "manifest", m ? m : json_null())) {
		json_decref(j);
		j = NULL;
	}
	return api_result(c, 200, j, err);
}

int api_build_cancel(struct api_call *c, struct error *err)
{
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = builds_cancel(c->api->builds, api_capture(c, 0), err);
	return rc < 0 ? rc : api_no_content(c);
}

static int follow_logs(struct api_call *c, struct error *err)
{
	struct build_request rq = request_of(c, NULL);
	struct build_outcome oc = { 0 };
	json_t *j = NULL;
	int rc;

	if (!api_progress(c, err))
		return err->code;
	rc = builds_wait(c->api->builds, api_capture(c, 0), &rq, &oc, err);
	c->fail_step = rc < 0 ? oc.failed_step : 0;
	if (rc == 0)
		rc = builds_get(c->api->builds, api_capture(c, 0), &j, err);
	return rc < 0 ? rc : api_result(c, 200, j, err);
}

struct log_list {
	struct api_list list;
	unsigned long long number; /* of the event, from 1: its id */
	int rc;
};

static void list_event(void *arg, const json_t *event)
{
	struct log_list *l = arg;
	char id[24];

	snprintf(id, sizeof(id), "%llu", ++l->number);
	if (l->rc == 0)
		l->rc = api_list_item(&l->list, id, event);
}

/* Millions of short lines fit into a log: they are not in memory at once. */
static int list_log(struct api_call *c, struct error *err)
{
	struct log_list l = { .rc = 0 };
	int rc = api_list_begin(&l.list, c, err);

	if (rc < 0)
		return rc;
	rc = builds_log(c->api->builds, api_capture(c, 0), list_event, &l, err);
	if (rc == 0 && l.rc < 0)
		rc = error_set_errno(err, l.rc, "the reply");
	return api_list_end(&l.list, rc, err);
}

int api_build_logs(struct api_call *c, struct error *err)
{
	bool events = http_wants_events(c->rq);
	json_t *j = NULL;
	int rc = events ? api_query(c, err, NULL) : api_query(c, err, API_LIST_QUERY, NULL);

	if (rc == 0) /* for its status where there is no such build */
		rc = builds_get(c->api->builds, api_capture(c, 0), &j, err);
	json_decref(j);
	j = NULL;
	if (rc == 0 && events)
		return follow_logs(c, err);
	return rc < 0 ? rc : list_log(c, err);
}
