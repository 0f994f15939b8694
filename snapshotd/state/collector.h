/*
 * collector.h - the daemon's thread that gives space back: it removes snapshots
 * whose time is up, detached mounts that nobody came back for, and then what
 * nothing refers to any more (store/gc/gc.h). Where the store has a limit, it also deletes
 * what a bucket has, too (store/lazy/evict.h).
 *
 * It collects every so often, and before that when enough was deleted or the disk
 * is nearly full. It is slow while mounts are busy, so that they do not feel it.
 */
#ifndef VARVE_SNAPSHOTD_COLLECTOR_H
#define VARVE_SNAPSHOTD_COLLECTOR_H

#include "snapshotd/state/metrics.h"
#include "snapshotd/state/mounts.h"
#include "store/gc/gc.h"
#include "store/lazy/evict.h"
#include "store/remote/lazy_index.h"

/* When something is done, and for what reasons. */
struct collector_reasons {
	unsigned interval_s;	/* between two collections; 0: by need alone */
	uint64_t garbage_bytes; /* collect when deleted snapshots had that many; 0: not for that */
	uint64_t free_bytes;	/* ... or when less is free on the disk; 0: not for that */
	/* How long mounts stay detached before they are discarded; 0: for ever. */
	unsigned detached_s; /* those that differ in nothing from their snapshot */
	unsigned changed_s;  /* others: what was written to them is lost */
};

struct collector_options {
	struct store *store; /* borrowed, as what follows */
	struct session_pool *pool;
	struct mounts *mounts;
	struct metrics *metrics;
	struct lazy_index *index; /* what no tree refers to is dropped; or NULL */
	struct evictor *evictor;  /* deletes what is also in a bucket; NULL: nothing */
	struct collector_reasons reasons;
	uint64_t reserve_bytes; /* of disk, kept to collect with when nothing else is free; 0: none
				 */
	/* Drop records that nothing names any more, before each collection. NULL: there are none.
	 */
	int (*tidy)(struct store *s, struct error *err);
};

struct collector;
/* Starts the thread. */
MUST_CHECK int collector_open(const struct collector_options *opt, struct collector **out,
			      struct error *err);
/* Ends it, within a step of a collection. NULL is accepted. */
void collector_close(struct collector *c);

/* From now on for these. Any thread. */
void collector_set_reasons(struct collector *c, const struct collector_reasons *r);

/*
 * Collect now, at full speed, instead of the thread, which gives way. As gc_run, but that
 * *out is written in any case;
 * -EBUSY where another request does it. A dry run leaves records alone, too, that a collection
 * drops before (`tidy`), so it may find less.
 */
MUST_CHECK int collector_run(struct collector *c, const struct gc_options *opt, struct progress *p,
			     struct gc_result *out, struct error *err);

/* When a detached mount is discarded, in milliseconds since 1970; 0: never. */
int64_t collector_discards_at_ms(const struct collector *c, const struct mount_info *info);

struct collector_stats {
	uint64_t runs, discarded_mounts, expired_snapshots; /* since the start */
	uint64_t removed_bytes;				    /* by all of them */
	int64_t last_ms;				    /* since 1970; 0: never */
	int64_t next_ms;				    /* at the latest; 0: by need alone */
	const char *last_reason; /* "interval", "deleted", "disk", "request" or "" */
};
void collector_get_stats(struct collector *c, struct collector_stats *out);

#endif
