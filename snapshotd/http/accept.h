/* accept.h - what a client would rather have: the header Accept (RFC 9110, 12.5.1). Pure. */
#ifndef VARVE_SNAPSHOTD_ACCEPT_H
#define VARVE_SNAPSHOTD_ACCEPT_H

#include <stdbool.h>

/*
 * Whether it names text/event-stream and wants it more than JSON: a client that
 * takes both alike, or anything, gets JSON. NULL is accepted.
 */
bool accept_prefers_events(const char *accept);

#endif
