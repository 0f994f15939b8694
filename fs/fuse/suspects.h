/*
 * suspects.h - requests that daemons have died of: one that kills every successor is answered
 * with EIO, and the others are served.
 *
 * A thread notes the request that it begins to handle in memory that the keeper has, and takes
 * it out when that is done. So a successor finds what its predecessor was at, and not what merely
 * waited. A crash counts POINTS_CRASH for each of these, a SIGKILL, which is mostly not theirs, 1;
 * POINTS_MAX condemn a request. From two crashes on suspects run one at a time, and only the one
 * that runs is counted: the others were there by chance.
 *
 * Thread-safe. A struct suspects of NULL suspects nobody.
 */
#ifndef VARVE_FS_SUSPECTS_H
#define VARVE_FS_SUSPECTS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/macros.h"

#define SUSPECTS_POINTS_CRASH 4u
#define SUSPECTS_POINTS_ALONE (2 * SUSPECTS_POINTS_CRASH)
#define SUSPECTS_POINTS_MAX (3 * SUSPECTS_POINTS_CRASH)
/*
 * How long a suspect waits for another one; then it runs uncounted. Not so one that is fetched for
 * while another one is: no fetch waits for others, and the far source lets none wait for ever.
 */
#define SUSPECTS_WAIT_S 2

struct suspects;

/*
 * fd: what a former process has left (taken over in any case), or -1; crashed: it died of itself.
 * NULL: out of memory or descriptors.
 */
struct suspects *suspects_new(int fd, bool crashed);
void suspects_free(struct suspects *l);
/* Would suspects_new take it over? Nothing is changed. */
MUST_CHECK bool suspects_knows(int fd);
/* False: what was left, if anything, was no such memory, and the successor is to get this. */
bool suspects_is_adopted(const struct suspects *l);
/* For the successor; borrowed. */
int suspects_fd(const struct suspects *l);

/*
 * This thread begins with a request of a connection, named as the keeper names it; sent_again:
 * others may have had it. False: it is condemned, and there is nothing to end.
 */
MUST_CHECK bool suspects_begin(struct suspects *l, const char *connection, uint64_t unique,
			       bool sent_again);
/*
 * The same for a thread that fetches what the request waits for, in which it mostly waits, too: it
 * dies of that only if it crashes.
 */
MUST_CHECK bool suspects_begin_fetch(struct suspects *l, const char *connection, uint64_t unique,
				     bool sent_again);
/*
 * It is not over with suspects_end: a thread (any) will begin with it again. Until then it merely
 * waits, and what is held against it stays.
 */
void suspects_defer(struct suspects *l);
void suspects_end(struct suspects *l);

#endif
