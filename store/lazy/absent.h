/*
 * absent.h - a source for a store that nobody connects to its buckets: it knows which chunks are in
 * one, so that they are not taken for damage, and gives none (-EREMOTE).
 */
#ifndef VARVE_LAZY_ABSENT_H
#define VARVE_LAZY_ABSENT_H

#include "store/chunk/source.h"
#include "store/remote/lazy_index.h"

/* Borrows ix. NULL when out of memory. */
struct source *absent_new(struct lazy_index *ix);

#endif
