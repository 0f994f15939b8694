#include "snapshotd/api/api.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/fuse/session_pool.h"
#include "fs/host/keeper.h"
#include "store/base/clock.h"
#include "store/base/version.h"
#include "store/lazy/prefetch.h"

static int64_t uptime_ms(const struct api *a)
{
	return monotonic_ms() - a->started_ms;
}

int api_healthz(struct api_call *c, struct error *err)
{
	json_t *j =
		json_pack("{s:s, s:s, s:I, s:I, s:I, s:b}", "status", "ok", "version",
			  VARVE_VERSION, "uptimeSeconds", (json_int_t)(uptime_ms(c->api) / 1000),
			  "pid", (json_int_t)getpid(), "generation", (json_int_t)c->api->generation,
			  "ready", (int)c->api->ready);

	/* So that tools on this host find the store; the network need not know. */
	if (j && !http_needs_key(c->rq) &&
	    (api_set_path(j, "stateDir", "", c->api->store->dir) < 0 ||
	     (c->api->upgrade_failure &&
	      json_object_set_new(j, "upgradeFailure", api_text(c->api->upgrade_failure)) < 0))) {
		json_decref(j);
		j = NULL;
	}
	return api_result(c, 200, j, err);
}

/* The answer comes before the end of this daemon. */
int api_upgrade(struct api_call *c, struct error *err)
{
	int rc = api_query(c, err, NULL);

	if (rc == 0 && !c->api->ready)
		return error_set(err, -EAGAIN, "snapshotd is not ready yet");
	if (rc == 0 && (rc = keeper_upgrade(c->api->keeper)) < 0)
		rc = error_set(
			err, rc == -ENOTSUP ? -ENOTCONN : rc,
			"nobody would start a successor: snapshotd runs without --supervise");
	return rc < 0 ? rc
		      : api_result(c, 202,
				   json_pack("{s:I}", "generation", (json_int_t)c->api->generation),
				   err);
}

/* Resident bytes of this process; 0 where unknown. */
static uint64_t resident_bytes(void)
{
	unsigned long long total, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f)
		return 0;
	if (fscanf(f, "%llu %llu", &total, &resident) != 2)
		resident = 0;
	fclose(f);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int put_store(struct store *s, struct buf *out)
{
	static const char *const families[KV_FAMILY_COUNT] = { "chunk", "node", "meta", "upper" };
	struct kv_stats st;
	int rc;

	kv_stats(s->kv, &st);
	rc = buf_append_str(out, "# HELP snapshotd_store_bytes Files of the database, estimated.\n"
				 "# TYPE snapshotd_store_bytes gauge\n");
	for (int i = 0; i < KV_FAMILY_COUNT && rc == 0; i++)
		rc = buf_printf(out, "snapshotd_store_bytes{family=\"%s\"} %llu\n", families[i],
				(unsigned long long)st.live_bytes[i]);
	if (rc == 0)
		rc = buf_append_str(out, "# HELP snapshotd_store_keys Keys of the database, "
					 "estimated.\n# TYPE snapshotd_store_keys gauge\n");
	for (int i = 0; i < KV_FAMILY_COUNT && rc == 0; i++)
		rc = buf_printf(out, "snapshotd_store_keys{family=\"%s\"} %llu\n", families[i],
				(unsigned long long)st.keys[i]);
	return rc;
}

static int put_mounts(struct api *a, struct buf *out)
{
	size_t attached, detached;
	int rc;

	mounts_count(a->mounts, &attached, &detached);
	rc = buf_printf(out,
			"# HELP snapshotd_mounts Mounts by state.\n"
			"# TYPE snapshotd_mounts gauge\n"
			"snapshotd_mounts{state=\"attached\"} %zu\n"
			"snapshotd_mounts{state=\"detached\"} %zu\n",
			attached, detached);
	if (rc == 0)
		rc = metrics_put(out, "fuse_requests_total", "counter",
				 "Filesystem requests served, by all mounts.",
				 session_pool_requests(a->pool));
	return rc;
}

