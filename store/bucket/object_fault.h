/*
 * object_fault.h - stands before a bucket and makes faults, by a plan with a seed. For tests, and
 * for a daemon with VARVE_FAULTS in its environment.
 *
 * A plan is "NAME=VALUE,...". P is a probability, 0 to 1; TIME is a number with ms, s or m.
 *
 *   seed=N         of all draws
 *   drop=P         the request is not made: -ETIMEDOUT
 *   lost=P         it is made, but its answer is -ETIMEDOUT
 *   delay=TIME:P   it is made that much later
 *   throttle=P     it is made 200 to 1,000 ms later, and counted as throttled
 *   repeat=P       a write is made twice; the second answer counts
 *   flip=P         one bit of what a GET gives is wrong
 *   cut=P          a GET gives less
 *   stale=P        a GET gives what the key had before, where that went through here
 *   hide=P         a LIST leaves out one key
 *   clock=TIME     the service's clock is so much ahead ("-TIME": behind); it refuses old dates
 *   clock=@PATH    the same, with the TIME that the file holds at each request; no file: 0
 *   frozen=PATH    while this file exists, requests wait
 *   die=N          the process is killed before its Nth request; die-after=N: after it was made
 *   ops=OP:OP...   only for these: get, put, put-once, list, delete (not clock, die)
 *   under=PREFIX   only for keys that begin so (not clock, die)
 *
 * The draws are made as requests come, so the same requests in the same order have the same faults.
 */
#ifndef VARVE_OBJECT_FAULT_H
#define VARVE_OBJECT_FAULT_H

#include "store/bucket/object_store.h"

/*
 * On success, the new store owns `inner`. -EINVAL with the part of the plan that makes no sense,
 * -ENOMEM.
 */
MUST_CHECK int object_fault_open(struct object_store *inner, const char *plan,
				 struct object_store **out, struct error *err);
/* Put *os behind the plan in VARVE_FAULTS, if there is one. Each call draws anew. */
MUST_CHECK int object_fault_by_env(struct object_store **os, struct error *err);

struct object_faults {
	uint64_t dropped, lost, delayed, throttled, repeated, flipped, cut, stale, hidden, too_old;
};
/* How many there were. os: from object_fault_open. */
void object_fault_counts(struct object_store *os, struct object_faults *out);

#endif
