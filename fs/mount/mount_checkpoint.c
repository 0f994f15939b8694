/*
 * Checkpoints of a mount.
 *
 *   flush   the kernel's dirty pages reach the upper
 *   swap    a new epoch begins; the old one never changes again. Operations are
 *           held up only for this: two pointers and one record of the journal
 *   seal    in a thread: the old epoch becomes a tree (seal.h)
 *   adopt   the new tree is the base, the old epoch is dropped
 *
 * The record of the mount says which epoch is being sealed into which snapshot,
 * so after a crash sealing simply starts again (mount_load.c). Until the record is
 * written, and where a power cut has lost it, the journal says it (journal.h): the
 * operations of an epoch and what began it are in one file, in their order.
 *
 * Adopting exchanges the layers in memory first and writes the record after
 * it, all within one guard session: until the record is written, the old base
 * is what the database pins, and the new tree's nodes are protected by the
 * session. A collection that would sweep the old base has to see the new
 * record first, and by then no operation reads the old base any more, but for
 * reads that look again when a chunk is gone (view_read.c).
 */
#include "fs/mount/mount_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/mount/carry.h"
#include "fs/host/freezing.h"
#include "fs/mount/seal.h"
#include "fs/mount/seal_turns.h"
#include "fs/shared/shared_files.h"
#include "store/base/clock.h"
#include "store/base/log.h"

/* How long a busy mount may go on writing before it is frozen. */
#define FLUSH_AHEAD_MS 1000
/* How long it is frozen at a time, whatever the checkpoint waits for, and how often. */
#define FROZEN_MAX_MS 5000
#define FREEZE_TRIES 2

/* --- sealing --- */

/* On failure the layers are as they were. */
static int exchange_layers(struct mount *m, const struct digest *root, struct carry *carry,
			   struct upper **out_old)
{
	struct view *v = &m->view;
	int r;

	pthread_rwlock_wrlock(&v->layers);
	/* I/O under the lock: a write for each inode without a name that is open. */
	r = carry_apply(v, carry);
	if (!r) {
		v->base = store_tree(m->store, root);
		*out_old = v->sealed;
		v->sealed = NULL;
	}
	pthread_rwlock_unlock(&v->layers);
	return r;
}

/* The record could not be written: the old layers show the same. */
static void restore_layers(struct mount *m, const struct tree_fs *base, struct upper *sealed)
{
	pthread_rwlock_wrlock(&m->view.layers);
	m->view.base = *base;
	m->view.sealed = sealed;
	pthread_rwlock_unlock(&m->view.layers);
}

static void make_ready(void *arg, struct snapshot *snap)
{
	const struct seal_result *res = arg;

	snap->status = SNAPSHOT_READY;
	snap->has_root = true;
	snap->root = res->root;
	snap->new_bytes = res->new_bytes;
	snap->size_bytes = res->super.data_bytes;
	snap->file_count = res->super.inode_count;
}

static void make_failed(void *arg, struct snapshot *snap)
{
	snap->status = SNAPSHOT_FAILED;
	snprintf(snap->error, sizeof(snap->error), "%s", error_text(arg));
}

/*
 * The mount's record, of which `next` lacks the snapshot, and the snapshot's, in one
 * synced write. A snapshot that was deleted meanwhile stays deleted, and one that
 * has failed stays so. writing held.
 */
static int put_adopted(struct mount *m, struct mount_record *next, struct seal_result *res,
		       struct kv_batch *b, struct error *err)
{
	const char *snapshot_id = m->rec.sealing_snapshot;
	struct snapshots *ss = m->store->snapshots;
	struct snapshot snap = { 0 };
	int r = -ENOENT;

	if (snapshot_id[0])
		r = snapshots_get(ss, snapshot_id, &snap, NULL);
	if (!r && snap.status != SNAPSHOT_BUILDING) { /* this epoch has failed before */
		snapshot_fini(&snap);
		r = -ENOENT;
	}
	if (!r) {
		memcpy(next->snapshot_id, snap.id, sizeof(next->snapshot_id));
		memcpy(next->snapshot_name, snap.name, sizeof(next->snapshot_name));
		snapshot_fini(&snap);
	} else if (r != -ENOENT) {
		return error_set_errno(err, r, "cannot read the checkpoint's record");
	}
	int r2 = mount_record_put(m->store, b, next);