/* Daemons before this one, and what the keeper has for one after it. */
static int put_keeper(const struct api *a, struct buf *out)
{
	static const char *const causes[KEEPER_CAUSES] = { [KEEPER_CRASH] = "crash",
							   [KEEPER_KILL] = "kill",
							   [KEEPER_HANG] = "hang",
							   [KEEPER_UPGRADE] = "upgrade",
							   [KEEPER_START] = "start" };
	struct keeper_counts n;
	int rc = metrics_put(out, "generation", "gauge",
			     "Of this daemon: 1, and more after others.", a->generation);

	keeper_get_counts(a->keeper, &n);
	if (rc == 0)
		rc = buf_append_str(out, "# HELP snapshotd_takeovers_total Ends of daemons that "
					 "had a successor, since the keeper's start.\n"
					 "# TYPE snapshotd_takeovers_total counter\n");
	for (int i = 0; i < KEEPER_CAUSES && rc == 0; i++)
		rc = buf_printf(out, "snapshotd_takeovers_total{cause=\"%s\"} %llu\n", causes[i],
				n.takeovers[i]);
	if (rc == 0)
		rc = buf_printf(out,
				"# HELP snapshotd_takeover_seconds That callers in mounts waited "
				"for this daemon; 0: for none.\n"
				"# TYPE snapshotd_takeover_seconds gauge\n"
				"snapshotd_takeover_seconds %.3f\n",
				(double)n.takeover_ms / 1e3);
	if (rc == 0)
		rc = metrics_put(out, "kept_descriptors", "gauge",
				 "Of mounts, sockets and programs, kept for a successor.", n.kept);
	if (rc == 0)
		rc = metrics_put(out, "kept_descriptors_limit", "gauge", "As many may be; 0: none.",
				 n.limit);
	if (rc == 0)
		rc = metrics_put(out, "kept_refused_total", "counter",
				 "What was not kept for that, and ends with this daemon.",
				 n.refused);
	return rc;
}

/* Of cache mode `shared`. */
static int put_shared(struct api *a, struct buf *out)
{
	struct shared_files_stats s;
	int rc;

	if (!a->shared)
		return 0;
	shared_files_get_stats(a->shared, &s);
	rc = metrics_put(out, "shared_files", "gauge", "Files that mounts share.", s.files);
	if (rc == 0)
		rc = metrics_put(out, "shared_bytes", "gauge", "Their bytes on disk.", s.bytes);
	if (rc == 0)
		rc = metrics_put(out, "shared_limit_bytes", "gauge", "As many may be.",
				 s.limit_bytes);
	if (rc == 0)
		rc = metrics_put(out, "shared_made_total", "counter", "Shared files written.",
				 s.made);
	if (rc == 0)
		rc = metrics_put(out, "shared_evicted_total", "counter",
				 "Shared files removed to make room.", s.evicted);
	if (rc == 0)
		rc = metrics_put(out, "shared_opens_total", "counter",
				 "Opens of shared files in mounts.", s.opens);
	if (rc == 0)
		rc = metrics_put(out, "unshared_total", "counter",
				 "Files written to in a mount while they were open as shared ones.",
				 s.unshared);
	return rc;
}

static int put_sandboxes(struct api *a, struct buf *out)
{
	size_t running, stopped;

	sandboxes_count(a->sandboxes, &running, &stopped);
	return buf_printf(out,
			  "# HELP snapshotd_sandboxes Sandboxes by state.\n"
			  "# TYPE snapshotd_sandboxes gauge\n"
			  "snapshotd_sandboxes{state=\"running\"} %zu\n"
			  "snapshotd_sandboxes{state=\"stopped\"} %zu\n",
			  running, stopped);
}

static int put_request_memory(struct api *a, struct buf *out)
{
	const struct {
		const char *name;
		const struct budget *b;
	} parts[] = { { "bodies", &a->memory.bodies },
		      { "replies", &a->memory.replies },
		      { "output", &a->memory.output } };
	int rc = metrics_put(out, "request_memory_limit_bytes", "gauge",
			     "As many may requests hold, with kept output of programs.",
			     a->memory.total.max);

	if (rc == 0)
		rc = metrics_put(
			out, "request_memory_refused_total", "counter",
			"Times that there was no room for more.",
			atomic_load_explicit(&a->memory.total.refused, memory_order_relaxed));
	if (rc == 0)
		rc = buf_append_str(out, "# HELP snapshotd_request_memory_bytes Held by requests, "
					 "and as kept output of programs.\n"
					 "# TYPE snapshotd_request_memory_bytes gauge\n");
	for (size_t i = 0; i < ARRAY_SIZE(parts) && rc == 0; i++)
		rc = buf_printf(out, "snapshotd_request_memory_bytes{part=\"%s\"} %zu\n",
				parts[i].name, budget_used(parts[i].b));
	return rc;
}

