/*
 * seal_turns.h - limits how many threads of the process seal at a time, whatever the
 * number of mounts: one per core, at least two.
 *
 * A seal takes a turn before it begins, in the order of asking. A mount has one seal at a
 * time, so none of them gets ahead of the others. Turns that nobody waits for go to
 * helpers of the running seals; a helper gives its turn back soon after somebody starts
 * to wait. No seal waits for another mount's seal to do something, so all get their turn.
 *
 * The chunks of big files are made by workers that all seals share.
 *
 * Thread-safe.
 */
#ifndef VARVE_FS_SEAL_TURNS_H
#define VARVE_FS_SEAL_TURNS_H

#include <stdbool.h>

#include "store/base/pool.h"

/* The number of turns. */
unsigned seal_turns_max(void);
/* Wait for a turn. */
void seal_turn_take(void);
/* A turn for a helper; false if none is free or somebody waits. */
bool seal_turn_try(void);
void seal_turn_give(void);
/*
 * Who waits for a far source lends his turn to others (true), and has it back at once (false): he
 * may hold a lock of his seal, and then it is one turn too many for a while. For want_on_wait.
 */
void seal_turn_lend(bool lent);
/* Whether somebody waits, so that helpers must end. */
bool seal_turn_is_wanted(void);

/* The shared workers, which live until every caller has put them back; NULL when out of memory. */
struct pool *seal_workers_get(void);
void seal_workers_put(struct pool *p);

#endif