	if (r2)
		return error_set_errno(err, r2, "cannot write the mount's record");
	if (!r)
		r = snapshots_update(ss, snapshot_id, make_ready, res, b, NULL, err);
	if (r == -ENOENT) {
		r = kv_write(m->store->kv, b, KV_SYNC);
		if (r)
			error_set_errno(err, r, "cannot write the mount's record");
	}
	return r;
}

/* The record as it is after adoption; on failure it stays as it was. */
static int write_adopted(struct mount *m, struct seal_result *res, struct kv_batch *b,
			 struct error *err)
{
	int r;

	pthread_mutex_lock(&m->writing);
	struct mount_record next = m->rec;

	next.base = res->root;
	next.sealing_epoch = 0;
	next.sealing_next_ino = 0;
	next.sealing_snapshot[0] = 0;
	upper_delete_range(m->store->kv, b, m->view.cur->id, m->rec.sealing_epoch, false);
	/* What the journal has of the old epoch must not come after its deletion. */
	journal_hold(m->view.journal);
	r = put_adopted(m, &next, res, b, err);
	journal_release(m->view.journal, r ? 0 : next.epoch);
	if (!r)
		mount_record_become(m, &next);
	pthread_mutex_unlock(&m->writing);
	return r;
}

static bool is_in_upper(void *upper, uint64_t ino)
{
	return upper_find(upper, ino) != NULL;
}

/* Mounts share the files of the new tree that are as in the old one, from the first open on. */
static void carry_shared_files(struct mount *m, const struct digest *root)
{
	struct shared_files *files = m->pool ? session_pool_shared(m->pool) : NULL;

	if (files && m->rec.cache == MOUNT_CACHE_SHARED)
		shared_files_carry(files, &m->view.base.root, root, is_in_upper, m->view.sealed);
}

static int adopt(struct mount *m, struct seal_result *res, struct error *err)
{
	struct kv_batch *b CLEANUP(kv_batch_free_p) = kv_batch_new();
	struct carry *carry = NULL;
	struct upper *old;
	int r = b ? 0 : -ENOMEM;

	if (!r) {
		store_unpin_chunks(m->store, b, m->rec.id);
		r = carry_prepare(&m->view, b, m->rec.id, &carry);
	}
	/* Before anything is exchanged: what may fail for want of disk has happened. */
	if (!r)
		r = kv_flush_content(m->store->kv);
	struct tree_fs old_base = m->view.base;

	if (!r) {
		carry_shared_files(m, &res->root);
		r = exchange_layers(m, &res->root, carry, &old);
	}
	if (r) {
		carry_free(carry);
		return error_prefix(err, r, "cannot adopt the checkpoint");
	}
	/* What was carried is nowhere else on disk once the old epoch is deleted. */
	r = carry_is_needed(carry) ? view_sync(&m->view) : 0;
	if (r)
		error_set_errno(err, r, "cannot sync open files");
	else
		r = write_adopted(m, res, b, err);
	if (r) {
		restore_layers(m, &old_base, old);
	} else {
		upper_free(old);
		carry_punch_rest(carry, m->view.staging, m->sealing_end);
	}
	carry_free(carry);
	return r ? error_prefix(err, r, "cannot record the checkpoint") : 0;
}

