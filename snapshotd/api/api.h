/*
 * api.h - the HTTP API: from a request to a call of its table, from what the
 * call returns to a reply. A call replies with JSON or a stream, or returns
 * -errno and the reason, which become a status and {"error": reason} (logged
 * here, once). The calls themselves are in api_*.c, one file a resource.
 */
#ifndef VARVE_SNAPSHOTD_API_H
#define VARVE_SNAPSHOTD_API_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "fs/shared/shared_files.h"
#include "snapshotd/http/budget.h"
#include "snapshotd/build/builds.h"
#include "snapshotd/http/fields.h"
#include "snapshotd/http/http.h"
#include "snapshotd/http/json_stream.h"
#include "snapshotd/state/metrics.h"
#include "snapshotd/state/mounts.h"
#include "snapshotd/state/collector.h"
#include "snapshotd/state/idempotency.h"
#include "snapshotd/state/recompressor.h"
#include "snapshotd/state/sharer.h"
#include "snapshotd/http/router.h"
#include "snapshotd/container/runtime.h"
#include "snapshotd/sandbox/sandboxes.h"
#include "snapshotd/state/stats_history.h"
#include "store/base/progress.h"
#include "store/remote/remotes.h"
#include "store/store.h"

#define DASHBOARD_TOKEN_BYTES 32

/* What the calls work on; all borrowed from main. */
struct api {
	struct store *store;
	struct remotes *remotes;
	struct sharer *sharer; /* NULL: nothing is shared by itself */
	struct source *far;    /* chunks of buckets: store/lazy/far.h */
	struct pins *pins;
	struct evictor *evictor; /* NULL: the store has no limit */
	struct prefetch *prefetch;
	struct session_pool *pool;
	struct shared_files *shared; /* NULL: there are none */
	struct mounts *mounts;
	struct runtime *runtime;
	struct builds *builds;
	struct sandboxes *sandboxes;
	struct stats_history *history;
	struct recompressor *recompressor;
	struct collector *collector;
	struct idempotency *idempotency;
	struct metrics metrics;
	struct request_memory memory;
	const char *api_key;		 /* or NULL */
	const char *listen_host;	 /* as configured, or NULL */
	const json_t *host_roots;	 /* of TCP clients; NULL: none */
	const json_t *socket_host_roots; /* of others; NULL: no limit */
	const json_t *allowed_hosts;	 /* more names of this host: an array, or NULL */
	char dashboard_token[2 * DASHBOARD_TOKEN_BYTES + 1]; /* of this daemon's life */
	int64_t started_ms;				     /* CLOCK_MONOTONIC */
	unsigned generation;	     /* of the daemon; above 1 after others that died */
	struct keeper *keeper;	     /* NULL: nobody starts a successor */
	const char *upgrade_failure; /* why the program before this one did not come up, or NULL */
	_Atomic bool ready;	     /* everything has begun */
};

/* The functions of a http_app with a struct api as ctx. */
struct http_app api_app(struct api *a);

/* Makes what a names the daemon by. Before the first request. */
MUST_CHECK int api_gate_init(struct api *a, struct error *err);

/* One request being served. */
struct api_call {
	struct api *api;
	struct http_request *rq;
	struct route_match match;
	struct query query;
	int64_t begun_us;

	struct progress progress; /* see api_progress */
	bool events;		  /* the reply is events */

	char who[HTTP_PEER_SIZE]; /* "" of a call that has no line of log */
	bool untold;		  /* refused, with too many others for lines of log */
	char what[160];		  /* that it has made or changed, for the log; "" */

	char once_key[IDEMPOTENCY_KEY_MAX + 1]; /* Idempotency-Key; "" for none */
	struct idempotent once;			/* of it; see below */
	bool once_effect;  /* what cannot be done twice has begun: nobody is to ask again */
	bool once_pending; /* the same call is under way: ask again soon */

	bool keyed;	    /* it carries a key or token that is right */
	bool not_modified;  /* the client has the reply already */
	int fail_status;    /* of a failure; 0: by its code */
	unsigned fail_step; /* an event "error" names this step of a build; 0: none */
};

/*
 * api_gate.c: whether the request may make calls, or only open ones. -EACCES,
 * with its status set. Inside begin.
 */
MUST_CHECK int api_gate(struct api_call *c, bool open, struct error *err);
/* Whether its body's type is one that no page could send. Inside begin. */
MUST_CHECK int api_gate_body(struct api_call *c, bool stream, struct error *err);

/*
 * Whether the client may name the path, of a member of its body: -EACCES. *out_fd:
 * the place (O_PATH), the caller's to close; -1 where there is no limit, or no path.
 */
