/*
 * backup.h - a copy of the whole state while it is in use: snapshots, mounts with what was written
 * to them, sandboxes, images. It is a state directory; a daemon that starts on it finds what it
 * would have found after kill -9 at the moment of the copy, which is one for all.
 */
#ifndef VARVE_SNAPSHOTD_BACKUP_H
#define VARVE_SNAPSHOTD_BACKUP_H

#include "snapshotd/state/mounts.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/store.h"

struct backup_result {
	uint64_t mounts;
	/* Copied; files of the database that are linked are not counted. */
	uint64_t copied_bytes;
	bool linked;	  /* the database shares its files: the same filesystem */
	uint64_t held_ns; /* how long no mount's journal could reach the database */
};

/*
 * dir is absolute: an empty directory, or none, which is made (mode 0700). It has no FORMAT, so
 * that no daemon takes it for a store, until all is there and synced. A failure empties it again.
 * -ENOTEMPTY, -EINVAL (in the state directory, or in a mount of ours), -EBUSY (another backup is
 * being made), -EPERM (of another user), -ENOSPC (on the disk of the state directory: only the
 * reserve is left), -EOVERFLOW (a mount was written over so much meanwhile that it had to be let go
 * on in place), -ECANCELED.
 */
MUST_CHECK int backup_run(struct store *s, struct mounts *ms, const char *dir, struct progress *p,
			  struct backup_result *out, struct error *err);
/* Remove what a backup has left in the state directory that a killed daemon made. */
void backup_sweep(const struct store *s);

#endif