static int seal_and_adopt(struct mount *m, struct error *err)
{
	struct guard_session guard;
	struct seal_result res;
	char snapshot_id[SNAPSHOT_ID_SIZE];
	int r;

	pthread_mutex_lock(&m->state);
	memcpy(snapshot_id, m->rec.sealing_snapshot, sizeof(snapshot_id));
	const uint64_t next_ino = m->rec.sealing_next_ino;
	pthread_mutex_unlock(&m->state);
	seal_turn_take(); /* before the session, for which a collection would wait */
	want_on_wait(seal_turn_lend);
	if (store_has_far(m->store)) /* which may take any time */
		guard_session_begin_slow(m->store->guard, &guard);
	else
		guard_session_begin(m->store->guard, &guard);
	r = seal_run(&m->view, next_ino, &res, err);
	if (!r)
		r = adopt(m, &res, err);
	guard_session_end(m->store->guard, &guard);
	want_on_wait(NULL);
	seal_turn_give();
	if (r && snapshot_id[0]) {
		struct error why = ERROR_INIT;
		int r2 = snapshots_update(m->store->snapshots, snapshot_id, make_failed, err, NULL,
					  NULL, &why);

		if (r2 && r2 != -ENOENT)
			log_error("mount %s: %s", m->rec.id, error_text(&why));
	}
	return r;
}

static void note_result(struct mount *m, int r, struct error *err)
{
	pthread_mutex_lock(&m->state);
	m->sealing = false;
	m->seal_result = r;
	snprintf(m->seal_error, sizeof(m->seal_error), "%s", r ? error_text(err) : "");
	pthread_cond_broadcast(&m->seal_done);
	pthread_mutex_unlock(&m->state);
}

static void *seal_main(void *arg)
{
	struct mount *m = arg;
	struct error err = ERROR_INIT;
	int r = seal_and_adopt(m, &err);

	if (r)
		log_error("mount %s: checkpoint failed, its changes are kept: %s", m->rec.id,
			  error_text(&err));
	note_result(m, r, &err);
	return NULL;
}

void mount_start_seal(struct mount *m)
{
	/* Under the lock, so that the thread ends after it is known to have begun. */
	pthread_mutex_lock(&m->state);
	m->sealing = true;
	m->has_seal_thread = pthread_create(&m->seal_thread, NULL, seal_main, m) == 0;
	if (m->has_seal_thread)
		pthread_setname_np(m->seal_thread, "varve-seal");
	bool started = m->has_seal_thread;

	pthread_mutex_unlock(&m->state);
	if (!started) /* the caller waits, then */
		seal_main(m);
}

void mount_resume_seal(struct mount *m)
{
	if (!m->view.sealed)
		return;
	log_info("mount %s: going on with the checkpoint that was interrupted", m->rec.id);
	mount_start_seal(m);
}

int mount_wait_sealed(struct mount *m, struct error *err)
{
	int r;

	mount_join_seal(m);
	pthread_mutex_lock(&m->state);
	r = m->seal_result;
	if (r)
		error_set(err, r, "%s", m->seal_error);
	pthread_mutex_unlock(&m->state);
	return r;
}

static bool is_sealing(struct mount *m)
{
	pthread_mutex_lock(&m->state);
	bool sealing = m->sealing;

	pthread_mutex_unlock(&m->state);
	return sealing;
}

/*
 * Take op while nothing is to be sealed. The last seal may have failed and kept its epoch: that
 * comes first. A seal may wait for a far source, and is waited for without op. On failure op is
 * not held.
 */
static int lock_settled(struct mount *m, struct error *err)
{
	bool tried = false;
	int r = 0;

	while (!r) {
		pthread_mutex_lock(&m->op);
		if (!is_sealing(m)) {
			mount_join_seal(m);
			if (!m->view.sealed)
				return 0;
			mount_start_seal(m);
			tried = true;
		}
		pthread_mutex_unlock(&m->op);
		r = mount_wait_sealed(m, err);
		if (!tried)
			r = 0;
	}
	return r;
}

/* --- the swap --- */

/* layers held exclusively: is there anything to seal? */
static bool is_changed(const struct view *v)
{
	return atomic_load(&v->cur->changed);
}