MUST_CHECK int api_host_place(struct api_call *c, const char *member, const char *path, int *out_fd,
			      struct error *err);
/* The same; the path in the body is replaced by one without symlinks, and *path, too. */
MUST_CHECK int api_host_path(struct api_call *c, json_t *body, const char *member,
			     const char **path, struct error *err);

/*
 * Number `fd` of the descriptors of the client's process, which is to be the automount point
 * `mountpoint`: *out_fd, the caller's to close. 0: none is asked for, and *out_fd is 0.
 */
MUST_CHECK int api_automount(struct api_call *c, uint64_t fd, const char *mountpoint, int *out_fd,
			     struct error *err);

/*
 * api_idempotency.c: a call with a key is done once. The key: inside begin. Then before the call:
 * c->once.status and result are the answer, if it has had one; api_result and api_no_content keep
 * the answer, unless api_once_leave was called; after it, with what it has returned, a failure lets
 * the key go, but for once_effect.
 *
 * c->once.again, of routes with ROUTE_AGAIN alone: it has begun before, in a daemon that has died,
 * say. What it was to make may be there: under c->once.id, or at a place of its own, made since
 * then (api_once_made).
 */
MUST_CHECK int api_once_key(struct api_call *c, struct error *err);
MUST_CHECK int api_once_begin(struct api_call *c, struct error *err);
void api_once_result(struct api_call *c, int status, const json_t *j);
void api_once_leave(struct api_call *c);
void api_once_end(struct api_call *c, int rc);
bool api_once_made(const struct api_call *c, int64_t created_at_ms);
/* The id for the snapshot that the call makes, or NULL: any. */
const char *api_once_id(const struct api_call *c);
/* The snapshot that has been made under it (snapshot_fini); false: there is none. */
bool api_once_snapshot(const struct api_call *c, struct snapshot *out);

/* Decoded capture i of the path. */
static inline const char *api_capture(const struct api_call *c, size_t i)
{
	return c->match.captures[i];
}

/* Refuse query parameters that are none of these: api_query(c, err, "a", "b", NULL). */
MUST_CHECK int api_query(const struct api_call *c, struct error *err, ...)
	__attribute__((sentinel));
/*
 * The body as an object, checked against the fields; no body is an empty
 * object. *out (to be json_decref'd) owns the strings that the fields got.
 */
MUST_CHECK int api_body(const struct api_call *c, const struct field *fields, size_t n,
			json_t **out, struct error *err);

/*
 * The same of what published clients send, whose next versions may send more:
 * members that are not among the fields are left out, with a line of log.
 */
MUST_CHECK int api_body_known(const struct api_call *c, const struct field *fields, size_t n,
			      json_t **out, struct error *err);

/*
 * The result of a call; takes j (NULL: out of memory). As an event "result"
 * where api_progress has begun events.
 */
MUST_CHECK int api_result(struct api_call *c, int status, json_t *j, struct error *err);
/* Answer with what code stands for in HTTP, and why. */
void api_fail(struct api_call *c, int code, const struct error *err);
MUST_CHECK int api_no_content(struct api_call *c);

/*
 * An array that is sent as it is made, of a ROUTE_LONG call: one item in memory at a
 * time, however many there are. Its first bytes go out when there are some 32 KiB
 * or with the end, so that a failure before has a status.
 *
 * It is one page of the list: at most `limit` items, after the one whose id is
 * `after`; both are query parameters, of every list. The caller walks over all items
 * in an order that stays, asks api_list_wants of each and adds those; a walk ends
 * where api_list_add (or api_list_item) returns other than 0.
 */
struct api_list {
	struct api_call *c;
	struct json_stream js;
	bool any;
	const char *after; /* not met yet; NULL: met, or not asked for */
	uint64_t left;	   /* items that the page may still take */
};
/* Reads the query, whose names the caller has checked: API_LIST_QUERY are ours. -EINVAL. */
#define API_LIST_QUERY "limit", "after"
MUST_CHECK int api_list_begin(struct api_list *l, struct api_call *c, struct error *err);
/* Of a list with no other names in its query: checks those, too. */
MUST_CHECK int api_list_begin_plain(struct api_list *l, struct api_call *c, struct error *err);
/* Whether the item of that id is on the page. */
bool api_list_wants(struct api_list *l, const char *id);
/* Takes j (NULL: out of memory). 1: the page is full. -EPIPE, -ECANCELED: the client has gone. */
MUST_CHECK int api_list_add(struct api_list *l, json_t *j);
/* A json_record_fn with a list as arg: adds an item that the page wants. */
MUST_CHECK int api_list_item(void *list, const char *id, const json_t *item);
/*
 * With rc 0 or 1, sends the rest; finishes l in any case. Returns rc below 0, or what
 * it met: -EINVAL where no item had the id that the page is to come after.
 */
