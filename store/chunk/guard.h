/*
 * guard.h - what lets garbage collection run beside writers.
 *
 * A writer (import, checkpoint) works inside a *session* and *touches* every
 * digest that it relies on, whether it stored or found it. A collection (1)
 * begins: touches are recorded from then on; (2) waits for the sessions that
 * were under way (grace period), so that records name their results; (3) marks
 * from the records; (4) sweeps what is neither marked nor touched. Mark and
 * touch set bits of one Bloom filter, so memory is bounded; a false positive
 * keeps some garbage until the next collection. Testing and deleting (sweep)
 * and touching and testing for presence (writer) exclude each other by stripe
 * locks, held for one key.
 */
#ifndef VARVE_GUARD_H
#define VARVE_GUARD_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/macros.h"
#include "store/base/hash.h"

struct guard;
struct guard *guard_new(void);
void guard_free(struct guard *g);

/* A writer's session; nestable in one thread or across threads. */
struct guard_session {
	unsigned long generation;
	bool slow;
};
void guard_session_begin(struct guard *g, struct guard_session *s);
/*
 * Begin a session that may take any time, because its data comes from a client:
 * no collection waits for it. While one is open, whatever anybody touches is
 * kept by every collection that runs meanwhile. If there is no memory for that,
 * it is an ordinary session.
 */
void guard_session_begin_slow(struct guard *g, struct guard_session *s);
void guard_session_end(struct guard *g, struct guard_session *s);
/* Whether a session is under way right now. */
bool guard_is_busy(struct guard *g);

/*
 * Around a writer's "is it there? else put": touch_lock records the digest
 * while a collection runs and keeps the sweep from deleting it until
 * touch_unlock; the digest stays protected afterwards. Cheap while none runs.
 */
void guard_touch_lock(struct guard *g, const struct digest *d);
void guard_touch_unlock(struct guard *g, const struct digest *d);

/*
 * Collector's side: begin, wait, mark, sweep, end; end at any point after begin
 * gives the collection up. -EBUSY when one already runs; -EAGAIN while a session that
 * began before the last one goes on; -ENOMEM.
 */
MUST_CHECK int guard_collect_begin(struct guard *g, size_t filter_bytes);
/*
 * Returns when every session begun before guard_collect_begin, except slow ones,
 * has ended; so the caller must not be inside one.
 */
void guard_collect_wait(struct guard *g);
void guard_mark(struct guard *g, const struct digest *d);
/*
 * For the sweep: true if d is neither marked nor touched. Then the lock is
 * held: the caller deletes d and calls guard_sweep_unlock.
 */
bool guard_sweep_lock(struct guard *g, const struct digest *d);
void guard_sweep_unlock(struct guard *g, const struct digest *d);
void guard_collect_end(struct guard *g);

#endif
