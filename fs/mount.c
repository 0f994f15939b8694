#include "fs/mount_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs/child.h"
#include "store/base/log.h"

/* Load the layers a record names. */
static int load_layers(struct mount *m, bool fresh, struct error *err)
{
	struct view *v = &m->view;
	uint8_t id[UPPER_ID_SIZE];
	struct super_rec sup;
	int r = mount_id_bytes(m->rec.id, id);

	if (r)
		return error_set(err, r, "mount id %s is not one", m->rec.id);
	v->live = live_new();
	v->cur = upper_new(id, m->rec.epoch);
	if (!v->live || !v->cur)
		return error_set(err, -ENOMEM, "out of memory");
	r = tree_fs_super(&v->base, &sup);
	if (r)
		return error_set_errno(err, r == -ENOENT ? -EBADMSG : r,
				       "cannot read the tree of snapshot %s", m->rec.snapshot_name);
	atomic_store(&v->next_ino, MAX(sup.next_ino, m->rec.sealing_next_ino));
	if (fresh)
		return 0;
	r = journal_recover(v->journal, m->rec.sealing_epoch ? m->rec.sealing_epoch : m->rec.epoch,
			    err);
	if (!r)
		r = upper_load(v->cur, m->store->kv, err);
	if (!r && m->rec.sealing_epoch) {
		v->sealed = upper_new(id, m->rec.sealing_epoch);
		r = v->sealed ? upper_load(v->sealed, m->store->kv, err)
			      : error_set(err, -ENOMEM, "out of memory");
	}
	return r;
}

struct extent_end {
	uint64_t end, max_ino;
};

static int find_end(void *arg, struct unode *u)
{
	struct extent_end *x = arg;
	struct upper_extent e;

	x->max_ino = MAX(x->max_ino, u->ino);
	for (struct omap_entry *o = upper_extent_seek(u, 0, &e); o;
	     o = upper_extent_next(u, &e, &e))
		if (e.kind == UPPER_DATA)
			x->end = MAX(x->end, e.pos + e.len);
	return 0;
}

/* Where new data and new inode numbers start. */
static void set_ends(struct view *v)
{
	struct extent_end x = { 0, 0 };

	upper_each(v->cur, find_end, &x);
	if (v->sealed)
		upper_each(v->sealed, find_end, &x);
	staging_set_end(v->staging, (x.end + 4095) & ~4095ull);
	if (x.max_ino >= atomic_load(&v->next_ino))
		atomic_store(&v->next_ino, x.max_ino + 1);
}

/* No connection is up: no file is open, and the kernel knows no inode. */
static void nobody_is_inside(struct mount *m)
{
	int r;

	live_clear(m->view.live);
	r = view_drop_orphans(&m->view);
	if (r)
		log_warn("mount %s: inodes without a name are left: %s", m->rec.id, strerror(-r));
}

/* The view, and where its changes are kept; the view is initialised in any case. */
static int open_files(struct mount *m, bool fresh, struct error *err)
{
	char name[64 + SNAPSHOT_ID_SIZE];
	uint8_t id[UPPER_ID_SIZE];
	struct staging *st = NULL;
	struct journal *j = NULL;
	int r = mount_id_bytes(m->rec.id, id);

	if (r)
		error_set(err, r, "mount id %s is not one", m->rec.id);
	snprintf(name, sizeof(name), "journal/%s", m->rec.id);
	if (!r) {
		j = journal_new(m->store->dir_fd, name, id, m->store->kv);
		r = j ? 0 : error_set(err, -ENOMEM, "out of memory");
	}
	snprintf(name, sizeof(name), "staging/%s", m->rec.id);
	if (!r)
		r = staging_open(m->store->dir_fd, name, fresh, j, &st, err);
	view_init(&m->view, m->store, &m->rec.base, j, st);
	view_note_record(&m->view); /* of the mount: nothing of it counts without */
	return r;
}

