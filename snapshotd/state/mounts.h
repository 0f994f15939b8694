/*
 * mounts.h - the daemon's mounts: found by id or mountpoint, counted while a
 * request uses one, so that it is not discarded under its hands.
 */
#ifndef VARVE_SNAPSHOTD_MOUNTS_H
#define VARVE_SNAPSHOTD_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>

#include "fs/mount/mount.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/store.h"

struct mounts;
struct mount_entry;

/*
 * Loads what the store knows (mount_load_all). Borrows s and sp. Where it fails, *out may be set,
 * too: to close, which unmounts them all, or to leave as it is to a successor.
 */
MUST_CHECK int mounts_open(struct store *s, struct session_pool *sp, struct mounts **out,
			   struct error *err);
/*
 * Detaches every mount, those inside others first, so that the next daemon attaches
 * it again. No entry is in use.
 */
void mounts_close(struct mounts *ms);

/* "private" or "shared"; else -EINVAL. */
MUST_CHECK int mount_cache_parse(const char *s, enum mount_cache *out, struct error *err);

/*
 * The next four give an entry in use: mounts_put it. mountpoint in opt: absolute;
 * symlinks are resolved. -EINVAL (no directory there), -EBUSY (a mount of ours
 * is there already), and what mount_create says.
 */
MUST_CHECK int mounts_create(struct mounts *ms, const struct snapshot *snap,
			     const struct mount_options *opt, struct mount_entry **out,
			     struct error *err);
/*
 * The mount at exactly this path, which is not followed: an automount point would be waited for.
 * Failures of mounts_get.
 */
MUST_CHECK int mounts_get_at(struct mounts *ms, const char *path, struct mount_entry **out,
			     struct error *err);
/* An id, or an absolute path. -ENOENT; -EBUSY where a path fits several detached mounts. */
MUST_CHECK int mounts_get(struct mounts *ms, const char *id_or_path, struct mount_entry **out,
			  struct error *err);
/* All of them; the array is malloc'd. -ENOMEM. */
MUST_CHECK int mounts_list(struct mounts *ms, struct mount_entry ***out, size_t *out_n);
void mounts_put(struct mounts *ms, struct mount_entry *e);
/*
 * Call fn for each, oldest first, in use by the walk only meanwhile. What fn returns, if not
 * 0, ends the walk and is returned. -ENOMEM.
 */
typedef int (*mounts_fn)(void *arg, struct mount_entry *e);
MUST_CHECK int mounts_each(struct mounts *ms, mounts_fn fn, void *arg);

/* Constant while the entry is in use. */
struct mount *mount_entry_mount(struct mount_entry *e);

/*
 * limits NULL: as they were. mountpoint NULL: where it was. place_fd: that mountpoint, open,
 * without symlinks in its path, as in mount_options; 0: none. Errors as of mounts_create.
 */
MUST_CHECK int mounts_attach(struct mounts *ms, struct mount_entry *e, const char *mountpoint,
			     int place_fd, const struct mount_limits *limits, struct error *err);
/* As mount_detach. discard: the caller means to discard it next, so nothing is synced for it. */
MUST_CHECK int mounts_detach(struct mounts *ms, struct mount_entry *e, enum mount_detach_how how,
			     bool discard, struct error *err);
/*
 * Of a detached mount, which the caller alone uses in the end: waits some
 * seconds for others, then -EBUSY. Uses e up on success (no mounts_put).
 */
MUST_CHECK int mounts_discard(struct mounts *ms, struct mount_entry *e, struct error *err);

/*
 * The end of a mount that only the daemon has a use for: detach it, cut off
 * whoever still is inside, discard it. As mounts_discard otherwise.
 */
MUST_CHECK int mounts_drop(struct mounts *ms, struct mount_entry *e, struct error *err);

/*
 * Whether a directory can be mounted upon now; errors as of mounts_create. -ENOTEMPTY
 * where it holds anything, unless over_files.
 */
MUST_CHECK int mounts_check_place(struct mounts *ms, const char *mountpoint, bool over_files,
				  struct error *err);

/* Find out which were unmounted by others while somebody holds them. */
void mounts_look(struct mounts *ms);
void mounts_count(struct mounts *ms, size_t *attached, size_t *detached);

#endif
