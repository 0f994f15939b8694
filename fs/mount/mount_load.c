/* What a daemon finds when it starts: mounts of the one before it. */
#include "fs/mount/mount_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <dirent.h>
#include <unistd.h>

#include "fs/host/child.h"
#include "fs/host/keeper.h"
#include "fs/host/mountinfo.h"
#include "store/base/log.h"
#include "store/kv/meta.h"
#include "store/kv/meta_version.h"

#define FUSE_TYPE "fuse.varve"

struct record_list {
	struct mount_record *recs;
	size_t n, cap;
};

/* What became of a record. */
struct loaded {
	char id[SNAPSHOT_ID_SIZE];
	char *place;		  /* owned */
	bool attach;		  /* it is to be */
	bool is_adopted;	  /* and goes on */
	struct mount_found found; /* with the connection to adopt */
	struct mount *m;	  /* NULL: it cannot be loaded */
};
struct mount_set {
	struct loaded *e;
	size_t n;
};

static int add_record(void *arg, const char *id, const void *json, size_t len)
{
	struct record_list *l = arg;

	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 16;
		struct mount_record *p = realloc(l->recs, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->recs = p;
		l->cap = cap;
	}
	int r = mount_record_decode(json, len, &l->recs[l->n]);

	if (!r)
		l->n++;
	else if (r == -EBADMSG)
		log_error("the record of mount %s is damaged; the mount is left out", id);
	return r == -EBADMSG ? 0 : r;
}

static int read_records(struct store *s, struct record_list *l, struct error *err)
{
	int r = meta_each(s->kv, META_MOUNT, "", add_record, l);

	return r ? error_set_errno(err, r, "cannot read the mounts' records") : 0;
}

/* Is it what a daemon that died has left? Then it answers to nothing. */
static bool is_stale(const struct mountinfo_entry *e)
{
	struct statfs st;

	/* Not stat(): the kernel may have the attributes. */
	return e && strcmp(e->type, FUSE_TYPE) == 0 && statfs(e->mountpoint, &st) < 0 &&
	       errno == ENOTCONN;
}

static int unmount_stale(const struct mountinfo_entry *e)
{
	int r = child_umount(e->mountpoint, e->id, e->dev, MNT_DETACH | UMOUNT_NOFOLLOW);

	if (!r)
		log_info("unmounted what a daemon that died left at %s", e->mountpoint);
	return r;
}

/*
 * Unmount what a daemon that died has left at a mountpoint: the topmost mounts, as
 * long as they are stale. -EEXIST where somebody has mounted something over them,
 * which stays. only: the mount there, if at the start there was one, and only one.
 */
static int clean_stale(const struct mountinfo_entry *only, const char *mountpoint,
		       struct error *err)
{
	struct mountinfo mi;
	const struct mountinfo_entry *top;
	char what[512];
	int r;

	if (only && is_stale(only) && unmount_stale(only) == 0)
		return 0;
	r = mountinfo_read("/proc/self/mountinfo", &mi);
	if (r)
		return error_set_errno(err, r, "cannot read what is mounted");
	while (!r && (top = mountinfo_top(&mi, mountpoint)) && is_stale(top)) {
		r = unmount_stale(top);
		if (r) {
			error_set_errno(err, r, "cannot unmount what was left at %s", mountpoint);
			break;
		}
		mountinfo_fini(&mi);
		r = mountinfo_read("/proc/self/mountinfo", &mi);
	}
	for (size_t i = 0; !r && i < mi.n; i++) {
		if (&mi.entries[i] == top || strcmp(mi.entries[i].mountpoint, mountpoint) != 0 ||
		    strcmp(mi.entries[i].type, FUSE_TYPE) != 0)
			continue;
		kernel_mount_describe(top, what, sizeof(what));
		r = error_set(err, -EEXIST, "%s, over what the last daemon left there", what);
	}
	mountinfo_fini(&mi);
	return r;
}

/*
 * Is the snapshot to come of a mount, or of one that could not be loaded, so that
 * nobody knows?
 */
