/*
 * space.h - what is free on the filesystem below a store, and what of it is kept back.
 *
 * A reserve is kept for what has to go on when the disk is full: the mounts' journals,
 * the database's log, flushes and compactions, records, collections of garbage. So
 * whatever makes a store grow asks here first. Growth that clients and guests ask for
 * (SPACE_GROWTH: data and metadata in mounts, imports, builds) is refused while less
 * than the reserve is free. The daemon's own work on what is there already (SPACE_OWN:
 * to seal a checkpoint) may use half of the reserve. What deletes asks nothing.
 *
 * It is cheap to ask: the filesystem is looked at every SPACE_LOOK_MS and SPACE_LOOK_BYTES
 * at most, and what is handed out between two looks is counted as used. Others use
 * the disk as well, and what is handed out is written later: the reserve is exact to
 * about SPACE_LOOK_BYTES.
 *
 * Thread-safe, without locks: of several that look, the last one's result stays.
 */
#ifndef VARVE_STORE_SPACE_H
#define VARVE_STORE_SPACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/error.h"
#include "store/base/macros.h"

#define SPACE_LOOK_MS 200
#define SPACE_LOOK_BYTES (16ull << 20)
/*
 * The reserve where nobody says: a twentieth of the filesystem, within these, and a
 * quarter of a small one at most.
 */
#define SPACE_RESERVE_DEFAULT 0ull
#define SPACE_RESERVE_NONE UINT64_MAX
#define SPACE_RESERVE_MIN (96ull << 20)
#define SPACE_RESERVE_MAX (1ull << 30)

enum space_user { SPACE_GROWTH, SPACE_OWN };

struct space {
	int dir_fd;		      /* borrowed */
	uint64_t reserve_bytes;	      /* 0: none, nothing is refused */
	_Atomic uint64_t free_bytes;  /* at the last look */
	_Atomic uint64_t taken_bytes; /* since then */
	_Atomic int64_t looked_ms;
};

/* reserve_bytes: also SPACE_RESERVE_DEFAULT or _NONE. -errno of statvfs. */
MUST_CHECK int space_init(struct space *sp, int dir_fd, uint64_t reserve_bytes);
/* Take so many bytes, which are going to be written: 0 or -ENOSPC. 0 bytes: ask for one. */
MUST_CHECK int space_take(struct space *sp, enum space_user who, uint64_t bytes);
/* Ask for so many without taking them, for a person: "the disk is nearly full ...". */
MUST_CHECK int space_check(struct space *sp, enum space_user who, uint64_t bytes,
			   struct error *err);

/* These look, now. Bytes that are free; UINT64_MAX where the filesystem does not tell. */
uint64_t space_free(struct space *sp);
/* Those that SPACE_GROWTH may take. */
uint64_t space_room(struct space *sp);

#endif
