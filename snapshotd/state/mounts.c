/*
 * The table is an array of entries, read in whole for a look-up: thousands of
 * entries cost microseconds, and an attach costs a mount(2).
 *
 * A place is reserved before it is mounted upon: the entry is put into the
 * table (or, attached anew, changed) with `busy` set, so that a second mount at
 * the same place is refused while the first is being made, without a lock held
 * over the mount. Whether a mount is attached is asked of the mount itself: it
 * may have been unmounted behind our back.
 *
 * Lock: mounts.lock guards the table and the fields marked so. No call into a
 * mount is made under it.
 */
#include "snapshotd/state/mounts_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/host/mountinfo.h"
#include "store/base/clock.h"
#include "store/base/listed.h"

#define DISCARD_WAIT_S 10

void mounts_entry_free(struct mount_entry *e)
{
	if (!e)
		return;
	free(e->mountpoint);
	free(e);
}

void mounts_remove_locked(struct mounts *ms, const struct mount_entry *e)
{
	for (size_t i = 0; i < ms->n; i++) {
		if (ms->entries[i] == e) {
			memmove(&ms->entries[i], &ms->entries[i + 1],
				(ms->n - i - 1) * sizeof(ms->entries[0]));
			ms->n--;
			return;
		}
	}
}

/* ---- the table ---- */

int mounts_add_locked(struct mounts *ms, struct mount_entry *e)
{
	if (ms->n == ms->cap) {
		size_t cap = ms->cap ? 2 * ms->cap : 64;
		struct mount_entry **p = reallocarray(ms->entries, cap, sizeof(*p));

		if (!p)
			return -ENOMEM;
		ms->entries = p;
		ms->cap = cap;
	}
	ms->entries[ms->n++] = e;
	return 0;
}

bool mount_entry_is_attached(struct mount_entry *e)
{
	struct mount_info info;

	mount_get_info(e->m, &info);
	return info.attached;
}

int mounts_entry_new(struct mount *m, struct mount_entry **out)
{
	struct mount_entry *e = calloc(1, sizeof(*e));
	struct mount_info info;

	if (!e)
		return -ENOMEM;
	if (m) {
		mount_get_info(m, &info);
		e->m = m;
		memcpy(e->id, info.id, sizeof(e->id));
		e->mountpoint = strdup(info.mountpoint);
		if (!e->mountpoint) {
			free(e);
			return -ENOMEM;
		}
	}
	*out = e;
	return 0;
}

/*
 * What does not fit into memory stays as it is: a mount that a daemon before this one has served is
 * in use, and the one after it may have the room.
 */
static int table_load(struct mounts *ms, struct error *err)
{
	int rc = mount_load_all(ms->store, ms->pool, &ms->loaded, &ms->n_loaded, err);

	for (size_t i = 0; i < ms->n_loaded && rc == 0; i++) {
		struct mount_entry *e;

		rc = mounts_entry_new(ms->loaded[i], &e);
		if (rc == 0 && (rc = mounts_add_locked(ms, e)) < 0)
			mounts_entry_free(e);
		if (rc == 0)
			ms->loaded[i] = NULL;
		else
			error_set(err, rc, "out of memory");
	}
	return rc;
}

int mounts_open(struct store *s, struct session_pool *sp, struct mounts **out, struct error *err)
{
	struct mounts *ms = calloc(1, sizeof(*ms));
	int rc;

	if (!ms)
		return error_set(err, -ENOMEM, "out of memory");
	ms->store = s;
	ms->pool = sp;
	pthread_mutex_init(&ms->lock, NULL);
	cond_init_monotonic(&ms->released);
	rc = table_load(ms, err);
	*out = ms;
	return rc;
}

static int deepest_first(const void *a, const void *b)
{
	const struct mount_entry *const *ea = a, *const *eb = b;
	unsigned da = mountpoint_depth((*ea)->mountpoint), db = mountpoint_depth((*eb)->mountpoint);

	return da > db ? -1 : da < db;
}

