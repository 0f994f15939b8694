#include "fs/mount/mount_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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
	r = fresh ? 0 : mount_recover_journal(m, err);
	if (r)
		return r;
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

/* A swap of which only that it was is known (journal.h, version 1). */
static void set_sealing_next_ino(struct mount *m)
{
	if (m->rec.sealing_epoch && !m->rec.sealing_next_ino)
		m->rec.sealing_next_ino = atomic_load(&m->view.next_ino);
}

void mount_nobody_is_inside(struct mount *m)
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
	if (st)
		staging_limit(st, &m->store->space);
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
	pthread_mutex_init(&m->writing, NULL);
	pthread_mutex_init(&m->state, NULL);
	pthread_cond_init(&m->seal_done, NULL);
	/* Older programs would take its journal for an empty one. */
	r = store_need_format(s, STORE_FORMAT_JOURNAL, err);
	if (!r)
		r = open_files(m, fresh, err);
	m->view.read_only = m->rec.read_only;
	m->view.container_root = m->rec.container_root;
	m->view.is_volatile = m->rec.is_volatile;
	m->view.quota_bytes = m->rec.quota_bytes;
	m->view.quota_inodes = m->rec.quota_inodes;
	m->view.metadata_bytes = sp ? session_pool_metadata(sp) : 0;
	if (!r)
		r = load_layers(m, fresh, err);
	if (r) {
		mount_free(m);
		return r;
	}
	if (!fresh) {
		set_ends(&m->view);
		set_sealing_next_ino(m);
		mount_nobody_is_inside(m);
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
	pthread_mutex_destroy(&m->writing);
	pthread_mutex_destroy(&m->op);
	free(m);
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
	rec->quota_inodes = opt->quota_inodes;
	rec->created_at_ms = clock_ms();
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
	int r = mount_check_place(opt->mountpoint, err);

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

int mount_discard(struct mount *m, struct error *err)
{
	char id[SNAPSHOT_ID_SIZE];
	struct store *s = m->store;
	int r;

	pthread_mutex_lock(&m->op);
	r = mount_check_free(m, err);
	if (r) {
		pthread_mutex_unlock(&m->op);
		return r;
	}
	mount_join_seal(m);
	session_stop(m->session);
	m->session = NULL;
	/* From here on a crash leads to its deletion at the next start. */
	pthread_mutex_lock(&m->writing);
	struct mount_record next = m->rec;

	next.discarding = true;
	r = mount_record_write(s, &next, KV_SYNC);
	if (!r)
		mount_record_become(m, &next);
	pthread_mutex_unlock(&m->writing);
	pthread_mutex_unlock(&m->op);
	if (r)
		return error_set_errno(err, r, "cannot record that the mount goes");
	memcpy(id, m->rec.id, sizeof(id));
	mount_free(m);
	remove_mount_data(s, id);
	return 0;
}

void mount_get_info(struct mount *m, struct mount_info *out)
{
	memset(out, 0, sizeof(*out));
	pthread_rwlock_rdlock(&m->view.layers);
	struct upper *layers[2] = { m->view.cur, m->view.sealed };

	out->no_space = atomic_load_explicit(&m->view.no_space, memory_order_relaxed);
	out->new_inodes = view_new_inodes(&m->view);
	for (int i = 0; i < 2; i++) {
		if (!layers[i])
			continue;
		out->changed_inodes += atomic_load(&layers[i]->n_unodes);
		out->upper_bytes += atomic_load(&layers[i]->data_bytes);
		out->meta_bytes += atomic_load(&layers[i]->meta_bytes);
	}
	pthread_rwlock_unlock(&m->view.layers);
	out->shared_opens = atomic_load_explicit(&m->view.shared_opens, memory_order_relaxed);
	out->other_opens = atomic_load_explicit(&m->view.other_opens, memory_order_relaxed);
	pthread_mutex_lock(&m->state);
	snprintf(out->id, sizeof(out->id), "%s", m->rec.id);
	snprintf(out->snapshot_id, sizeof(out->snapshot_id), "%s", m->rec.snapshot_id);
	snprintf(out->snapshot_name, sizeof(out->snapshot_name), "%s", m->rec.snapshot_name);
	snprintf(out->mountpoint, sizeof(out->mountpoint), "%s", m->rec.mountpoint);
	out->attached = m->served && m->placed;
	out->held = m->served && !m->placed;
	out->read_only = m->rec.read_only;
	out->is_volatile = m->rec.is_volatile;
	out->cache = m->rec.cache;
	out->quota_bytes = m->rec.quota_bytes;
	out->quota_inodes = m->rec.quota_inodes;
	out->created_at_ms = m->rec.created_at_ms;
	out->detached_at_ms = m->rec.detached_at_ms;
	out->base = m->rec.base;
	out->epoch = m->rec.epoch;
	out->sealing = m->sealing;
	out->last_pause_ns = m->last_pause_ns;
	out->last_frozen_ns = atomic_load(&m->last_frozen_ns);
	pthread_mutex_unlock(&m->state);
}
