/* The part of /metrics about the store and what the daemon does by itself. */
#include "snapshotd/api/api.h"

#include <stdlib.h>

#include "store/chunk/chunk_store_stats.h"
#include "store/kv/kv_stalls.h"

struct line {
	const char *name, *type, *help;
	uint64_t value;
};

static int put_lines(const struct line *l, size_t n, struct buf *out)
{
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = metrics_put(out, l[i].name, l[i].type, l[i].help, l[i].value);
	return rc;
}

static int put_caches(struct store *s, struct buf *out)
{
	struct chunk_store_stats c;
	struct node_store_stats n;
	struct kv_stats kv;

	chunk_store_get_stats(s->chunks, &c);
	node_store_stats(s->nodes, &n);
	kv_stats(s->kv, &kv);
	const struct line lines[] = {
		{ "chunk_cache_hits_total", "counter", "Chunks that were in memory.", c.hits },
		{ "chunk_cache_misses_total", "counter", "Chunks that were not.", c.misses },
		{ "chunk_cache_bytes", "gauge", "Chunks in memory.",
		  chunk_store_cached_bytes(s->chunks) },
		{ "node_cache_hits_total", "counter", "Nodes of trees that were in memory.",
		  n.hits },
		{ "node_cache_misses_total", "counter", "Nodes that were read.", n.loads },
		{ "node_cache_bytes", "gauge", "Nodes in memory.", n.cached_bytes },
		{ "block_cache_bytes", "gauge", "Of the database, in memory.", kv.cache_bytes },
		{ "store_garbage_bytes", "gauge",
		  "Of deleted chunks, which the database has not given back.", kv.garbage_bytes },
		{ "damaged_reads_total", "counter", "Reads of chunks that were missing or damaged.",
		  c.damaged },
	};

	return put_lines(lines, ARRAY_SIZE(lines), out);
}

static int put_stalls(struct store *s, struct buf *out)
{
	struct kv_stalls k;

	kv_get_stalls(s->kv, &k);
	const struct line lines[] = {
		{ "store_write_stopped", "gauge", "Whether writes wait for the database.",
		  k.stopped },
		{ "store_write_rate_bytes", "gauge",
		  "A second, that writes are slowed down to; 0: they are not.", k.rate_bytes },
		{ "store_pending_compaction_bytes", "gauge", "That the database is behind with.",
		  k.pending_bytes },
		{ "store_errors_total", "counter", "Of the database's work in the background.",
		  k.errors },
	};

	return put_lines(lines, ARRAY_SIZE(lines), out);
}

static int put_collector(struct collector *c, struct buf *out)
{
	struct collector_stats st;

	collector_get_stats(c, &st);
	const struct line lines[] = {
		{ "gc_runs_total", "counter", "Collections of garbage.", st.runs },
		{ "gc_last_seconds", "gauge", "When the last one ended, since 1970; 0: never.",
		  (uint64_t)st.last_ms / 1000 },
		{ "expired_snapshots_total", "counter", "Snapshots whose time was up.",
		  st.expired_snapshots },
		{ "discarded_mounts_total", "counter", "Mounts that were detached for too long.",
		  st.discarded_mounts },
	};

	return put_lines(lines, ARRAY_SIZE(lines), out);
}

static uint64_t count_sealing(struct mounts *ms)
{
	struct mount_entry **list;
	struct mount_info info;
	uint64_t sealing = 0;
	size_t n;

	if (mounts_list(ms, &list, &n) < 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		mount_get_info(mount_entry_mount(list[i]), &info);
		sealing += info.sealing;
		mounts_put(ms, list[i]);
	}
	free(list);
	return sealing;
}

int api_metrics_store(struct api *a, struct buf *out)
{
	size_t queued, running;
	int rc = put_caches(a->store, out);

	if (rc == 0)
		rc = put_stalls(a->store, out);
	if (rc == 0)
		rc = put_collector(a->collector, out);
	if (rc == 0)
		rc = metrics_put(out, "mounts_sealing", "gauge",
				 "Mounts whose checkpoint is being stored.",
				 count_sealing(a->mounts));
	builds_count(a->builds, &queued, &running);
	if (rc == 0)
		rc = buf_printf(out,
				"# HELP snapshotd_builds Builds by state.\n"
				"# TYPE snapshotd_builds gauge\n"
				"snapshotd_builds{state=\"queued\"} %zu\n"
				"snapshotd_builds{state=\"running\"} %zu\n",
				queued, running);
	return rc;
}