void mounts_close(struct mounts *ms)
{
	if (!ms)
		return;
	for (size_t i = 0; i < ms->n; i++)
		mount_keep_attached(ms->entries[i]->m);
	for (size_t i = 0; i < ms->n_loaded; i++)
		mount_close(ms->loaded[i]);
	if (ms->n)
		qsort(ms->entries, ms->n, sizeof(ms->entries[0]), deepest_first);
	for (size_t i = 0; i < ms->n; i++) {
		mount_close(ms->entries[i]->m);
		mounts_entry_free(ms->entries[i]);
	}
	free(ms->entries);
	free(ms->loaded);
	pthread_cond_destroy(&ms->released);
	pthread_mutex_destroy(&ms->lock);
	free(ms);
}

struct mount *mount_entry_mount(struct mount_entry *e)
{
	return e->m;
}

void mounts_put(struct mounts *ms, struct mount_entry *e)
{
	pthread_mutex_lock(&ms->lock);
	e->users--;
	pthread_cond_broadcast(&ms->released);
	pthread_mutex_unlock(&ms->lock);
}

static struct mount_entry *get_by_id(struct mounts *ms, const char *id)
{
	struct mount_entry *found = NULL;

	pthread_mutex_lock(&ms->lock);
	for (size_t i = 0; i < ms->n && !found; i++) {
		struct mount_entry *e = ms->entries[i];

		if (e->m && !e->discarding && strcmp(e->id, id) == 0) {
			e->users++;
			found = e;
		}
	}
	pthread_mutex_unlock(&ms->lock);
	return found;
}

/* The first entry at `place` from index *pos on, in use; moves *pos beyond it. */
struct mount_entry *mounts_next_at(struct mounts *ms, const char *place, size_t *pos)
{
	struct mount_entry *found = NULL;

	pthread_mutex_lock(&ms->lock);
	while (*pos < ms->n && !found) {
		struct mount_entry *e = ms->entries[(*pos)++];

		if (e->m && !e->busy && !e->discarding && strcmp(e->mountpoint, place) == 0) {
			e->users++;
			found = e;
		}
	}
	pthread_mutex_unlock(&ms->lock);
	return found;
}

/* The attached mount at place, or else the only detached one. */
int mounts_get_at(struct mounts *ms, const char *place, struct mount_entry **out, struct error *err)
{
	struct mount_entry *e, *detached = NULL;
	size_t pos = 0, n_detached = 0;

	while ((e = mounts_next_at(ms, place, &pos))) {
		if (mount_entry_is_attached(e)) {
			if (detached)
				mounts_put(ms, detached);
			*out = e;
			return 0;
		}
		if (n_detached++ == 0)
			detached = e;
		else
			mounts_put(ms, e);
	}
	if (n_detached == 1) {
		*out = detached;
		return 0;
	}
	if (!detached)
		return error_set(err, -ENOENT, "no mount is or was at %s", place);
	mounts_put(ms, detached);
	return error_set(err, -EBUSY, "%zu detached mounts were at %s: say which by its id",
			 n_detached, place);
}

int mounts_get(struct mounts *ms, const char *id_or_path, struct mount_entry **out,
	       struct error *err)
{
	char *real;
	int rc;

	if (id_or_path[0] != '/') {
		*out = get_by_id(ms, id_or_path);
		return *out ? 0 : error_set(err, -ENOENT, "no mount has the id \"%s\"", id_or_path);
	}
	rc = mounts_get_at(ms, id_or_path, out, err);
	if (rc != -ENOENT)
		return rc;
	real = realpath(id_or_path, NULL);
	if (real && strcmp(real, id_or_path) != 0)
		rc = mounts_get_at(ms, real, out, err);
	free(real);
	return rc;
}

void mounts_look(struct mounts *ms)
{
	struct mount_entry **list;
	struct mountinfo mi;
	size_t n;

	if (mounts_list(ms, &list, &n) < 0)
		return;
	if (mountinfo_read("/proc/self/mountinfo", &mi) < 0)
		mi = (struct mountinfo)MOUNTINFO_INIT;
	for (size_t i = 0; i < n; i++) {
		if (mi.n)
			mount_note_place(list[i]->m, &mi);
		mounts_put(ms, list[i]);
	}
	mountinfo_fini(&mi);
	free(list);
}

