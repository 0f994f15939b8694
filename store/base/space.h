/*
 * space.h - the free space of the filesystem below a store, and a reserve of it.
 *
 * The reserve is for what has to go on when the disk is full: the mounts' journals,
 * the database's log, flushes and compactions, records, collections of garbage. So
 * whatever makes a store grow asks here first. Growth that clients and guests cause
 * (SPACE_GROWTH: data and metadata in mounts, imports, builds) is refused while less
 * than the reserve is free. The daemon's own work on existing data (SPACE_OWN: to seal
 * a checkpoint) may use half of the reserve. Deleting does not ask.
 *
 * Asking is cheap: we look at the filesystem only every SPACE_LOOK_MS or SPACE_LOOK_BYTES
 * (more often only before a refusal), and count what is handed out between two looks as
 * used. Other programs use the disk as well, and what is handed out is written later, so
 * the reserve is exact only to about SPACE_LOOK_BYTES.
 *
 * Thread-safe, without locks: if several threads look at once, the last result
 * stays.
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
/* The reserve where nobody says: a twentieth of the filesystem, within these. */
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
/* Take so many bytes, which the caller will write: 0 or -ENOSPC. 0 bytes: ask for one. */
MUST_CHECK int space_take(struct space *sp, enum space_user who, uint64_t bytes);
/* Ask for so many without taking them, for a person: "the disk is nearly full ...". */
MUST_CHECK int space_check(struct space *sp, enum space_user who, uint64_t bytes,
			   struct error *err);

/* These two always look. Free bytes; UINT64_MAX if the filesystem does not tell. */
uint64_t space_free(struct space *sp);
/* Bytes that SPACE_GROWTH may take. */
uint64_t space_room(struct space *sp);

#endif