struct remote_lines {
	struct buf *out;
	const char *name; /* of the metric */
	uint64_t (*value)(const struct object_counts *c);
};

static int put_remote_line(void *arg, const char *name, const char *bucket,
			   const struct object_counts *c)
{
	const struct remote_lines *l = arg;

	(void)bucket;
	return buf_printf(l->out, "snapshotd_%s{remote=\"%s\"} %llu\n", l->name, name,
			  (unsigned long long)l->value(c));
}

static int put_remote_requests(void *arg, const char *name, const char *bucket,
			       const struct object_counts *c)
{
	static const char *const ops[OBJECT_OPS] = { "get", "put", "put_once", "list", "delete" };
	int rc = 0;

	(void)bucket;
	for (int i = 0; i < OBJECT_OPS && rc == 0; i++)
		rc = buf_printf(
			arg,
			"snapshotd_remote_requests_total{remote=\"%s\",operation=\"%s\"} %llu\n",
			name, ops[i], (unsigned long long)c->requests[i]);
	return rc;
}

#define COUNT_OF(member)                                              \
	static uint64_t count_##member(const struct object_counts *c) \
	{                                                             \
		return c->member;                                     \
	}
COUNT_OF(bytes_in)
COUNT_OF(bytes_out)
COUNT_OF(failed)
COUNT_OF(retried)
COUNT_OF(throttled)

/* Labels are names of remotes, of which there are at most REMOTES_MAX. */
static int put_remotes(struct remotes *rs, struct buf *out)
{
	static const struct {
		const char *name, *help;
		uint64_t (*value)(const struct object_counts *c);
	} counts[] = {
		{ "remote_received_bytes_total", "Read from buckets.", count_bytes_in },
		{ "remote_sent_bytes_total", "Written to buckets.", count_bytes_out },
		{ "remote_failures_total", "Requests to buckets that failed.", count_failed },
		{ "remote_retries_total", "Requests that were sent again.", count_retried },
		{ "remote_throttled_total", "Replies that asked to slow down.", count_throttled },
	};
	int rc = buf_append_str(out, "# HELP snapshotd_remote_requests_total Requests to buckets, "
				     "by operation.\n"
				     "# TYPE snapshotd_remote_requests_total counter\n");

	if (rc == 0)
		rc = remotes_each_seen(rs, put_remote_requests, out);
	for (size_t i = 0; i < ARRAY_SIZE(counts) && rc == 0; i++) {
		struct remote_lines l = { out, counts[i].name, counts[i].value };

		rc = buf_printf(out, "# HELP snapshotd_%s %s\n# TYPE snapshotd_%s counter\n",
				l.name, counts[i].help, l.name);
		if (rc == 0)
			rc = remotes_each_seen(rs, put_remote_line, &l);
	}
	return rc;
}

static int put_evictions(const struct api *api, struct buf *out)
{
	struct evictor_stats e = { 0 };
	struct pins_stats p;

	pins_get_stats(api->pins, &p);
	if (api->evictor)
		evictor_get_stats(api->evictor, &e);
	const struct {
		const char *name, *type, *help;
		uint64_t value;
	} v[] = {
		{ "cache_limit_bytes", "gauge", "Of the store (cacheBytes); 0: none.",
		  e.limit_bytes },
		{ "evicted_chunks_total", "counter", "Deleted here, as a bucket has them.",
		  e.chunks },
		{ "evicted_bytes_total", "counter", "Of their frames.", e.bytes },
		{ "remote_pins", "gauge", "Pushes that this host needs in buckets.", p.pins },
		{ "remote_pins_written_total", "counter", "Times that a bucket was told.",
		  p.written },
		{ "remote_pins_failures_total", "counter", "Times that it could not be told.",
		  p.failed },
		{ "remote_pins_outdated", "gauge", "Buckets that could not be told for 30 minutes.",
		  p.outdated },
	};
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(v) && rc == 0; i++)
		rc = metrics_put(out, v[i].name, v[i].type, v[i].help, v[i].value);
	return rc;
}

