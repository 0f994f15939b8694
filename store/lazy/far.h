/*
 * far.h - the buckets as a source of chunks (store/chunk/source.h): what a lazily pulled snapshot
 * lacks comes when it is read.
 *
 * A chunk is fetched with its neighbours: a *window* of its container, which stays in memory for a
 * while, as those are often wanted next. It begins a little before the chunk, ends with a whole
 * one, and reaches up to another window that is near, so that few requests bring what is read in
 * any order. Where windows of a container are asked for in order, they become larger, up to
 * FAR_WINDOW_MAX, and the next ones are fetched ahead. Threads that want the same window wait for
 * one request. What is handed out has been decoded and hashed.
 *
 * Nodes are never here: a lazy pull has fetched them all.
 */
#ifndef VARVE_SHARE_FAR_H
#define VARVE_SHARE_FAR_H

#include "store/base/macros.h"
#include "store/chunk/source.h"
#include "store/remote/lazy_index.h"
#include "store/lazy/prefetch.h"
#include "store/remote/remotes.h"

#define FAR_WINDOW_MIN (112u << 10)
#define FAR_WINDOW_MAX (1u << 20)
#define FAR_MEMORY ((size_t)64 << 20) /* windows, about; those in use may pass it */

struct far_stats {
	uint64_t chunks;	  /* handed out */
	uint64_t requests, bytes; /* fetched */
	uint64_t ahead;		  /* of the requests: before anybody asked */
	uint64_t failed;	  /* chunks */
};

/*
 * Borrows both. To end: source->ops->stop, then remotes_close (which ends the requests), then
 * source_free, then lazy_index_free. NULL when out of memory.
 */
struct source *far_new(struct lazy_index *ix, struct remotes *rs);
/* Where chunks are looked for first (borrowed); before anybody uses the source. */
void far_set_prefetch(struct source *far, struct prefetch *p);
void far_stats(struct source *far, struct far_stats *out);

#endif