int mount_new(struct store *s, struct session_pool *sp, struct mount_record *rec, bool fresh,
	      struct mount **out, struct error *err)
{
	struct mount *m = calloc(1, sizeof(*m));
	int r;

	if (!m) {
		mount_record_fini(rec);
		return error_set(err, -ENOMEM, "out of memory");
	}
	m->store = s;
	m->pool = sp;
	m->rec = *rec;
	memset(rec, 0, sizeof(*rec));
	pthread_mutex_init(&m->op, NULL);
	pthread_mutex_init(&m->state, NULL);
	pthread_cond_init(&m->seal_done, NULL);
	r = open_files(m, fresh, err);
	m->view.read_only = m->rec.read_only;
	m->view.container_root = m->rec.container_root;
	m->view.is_volatile = m->rec.is_volatile;
	m->view.quota_bytes = m->rec.quota_bytes;
	if (!r)
		r = load_layers(m, fresh, err);
	if (r) {
		mount_free(m);
		return r;
	}
	if (!fresh) {
		set_ends(&m->view);
		nobody_is_inside(m);
	}
	*out = m;
	return 0;
}

void mount_free(struct mount *m)
{
	if (!m)
		return;
	struct staging *st = m->view.staging;
	struct journal *j = m->view.journal;
	struct live *live = m->view.live;

	view_fini(&m->view);
	staging_close(st);
	journal_free(j);
	live_free(live);
	mount_record_fini(&m->rec);
	pthread_cond_destroy(&m->seal_done);
	pthread_mutex_destroy(&m->state);
	pthread_mutex_destroy(&m->op);
	free(m);
}

/* From a serving thread: somebody unmounted it. */
static void on_session_end(void *arg)
{
	struct mount *m = arg;
	int r = 0;

	pthread_mutex_lock(&m->state);
	m->attached = false;
	if (!m->closing && m->rec.attached) {
		m->rec.attached = false;
		r = mount_record_write(m->store, &m->rec, KV_LOG);
	}
	pthread_mutex_unlock(&m->state);
	if (r)
		log_error("mount %s: cannot record that it was unmounted: %s", m->rec.id,
			  strerror(-r));
}

static int check_mountpoint(const char *path, struct error *err)
{
	struct stat st;

	if (path[0] != '/')
		return error_set(err, -EINVAL, "mount point %s is not an absolute path", path);
	if (stat(path, &st) < 0)
		return error_set_errno(err, -errno, "mount point %s", path);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, -ENOTDIR, "mount point %s is not a directory", path);
	return 0;
}

/* op held. The kernel does not say that it forgets what it knew at an unmount. */
static void end_session(struct mount *m)
{
	if (!m->session)
		return;
	session_stop(m->session);
	m->session = NULL;
	nobody_is_inside(m);
}

