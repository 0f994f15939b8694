#include "fs/fuse/session_pool.h"
#include "snapshotd/api/api.h"

#include <errno.h>
#include <inttypes.h>

#include "snapshotd/state/verified.h"
#include "store/base/log.h"
#include "store/gc/gc.h"
#include "store/gc/verify.h"

#define PROBLEMS_MAX 1000 /* told in words; all are counted */

static json_t *recompress_to_json(const struct recompress_result *r)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "triedChunks", (json_int_t)r->tried_chunks,
			 "replacedChunks", (json_int_t)r->replaced_chunks, "beforeBytes",
			 (json_int_t)r->before_bytes, "afterBytes", (json_int_t)r->after_bytes,
			 "damagedChunks", (json_int_t)r->damaged_chunks);
}

static json_t *gc_to_json(const struct gc_result *r, bool dry_run,
			  const struct recompress_result *rr)
{
	json_t *j = json_pack("{s:b, s:I, s:I, s:I}", "dryRun", dry_run, "expiredSnapshots",
			      (json_int_t)r->expired_snapshots, "markedNodes",
			      (json_int_t)r->marked_nodes, "markedChunks",
			      (json_int_t)r->marked_chunks);
	json_t *gone = json_pack(
		"{s:I, s:I, s:I, s:o*}", dry_run ? "garbageNodes" : "removedNodes",
		(json_int_t)r->removed_nodes, dry_run ? "garbageChunks" : "removedChunks",
		(json_int_t)r->removed_chunks, dry_run ? "garbageBytes" : "removedBytes",
		(json_int_t)r->removed_bytes, "recompressed", rr ? recompress_to_json(rr) : NULL);

	if (j && json_object_update(j, gone)) {
		json_decref(j);
		j = NULL;
	}
	json_decref(gone);
	return j;
}

int api_gc(struct api_call *c, struct error *err)
{
	struct gc_options opt = { .compact = true };
	bool recompress = false;
	const struct field fields[] = { { "compact", FIELD_BOOL, &opt.compact, false },
					{ "recompress", FIELD_BOOL, &recompress, false },
					{ "dryRun", FIELD_BOOL, &opt.dry_run, false } };
	struct recompress_result rr = { 0 };
	struct progress *p = NULL;
	struct gc_result r = { 0 };
	json_t *body = NULL;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = api_body(c, fields, ARRAY_SIZE(fields), &body, err);
	json_decref(body);
	if (rc == 0 && recompress && opt.dry_run)
		rc = error_set(err, -EINVAL, "dryRun says nothing about recompress");
	if (rc == 0 && !(p = api_progress(c, err)))
		rc = err->code;
	if (rc < 0)
		return rc;
	rc = collector_run(c->api->collector, &opt, p, &r, err);
	if (rc < 0)
		return rc;
	if (recompress && (rc = recompressor_run(c->api->recompressor, p, &rr, err)) < 0)
		return rc;
	return api_result(c, 200, gc_to_json(&r, opt.dry_run, recompress ? &rr : NULL), err);
}

static void verify_problem(void *arg, const char *snapshot, const char *path, const char *problem)
{
	json_t *problems = arg, *j;

	if (json_array_size(problems) >= PROBLEMS_MAX)
		return;
	j = json_pack("{s:o, s:o}", "snapshot", api_text(snapshot), "problem", api_text(problem));
	if (j && api_set_path(j, "path", "", path) == 0)
		json_array_append_new(problems, STEAL(j));
	json_decref(j);
}

static json_t *verify_to_json(const struct verify_result *r, json_t *problems)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "snapshots",
			 (json_int_t)r->snapshots, "trees", (json_int_t)r->trees, "nodes",
			 (json_int_t)r->nodes, "chunks", (json_int_t)r->chunks, "rawBytes",
			 (json_int_t)r->raw_bytes, "storedBytes", (json_int_t)r->stored_bytes,
			 "farChunks", (json_int_t)r->far_chunks, "damaged", (json_int_t)r->damaged,
			 "problems", problems);
}

int api_verify(struct api_call *c, struct error *err)
{
	const char *name = NULL;
	const struct field fields[] = { { "snapshot", FIELD_STRING, &name, false } };
	json_t *body = NULL, *problems = json_array();
	struct verify_result r = { 0 };
	struct progress *p = NULL;
	struct snapshot s = { 0 };
	int rc = problems ? 0 : error_set(err, -ENOMEM, "out of memory");

	if (rc == 0)
		rc = api_query(c, err, NULL);
	if (rc == 0)
		rc = api_body(c, fields, ARRAY_SIZE(fields), &body, err);
	if (rc == 0 && name)
		rc = snapshots_get(c->api->store->snapshots, name, &s, err);
	if (rc == 0 && !(p = api_progress(c, err)))
		rc = err->code;
	if (rc == 0) {
		rc = verify_run(c->api->store, name, p, verify_problem, problems, &r, err);
		metrics_work(&c->api->metrics, METRICS_VERIFY, rc < 0 || r.damaged > 0);
		if (rc == 0 && !name)
			verified_note(c->api->store->kv, &c->api->metrics, r.damaged);
		if (rc == 0 && r.damaged)
			log_error("verification has found %" PRIu64 " damaged", r.damaged);
	}
	if (rc == 0)
		rc = api_result(c, 200, verify_to_json(&r, problems), err);
	snapshot_fini(&s);
	json_decref(problems);
	json_decref(body);
	return rc;
}

static json_t *collector_to_json(struct collector *c)
{
	char last[MOUNT_TIME_SIZE], next[MOUNT_TIME_SIZE];
	struct collector_stats s;

	collector_get_stats(c, &s);
	mount_time_text(s.last_ms, last);
	mount_time_text(s.next_ms, next);
	return json_pack("{s:I, s:I, s:I, s:I, s:s, s:s, s:s}", "runs", (json_int_t)s.runs,
			 "removedBytes", (json_int_t)s.removed_bytes, "expiredSnapshots",
			 (json_int_t)s.expired_snapshots, "discardedMounts",
			 (json_int_t)s.discarded_mounts, "lastAt", s.last_ms ? last : "",
			 "lastReason", s.last_reason, "nextAt", s.next_ms ? next : "");
}

int api_stats(struct api_call *c, struct error *err)
{
	struct store_stats st = { 0 };
	size_t attached, detached;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = store_stats(c->api->store, &st, err);
	if (rc < 0)
		return rc;
	mounts_count(c->api->mounts, &attached, &detached);
	return api_result(
		c, 200,
		json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:{s:I, s:I}, s:I, s:o*}",
			  "snapshotCount", (json_int_t)st.snapshot_count, "logicalBytes",
			  (json_int_t)st.logical_bytes, "uniqueBytes", (json_int_t)st.unique_bytes,
			  "storedBytes", (json_int_t)st.stored_bytes, "chunkCount",
			  (json_int_t)st.chunk_count, "nodeCount", (json_int_t)st.node_count,
			  "nodeCacheBytes", (json_int_t)st.node_cache_bytes, "mounts", "attached",
			  (json_int_t)attached, "detached", (json_int_t)detached, "fuseRequests",
			  (json_int_t)session_pool_requests(c->api->pool), "gc",
			  collector_to_json(c->api->collector)),
		err);
}
