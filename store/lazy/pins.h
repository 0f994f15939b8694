/*
 * pins.h - tells each bucket which of its snapshots this store relies on, so that no collection of
 * the bucket removes what is only there (share_pins.h).
 *
 * A thread writes node/INSTANCE in each bucket that the index (lazy_index.h) has containers of: the
 * pushes that these containers are of. It does so a few seconds after the index has changed, and
 * else every PINS_EVERY_MS, so that collectors see the instance live; every PINS_PUSHING_MS while
 * something is pushed there.
 *
 * A pin *holds* once the snapshot's record was read and said "ready" after the bucket had
 * acknowledged the pin, and while the last acknowledged writing began less than PINS_VALID_MS ago:
 * a collector waits twice as long before it takes an instance for dead. Time is CLOCK_BOOTTIME, so
 * that a host that slept knows it.
 *
 * A writing whose outcome is not known may take effect late, over a later one. After it, the
 * instance goes by another id in that bucket.
 *
 * A read-only bucket has no pins. Any thread, unless said otherwise.
 */
#ifndef VARVE_SHARE_PINS_KEEPER_H
#define VARVE_SHARE_PINS_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/layout/share_packs.h"
#include "store/remote/lazy_index.h"
#include "store/remote/remotes.h"

#define PINS_EVERY_MS (300 * 1000)
#define PINS_PUSHING_MS (10 * 1000)
#define PINS_SETTLE_MS (5 * 1000) /* from a change to its writing */
#define PINS_VALID_MS (30 * 60 * 1000)

struct pins_options {
	struct remotes *remotes;  /* borrowed, as the index */
	struct lazy_index *index; /* lazy_index_on_change becomes ours */
	unsigned settle_ms;	  /* 0: PINS_SETTLE_MS; another for tests, as the next */
	unsigned valid_ms;	  /* 0: PINS_VALID_MS */
	bool no_thread;		  /* only pins_confirm writes */
};

struct pins;
/* Draws the instance's id, and starts the thread. */
MUST_CHECK int pins_open(const struct pins_options *opt, struct pins **out, struct error *err);
/* Waits for a request under way, PINS_REQUEST_MS at most; before remotes_close. NULL is accepted.
 */
#define PINS_REQUEST_MS (10 * 1000)
void pins_close(struct pins *p);
/*
 * Around a push to a bucket. *out_node is for its intent (share_round.h): an instance whose counter
 * moves while the push goes on, unless a writing fails. If p is NULL, one that nobody writes. Does
 * not wait.
 */
MUST_CHECK int pins_push_begin(struct pins *p, const char *uuid, struct share_id *out_node);
void pins_push_end(struct pins *p, const char *uuid);

/* What is held of a bucket: packs, by the push whose pin holds them. */
struct pins_held {
	char uuid[SNAPSHOT_ID_SIZE];
	struct pin_packs {
		struct share_id push;
		struct share_packs packs;
	} * v; /* ascending; owned */
	size_t n;
	uint64_t epoch; /* for pins_hold */
};
void pins_held_fini(struct pins_held *h);
/* Whether the push holds the pack. Another push may, too, but for how long is its own matter. */
bool pins_held_has(const struct pins_held *h, const struct share_id *push,
		   const struct pack_id *pack);
/*
 * Write the pins of a bucket if it does not have them, and read the records that were not read
 * since. Waits for the network. -EROFS: the bucket is read-only; failures of remotes_get_uuid and
 * object_store.h: then nothing counts as held. On success, *out: pins_held_fini.
 */
MUST_CHECK int pins_confirm(struct pins *p, const char *uuid, struct pins_held *out,
			    struct error *err);
/* Whether that still holds, at this moment. Does not wait. */
bool pins_hold(struct pins *p, const struct pins_held *h);

struct pins_stats {
	uint64_t pins;	   /* in all buckets */
	uint64_t written;  /* writings that were acknowledged */
	uint64_t failed;   /* those that were not */
	uint64_t outdated; /* buckets that have acknowledged none for PINS_VALID_MS */
};
void pins_get_stats(struct pins *p, struct pins_stats *out);

#endif
