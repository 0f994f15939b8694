/*
 * staging.h - the append-only file that holds the data a mount has written
 * since its base.
 *
 * Space is handed out at the end of the file and never again, so an extent that
 * a metadata record names holds what was written to it or, after a power cut,
 * zeros; never another file's bytes. Space of dead extents is punched out
 * later, by a thread, after the records that dropped them are safe on disk.
 * Thread-safe.
 */
#ifndef VARVE_FS_STAGING_H
#define VARVE_FS_STAGING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/space.h"
#include "fs/upper/journal.h"

struct staging;
/*
 * Open or create `name` below dir_fd; a fresh one is created by the first write.
 * Borrows dir_fd and j, which it syncs before punching.
 */
MUST_CHECK int staging_open(int dir_fd, const char *name, bool fresh, struct journal *j,
			    struct staging **out, struct error *err);
/* Leave a reserve of the disk free. Borrows sp. Call before anything is handed out. */
void staging_limit(struct staging *st, struct space *sp);
/* Waits for the thread that punches. NULL is accepted. */
void staging_close(struct staging *st);

/* Where new space starts and the file ends. Set once, after the extents were loaded. */
void staging_set_end(struct staging *st, uint64_t end);
uint64_t staging_end(struct staging *st);

/* Bytes that may still be handed out: free space beyond the reserve, and dead ranges. */
uint64_t staging_room(struct staging *st);
/* Hand out len bytes. -ENOSPC if only the reserve is left on the disk. */
MUST_CHECK int staging_alloc(struct staging *st, uint64_t len, uint64_t *out_pos);
MUST_CHECK int staging_write(struct staging *st, uint64_t pos, const void *data, size_t len);
MUST_CHECK int staging_read(struct staging *st, uint64_t pos, void *out, size_t len);
/* Remember that a range is dead. Once there is much, a thread punches it. */
void staging_free(struct staging *st, uint64_t pos, uint64_t len);
/* Punch everything remembered (syncs the journal first). */
void staging_reclaim(struct staging *st);
/* Punch [from, to) now. Only for ranges that no record has named since the last sync. */
void staging_punch(struct staging *st, uint64_t from, uint64_t to);
/*
 * Write where an extent has been written before. -EBUSY where a copy must not see that: the data
 * wants new space.
 */
MUST_CHECK int staging_overwrite(struct staging *st, uint64_t pos, const void *data, size_t len);
/* Whether staging_overwrite would say so. */
bool staging_is_frozen(struct staging *st, uint64_t pos);
/* The copy that is made costs too much: from now on all is overwritten in place, and it fails. */
void staging_spoil(struct staging *st);

/*
 * The file as it is at a cut, for a copy that is made meanwhile. From the freeze on nothing is
 * overwritten or punched; from the cut on, nothing that it has. To be cut between: the journal.
 */
struct staging_frozen;
/* -EBUSY: it is frozen already. */
MUST_CHECK int staging_freeze(struct staging *st, struct staging_frozen **out);
MUST_CHECK int staging_cut(struct staging *st, struct staging_frozen *fz);
/* After the cut, also when st is closed. A descriptor, borrowed, -1: no file; and bytes. */
int staging_frozen_fd(const struct staging_frozen *fz, uint64_t *out_len);
/* How many copies have begun, the last one included. */
uint64_t staging_copies(const struct staging *st);
/* Whether what was read until now is what the file had at the cut. */
bool staging_frozen_is_whole(const struct staging_frozen *fz);
/* Thaw. NULL is accepted. */
void staging_thaw(struct staging_frozen *fz);

/*
 * Make what was written survive a power cut once the journal is synced: log the
 * data in the journal if it is little, else sync the file.
 */
MUST_CHECK int staging_sync(struct staging *st);

#endif
