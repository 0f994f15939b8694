/* The first and the last moment of a mount: created of a snapshot, discarded. */
#include "fs/mount/mount_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/base/log.h"

/* Load the layers a record names. */
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
	rec->container_root = opt->container_root;
	rec->cache = opt->cache;
	rec->limits = (struct mount_limits){ .quota_bytes = opt->quota_bytes,
					     .quota_inodes = opt->quota_inodes,
					     .allow_dev = opt->allow_dev,
					     .allow_suid = opt->allow_suid,
					     .no_exec = opt->no_exec };
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
	int r = opt->place_fd ? 0 : mount_check_place(opt->mountpoint, err);

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
		r = mount_new(s, sp, &rec, NULL, &m, err);
	if (!r) {
		m->place_fd = opt->place_fd;
		r = mount_attach_locked(m, err);
		m->place_fd = 0;
	}
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