MUST_CHECK int api_list_end(struct api_list *l, int rc, struct error *err);

/*
 * For the work of a ROUTE_LONG call: reports go to the client as events
 * "progress" where it asked for events, and a client that has gone (or a daemon
 * that stops) cancels. Begins the stream of events: what fails before has a
 * status of its own. Lives as long as c; a second call begins nothing. NULL with err on failure.
 */
struct progress *api_progress(struct api_call *c, struct error *err);
/* The same without events: it only learns to stop. */
struct progress *api_cancellation(struct api_call *c);

/*
 * An event of the given type; takes j. Only after api_progress; nothing happens
 * where the client asked for no events. -EPIPE: the client has gone; -ENOMEM.
 */
MUST_CHECK int api_event(struct api_call *c, const char *type, json_t *j);
/*
 * Write to a stream that has begun, for who must not wait for a slow client
 * without an end: stop (of arg) is asked several times a second, and true breaks
 * the connection off: -ENOTCONN. -EPIPE.
 */
MUST_CHECK int api_stream_write(struct api_call *c, const void *data, size_t len,
				bool (*stop)(void *arg), void *arg);
/* An event written like that. */
MUST_CHECK int api_event_until(struct api_call *c, const char *type, json_t *j,
			       bool (*stop)(void *arg), void *arg);

/* A string of any bytes as JSON; what is not UTF-8 becomes U+FFFD. */
json_t *api_text(const char *s);
/*
 * Set o[name] to a path, which may be any bytes: where it is not UTF-8,
 * o[name + "Base64"] has them all. 0 or -ENOMEM.
 */
MUST_CHECK int api_set_path(json_t *o, const char *name, const char *prefix, const char *path);

/*
 * A snapshot by name or id; -EBUSY unless it is ready. snapshot_fini it. REMOTE:REFERENCE is pulled
 * first, of a ROUTE_LONG call; a POST begins its events for that where the client asked for them.
 */
MUST_CHECK int api_ready_snapshot(struct api_call *c, const char *name_or_id, struct snapshot *out,
				  struct error *err);
/* The same, and gc keeps its tree until store_release. */
MUST_CHECK int api_hold_snapshot(struct api_call *c, const char *name_or_id, struct snapshot *out,
				 struct store_hold *hold, struct error *err);
/* Before work that ends in a snapshot: -EINVAL for a bad name, -EEXIST for a taken one. */
MUST_CHECK int api_name_free(struct api_call *c, const char *name, struct error *err);

/*
 * api_shares.c: what failed at a bucket is not this host's fault, and gets its status. Returns rc.
 * opening: the bucket could not be reached to begin with.
 */
int api_share_failure(struct api_call *c, bool opening, int rc);
/* The open remote of a name (remotes_release), or a failure with its status set. */
MUST_CHECK int api_remote_get(struct api_call *c, const char *name, struct remote **out,
			      struct error *err);

/* SnapshotInfo, with the manifest that it was built from. A new reference, or NULL. */
json_t *api_snapshot_json(struct api_call *c, const struct snapshot *s);

/*
 * The image of a manifest (builds_resolve) for a call that is ROUTE_LONG: begins
 * the events where the client asked for them, and sends it the build's log as
 * events "build_log". force and keepFailed are in the query. name: who asks, or
 * NULL. What fails is -ECHILD and names its step.
 */
MUST_CHECK int api_resolve_image(struct api_call *c, const struct manifest *m, const char *name,
				 struct build_outcome *out, struct error *err);

/* The calls. */
extern const struct route api_routes[];
extern const size_t api_routes_count;

