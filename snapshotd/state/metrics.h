/* metrics.h - what the daemon counts, and its Prometheus text. Lock-free; any thread. */
#ifndef VARVE_SNAPSHOTD_METRICS_H
#define VARVE_SNAPSHOTD_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

#define METRICS_CODES 20
#define METRICS_BUCKETS 10

/* Work that ends well or badly. */
enum metrics_work {
	METRICS_IMPORT,
	METRICS_EXPORT,
	METRICS_MOUNT,
	METRICS_CHECKPOINT,
	METRICS_GC,
	METRICS_VERIFY,
	METRICS_BACKUP,
	METRICS_SANDBOX, /* starts */
	METRICS_PUSH,
	METRICS_PULL,
	METRICS_REMOTE_GC,
	METRICS_REMOTE_VERIFY,
	METRICS_WORK_COUNT
};

/* What a call is about: a label, of which there are these and no more. */
enum metrics_resource {
	METRICS_SNAPSHOTS,
	METRICS_REMOTES,
	METRICS_MOUNTS,
	METRICS_BUILDS,
	METRICS_IMAGES,
	METRICS_SANDBOXES,
	METRICS_EXEC,
	METRICS_FILES,
	METRICS_OTHER,
	METRICS_RESOURCE_COUNT
};

struct metrics_times {
	atomic_ullong buckets[METRICS_BUCKETS], micros; /* micros: their sum */
};

/* A zeroed struct is one that has counted nothing. */
struct metrics {
	atomic_ullong http_codes[METRICS_CODES]; /* by codes[] of metrics.c */
	atomic_ullong http_buckets[METRICS_BUCKETS];
	atomic_ullong http_count, http_micros; /* sum over requests */
	atomic_llong http_in_flight;
	struct metrics_times calls[METRICS_RESOURCE_COUNT][2]; /* [changes something] */
	atomic_ullong verify_damaged, verify_ms;   /* of the last one; ms since 1970, 0: none */
	atomic_ullong work[METRICS_WORK_COUNT][2]; /* [failed] */
	atomic_ullong gc_removed_bytes, gc_removed_chunks;
	atomic_ullong repacked_bytes; /* of buckets */
	atomic_ullong imported_bytes;
	atomic_ullong checkpoint_pause_ns, checkpoint_frozen_ns; /* of the last one */
};

void metrics_http(struct metrics *m, int status, int64_t micros);
void metrics_call(struct metrics *m, enum metrics_resource r, bool changes, int64_t micros);
void metrics_work(struct metrics *m, enum metrics_work w, bool failed);

/* "# HELP", "# TYPE" and lines of one value: for what is measured elsewhere. */
MUST_CHECK int metrics_put(struct buf *out, const char *name, const char *type, const char *help,
			   uint64_t value);
/* Everything above, appended to out. */
MUST_CHECK int metrics_render(const struct metrics *m, struct buf *out);

#endif
