/*
 * listed.h - what a walk over many records keeps of each: its place in the order and
 * its id. Each is read again when its turn comes, so that neither a cursor of the
 * database nor a lock is held while a slow client takes the list, and memory holds
 * one whole record at a time.
 */
#ifndef VARVE_BASE_LISTED_H
#define VARVE_BASE_LISTED_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

#define LISTED_ID_SIZE 72 /* a UUID or a digest in hex, with its NUL */

struct listed {
	int64_t order;
	char id[LISTED_ID_SIZE];
};

/* Append to a buf of struct listed. -ENOMEM; -ENAMETOOLONG. */
MUST_CHECK int listed_add(struct buf *list, int64_t order, const char *id);
/* By rising order; those of the same order by id. *out_n: how many; borrowed from list. */
const struct listed *listed_sort(struct buf *list, size_t *out_n);

#endif