/* writing held, and layers exclusively. On failure all is as it was. */
static int begin_epoch(struct mount *m, struct upper **next, const char *snapshot_id)
{
	struct view *v = &m->view;
	struct journal_epoch change = { .ended = m->rec.epoch,
					.begun = m->rec.epoch + 1,
					.next_ino = atomic_load(&v->next_ino) };

	snprintf(change.snapshot_id, sizeof(change.snapshot_id), "%s", snapshot_id);
	/* I/O under the lock: it must come between the two epochs' operations. */
	int r = journal_append_epoch(v->journal, &change);

	if (r)
		return r;
	pthread_mutex_lock(&m->state);
	m->rec.sealing_epoch = change.ended;
	m->rec.epoch = change.begun;
	m->rec.sealing_next_ino = change.next_ino;
	memcpy(m->rec.sealing_snapshot, change.snapshot_id, sizeof(m->rec.sealing_snapshot));
	journal_boot_text(v->journal, m->rec.sealing_boot);
	pthread_mutex_unlock(&m->state);
	m->sealing_end = staging_end(v->staging);
	v->sealed = v->cur;
	v->cur = *next;
	*next = NULL;
	return 0;
}

/* Where there was something to seal, *next is taken, and write_swapped follows. */
static int swap(struct mount *m, struct upper **next, const char *snapshot_id, bool *out_changed)
{
	struct view *v = &m->view;
	int r = 0;

	pthread_mutex_lock(&m->writing);
	const uint64_t start = (uint64_t)monotonic_ns();

	pthread_rwlock_wrlock(&v->layers);
	*out_changed = is_changed(v);
	if (*out_changed)
		r = begin_epoch(m, next, snapshot_id);
	pthread_rwlock_unlock(&v->layers);
	pthread_mutex_lock(&m->state);
	if (*out_changed)
		m->last_pause_ns = (uint64_t)monotonic_ns() - start;
	pthread_mutex_unlock(&m->state);
	pthread_mutex_unlock(&m->writing);
	return r;
}

/* The journal has it already; this saves the next start the work. */
static void write_swapped(struct mount *m)
{
	pthread_mutex_lock(&m->writing);
	if (mount_record_write(m->store, &m->rec, KV_LOG))
		log_warn("mount %s: its record will be written with the checkpoint", m->rec.id);
	pthread_mutex_unlock(&m->writing);
}

static void describe(struct mount *m, const char *id, const char *name, struct snapshot *snap)
{
	memset(snap, 0, sizeof(*snap));
	snprintf(snap->id, sizeof(snap->id), "%s", id);
	snprintf(snap->name, sizeof(snap->name), "%s", name ? name : "");
	snprintf(snap->source, sizeof(snap->source), "checkpoint");
	pthread_mutex_lock(&m->state);
	snprintf(snap->parent, sizeof(snap->parent), "%s", m->rec.snapshot_id);
	snprintf(snap->mount_id, sizeof(snap->mount_id), "%s", m->rec.id);
	pthread_mutex_unlock(&m->state);
	snap->status = SNAPSHOT_BUILDING;
}

/* What a checkpoint has of its parent: the image's config. */
static void inherit_config(struct mount *m, struct snapshot *snap)
{
	struct snapshot parent;

	if (!snap->parent[0] ||
	    snapshots_get(m->store->snapshots, snap->parent, &parent, NULL) != 0)
		return;
	snap->config = json_incref(parent.config);
	snapshot_fini(&parent);
}

static int ready_unchanged(struct mount *m, struct snapshot *snap, struct error *err)
{
	struct super_rec sup;
	int r = tree_fs_super(&m->view.base, &sup);

	if (r)
		return error_set_errno(err, r, "cannot read the mount's base");
	snap->status = SNAPSHOT_READY;
	snap->has_root = true;
	snap->root = m->view.base.root;
	snap->size_bytes = sup.data_bytes;
	snap->file_count = sup.inode_count;
	return snapshots_put(m->store->snapshots, snap, NULL, err);
}

struct swapping {
	struct snapshot *snap; /* what the epoch becomes */
	struct upper *next;    /* owned; NULL once it is the current one */
	bool changed;	       /* there was something to seal, and it is being */
};

/*
 * The same while nobody in the cgroup runs. They stand still for a flush of what is left
 * and the swap, which writes to the journal alone; and go on when that takes too long.
 */
