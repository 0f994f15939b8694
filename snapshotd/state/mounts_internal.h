/*
 * mounts_internal.h - between mounts.c (the table), mounts_place.c (where its mounts
 * are put) and mounts_create.c.
 */
#ifndef VARVE_SNAPSHOTD_MOUNTS_INTERNAL_H
#define VARVE_SNAPSHOTD_MOUNTS_INTERNAL_H

#include <pthread.h>

#include "snapshotd/state/mounts.h"

struct mount_entry {
	struct mount *m; /* NULL while it is being made; constant afterwards */
	char id[SNAPSHOT_ID_SIZE];
	char *mountpoint; /* guarded; where it is, was last, or is about to be */
	bool busy;	  /* guarded: being attached at mountpoint */
	bool discarding;  /* guarded: found by nobody any more */
	unsigned users;	  /* guarded; the table itself is none */
};

struct mounts {
	struct store *store;
	struct session_pool *pool;
	pthread_mutex_t lock;
	pthread_cond_t released;      /* an entry's users went down */
	struct mount_entry **entries; /* guarded, as the next two */
	size_t n, cap;
	struct mount **loaded; /* owned, as are those that got no entry; the others are NULL */
	size_t n_loaded;
};

/* An entry of m, NULL while that is being made; in no table. -ENOMEM. */
MUST_CHECK int mounts_entry_new(struct mount *m, struct mount_entry **out);
void mounts_entry_free(struct mount_entry *e);
void mounts_remove_locked(struct mounts *ms, const struct mount_entry *e);
/* -ENOMEM. ms->lock is held. */
MUST_CHECK int mounts_add_locked(struct mounts *ms, struct mount_entry *e);
/* e has a mount. */
bool mount_entry_is_attached(struct mount_entry *e);

/* The first entry at `place` from index *pos on, in use; moves *pos beyond it. */
struct mount_entry *mounts_next_at(struct mounts *ms, const char *place, size_t *pos);
/*
 * The directory to mount upon, symlinks resolved; malloc'd. place_fd, if not 0, is that directory,
 * which no path is followed to. Errors as of mounts_create.
 */
MUST_CHECK int mounts_place_resolve(const struct store *s, const char *mountpoint, int place_fd,
				    char **out, struct error *err);
/*
 * Take `place` for e (added to the table where it has no mount yet). *old gets the
 * place that e had. An error after e->busy is set leaves place with e.
 */
MUST_CHECK int mounts_place_reserve(struct mounts *ms, struct mount_entry *e, char *place,
				    char **old, struct error *err);

#endif