static bool is_awaited(const struct mount_set *all, const struct snapshot *snap)
{
	for (size_t i = 0; i < all->n; i++) {
		const struct mount *m = all->e[i].m;

		if (m ? m->rec.sealing_epoch && strcmp(m->rec.sealing_snapshot, snap->id) == 0
		      : strcmp(all->e[i].id, snap->mount_id) == 0)
			return true;
	}
	return false;
}

struct abandoned {
	struct store *s;
	const struct mount_set *all;
};

static int fail_if_abandoned(void *arg, const struct snapshot *found)
{
	const struct abandoned *a = arg;
	struct snapshot snap = *found; /* its config is borrowed */
	struct error err = ERROR_INIT;

	if (snap.status != SNAPSHOT_BUILDING || strcmp(snap.source, "checkpoint") != 0 ||
	    is_awaited(a->all, &snap))
		return 0;
	snap.status = SNAPSHOT_FAILED;
	snprintf(snap.error, sizeof(snap.error),
		 "the daemon or the machine stopped, or a backup was made, before the "
		 "checkpoint was on disk; what it was of is in the mount");
	if (snapshots_put(a->s->snapshots, &snap, NULL, &err))
		log_error("%s", error_text(&err));
	return 0;
}

/* Checkpoints that a crash ended before their swap, or a power cut later, become failed ones. */
static void fail_abandoned(struct store *s, const struct mount_set *all)
{
	struct abandoned a = { s, all };
	struct error err = ERROR_INIT;

	if (snapshots_each_unfinished(s->snapshots, fail_if_abandoned, &a, &err))
		log_error("%s", error_text(&err));
}

/* Is there a record for the id? One that is damaged, and so not in the list, is one. */
static bool has_record(struct store *s, const char *id)
{
	return meta_has(s->kv, META_MOUNT, id) != 0;
}

static void remove_files(struct store *s, const char *id)
{
	char name[NAME_MAX + sizeof("journal/")];

	snprintf(name, sizeof(name), "journal/%s", id);
	unlinkat(s->dir_fd, name, 0);
	snprintf(name, sizeof(name), "staging/%s", id);
	unlinkat(s->dir_fd, name, 0);
}

/* Delete what is left of a mount; its files last, as they tell of the rest. */
static void remove_one(struct store *s, const char *id)
{
	struct kv_batch *b CLEANUP(kv_batch_free_p) = kv_batch_new();
	uint8_t raw[UPPER_ID_SIZE];
	int r = b ? 0 : -ENOMEM;

	if (!r && mount_id_bytes(id, raw) == 0) {
		upper_delete_range(s->kv, b, raw, 0, true);
		mount_record_del(s, b, id);
		r = kv_write(s->kv, b, KV_LOG);
	}
	if (r)
		log_error("what is left of mount %s could not be deleted: %s", id, strerror(-r));
	else
		remove_files(s, id);
}

/* Of each mount that has a file in the directory and no record. */
static void remove_unknown(struct store *s, const char *dir, struct keeper *k)
{
	int fd = openat(s->dir_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	for (struct dirent *e; d && (e = readdir(d));)
		if (e->d_name[0] != '.' && !has_record(s, e->d_name)) {
			remove_one(s, e->d_name);
			keeper_sign_of_life(k);
		}
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
}

/* Uppers, records and files of no mount. One that has changed nothing has no file. */
static void remove_leftovers(struct store *s, const struct record_list *l, struct keeper *k)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->recs[i].discarding) {
			remove_one(s, l->recs[i].id);
			keeper_sign_of_life(k);
		}
	remove_unknown(s, "staging", k);
	remove_unknown(s, "journal", k);
}

/* The mounts that were at a mountpoint at the start; *only: the one, if it is the only one. */
static size_t count_at(const struct mountinfo *mi, const char *mountpoint,
		       const struct mountinfo_entry **only)
{
	size_t n = 0;

	for (size_t i = 0; i < mi->n; i++)
		if (strcmp(mi->entries[i].mountpoint, mountpoint) == 0 && n++ == 0)
			*only = &mi->entries[i];
	if (n != 1)
		*only = NULL;
	return n;
}

