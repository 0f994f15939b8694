/*
 * mount_backup.h - a copy of what a mount has changed, of one moment, while it is in use.
 *
 *	mount_backup_hold(m)          what it does from now on stays in the journal
 *	kv_copy(...)                  the database, with what came before
 *	mount_backup_cut(m, &b)       the moment; no I/O
 *	mount_backup_journal(b, fd)
 *	mount_backup_release(m)
 *	mount_backup_data(b, fd, p)   long; m may be gone
 *	mount_backup_free(b)
 *
 * The copy is what kill -9 at that moment leaves, and loads like it. While the journal is held,
 * operations of the mount wait once they have filled 4 MiB of it. Until it is freed, what is
 * written over takes new space, and dead space is not given back.
 */
#ifndef VARVE_FS_MOUNT_BACKUP_H
#define VARVE_FS_MOUNT_BACKUP_H

#include "fs/mount/mount.h"

struct mount_backup;

/* Waits for what is on its way to the database. Between this and the release m is in use. */
void mount_backup_hold(struct mount *m);
/*
 * held_before: since before the database was copied. If not, the mount is younger than the copy;
 * -EAGAIN where it has reached the database, or adopted an epoch, all the same, and another copy of
 * that is needed. -EBUSY: it is being copied already.
 */
MUST_CHECK int mount_backup_cut(struct mount *m, bool held_before, struct mount_backup **out);
/* The mount's id, as long as b. */
const char *mount_backup_id(const struct mount_backup *b);
/* To journal/ID below dir_fd. mount_backup_data syncs the file, by its descriptor. */
MUST_CHECK int mount_backup_journal(struct mount_backup *b, int dir_fd);
void mount_backup_release(struct mount *m);
/*
 * What the journal's copy and the database need of the staged data, to staging/ID below dir_fd;
 * all of it is synced. -EOVERFLOW: meanwhile so much was written over that the mount's limits, or
 * the disk, had no room for both, and the mount came first.
 */
MUST_CHECK int mount_backup_data(struct mount_backup *b, int dir_fd, struct progress *p);
/* The end of what it keeps of the mount; b stays, for its id. */
void mount_backup_thaw(struct mount_backup *b);
/* NULL is accepted. */
void mount_backup_free(struct mount_backup *b);

#endif
