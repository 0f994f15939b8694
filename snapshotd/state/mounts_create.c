/* A mount of the table is made, or attached once more. */
#include "snapshotd/state/mounts_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/log.h"

/* The end of an attempt at a new mount. */
static void create_done(struct mounts *ms, struct mount_entry *e, struct mount *m)
{
	struct mount_info info;

	if (m)
		mount_get_info(m, &info);
	pthread_mutex_lock(&ms->lock);
	e->busy = false;
	e->m = m;
	if (m) {
		memcpy(e->id, info.id, sizeof(e->id));
		e->users++;
	} else {
		mounts_remove_locked(ms, e);
	}
	pthread_mutex_unlock(&ms->lock);
	if (!m)
		mounts_entry_free(e);
}

int mounts_create(struct mounts *ms, const struct snapshot *snap, const struct mount_options *opt,
		  struct mount_entry **out, struct error *err)
{
	struct mount_options placed = *opt;
	struct mount_entry *e;
	struct mount *m = NULL;
	char *place, *old = NULL;
	int rc = mounts_place_resolve(ms->store, opt->mountpoint, opt->place_fd, &place, err);

	if (rc < 0)
		return rc;
	rc = mounts_entry_new(NULL, &e);
	if (rc < 0) {
		free(place);
		return error_set(err, rc, "out of memory");
	}
	rc = mounts_place_reserve(ms, e, place, &old, err);
	if (rc < 0 && !e->busy) { /* not even in the table */
		free(place);
		mounts_entry_free(e);
		return rc;
	}
	placed.mountpoint = place;
	if (rc == 0)
		rc = mount_create(ms->store, ms->pool, snap, &placed, &m, err);
	create_done(ms, e, rc == 0 ? m : NULL);
	if (rc == 0)
		*out = e;
	return rc;
}

int mounts_attach(struct mounts *ms, struct mount_entry *e, const char *mountpoint, int place_fd,
		  const struct mount_limits *limits, struct error *err)
{
	char *place, *old = NULL, *was;
	int rc;

	pthread_mutex_lock(&ms->lock);
	was = strdup(e->mountpoint);
	pthread_mutex_unlock(&ms->lock);
	if (!was)
		return error_set(err, -ENOMEM, "out of memory");
	rc = mounts_place_resolve(ms->store, mountpoint ? mountpoint : was, place_fd, &place, err);
	free(was);
	if (rc < 0)
		return rc;
	rc = mounts_place_reserve(ms, e, place, &old, err);
	if (rc < 0 && !old) {
		free(place);
		return rc;
	}
	if (rc == 0)
		rc = mount_attach_upon(e->m, place, place_fd, limits, err);
	pthread_mutex_lock(&ms->lock);
	e->busy = false;
	if (rc < 0) { /* it stays where it was */
		e->mountpoint = old;
		old = place;
	}
	pthread_mutex_unlock(&ms->lock);
	free(old);
	return rc;
}
