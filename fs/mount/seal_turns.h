/*
 * seal_turns.h - how many threads of the process seal at a time, whatever the number
 * of mounts: two, or one for each core.
 *
 * A seal takes a turn before it begins, in the order of asking. A mount has one seal at a
 * time, so none of them gets ahead of the others. Turns that nobody waits for go to
 * helpers of the seals that run; a helper gives its turn back soon after somebody waits.
 * A seal waits for nothing that another mount's seal has to do, so all get their turn.
 *
 * The chunks of big files are made by workers that all seals share.
 *
 * Thread-safe.
 */
#ifndef VARVE_FS_SEAL_TURNS_H
#define VARVE_FS_SEAL_TURNS_H

#include <stdbool.h>

#include "store/base/pool.h"

/* Turns that there are at a time. */
unsigned seal_turns_max(void);
/* Wait for a turn. */
void seal_turn_take(void);
/* A turn for a helper; false where none is free or somebody waits. */
bool seal_turn_try(void);
void seal_turn_give(void);
/* Whether somebody waits, so that helpers have to end. */
bool seal_turn_is_wanted(void);

/* The shared workers, there until every caller has put them back; NULL without memory. */
struct pool *seal_workers_get(void);
void seal_workers_put(struct pool *p);

#endif