static int swap_frozen(struct mount *m, const char *cgroup, struct swapping *sw, struct error *err)
{
	bool done = false;
	int r = 0;

	for (int i = 0; !r && !done && !sw->changed && i < FREEZE_TRIES; i++) {
		struct freezing f;
		uint64_t ns;

		/* So that little is left to write while they stand still. */
		(void)mount_flush(m, i ? SESSION_DRAIN_MS : FLUSH_AHEAD_MS);
		r = freezing_begin(&f, cgroup, FROZEN_MAX_MS, err);
		if (r)
			return r;
		done = mount_flush(m, FROZEN_MAX_MS) != -ETIMEDOUT && !freezing_is_late(&f);
		if (done)
			r = swap(m, &sw->next, sw->snap->id, &sw->changed);
		done = freezing_end(&f, &ns) && done;
		atomic_fetch_add(&m->last_frozen_ns, ns);
	}
	if (!r && !done)
		r = error_set(err, -ETIMEDOUT,
			      "its programs stood still for %d s and what they had written was not "
			      "on disk: they go on, without a checkpoint",
			      FROZEN_MAX_MS / 1000);
	return r;
}

/*
 * Whether the disk has room for all of the changes, as if they did not compress. One
 * that fails later keeps its epoch, and with it the space of what is deleted meanwhile.
 */
static int check_room(struct mount *m, struct error *err)
{
	return space_check(&m->store->space, SPACE_OWN, upper_bytes(m->view.cur), err);
}

/* op held, nothing being sealed. */
static int checkpoint(struct mount *m, const char *cgroup, struct snapshot *snap, struct error *err)
{
	struct upper *next CLEANUP(upper_free_p) = upper_new(m->view.cur->id, m->rec.epoch + 1);
	struct swapping sw = { .snap = snap, .next = next };
	int r = 0;

	atomic_store(&m->last_frozen_ns, 0);
	if (!next)
		return error_set(err, -ENOMEM, "out of memory");
	pthread_mutex_lock(&m->state);
	const bool attached = m->served, freeze = attached && cgroup;

	pthread_mutex_unlock(&m->state);
	if (attached && !freeze)
		(void)mount_flush(m, SESSION_DRAIN_MS);
	if (!freeze && !is_changed(&m->view))
		return ready_unchanged(m, snap, err);
	/* Before they are frozen: it waits for the disk. */
	r = check_room(m, err);
	if (!r)
		r = snapshots_put(m->store->snapshots, snap, NULL, err);
	if (!r && freeze)
		r = swap_frozen(m, cgroup, &sw, err);
	else if (!r)
		r = swap(m, &sw.next, snap->id, &sw.changed);
	next = sw.next;
	if (r && r != -EEXIST)
		(void)!snapshots_delete(m->store->snapshots, snap->id, NULL);
	if (sw.changed && !sw.next) {
		write_swapped(m);
		mount_start_seal(m);
	}
	if (!r && !sw.changed)
		r = ready_unchanged(m, snap, err);
	return r;
}

int mount_checkpoint(struct mount *m, const char *name, const char *freeze_cgroup,
		     struct snapshot *out, struct error *err)
{
	char id[SNAPSHOT_ID_SIZE];

	id_random(id);
	return mount_checkpoint_as(m, id, name, freeze_cgroup, out, err);
}

int mount_checkpoint_as(struct mount *m, const char *id, const char *name,
			const char *freeze_cgroup, struct snapshot *out, struct error *err)
{
	int r = name && name[0] ? snapshot_name_check(name, err) : 0;

	if (r)
		return r;
	r = lock_settled(m, err);
	if (r)
		return r;
	describe(m, id, name, out);
	inherit_config(m, out);
	r = checkpoint(m, freeze_cgroup, out, err);
	if (r) {
		error_prefix(err, r, "cannot take the checkpoint");
		snapshot_fini(out);
	}
	pthread_mutex_unlock(&m->op);
	return r;
}

uint64_t mount_last_frozen_ns(struct mount *m)
{
	return atomic_load(&m->last_frozen_ns);
}

uint64_t mount_last_pause_ns(struct mount *m)
{
	pthread_mutex_lock(&m->state);
	uint64_t ns = m->last_pause_ns;

	pthread_mutex_unlock(&m->state);
	return ns;
}
