/*
 * recent.h - which chunks were read of late: two Bloom filters that take turns. What was read is
 * noted in the younger one; a turn empties the older one, which is then the younger. So a chunk
 * counts as read in the last period or in the one before, and memory is bounded. A false positive
 * only keeps a chunk that nobody reads.
 *
 * Thread-safe, without locks: a note that races with a turn may be lost.
 */
#ifndef VARVE_RECENT_H
#define VARVE_RECENT_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/hash.h"
#include "store/base/macros.h"

struct recent;
/* `chunks`: about so many are told apart; more are, by and by, all taken for read. NULL: no memory.
 */
struct recent *recent_new(size_t chunks);
void recent_free(struct recent *r); /* NULL is accepted */
void recent_note(struct recent *r, const struct digest *d);
/* periods: 1, the last one; 2, also the one before. */
bool recent_has(const struct recent *r, const struct digest *d, unsigned periods);
void recent_turn(struct recent *r); /* by one thread at a time */

#endif
