/* The table of calls, and a call from its route to its end. */
#include "snapshotd/api/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/http/http_conns.h"
#include "store/base/clock.h"
#include "store/base/log.h"

#define BODY_MEDIUM (4u << 20) /* arguments, input and scripts of programs */

const struct route api_routes[] = {
	{ "GET", "/healthz", api_healthz, ROUTE_OPEN, NULL },
	{ "POST", "/api/daemon/upgrade", api_upgrade, 0, NULL },
	{ "GET", "/metrics", api_metrics, 0, NULL },
	{ "GET", "/api/snapshots", api_snapshots_list, ROUTE_LONG, NULL },
	{ "POST", "/api/snapshots", api_snapshot_create, ROUTE_LONG | ROUTE_LARGE | ROUTE_AGAIN,
	  NULL },
	{ "POST", "/api/snapshots/import", api_import, ROUTE_LONG | ROUTE_UPLOAD | ROUTE_AGAIN,
	  api_import_check },
	{ "POST", "/api/snapshots/pull", api_pull, ROUTE_LONG | ROUTE_AGAIN, NULL },
	{ "POST", "/api/snapshots/:name/push", api_push, ROUTE_LONG | ROUTE_AGAIN, NULL },
	{ "GET", "/api/snapshots/:name", api_snapshot_get, 0, NULL },
	{ "PATCH", "/api/snapshots/:name", api_snapshot_patch, ROUTE_AGAIN, NULL },
	{ "DELETE", "/api/snapshots/:name", api_snapshot_delete, ROUTE_AGAIN, NULL },
	{ "GET", "/api/snapshots/:name/history", api_snapshot_history, ROUTE_LONG, NULL },
	{ "GET", "/api/snapshots/:name/export", api_export, ROUTE_LONG, NULL },
	{ "GET", "/api/snapshots/:name/diff/:other", api_snapshots_diff, ROUTE_LONG, NULL },
	{ "GET", "/api/remotes", api_remotes_list, ROUTE_LONG, NULL },
	{ "POST", "/api/remotes", api_remote_add, ROUTE_LONG, NULL },
	{ "GET", "/api/remotes/:remote", api_remote_show, 0, NULL },
	{ "DELETE", "/api/remotes/:remote", api_remote_delete, ROUTE_AGAIN, NULL },
	{ "POST", "/api/remotes/:remote/check", api_remote_check, ROUTE_LONG | ROUTE_AGAIN, NULL },
	{ "POST", "/api/remotes/:remote/rekey", api_remote_rekey, ROUTE_LONG, NULL },
	{ "POST", "/api/remotes/:remote/gc", api_remote_gc, ROUTE_LONG | ROUTE_AGAIN, NULL },
	{ "POST", "/api/remotes/:remote/verify", api_remote_verify, ROUTE_LONG | ROUTE_AGAIN,
	  NULL },
	{ "GET", "/api/remotes/:remote/snapshots", api_remote_snapshots, ROUTE_LONG, NULL },
	{ "GET", "/api/remotes/:remote/snapshots/:snapshot", api_remote_snapshot_get, ROUTE_LONG,
	  NULL },
	{ "DELETE", "/api/remotes/:remote/snapshots/:snapshot", api_remote_snapshot_delete,
	  ROUTE_LONG, NULL },
	{ "GET", "/api/mounts", api_mounts_list, ROUTE_LONG, NULL },
	{ "POST", "/api/mounts", api_mount_create, ROUTE_LONG | ROUTE_AGAIN, NULL },
	{ "GET", "/api/mounts/:id", api_mount_get, 0, NULL },
	{ "DELETE", "/api/mounts/:id", api_mount_delete, ROUTE_AGAIN, NULL },
	{ "POST", "/api/mounts/:id/attach", api_mount_attach, ROUTE_AGAIN, NULL },
	{ "POST", "/api/mounts/:id/checkpoint", api_mount_checkpoint, ROUTE_AGAIN, NULL },
	{ "POST", "/api/mounts/:id/fork", api_mount_fork, ROUTE_AGAIN, NULL },
	{ "GET", "/api/mounts/:id/diff", api_mount_diff, ROUTE_LONG, NULL },
	{ "GET", "/api/builds", api_builds_list, ROUTE_LONG, NULL },
	{ "GET", "/api/builds/:id", api_build_get, 0, NULL },
	{ "DELETE", "/api/builds/:id", api_build_cancel, ROUTE_AGAIN, NULL },
	{ "GET", "/api/builds/:id/logs", api_build_logs, ROUTE_LONG, NULL },
	{ "GET", "/api/images", api_images_list, ROUTE_LONG, NULL },
	{ "POST", "/api/images", api_image_create, ROUTE_LONG | ROUTE_LARGE | ROUTE_AGAIN, NULL },
	{ "DELETE", "/api/images/:key", api_image_delete, ROUTE_AGAIN, NULL },
	/* Those before what has an id there. */
	{ "POST", "/api/sandboxes/from-checkpoint/:checkpoint", api_sandbox_fork,
	  ROUTE_LONG | ROUTE_MEDIUM | ROUTE_AGAIN, NULL },
	{ "GET", "/api/sandboxes/checkpoints/:checkpoint/patches", api_patches_list, ROUTE_LONG,
	  NULL },
	{ "POST", "/api/sandboxes/checkpoints/:checkpoint/patches", api_patch_create, ROUTE_MEDIUM,
	  NULL },
	{ "DELETE", "/api/sandboxes/checkpoints/:checkpoint/patches/:patch", api_patch_delete,
	  ROUTE_AGAIN, NULL },
	{ "GET", "/api/sandboxes", api_sandboxes_list, ROUTE_LONG, NULL },
	{ "POST", "/api/sandboxes", api_sandbox_create, ROUTE_LONG | ROUTE_LARGE | ROUTE_AGAIN,
	  NULL },
	{ "GET", "/api/sandboxes/:id", api_sandbox_get, 0, NULL },
	{ "DELETE", "/api/sandboxes/:id", api_sandbox_delete, ROUTE_AGAIN, NULL },
	{ "POST", "/api/sandboxes/:id/timeout", api_sandbox_timeout, ROUTE_AGAIN, NULL },
	{ "POST", "/api/sandboxes/:id/exec/run", api_exec_run, ROUTE_LONG | ROUTE_MEDIUM, NULL },
	{ "POST", "/api/sandboxes/:id/exec/run-async", api_exec_run_async,
	  ROUTE_MEDIUM | ROUTE_AGAIN, NULL },
	{ "GET", "/api/sandboxes/:id/exec/:exec/result", api_exec_result, ROUTE_LONG, NULL },
	{ "GET", "/api/sandboxes/:id/exec/:exec/output", api_exec_output, ROUTE_LONG, NULL },
	{ "DELETE", "/api/sandboxes/:id/exec/:exec", api_exec_kill, ROUTE_AGAIN, NULL },
	{ "POST", "/api/sandboxes/:id/exec/:exec/signal", api_exec_signal, ROUTE_AGAIN, NULL },
	{ "POST", "/api/sandboxes/:id/exec/:exec/stdin", api_exec_stdin,
	  ROUTE_LONG | ROUTE_STREAM | ROUTE_LIVE, api_exec_stdin_check },
	{ "GET", "/api/sandboxes/:id/files", api_file_get, ROUTE_LONG, NULL },
	{ "PUT", "/api/sandboxes/:id/files", api_file_put, ROUTE_LONG | ROUTE_STREAM,
	  api_file_put_check },
	{ "DELETE", "/api/sandboxes/:id/files", api_file_delete, ROUTE_LONG | ROUTE_AGAIN, NULL },
	{ "GET", "/api/sandboxes/:id/files/list", api_file_list, ROUTE_LONG, NULL },
	{ "POST", "/api/sandboxes/:id/files/mkdir", api_file_mkdir, ROUTE_LONG | ROUTE_AGAIN,
	  NULL },
	{ "GET", "/api/sandboxes/:id/checkpoints", api_checkpoints_list, ROUTE_LONG, NULL },
	{ "POST", "/api/sandboxes/:id/checkpoints", api_checkpoint_create, ROUTE_LONG | ROUTE_AGAIN,
	  NULL },
	{ "DELETE", "/api/sandboxes/:id/checkpoints/:checkpoint", api_checkpoint_delete,
	  ROUTE_AGAIN, NULL },
	{ "POST", "/api/sandboxes/:id/checkpoints/:checkpoint/restore", api_checkpoint_restore,
	  ROUTE_LONG | ROUTE_AGAIN, NULL },
	{ "POST", "/api/gc", api_gc, ROUTE_LONG | ROUTE_AGAIN, NULL },
	{ "POST", "/api/verify", api_verify, ROUTE_LONG | ROUTE_AGAIN, NULL },
	{ "POST", "/api/backup", api_backup, ROUTE_LONG, NULL },
	{ "GET", "/api/stats", api_stats, 0, NULL },
	{ "GET", "/api/stats/history", api_stats_history, 0, NULL },
	{ "GET", "/", api_dashboard, ROUTE_OPEN, api_dashboard_check },
	{ "POST", "/api/dashboard/token", api_dashboard_token, ROUTE_UNKEPT, NULL },
	{ "GET", "/dashboard/:file", api_dashboard, ROUTE_OPEN, api_dashboard_check },
};
const size_t api_routes_count = ARRAY_SIZE(api_routes);