/* A place in another mount is deeper than that mount's own. */
static int by_depth(const void *a, const void *b)
{
	const struct mount_record *ra = a, *rb = b;
	unsigned da = mountpoint_depth(ra->mountpoint), db = mountpoint_depth(rb->mountpoint);

	return da < db ? -1 : da > db;
}

/* Nothing is touched where a journal is of a version that this program does not know. */
static int check_journals(struct store *s, struct error *err)
{
	int fd = openat(s->dir_fd, "journal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	char name[NAME_MAX + sizeof("journal/")];
	int r = d ? 0 : error_set_errno(err, -errno, "cannot read %s/journal", s->dir);

	for (struct dirent *e; d && !r && (e = readdir(d));) {
		snprintf(name, sizeof(name), "journal/%s", e->d_name);
		if (e->d_name[0] != '.')
			r = journal_check_version(s->dir_fd, name, err);
		if (r != -EINVAL) /* any other failure is that mount's alone, when it is loaded */
			r = 0;
	}
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
	return r;
}

int mount_check_formats(struct store *s, struct error *err)
{
	int r = check_journals(s, err);

	return r ? r : meta_check_versions(s->kv, META_MOUNT, MOUNT_RECORD_VERSION, err);
}

static void end_connection(struct session_pool *sp, const char *id, int *fuse_fd)
{
	if (*fuse_fd < 0)
		return;
	keeper_drop(session_pool_keeper(sp), id);
	close(*fuse_fd);
	*fuse_fd = -1;
}

/*
 * The connection that a former process has left with the keeper. What cannot be gone on with
 * ends here, and the mount is found as one whose daemon died.
 */
static void find_connection(struct session_pool *sp, const struct mount_record *rec,
			    struct mount_found *out)
{
	int r;

	*out = (struct mount_found){ .fuse_fd = keeper_take(session_pool_keeper(sp), rec->id) };
	if (out->fuse_fd < 0) {
		out->fuse_fd = -1;
		return;
	}
	r = session_find_waiting(out->fuse_fd, &out->waiting);
	if (!r)
		return;
	if (r != -ENOTCONN)
		log_error(
			"mount %s at %s cannot be gone on with, and what is open in it is lost: %s",
			rec->id, rec->mountpoint, strerror(-r));
	end_connection(sp, rec->id, &out->fuse_fd);
}

/* Takes the records' contents; what is being discarded is left out. */
static void load_mounts(struct store *s, struct session_pool *sp, struct record_list *l,
			struct mount_set *all)
{
	for (size_t i = 0; i < l->n; i++) {
		struct loaded *at = &all->e[all->n];
		struct error err = ERROR_INIT;

		if (l->recs[i].discarding) {
			mount_record_fini(&l->recs[i]);
			continue;
		}
		memcpy(at->id, l->recs[i].id, sizeof(at->id));
		at->place = strdup(l->recs[i].mountpoint);
		at->attach = l->recs[i].attached;
		/* A record of an older daemon does not say since when: as of now. */
		mount_record_set_attached(&l->recs[i], at->attach);
		find_connection(sp, &l->recs[i], &at->found);
		if (mount_new(s, sp, &l->recs[i], &at->found, &at->m, &err)) {
			log_error("mount %s cannot be loaded; it is kept: %s", at->id,
				  error_text(&err));
			end_connection(sp, at->id, &at->found.fuse_fd);
		}
		all->n++;
		keeper_sign_of_life(session_pool_keeper(sp));
	}
}

/* If that fails it is to be attached, or stays detached, as one whose daemon died. */
static void adopt(struct loaded *at)
{
	struct error err = ERROR_INIT;

	if (!at->m || at->found.fuse_fd < 0)
		return;
	at->is_adopted = mount_adopt(at->m, &at->found, &err) == 0;
	if (at->is_adopted) {
		log_info("mount %s goes on at %s", at->id, at->place);
		return;
	}
	log_error("mount %s at %s cannot be gone on with, and what is open in it is lost: %s",
		  at->id, at->place, error_text(&err));
	end_connection(at->m->pool, at->id, &at->found.fuse_fd);
	mount_nobody_is_inside(at->m);
}

/*
 * Let what was loaded go on. What fails is logged and leaves the mount detached; the
 * record keeps the wish, so the next start tries again: the place may be in another
 * mount that was not loaded. mi: as of the start.
 */
static void bring_back(struct loaded *at, const struct mountinfo *mi)
{
	const struct mountinfo_entry *only = NULL;
	struct error err = ERROR_INIT;
	int r = 0;

	/* Others may have their places below, so in any case. Mostly nothing is there. */
	if (at->place && count_at(mi, at->place, &only))
		r = clean_stale(only, at->place, &err);
	if (!at->m)
		return;
	if (at->attach && mountinfo_has_automount(mi, at->place)) {
		log_info("mount %s comes back when its automount point %s is used", at->id,
			 at->place);
		at->attach = false;
		mount_record_set_attached(&at->m->rec, false);
	}
	if (!at->attach && mount_record_write(at->m->store, &at->m->rec, KV_LOG))
		log_warn("mount %s: cannot record since when it is detached", at->id);
	mount_resume_seal(at->m);
	if (at->attach && !r)
		r = mount_attach_locked(at->m, &err);
	if (at->attach && r)
		log_warn("mount %s stays detached: %s; varve attach %s mounts it again", at->id,
			 error_text(&err), at->id);
}

/*
 * First those that go on, and whoever waits for them: to look at a place asks whoever is there,
 * maybe a mount of ours. Their seals have time.
 */
static void let_go_on(struct mount_set *all, const struct mountinfo *mi, struct keeper *k)
{
	for (size_t i = 0; i < all->n; i++) {
		adopt(&all->e[i]);
		keeper_sign_of_life(k);
	}
	keeper_adopted(k);
	for (size_t i = 0; i < all->n; i++) {
		if (all->e[i].is_adopted)
			mount_resume_seal(all->e[i].m);
		else
			bring_back(&all->e[i], mi);
		keeper_sign_of_life(k);
	}
}

int mount_load_all(struct store *s, struct session_pool *sp, struct mount ***out, size_t *out_n,
		   struct error *err)
{
	struct record_list l = { NULL, 0, 0 };
	struct mountinfo mi = MOUNTINFO_INIT;
	struct mount_set all = { NULL, 0 };
	struct keeper *k = session_pool_keeper(sp);
	struct mount **mounts = NULL;
	int r = read_records(s, &l, err);

	if (!r) {
		all.e = calloc(l.n + 1, sizeof(*all.e));
		mounts = calloc(l.n + 1, sizeof(struct mount *));
		r = all.e && mounts ? 0 : error_set(err, -ENOMEM, "out of memory");
	}
	if (!r && (r = mountinfo_read("/proc/self/mountinfo", &mi)))
		error_set_errno(err, r, "cannot read what is mounted");
	if (!r) {
		remove_leftovers(s, &l, k);
		if (l.n)
			qsort(l.recs, l.n, sizeof(*l.recs), by_depth);
		load_mounts(s, sp, &l, &all);
		fail_abandoned(s, &all);
		let_go_on(&all, &mi, k);
		*out_n = 0;
		for (size_t i = 0; i < all.n; i++) {
			if (all.e[i].m)
				mounts[(*out_n)++] = all.e[i].m;
			session_waiting_fini(&all.e[i].found.waiting);
			free(all.e[i].place);
		}
		*out = STEAL(mounts);
	}
	for (size_t i = 0; i < l.n && r; i++)
		mount_record_fini(&l.recs[i]);
	mountinfo_fini(&mi);
	free(mounts);
	free(all.e);
	free(l.recs);
	return r;
}