int mount_attach_locked(struct mount *m, struct error *err)
{
	struct session_options opt = { .mountpoint = m->rec.mountpoint,
				       .fsname = m->rec.fsname,
				       .read_only = m->rec.read_only,
				       .allow_dev = m->rec.allow_dev,
				       .allow_suid = m->rec.allow_suid,
				       .shared = m->rec.cache == MOUNT_CACHE_SHARED,
				       .on_end = on_session_end,
				       .arg = m };
	int r = check_mountpoint(m->rec.mountpoint, err);

	if (r)
		return r;
	end_session(m);
	pthread_mutex_lock(&m->state);
	m->attached = true;
	m->closing = false;
	pthread_mutex_unlock(&m->state);
	r = session_start(m->pool, &m->view, &opt, &m->session, err);
	if (r) {
		pthread_mutex_lock(&m->state);
		m->attached = false;
		pthread_mutex_unlock(&m->state);
	}
	return r;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int fill_record(struct mount_record *rec, const struct snapshot *snap,
		       const struct mount_options *opt)
{
	const char *fsname = opt->fsname ? opt->fsname : snap->name[0] ? snap->name : snap->id;

	memset(rec, 0, sizeof(*rec));
	id_random(rec->id);
	snprintf(rec->snapshot_id, sizeof(rec->snapshot_id), "%s", snap->id);
	snprintf(rec->snapshot_name, sizeof(rec->snapshot_name), "%s", snap->name);
	rec->base = snap->root;
	rec->read_only = opt->read_only;
	rec->is_volatile = opt->is_volatile;
	rec->allow_dev = opt->allow_dev;
	rec->allow_suid = opt->allow_suid;
	rec->container_root = opt->container_root;
	rec->cache = opt->cache;
	rec->quota_bytes = opt->quota_bytes;
	rec->created_at_ms = now_ms();
	rec->attached = true;
	rec->epoch = 1;
	rec->mountpoint = strdup(opt->mountpoint);
	rec->fsname = strdup(fsname);
	return rec->mountpoint && rec->fsname ? 0 : -ENOMEM;
}

static void remove_mount_data(struct store *s, const char *id)
{
	struct kv_batch *b CLEANUP(kv_batch_free_p) = kv_batch_new();
	char name[64 + SNAPSHOT_ID_SIZE];
	uint8_t raw[UPPER_ID_SIZE];

	if (!b || mount_id_bytes(id, raw))
		return;
	upper_delete_range(s->kv, b, raw, 0, true);
	mount_record_del(s, b, id);
	if (kv_write(s->kv, b, KV_LOG)) {
		log_error("mount %s: its record could not be deleted", id);
		return;
	}
	/* Its files last: they tell of the rest. */
	snprintf(name, sizeof(name), "journal/%s", id);
	unlinkat(s->dir_fd, name, 0);
	snprintf(name, sizeof(name), "staging/%s", id);
	unlinkat(s->dir_fd, name, 0);
}

/*
 * The pin is written before the snapshot is looked at again: a collection that
 * did not see the pin has seen the snapshot.
 */
static int check_still_there(struct store *s, const struct snapshot *snap, struct error *err)
{
	struct snapshot again;
	int r = snapshots_get(s->snapshots, snap->id, &again, err);

	if (!r)
		snapshot_fini(&again);
	return r;
}

int mount_create(struct store *s, struct session_pool *sp, const struct snapshot *snap,
		 const struct mount_options *opt, struct mount **out, struct error *err)
{
	struct mount_record rec;
	struct mount *m = NULL;
	char id[SNAPSHOT_ID_SIZE];
	int r = check_mountpoint(opt->mountpoint, err);

	if (!r && (snap->status != SNAPSHOT_READY || !snap->has_root))
		r = error_set(err, -EBUSY, "snapshot %s is not ready", snap->name);
	if (r)
		return r;
	r = fill_record(&rec, snap, opt);
	memcpy(id, rec.id, sizeof(id));
	if (!r)
		r = mount_record_write(s, &rec, KV_LOG);
	if (r) {
		mount_record_fini(&rec);
		return error_set_errno(err, r, "cannot record the mount");
	}
	r = check_still_there(s, snap, err);
	if (r)
		mount_record_fini(&rec);
	else
		r = mount_new(s, sp, &rec, true, &m, err);
	if (!r)
		r = mount_attach_locked(m, err);
	if (r) {
		mount_free(m);
		remove_mount_data(s, id);
		return r;
	}
	*out = m;
	return 0;
}

int mount_attach(struct mount *m, const char *mountpoint, struct error *err)
{
	char *path = mountpoint ? strdup(mountpoint) : NULL;
	int r = 0;

	if (mountpoint && !path)
		return error_set(err, -ENOMEM, "out of memory");
	pthread_mutex_lock(&m->op);
	pthread_mutex_lock(&m->state);
	if (m->attached)
		r = error_set(err, -EBUSY, "it is mounted at %s", m->rec.mountpoint);
	else if (path) {
		char *old = m->rec.mountpoint;

		m->rec.mountpoint = path;
		path = old;
	}
	pthread_mutex_unlock(&m->state);
	if (!r)
		r = mount_attach_locked(m, err);
	if (!r) {
		pthread_mutex_lock(&m->state);
		m->rec.attached = true;
		r = mount_record_write(m->store, &m->rec, KV_LOG);
		pthread_mutex_unlock(&m->state);
		if (r)
			log_error("mount %s: cannot record where it is: %s", m->rec.id,
				  strerror(-r));
		r = 0;
	}
	pthread_mutex_unlock(&m->op);
	free(path);
	return r;
}

void mount_flush(struct mount *m)
{
	int r;

	if (!m->session)
		return;
	r = child_syncfs(m->rec.mountpoint);
	if (r)
		log_warn("mount %s: cannot flush: %s", m->rec.id, strerror(-r));
	session_drain(m->session);
}

/* Wait a little for the connection to end after an unmount. */
static bool wait_ended(struct mount *m, int ms)
{
	for (; !session_ended(m->session) && ms > 0; ms--)
		usleep(1000);
	return session_ended(m->session);
}

/* df, or a container runtime that copies all mounts, holds one for a moment. */
#define BUSY_TRIES 20
#define BUSY_WAIT_US 20000

static int unmount(struct mount *m, bool lazy, struct error *err)
{
	int r = child_umount(m->rec.mountpoint, UMOUNT_NOFOLLOW);

	for (int i = 1; i < BUSY_TRIES && r == -EBUSY && !lazy; i++) {
		usleep(BUSY_WAIT_US);
		r = child_umount(m->rec.mountpoint, UMOUNT_NOFOLLOW);
	}
	if (r == -EBUSY && lazy) {
		mount_flush(m);
		r = child_umount(m->rec.mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
	if (r == -EBUSY)
		return error_set(err, -EBUSY, "%s is in use", m->rec.mountpoint);
	if (r && r != -EINVAL && r != -ENOENT) /* else somebody was faster */
		return error_set_errno(err, r, "cannot unmount %s", m->rec.mountpoint);
	return 0;
}

int mount_detach(struct mount *m, bool lazy, enum mount_detach_reason why, struct error *err)
{
	const bool keep_state = why == MOUNT_DETACH_SHUTDOWN, sync = why != MOUNT_DETACH_DISCARD;
	bool attached;
	int r = 0;

	pthread_mutex_lock(&m->op);
	pthread_mutex_lock(&m->state);
	attached = m->attached;
	m->closing = keep_state;
	pthread_mutex_unlock(&m->state);
	if (attached)
		r = unmount(m, lazy, err);
	if (attached && !r) {
		/*
		 * Processes that still are inside keep a lazily detached mount
		 * alive; they are served until they leave, or until the daemon ends.
		 */
		if (wait_ended(m, lazy ? 200 : 2000))
			end_session(m);
		r = sync ? view_sync(&m->view) : 0;
		if (r)
			error_set_errno(err, r,
					"%s is unmounted, but its changes could not be "
					"synced",
					m->rec.mountpoint);
		pthread_mutex_lock(&m->state);
		m->rec.attached = keep_state;
		if (mount_record_write(m->store, &m->rec, sync ? KV_SYNC : KV_LOG))
			log_error("mount %s: cannot record its state", m->rec.id);
		pthread_mutex_unlock(&m->state);
	}
	if (r) {
		pthread_mutex_lock(&m->state);
		m->closing = false;
		pthread_mutex_unlock(&m->state);
	}
	pthread_mutex_unlock(&m->op);
	return r;
}

void mount_cut_off(struct mount *m)
{
	pthread_mutex_lock(&m->op);
	end_session(m);
	pthread_mutex_lock(&m->state);
	m->attached = false;
	m->rec.attached = false;
	pthread_mutex_unlock(&m->state);
	pthread_mutex_unlock(&m->op);
}

int mount_discard(struct mount *m, struct error *err)
{
	char id[SNAPSHOT_ID_SIZE];
	struct store *s = m->store;
	bool attached;
	int r;

	pthread_mutex_lock(&m->op);
	pthread_mutex_lock(&m->state);
	attached = m->attached;
	pthread_mutex_unlock(&m->state);
	if (attached) {
		pthread_mutex_unlock(&m->op);
		return error_set(err, -EBUSY, "%s is mounted or in use", m->rec.mountpoint);
	}
	mount_join_seal(m);
	session_stop(m->session);
	m->session = NULL;
	/* From here on a crash leads to its deletion at the next start. */
	pthread_mutex_lock(&m->state);
	m->rec.discarding = true;
	r = mount_record_write(s, &m->rec, KV_SYNC);
	m->rec.discarding = r == 0;
	pthread_mutex_unlock(&m->state);
	pthread_mutex_unlock(&m->op);
	if (r)
		return error_set_errno(err, r, "cannot record that the mount goes");
	memcpy(id, m->rec.id, sizeof(id));
	mount_free(m);
	remove_mount_data(s, id);
	return 0;
}

unsigned mountpoint_depth(const char *mountpoint)
{
	unsigned depth = 0;

	for (const char *p = mountpoint; *p; p++)
		depth += p[0] == '/' && p[1] != '/' && p[1] != '\0';
	return depth;
}

void mount_keep_attached(struct mount *m)
{
	pthread_mutex_lock(&m->state);
	m->closing = true;
	pthread_mutex_unlock(&m->state);
}

void mount_close(struct mount *m)
{
	struct error err = ERROR_INIT;
	bool attached;

	if (!m)
		return;
	pthread_mutex_lock(&m->state);
	attached = m->attached;
	pthread_mutex_unlock(&m->state);
	if (attached && mount_detach(m, true, MOUNT_DETACH_SHUTDOWN, &err))
		log_warn("closing mount %s: %s", m->rec.id, error_text(&err));
	pthread_mutex_lock(&m->op);
	pthread_mutex_lock(&m->state);
	m->closing = true;
	pthread_mutex_unlock(&m->state);
	mount_join_seal(m);
	session_stop(m->session);
	m->session = NULL;
	staging_reclaim(m->view.staging);
	if (journal_settle(m->view.journal))
		log_error("mount %s: its journal is kept for the next start", m->rec.id);
	pthread_mutex_unlock(&m->op);
	mount_free(m);
}

void mount_get_info(struct mount *m, struct mount_info *out)
{
	memset(out, 0, sizeof(*out));
	pthread_rwlock_rdlock(&m->view.layers);
	struct upper *layers[2] = { m->view.cur, m->view.sealed };

	out->no_space = atomic_load_explicit(&m->view.no_space, memory_order_relaxed);
	for (int i = 0; i < 2; i++) {
		if (!layers[i])
			continue;
		out->changed_inodes += atomic_load(&layers[i]->n_unodes);
		out->upper_bytes += atomic_load(&layers[i]->data_bytes);
	}
	pthread_rwlock_unlock(&m->view.layers);
	out->shared_opens = atomic_load_explicit(&m->view.shared_opens, memory_order_relaxed);
	out->other_opens = atomic_load_explicit(&m->view.other_opens, memory_order_relaxed);
	pthread_mutex_lock(&m->state);
	snprintf(out->id, sizeof(out->id), "%s", m->rec.id);
	snprintf(out->snapshot_id, sizeof(out->snapshot_id), "%s", m->rec.snapshot_id);
	snprintf(out->snapshot_name, sizeof(out->snapshot_name), "%s", m->rec.snapshot_name);
	snprintf(out->mountpoint, sizeof(out->mountpoint), "%s", m->rec.mountpoint);
	out->attached = m->attached;
	out->read_only = m->rec.read_only;
	out->is_volatile = m->rec.is_volatile;
	out->cache = m->rec.cache;
	out->quota_bytes = m->rec.quota_bytes;
	out->created_at_ms = m->rec.created_at_ms;
	out->base = m->rec.base;
	out->epoch = m->rec.epoch;
	out->sealing = m->sealing;
	pthread_mutex_unlock(&m->state);
}