int mounts_list(struct mounts *ms, struct mount_entry ***out, size_t *out_n)
{
	struct mount_entry **list;
	size_t n = 0;

	pthread_mutex_lock(&ms->lock);
	list = calloc(ms->n + 1, sizeof(*list));
	for (size_t i = 0; list && i < ms->n; i++) {
		struct mount_entry *e = ms->entries[i];

		if (e->m && !e->discarding) {
			e->users++;
			list[n++] = e;
		}
	}
	pthread_mutex_unlock(&ms->lock);
	if (!list)
		return -ENOMEM;
	*out = list;
	*out_n = n;
	return 0;
}

static int list_ids(struct mounts *ms, struct buf *ids)
{
	struct mount_entry **list;
	size_t n;
	int rc = mounts_list(ms, &list, &n);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < n; i++) {
		struct mount_info info;

		mount_get_info(list[i]->m, &info);
		if (rc == 0)
			rc = listed_add(ids, info.created_at_ms, info.id);
		mounts_put(ms, list[i]);
	}
	free(list);
	return rc;
}

int mounts_each(struct mounts *ms, mounts_fn fn, void *arg)
{
	CLEANUP(buf_fini_p) struct buf ids = BUF_INIT;
	int rc = list_ids(ms, &ids);
	size_t n;
	const struct listed *l = listed_sort(&ids, &n);

	for (size_t i = 0; i < n && rc == 0; i++) {
		struct mount_entry *e = get_by_id(ms, l[i].id);

		if (!e) /* discarded meanwhile */
			continue;
		rc = fn(arg, e);
		mounts_put(ms, e);
	}
	return rc;
}

void mounts_count(struct mounts *ms, size_t *attached, size_t *detached)
{
	struct mount_entry **list;
	size_t n = 0;

	*attached = *detached = 0;
	if (mounts_list(ms, &list, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		++*(mount_entry_is_attached(list[i]) ? attached : detached);
		mounts_put(ms, list[i]);
	}
	free(list);
}

/* ---- changes ---- */

int mounts_detach(struct mounts *ms, struct mount_entry *e, enum mount_detach_how how, bool discard,
		  struct error *err)
{
	(void)ms;
	return mount_detach(e->m, how, discard ? MOUNT_DETACH_DISCARD : MOUNT_DETACH, err);
}

/* Hide e and wait until the caller is its only user. */
static int discard_claim(struct mounts *ms, struct mount_entry *e, struct error *err)
{
	struct timespec until = monotonic_after_ms(DISCARD_WAIT_S * 1000);
	int rc = 0;

	pthread_mutex_lock(&ms->lock);
	if (e->discarding || e->busy) {
		rc = error_set(err, -EBUSY, "mount %s is being %s", e->id,
			       e->busy ? "attached" : "discarded");
	} else {
		e->discarding = true;
		while (e->users > 1 && rc != ETIMEDOUT)
			rc = pthread_cond_timedwait(&ms->released, &ms->lock, &until);
		if (e->users > 1) {
			e->discarding = false;
			rc = error_set(err, -EBUSY, "mount %s is in use by another request", e->id);
		} else {
			rc = 0;
		}
	}
	pthread_mutex_unlock(&ms->lock);
	return rc;
}

int mounts_discard(struct mounts *ms, struct mount_entry *e, struct error *err)
{
	int rc = discard_claim(ms, e, err);

	if (rc < 0)
		return rc;
	rc = mount_discard(e->m, err);
	pthread_mutex_lock(&ms->lock);
	if (rc < 0)
		e->discarding = false;
	else
		mounts_remove_locked(ms, e);
	pthread_mutex_unlock(&ms->lock);
	if (rc == 0)
		mounts_entry_free(e);
	return rc;
}

int mounts_drop(struct mounts *ms, struct mount_entry *e, struct error *err)
{
	int rc = mount_entry_is_attached(e)
			 ? mount_detach(e->m, MOUNT_LAZILY, MOUNT_DETACH_DISCARD, err)
			 : 0;

	if (rc < 0)
		return rc;
	mount_cut_off(e->m);
	return mounts_discard(ms, e, err);
}

int mount_cache_parse(const char *s, enum mount_cache *out, struct error *err)
{
	bool shared = strcmp(s, "shared") == 0;

	if (!shared && strcmp(s, "private") != 0)
		return error_set(err, -EINVAL, "\"cache\" must be \"private\" or \"shared\"");
	*out = shared ? MOUNT_CACHE_SHARED : MOUNT_CACHE_PRIVATE;
	return 0;
}
