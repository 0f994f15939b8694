#include "fs/mount/mount_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/base/log.h"

/*
 * The journal knows of a swap whose record is not there, as the machine or the
 * daemon went down meanwhile: finish it. The record is at most one swap behind,
 * for the next one waits until the adoption of this one is synced.
 */
static int finish_swap(struct mount *m, const struct journal_epoch *change, struct error *err)
{
	struct mount_record *rec = &m->rec;

	if (change->ended < rec->epoch) /* none, or one that the record knows */
		return 0;
	if (change->ended != rec->epoch || rec->sealing_epoch)
		return error_set(err, -EBADMSG, "the journal of mount %s does not fit its record",
				 rec->id);
	rec->sealing_epoch = change->ended;
	rec->epoch = change->begun;
	rec->sealing_next_ino = change->next_ino;
	memcpy(rec->sealing_snapshot, change->snapshot_id, sizeof(rec->sealing_snapshot));
	if (!journal_is_of_this_boot(m->view.journal))
		rec->sealing_snapshot[0] = 0; /* see forget_interrupted */
	journal_boot_text(m->view.journal, rec->sealing_boot);
	int r = mount_record_write(m->store, rec, KV_LOG);

	return r ? error_set_errno(err, r, "cannot write the record of mount %s", rec->id) : 0;
}

/*
 * A checkpoint is not synced before it is stored: that would write its data twice. So of
 * one that a power cut has interrupted the disk may lack some of what it is to have, and it
 * must not become ready. What is there stays in the mount; the snapshot, which nobody waits
 * for then, becomes a failed one.
 */
static void forget_interrupted(struct mount *m)
{
	struct mount_record *rec = &m->rec;
	char now[JOURNAL_BOOT_TEXT];

	journal_boot_text(m->view.journal, now);
	if (rec->sealing_boot[0] && strcmp(rec->sealing_boot, now) != 0)
		rec->sealing_snapshot[0] = 0;
}

static int recover_journal(struct mount *m, struct error *err)
{
	struct journal_epochs known = { m->rec.sealing_epoch ?: m->rec.epoch, m->rec.epoch };
	struct journal_epoch change;
	int r = journal_recover(m->view.journal, &known, &change, err);

	if (!r)
		r = finish_swap(m, &change, err);
	if (!r)
		forget_interrupted(m);
	return r;
}

/* Load the layers a record names. */
static int load_layers(struct mount *m, bool fresh, struct error *err)
{
	struct view *v = &m->view;
	uint8_t id[UPPER_ID_SIZE];
	struct super_rec sup;
	int r = mount_id_bytes(m->rec.id, id);

	if (r)
		return error_set(err, r, "mount id %s is not one", m->rec.id);
	r = fresh ? 0 : recover_journal(m, err);
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

static int min_pos(void *arg, struct unode *u)
{
	uint64_t *min = arg;
	struct upper_extent x;

	for (struct omap_entry *e = upper_extent_seek(u, 0, &x); e;
	     e = upper_extent_next(u, &x, &x))
		if (x.kind == UPPER_DATA)
			*min = MIN(*min, x.pos);
	return 0;
}

/*
 * Where the epoch that is being sealed ends, after a restart. Before anybody writes: what a write
 * has space for and has not committed is beyond it.
 */
static void set_sealing_end(struct mount *m)
{
	if (!m->view.sealed)
		return;
	m->sealing_end = staging_end(m->view.staging);
	upper_each(m->view.cur, min_pos, &m->sealing_end);
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
	m->view.others_told = false;
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

int mount_new(struct store *s, struct session_pool *sp, struct mount_record *rec,
	      const struct mount_found *found, struct mount **out, struct error *err)
{
	const bool fresh = !found;
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
	m->view.quota_bytes = m->rec.limits.quota_bytes;
	m->view.quota_inodes = m->rec.limits.quota_inodes;
	m->view.metadata_bytes = sp ? session_pool_metadata(sp) : 0;
	if (!r && found && found->fuse_fd >= 0)
		journal_set_waiting(m->view.journal, found->waiting.uniques, found->waiting.n);
	if (!r)
		r = load_layers(m, fresh, err);
	if (r) {
		mount_free(m);
		return r;
	}
	if (!fresh) {
		set_ends(&m->view);
		set_sealing_end(m);
		set_sealing_next_ino(m);
		if (found->fuse_fd < 0) /* else mount_adopt sees to that */
			mount_nobody_is_inside(m);
	}
	*out = m;
	return 0;
}

void mount_join_seal(struct mount *m)
{
	pthread_mutex_lock(&m->state);
	while (m->sealing)
		pthread_cond_wait(&m->seal_done, &m->state);
	bool join = m->has_seal_thread;
	pthread_t thread = m->seal_thread;

	m->has_seal_thread = false;
	pthread_mutex_unlock(&m->state);
	if (join)
		pthread_join(thread, NULL);
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

void mount_note_record(struct mount *m)
{
	view_note_record(&m->view);
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
	out->kept = m->served && atomic_load(&m->is_kept);
	out->read_only = m->rec.read_only;
	out->is_volatile = m->rec.is_volatile;
	out->cache = m->rec.cache;
	out->limits = m->rec.limits;
	out->created_at_ms = m->rec.created_at_ms;
	out->detached_at_ms = m->rec.detached_at_ms;
	out->base = m->rec.base;
	out->epoch = m->rec.epoch;
	out->sealing = m->sealing;
	out->last_pause_ns = m->last_pause_ns;
	out->last_frozen_ns = atomic_load(&m->last_frozen_ns);
	pthread_mutex_unlock(&m->state);
}