static int call_route(struct api_call *c, struct error *err)
{
	struct http_request *rq = c->rq;
	int rc = router_find(api_routes, api_routes_count, http_method(rq), http_path(rq),
			     &c->match);
	bool open = rc == 0 && (c->match.route->flags & ROUTE_OPEN);

	int gate = api_gate(c, open, err);

	if (gate < 0) {
		api_audit_refused(c);
		return gate;
	}
	if (rc == -EOPNOTSUPP) {
		http_reply_header(rq, "Allow", c->match.allow);
		return error_set(err, rc, "%s cannot be called with %.20s, only with %s",
				 http_path(rq), http_method(rq), c->match.allow);
	}
	if (rc == -ENOENT)
		return error_set(err, rc, "there is no call %s", http_path(rq));
	if (rc < 0)
		return error_set_errno(err, rc, "path %s", http_path(rq));
	if (http_stopping(rq))
		return error_set(err, -ECANCELED, "snapshotd is stopping");
	return query_parse(http_query(rq), &c->query, err);
}

/* Bytes of a body that is collected. */
static size_t body_max(const struct route *r)
{
	if (r->flags & ROUTE_LARGE)
		return HTTP_BODY_MAX;
	return r->flags & ROUTE_MEDIUM ? BODY_MEDIUM : HTTP_BODY_SMALL;
}