int api_healthz(struct api_call *c, struct error *err);
int api_upgrade(struct api_call *c, struct error *err);
int api_metrics(struct api_call *c, struct error *err);
int api_snapshots_list(struct api_call *c, struct error *err);
int api_snapshot_get(struct api_call *c, struct error *err);
int api_snapshot_history(struct api_call *c, struct error *err);
int api_snapshot_patch(struct api_call *c, struct error *err);
int api_snapshot_delete(struct api_call *c, struct error *err);
int api_snapshots_diff(struct api_call *c, struct error *err);
int api_import_check(struct api_call *c, struct error *err);
int api_import(struct api_call *c, struct error *err);
int api_export(struct api_call *c, struct error *err);
int api_remotes_list(struct api_call *c, struct error *err);
int api_remote_add(struct api_call *c, struct error *err);
int api_remote_show(struct api_call *c, struct error *err);
int api_remote_delete(struct api_call *c, struct error *err);
int api_remote_check(struct api_call *c, struct error *err);
int api_remote_rekey(struct api_call *c, struct error *err);
int api_remote_gc(struct api_call *c, struct error *err);
int api_remote_verify(struct api_call *c, struct error *err);
int api_remote_snapshots(struct api_call *c, struct error *err);
int api_remote_snapshot_get(struct api_call *c, struct error *err);
int api_remote_snapshot_delete(struct api_call *c, struct error *err);
int api_push(struct api_call *c, struct error *err);
int api_pull(struct api_call *c, struct error *err);
int api_mounts_list(struct api_call *c, struct error *err);
int api_mount_create(struct api_call *c, struct error *err);
int api_mount_get(struct api_call *c, struct error *err);
int api_mount_delete(struct api_call *c, struct error *err);
int api_mount_attach(struct api_call *c, struct error *err);
int api_mount_checkpoint(struct api_call *c, struct error *err);
int api_mount_fork(struct api_call *c, struct error *err);
int api_mount_diff(struct api_call *c, struct error *err);
int api_snapshot_create(struct api_call *c, struct error *err);
int api_builds_list(struct api_call *c, struct error *err);
int api_build_get(struct api_call *c, struct error *err);
int api_build_cancel(struct api_call *c, struct error *err);
int api_build_logs(struct api_call *c, struct error *err);
int api_images_list(struct api_call *c, struct error *err);
int api_image_create(struct api_call *c, struct error *err);
int api_image_delete(struct api_call *c, struct error *err);
int api_sandboxes_list(struct api_call *c, struct error *err);
int api_sandbox_create(struct api_call *c, struct error *err);
int api_sandbox_fork(struct api_call *c, struct error *err);
int api_sandbox_get(struct api_call *c, struct error *err);
int api_sandbox_delete(struct api_call *c, struct error *err);
int api_sandbox_timeout(struct api_call *c, struct error *err);
int api_exec_run(struct api_call *c, struct error *err);
int api_exec_run_async(struct api_call *c, struct error *err);
int api_exec_result(struct api_call *c, struct error *err);
int api_exec_output(struct api_call *c, struct error *err);
int api_exec_kill(struct api_call *c, struct error *err);
int api_exec_signal(struct api_call *c, struct error *err);
int api_exec_stdin_check(struct api_call *c, struct error *err);
int api_exec_stdin(struct api_call *c, struct error *err);
int api_file_get(struct api_call *c, struct error *err);
int api_file_put_check(struct api_call *c, struct error *err);
int api_file_put(struct api_call *c, struct error *err);
int api_file_delete(struct api_call *c, struct error *err);
int api_file_list(struct api_call *c, struct error *err);
int api_file_mkdir(struct api_call *c, struct error *err);
int api_checkpoint_create(struct api_call *c, struct error *err);
int api_checkpoints_list(struct api_call *c, struct error *err);
int api_checkpoint_delete(struct api_call *c, struct error *err);
int api_checkpoint_restore(struct api_call *c, struct error *err);
int api_patch_create(struct api_call *c, struct error *err);
int api_patches_list(struct api_call *c, struct error *err);
int api_patch_delete(struct api_call *c, struct error *err);
int api_gc(struct api_call *c, struct error *err);
int api_verify(struct api_call *c, struct error *err);
int api_backup(struct api_call *c, struct error *err);
int api_stats(struct api_call *c, struct error *err);
int api_stats_history(struct api_call *c, struct error *err);
int api_dashboard_check(struct api_call *c, struct error *err);
int api_dashboard(struct api_call *c, struct error *err);
int api_dashboard_token(struct api_call *c, struct error *err);

/*
 * api_audit.c: calls are counted by what they are about, and those that change something have a
 * line of log: who, what, and its status. Programs in sandboxes are too many for that, but for
 * signals.
 */
void api_audit_begin(struct api_call *c); /* its route and query are known */
/*
 * The same of one that is refused without a key, or from another site: whatever it was to do, it
 * has a line. Where many come at once, most are only counted (c->untold).
 */
void api_audit_refused(struct api_call *c);
/* A path as lines of log have it: its beginning, without spaces. */
#define AUDIT_PATH_MAX 200
#define AUDIT_PATH_SIZE (AUDIT_PATH_MAX + 8)
void api_audit_path(const char *path, char out[AUDIT_PATH_SIZE]);
/* Take from a result what the line will say. */
void api_audit_result(struct api_call *c, const json_t *result);
void api_audit_end(struct api_call *c);

/* api_metrics_store.c: the part of /metrics about the store and what the daemon does by itself. */
MUST_CHECK int api_metrics_store(struct api *a, struct buf *out);

#endif
