/*
 * Where mounts are put: a directory is resolved, checked and reserved before
 * anything is mounted upon it.
 */
#include "snapshotd/state/mounts_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/host/mountinfo.h"

/* Whether `place` is the store's directory or above it. */
static bool hides_store(const struct store *s, const char *place)
{
	size_t len = strlen(place);

	return strncmp(s->dir, place, len) == 0 && (s->dir[len] == '/' || s->dir[len] == '\0');
}

/* The directory to mount upon, symlinks resolved. */
int mounts_place_resolve(const struct store *s, const char *mountpoint, int place_fd, char **out,
			 struct error *err)
{
	struct stat st;
	char *path;

	if (mountpoint[0] != '/')
		return error_set(err, -EINVAL, "mountpoint \"%s\" is not an absolute path",
				 mountpoint);
	path = place_fd ? strdup(mountpoint) : realpath(mountpoint, NULL);
	if (!path || (place_fd ? fstat(place_fd, &st) : stat(path, &st)) < 0) {
		int rc = -errno;

		free(path);
		error_set_errno(err, rc, "mountpoint %s", mountpoint);
		return rc == -ENOMEM ? rc : -EINVAL;
	}
	if (!S_ISDIR(st.st_mode))
		error_set(err, -EINVAL, "mountpoint %s: not a directory", mountpoint);
	else if (strcmp(path, "/") == 0 || hides_store(s, path))
		error_set(err, -EINVAL, "mountpoint %s: would hide the store", mountpoint);
	else {
		*out = path;
		return 0;
	}
	free(path);
	return -EINVAL;
}

/* It may have been unmounted behind our back, while others hold it. */
static bool is_still_there(struct mount_entry *e)
{
	struct mountinfo mi;

	if (mountinfo_read("/proc/self/mountinfo", &mi) == 0) {
		mount_note_place(e->m, &mi);
		mountinfo_fini(&mi);
	}
	return mount_entry_is_attached(e);
}

/* -EBUSY where another mount than `self` is attached at place. */
static int place_check(struct mounts *ms, const char *place, const struct mount_entry *self,
		       struct error *err)
{
	struct mount_entry *e;
	size_t pos = 0;

	while ((e = mounts_next_at(ms, place, &pos))) {
		bool taken = e != self && mount_entry_is_attached(e) && is_still_there(e);

		if (taken)
			error_set(err, -EBUSY, "mount %s is at %s already", e->id, place);
		mounts_put(ms, e);
		if (taken)
			return -EBUSY;
	}
	return 0;
}

static bool place_is_busy_locked(const struct mounts *ms, const char *place)
{
	for (size_t i = 0; i < ms->n; i++)
		if (ms->entries[i]->busy && strcmp(ms->entries[i]->mountpoint, place) == 0)
			return true;
	return false;
}

/*
 * Take `place` for e (added to the table where it has no mount yet). Takes
 * place over on success; *old gets the one that e had.
 */
int mounts_place_reserve(struct mounts *ms, struct mount_entry *e, char *place, char **old,
			 struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&ms->lock);
	if (e->busy || place_is_busy_locked(ms, place))
		rc = error_set(err, -EBUSY, "another mount is being made at %s", place);
	else if (!e->m && mounts_add_locked(ms, e) < 0)
		rc = error_set(err, -ENOMEM, "out of memory");
	if (rc == 0) {
		*old = e->mountpoint;
		e->mountpoint = place;
		e->busy = true;
	}
	pthread_mutex_unlock(&ms->lock);
	if (rc < 0)
		return rc;
	return place_check(ms, place, e, err);
}

static int check_empty(const char *place, struct error *err)
{
	DIR *d = opendir(place);
	bool empty = true;

	if (!d)
		return error_set_errno(err, -errno, "mountpoint %s", place);
	for (struct dirent *e; empty && (e = readdir(d));)
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	closedir(d);
	return empty ? 0
		     : error_set(
			       err, -ENOTEMPTY,
			       "mountpoint %s is not empty, and the mount would hide what is in "
			       "it: to mount over it, use --force (in a request: \"force\": true)",
			       place);
}

int mounts_check_place(struct mounts *ms, const char *mountpoint, bool over_files,
		       struct error *err)
{
	char *place;
	int rc = mounts_place_resolve(ms->store, mountpoint, 0, &place, err);

	if (rc < 0)
		return rc;
	rc = place_check(ms, place, NULL, err);
	if (rc == 0 && !over_files)
		rc = check_empty(place, err);
	free(place);
	return rc;
}
