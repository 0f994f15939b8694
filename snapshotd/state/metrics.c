#include "snapshotd/state/metrics.h"

#include <errno.h>
#include <stdio.h>

static const int codes[METRICS_CODES - 1] = { 200, 201, 204, 400, 401, 403, 404, 405, 409, 413,
					      415, 422, 429, 499, 500, 502, 503, 504, 507 };
static const struct {
	int64_t micros;
	const char *le;
} buckets[METRICS_BUCKETS] = {
	{ 500, "0.0005" },  { 1000, "0.001" },	   { 2500, "0.0025" }, { 5000, "0.005" },
	{ 25000, "0.025" }, { 100000, "0.1" },	   { 1000000, "1" },   { 10000000, "10" },
	{ 60000000, "60" }, { INT64_MAX, "+Inf" },
};
static const char *const work_names[METRICS_WORK_COUNT] = {
	[METRICS_IMPORT] = "import",
	[METRICS_EXPORT] = "export",
	[METRICS_MOUNT] = "mount",
	[METRICS_CHECKPOINT] = "checkpoint",
	[METRICS_GC] = "gc",
	[METRICS_VERIFY] = "verify",
	[METRICS_BACKUP] = "backup",
	[METRICS_SANDBOX] = "sandbox",
	[METRICS_PUSH] = "push",
	[METRICS_PULL] = "pull",
	[METRICS_REMOTE_GC] = "remote-gc",
	[METRICS_REMOTE_VERIFY] = "remote-verify",
};

static const char *const resource_names[METRICS_RESOURCE_COUNT] = {
	[METRICS_SNAPSHOTS] = "snapshots", [METRICS_REMOTES] = "remotes",
	[METRICS_MOUNTS] = "mounts",	   [METRICS_BUILDS] = "builds",
	[METRICS_IMAGES] = "images",	   [METRICS_SANDBOXES] = "sandboxes",
	[METRICS_EXEC] = "exec",	   [METRICS_FILES] = "files",
	[METRICS_OTHER] = "other",
};

static void add(atomic_ullong *v, uint64_t n)
{
	atomic_fetch_add_explicit(v, n, memory_order_relaxed);
}

