/* session_pool.h - the threads that serve the requests of all mounts of a daemon. */
#ifndef VARVE_FS_SESSION_POOL_H
#define VARVE_FS_SESSION_POOL_H

#include <stdint.h>

#include "store/base/error.h"

struct session_pool;
/* threads 0: 4 a core, at least 8; one mount gets half of them. NULL on failure. */
struct session_pool *session_pool_new(unsigned threads, struct error *err);
/*
 * Mounts of cache mode `shared` made from now on share these files, which outlive
 * them; without them, they are `private`.
 */
struct shared_files;
void session_pool_share(struct session_pool *sp, struct shared_files *files);
/* Connections made from now on are kept by it; borrowed. */
struct keeper;
void session_pool_keep(struct session_pool *sp, struct keeper *k);
/*
 * 0: what a keeper has under this name, a connection or something of one, is understood by a pool
 * and its mounts; -EPROTO: it is not, or is nothing of theirs. Nothing is changed.
 */
MUST_CHECK int session_pool_check_kept(const char *name, int fd);
struct keeper *session_pool_keeper(const struct session_pool *sp);
/* Those files, or NULL. */
struct shared_files *session_pool_shared(const struct session_pool *sp);
/*
 * What mounts made from now on may hold of metadata, in memory, since their last
 * checkpoint each (view.h); 0: no limit.
 */
void session_pool_limit_metadata(struct session_pool *sp, uint64_t bytes);
uint64_t session_pool_metadata(const struct session_pool *sp);
/* Every mount has been closed before. */
void session_pool_free(struct session_pool *sp);
/* Requests served so far, by all mounts of the pool. */
uint64_t session_pool_requests(struct session_pool *sp);

#endif