static void call_begin(void *ctx, struct http_request *rq, struct http_plan *plan)
{
	struct api *a = ctx;
	struct error err = ERROR_INIT;
	struct api_call *c = calloc(1, sizeof(*c));
	int rc;

	if (!c) {
		http_reply(rq, 503, NULL, NULL, 0);
		return;
	}
	c->api = a;
	c->rq = rq;
	c->begun_us = monotonic_us();
	http_set_user(rq, c);
	atomic_fetch_add_explicit(&a->metrics.http_in_flight, 1, memory_order_relaxed);
	rc = call_route(c, &err);
	if (c->match.route)
		api_audit_begin(c);
	if (rc == 0) {
		const struct route *r = c->match.route;

		plan->worker = r->flags & ROUTE_LONG;
		plan->body_live = r->flags & ROUTE_LIVE;
		plan->body_max = body_max(r);
		plan->body_stream = (r->flags & ROUTE_STREAM) ||
				    ((r->flags & ROUTE_UPLOAD) && query_get(&c->query, "format"));
		rc = api_gate_body(c, plan->body_stream, &err);
		if (rc == 0 && !plan->body_stream)
			rc = api_once_key(c, &err);
		if (rc == 0 && r->before)
			rc = r->before(c, &err);
	}
	if (rc < 0)
		api_fail(c, rc, &err);
}

/* What it answered is answered again. */
static int answer_again(struct api_call *c, struct error *err)
{
	json_t *j;

	http_reply_header(c->rq, "Idempotency-Replayed", "true");
	if (!*c->once.result)
		return api_no_content(c);
	if ((c->match.route->flags & ROUTE_LONG) && !api_progress(c, err))
		return err->code;
	j = json_loads(c->once.result, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	return api_result(c, c->once.status, j, err);
}

static void call_handle(void *ctx, struct http_request *rq)
{
	struct api_call *c = http_user(rq);
	struct error err = ERROR_INIT;
	int rc = api_once_begin(c, &err);

	(void)ctx;
	if (rc == 0)
		rc = c->once.status ? answer_again(c, &err) : c->match.route->fn(c, &err);
	if (rc == -ENOENT && c->once.again && strcmp(http_method(rq), "DELETE") == 0)
		rc = api_no_content(c); /* a daemon that has died has deleted it */
	api_once_end(c, rc);
	if (rc < 0)
		api_fail(c, rc, &err);
}

static void call_end(void *ctx, struct http_request *rq)
{
	struct api_call *c = http_user(rq);
	struct api *a = ctx;

	if (!c)
		return;
	metrics_http(&a->metrics, http_status(rq), monotonic_us() - c->begun_us);
	atomic_fetch_sub_explicit(&a->metrics.http_in_flight, 1, memory_order_relaxed);
	api_audit_end(c);
	log_debug("%s %s: %d", http_method(rq), http_path(rq), http_status(rq));
	idempotent_fini(&c->once);
	query_fini(&c->query);
	route_match_fini(&c->match);
	free(c);
}

struct http_app api_app(struct api *a)
{
	return (struct http_app){
		call_begin,	   call_handle,	       call_end,	   a,  CONN_STREAM_PAUSE_MS,
		&a->memory.bodies, &a->memory.replies, "Idempotency-Keys", "1"
	};
}
