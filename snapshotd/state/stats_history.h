/*
 * stats_history.h - the store's figures over time: a sample every minute, kept
 * bounded in memory and in the store, so that a plot goes on after a restart.
 *
 * A sample of the last day stays as it is, at least 50 s from its neighbours;
 * an older one only where it is the first of its quarter of an hour (up to a
 * week), hour (up to 90 days) or day (up to ten years). So there are never more
 * than STATS_HISTORY_MAX.
 *
 * In the meta family: "stats/" and the time as 16 lower-case hex digits of Unix
 * milliseconds -> u8 version (1), then u64 little-endian: snapshot_count,
 * logical_bytes, unique_bytes, stored_bytes, chunk_count, node_count.
 */
#ifndef VARVE_SNAPSHOTD_STATS_HISTORY_H
#define VARVE_SNAPSHOTD_STATS_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/store.h"

#define STATS_HISTORY_MAX 8192
#define STATS_INTERVAL_MS 60000

/* Of store_stats, at a time. */
struct stats_sample {
	int64_t time_ms; /* Unix time */
	uint64_t snapshot_count, logical_bytes, unique_bytes, stored_bytes;
	uint64_t chunk_count, node_count;
};

struct stats_history;
/* Loads what the store has. Borrows s. Measures nothing until it is started. */
MUST_CHECK int stats_history_open(struct store *s, struct stats_history **out, struct error *err);
/* A thread that takes a sample now and then every STATS_INTERVAL_MS. Once. */
MUST_CHECK int stats_history_start(struct stats_history *h, struct error *err);
/* Stops the thread. NULL is accepted. */
void stats_history_close(struct stats_history *h);

/*
 * Add a sample, thin what has grown old and write both down. Samples of a later
 * time go: they are from a clock that was wrong. One too near to the last is
 * not taken. From one thread at a time: where it is started, from its own. A
 * failure to write is returned, and the sample is there until the end.
 */
MUST_CHECK int stats_history_add(struct stats_history *h, const struct stats_sample *sample);
/*
 * Samples since a time, oldest first; where there are more than max (at least
 * 2), max of them at even distances, the first and the last among them. *out
 * is malloc'd; NULL where there are none. From any thread. -ENOMEM.
 */
MUST_CHECK int stats_history_read(struct stats_history *h, int64_t since_ms, size_t max,
				  struct stats_sample **out, size_t *out_n);

/*
 * Which of n samples, oldest first, stay at the time now_ms: moves them to the
 * front and returns their number. Pure.
 */
size_t stats_history_thin(struct stats_sample *list, size_t n, int64_t now_ms);

#endif
