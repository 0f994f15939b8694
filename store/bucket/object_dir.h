/*
 * object_dir.h - a directory as a bucket: for NFS, for one host with several daemons, for tests.
 *
 * A key is a path below the directory. A new object is written to ".tmp/", synced, and then renamed
 * (PUT) or linked (PUT_ONCE) to its key, so that nobody sees half of one and link(2) decides who
 * was first, on NFS too. Directories without files are not part of the bucket. One key cannot be
 * the beginning of another at a '/': that is -EINVAL.
 *
 * A directory that was removed answers every request with -EIO, and the store is `gone`.
 *
 * Requests are done by threads (object_threads.h), so nobody but who wants an answer waits for a
 * file system that is slow. One that stands still for good (NFS, mounted `hard`) ends no request,
 * and a close waits for those that have begun.
 *
 * The date of an answer is by the clock of the
 * file system, which gives objects their times, whatever this host's clock says; a read-only
 * store's is by the host's.
 */
#ifndef VARVE_OBJECT_DIR_H
#define VARVE_OBJECT_DIR_H

#include <stdbool.h>

#include "store/bucket/object_store.h"

/*
 * `dir` is created, with its parents, unless read_only. -ENOENT, -ENOTDIR, -EACCES, ... and why.
 */
MUST_CHECK int object_dir_open(const char *dir, bool read_only, struct object_store **out,
			       struct error *err);

#endif