static int put_share(struct sharer *sh, struct buf *out)
{
	struct sharer_stats st;
	int rc;

	if (!sh)
		return 0;
	sharer_stats(sh, &st);
	rc = metrics_put(out, "share_queue", "gauge",
			 "Snapshots and images that are to be pushed by themselves.", st.queue);
	if (rc == 0)
		rc = metrics_put(out, "share_skipped", "gauge",
				 "Those of the queue whose last push failed.", st.skipped);
	if (rc == 0)
		rc = metrics_put(out, "share_away", "gauge",
				 "Whether the bucket that all hosts share does not answer.",
				 st.away);
	if (rc == 0)
		rc = metrics_put(out, "share_pushes_total", "counter",
				 "Snapshots and images that were pushed by themselves.",
				 st.published);
	if (rc == 0)
		rc = metrics_put(out, "share_push_failures_total", "counter", "Such that failed.",
				 st.failed);
	return rc < 0 ? rc
		      : metrics_put(out, "share_pushed_bytes_total", "counter",
				    "Uploaded by such pushes.", st.bytes);
}

static int put_prefetch(struct prefetch *p, struct buf *out)
{
	struct prefetch_stats st;
	int rc;

	prefetch_stats(p, &st);
	rc = metrics_put(out, "prefetch_hits_total", "counter",
			 "Chunks of lazy snapshots that came with a hot object.", st.hits);
	if (rc == 0)
		rc = metrics_put(out, "prefetch_misses_total", "counter",
				 "Chunks that first uses fetched by themselves.", st.misses);
	if (rc == 0)
		rc = metrics_put(out, "prefetch_bytes_total", "counter",
				 "Of hot objects, read from buckets.", st.bytes);
	if (rc == 0)
		rc = metrics_put(out, "prefetch_written_total", "counter",
				 "Hot objects written to buckets.", st.written);
	return rc;
}

int api_metrics(struct api_call *c, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	int rc = metrics_render(&c->api->metrics, &b);
	size_t len;

	if (rc == 0)
		rc = put_mounts(c->api, &b);
	if (rc == 0)
		rc = put_keeper(c->api, &b);
	if (rc == 0)
		rc = put_shared(c->api, &b);
	if (rc == 0)
		rc = put_sandboxes(c->api, &b);
	if (rc == 0)
		rc = put_request_memory(c->api, &b);
	if (rc == 0)
		rc = put_remotes(c->api->remotes, &b);
	if (rc == 0)
		rc = put_evictions(c->api, &b);
	if (rc == 0)
		rc = put_share(c->api->sharer, &b);
	if (rc == 0)
		rc = put_prefetch(c->api->prefetch, &b);
	if (rc == 0)
		rc = put_store(c->api->store, &b);
	if (rc == 0)
		rc = api_metrics_store(c->api, &b);
	if (rc == 0)
		rc = metrics_put(&b, "disk_free_bytes", "gauge",
				 "Free on the disk of the state directory.",
				 space_free(&c->api->store->space));
	if (rc == 0)
		rc = metrics_put(&b, "disk_reserve_bytes", "gauge",
				 "Of these, kept back for the daemon.",
				 c->api->store->space.reserve_bytes);
	if (rc == 0)
		rc = metrics_put(&b, "resident_bytes", "gauge", "Memory of this process.",
				 resident_bytes());
	if (rc == 0)
		rc = metrics_put(&b, "uptime_seconds", "gauge", "Since the start.",
				 (uint64_t)uptime_ms(c->api) / 1000);
	if (rc < 0)
		return error_set_errno(err, rc, "metrics");
	len = b.len;
	http_reply(c->rq, 200, "text/plain; version=0.0.4", (char *)STEAL(b.data), len);
	return 0;
}
