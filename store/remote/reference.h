/* reference.h - REMOTE:REFERENCE, as a snapshot of a remote is written. Pure. */
#ifndef VARVE_SHARE_REFERENCE_H
#define VARVE_SHARE_REFERENCE_H

#include <stdbool.h>

#define REMOTE_NAME_MAX 64u

/*
 * Whether `text` is REMOTE:REFERENCE, which no snapshot's name is: then both parts (the second one
 * lent from text), else false. Neither part is checked further.
 */
bool reference_split(const char *text, char out_remote[REMOTE_NAME_MAX + 1],
		     const char **out_reference);

#endif