static uint64_t get(const atomic_ullong *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

void metrics_http(struct metrics *m, int status, int64_t micros)
{
	size_t i = 0, b = 0;

	while (i < ARRAY_SIZE(codes) && codes[i] != status)
		i++;
	add(&m->http_codes[i], 1); /* the last one: any other */
	while (micros > buckets[b].micros)
		b++;
	add(&m->http_buckets[b], 1);
	add(&m->http_count, 1);
	add(&m->http_micros, micros > 0 ? (uint64_t)micros : 0);
}

void metrics_call(struct metrics *m, enum metrics_resource r, bool changes, int64_t micros)
{
	struct metrics_times *t = &m->calls[r][changes];
	size_t b = 0;

	while (micros > buckets[b].micros)
		b++;
	add(&t->buckets[b], 1);
	add(&t->micros, micros > 0 ? (uint64_t)micros : 0);
}

void metrics_work(struct metrics *m, enum metrics_work w, bool failed)
{
	add(&m->work[w][failed], 1);
}

int metrics_put(struct buf *out, const char *name, const char *type, const char *help,
		uint64_t value)
{
	return buf_printf(out,
			  "# HELP snapshotd_%s %s\n# TYPE snapshotd_%s %s\nsnapshotd_%s %llu\n",
			  name, help, name, type, name, (unsigned long long)value);
}

static int render_http(const struct metrics *m, struct buf *out)
{
	uint64_t sum = 0;
	int rc = buf_append_str(out, "# HELP snapshotd_http_requests_total Requests by status.\n"
				     "# TYPE snapshotd_http_requests_total counter\n");

	for (size_t i = 0; i < ARRAY_SIZE(codes) && rc == 0; i++)
		rc = buf_printf(out, "snapshotd_http_requests_total{code=\"%d\"} %llu\n", codes[i],
				(unsigned long long)get(&m->http_codes[i]));
	if (rc == 0)
		rc = buf_printf(out,
				"snapshotd_http_requests_total{code=\"other\"} %llu\n"
				"# HELP snapshotd_http_request_seconds Time from the headers to "
				"the end of the reply.\n"
				"# TYPE snapshotd_http_request_seconds histogram\n",
				(unsigned long long)get(&m->http_codes[METRICS_CODES - 1]));
	for (size_t i = 0; i < METRICS_BUCKETS && rc == 0; i++) {
		sum += get(&m->http_buckets[i]);
		rc = buf_printf(out, "snapshotd_http_request_seconds_bucket{le=\"%s\"} %llu\n",
				buckets[i].le, (unsigned long long)sum);
	}
	if (rc == 0)
		rc = buf_printf(out,
				"snapshotd_http_request_seconds_sum %.6f\n"
				"snapshotd_http_request_seconds_count %llu\n",
				(double)get(&m->http_micros) / 1e6, (unsigned long long)sum);
	return rc;
}

static int render_times(const struct metrics_times *t, const char *labels, struct buf *out)
{
	uint64_t sum = 0;
	int rc = 0;

	for (size_t i = 0; i < METRICS_BUCKETS && rc == 0; i++) {
		sum += get(&t->buckets[i]);
		rc = buf_printf(out, "snapshotd_call_seconds_bucket{%s,le=\"%s\"} %llu\n", labels,
				buckets[i].le, (unsigned long long)sum);
	}
	if (rc == 0)
		rc = buf_printf(out,
				"snapshotd_call_seconds_sum{%s} %.6f\n"
				"snapshotd_call_seconds_count{%s} %llu\n",
				labels, (double)get(&t->micros) / 1e6, labels,
				(unsigned long long)sum);
	return rc;
}

static int render_calls(const struct metrics *m, struct buf *out)
{
	char labels[64];
	int rc =
		buf_append_str(out, "# HELP snapshotd_call_seconds Time of calls, by what they are "
				    "about.\n# TYPE snapshotd_call_seconds histogram\n");

	for (int i = 0; i < METRICS_RESOURCE_COUNT; i++) {
		for (int changes = 0; changes < 2 && rc == 0; changes++) {
			snprintf(labels, sizeof(labels), "resource=\"%s\",kind=\"%s\"",
				 resource_names[i], changes ? "change" : "read");
			rc = render_times(&m->calls[i][changes], labels, out);
		}
	}
	return rc;
}

static int render_work(const struct metrics *m, struct buf *out)
{
	int rc =
		buf_append_str(out, "# HELP snapshotd_work_total Imports, mounts, ... that ended.\n"
				    "# TYPE snapshotd_work_total counter\n");

	for (size_t i = 0; i < METRICS_WORK_COUNT && rc == 0; i++)
		rc = buf_printf(out,
				"snapshotd_work_total{work=\"%s\",result=\"ok\"} %llu\n"
				"snapshotd_work_total{work=\"%s\",result=\"failed\"} %llu\n",
				work_names[i], (unsigned long long)get(&m->work[i][false]),
				work_names[i], (unsigned long long)get(&m->work[i][true]));
	return rc;
}

int metrics_render(const struct metrics *m, struct buf *out)
{
	long long in_flight = atomic_load_explicit(&m->http_in_flight, memory_order_relaxed);
	int rc = render_http(m, out);

	if (rc == 0)
		rc = metrics_put(out, "http_requests_in_flight", "gauge", "Requests under way.",
				 in_flight > 0 ? (uint64_t)in_flight : 0);
	if (rc == 0)
		rc = render_calls(m, out);
	if (rc == 0)
		rc = render_work(m, out);
	if (rc == 0)
		rc = metrics_put(
			out, "verify_damaged", "gauge",
			"Damaged chunks, nodes and records that the last verification found.",
			get(&m->verify_damaged));
	if (rc == 0)
		rc = metrics_put(out, "verify_last_seconds", "gauge",
				 "When it ended, since 1970; 0: there was none.",
				 get(&m->verify_ms) / 1000);
	if (rc == 0)
		rc = metrics_put(out, "gc_removed_bytes_total", "counter",
				 "Stored bytes that gc removed.", get(&m->gc_removed_bytes));
	if (rc == 0)
		rc = metrics_put(out, "gc_removed_chunks_total", "counter",
				 "Chunks that gc removed.", get(&m->gc_removed_chunks));
	if (rc == 0)
		rc = metrics_put(
			out, "remote_repacked_bytes_total", "counter",
			"Bytes of packs in buckets that were mostly garbage and rewritten.",
			get(&m->repacked_bytes));
	if (rc == 0)
		rc = metrics_put(out, "imported_bytes_total", "counter",
				 "Logical bytes of imported snapshots.", get(&m->imported_bytes));
	if (rc == 0)
		rc = buf_printf(out,
				"# HELP snapshotd_checkpoint_pause_seconds Pause of the last "
				"checkpoint.\n"
				"# TYPE snapshotd_checkpoint_pause_seconds gauge\n"
				"snapshotd_checkpoint_pause_seconds %.9f\n"
				"# HELP snapshotd_checkpoint_frozen_seconds Time that processes "
				"stood still in the last checkpoint.\n"
				"# TYPE snapshotd_checkpoint_frozen_seconds gauge\n"
				"snapshotd_checkpoint_frozen_seconds %.9f\n",
				(double)get(&m->checkpoint_pause_ns) / 1e9,
				(double)get(&m->checkpoint_frozen_ns) / 1e9);
	return rc;
}
