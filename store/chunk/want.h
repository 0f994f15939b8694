/*
 * want.h - what a thread wanted of the far source while it could not wait.
 *
 * The far source (source.h) may take seconds, so nobody asks it with a lock in hand for which
 * others wait. A thread says that it holds one (want_hold; view_lock does). Until it lets go, a
 * chunk or node that the database does not have is noted here, and the store returns
 * -EINPROGRESS. The caller gives up, unlocks, has what was noted fetched (store_fetch), and
 * begins again: a *run* is one such attempt.
 *
 * So an operation changes nothing before its last read: want_changed says that it has, and after
 * it want_note is a bug (assert). A run that notes something must not be answered as if it had read
 * all.
 *
 * The database may be slow, too: to a thread that says so (want_later) a node that is in no cache
 * is not given while it holds a lock. It gets -EINPROGRESS, reads the node without the lock, and
 * looks again. Nothing is noted in the list for this, and a run that it ends is not parked.
 *
 * A thread may have a turn that others wait for, and give it up while it waits for the far source
 * (want_on_wait).
 *
 * All of this belongs to the calling thread; there are no locks.
 */
#ifndef VARVE_WANT_H
#define VARVE_WANT_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>

#include "store/chunk/source.h"

struct want {
	enum source_kind kind;
	int result; /* of store_fetch: 0 or a failure */
	struct digest digest;
};

/* Noted in one run; what is wanted beyond that is found by the next run. */
#define WANTS_MAX SOURCE_ITEMS_MAX

struct want_state {
	unsigned held; /* locks */
	unsigned n;
	bool done;    /* the run has changed something that it must not do twice */
	bool partial; /* it has changed something, and may do it again */
	bool again;   /* it wants what was fetched for it */
	bool later;   /* nodes that are in no cache are read later */
	bool missed;  /* there was one: missed_node */
	struct digest missed_node;
	void (*on_wait)(bool waits); /* NULL: nobody is told */
	const struct want *answers;  /* what was fetched for this run; borrowed */
	size_t n_answers;
	struct want list[WANTS_MAX];
};
extern _Thread_local struct want_state want_here;

static inline void want_hold(void)
{
	want_here.held++;
}

static inline void want_let_go(void)
{
	assert(want_here.held > 0);
	want_here.held--;
}

/* Whether this thread may ask the far source. */
static inline bool want_may_wait(void)
{
	return want_here.held == 0;
}

/* Call fn (NULL: nothing) when this thread begins and ends to wait for the far source. */
static inline void want_on_wait(void (*fn)(bool waits))
{
	want_here.on_wait = fn;
}

static inline void want_waits(bool waits)
{
	if (want_here.on_wait)
		want_here.on_wait(waits);
}

/* Begin a run. `answers` (n of them, or NULL) live until the next one begins. */
static inline void want_begin(const struct want *answers, size_t n)
{
	want_here.n = 0;
	want_here.done = want_here.partial = want_here.again = false;
	want_here.answers = answers;
	want_here.n_answers = n;
}

/* How much this run has noted. */
static inline unsigned want_count(void)
{
	return want_here.n;
}

/* The run has changed something; repeatable: which may happen twice. */
static inline void want_changed(bool repeatable)
{
	want_here.done |= !repeatable;
}

/* Whether nodes that are in no cache are read later: node_store_get fails with -EINPROGRESS. */
static inline void want_later(bool later)
{
	want_here.later = later;
	want_here.missed = false;
}

/* For node_store_get: read it later. */
MUST_CHECK static inline int want_miss(const struct digest *node)
{
	want_here.missed = true;
	want_here.missed_node = *node;
	return -EINPROGRESS;
}

/*
 * Note it: -EINPROGRESS. Or the failure with which it was fetched for this run. Each digest is
 * noted once.
 */
MUST_CHECK int want_note(enum source_kind kind, const struct digest *d);

/* Ask the far source for one item, and wait; the thread may. The frame is the caller's. */
MUST_CHECK int want_get_far(struct source *far, enum source_kind kind, const struct digest *d,
			    struct source_frame *out);

#endif
