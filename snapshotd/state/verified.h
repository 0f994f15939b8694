/*
 * verified.h - what the last verification of the whole store has found, beyond the daemon's end:
 * damage is there until another one finds none.
 */
#ifndef VARVE_SNAPSHOTD_VERIFIED_H
#define VARVE_SNAPSHOTD_VERIFIED_H

#include <stdint.h>

#include "snapshotd/state/metrics.h"
#include "store/kv/kv.h"

/* One has ended now: m and the record say so. A record that cannot be written is logged. */
void verified_note(struct kv *kv, struct metrics *m, uint64_t damaged);
/* Into m, which stays as it is where there was none, or the record is of another version. */
void verified_load(struct kv *kv, struct metrics *m);

#endif
