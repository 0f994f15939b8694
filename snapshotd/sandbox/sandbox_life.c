/*
 * What becomes of a sandbox. The record is what counts: it is written when the
 * sandbox is whole, and names the mount that is its own. A mount below
 * DIR/sandboxes that no record names was being made or discarded when a daemon
 * ended, and the next one discards it (sandbox_load.c). So
 *
 *   making     place, mount, container, patches; then the record (sandbox_create.c)
 *   killing    the record goes first; then container, mount, place
 *   restoring  stopped; own mount detached, new mount at the same place, container;
 *              then the record names the new mount, and the old one is discarded.
 *              Until then the old one is the sandbox's, and is attached again.
 */
#include "snapshotd/sandbox/sandboxes_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/log.h"

#define LET_GO_MS 5000 /* for a mount that is detached to be let go */

/* ---- its place and mount ---- */

/* DIR/sandboxes/ID, and with root its mountpoint in it. */
static int place_path(const struct sandboxes *ss, const char *id, bool root, char *out, size_t size)
{
	int n = snprintf(out, size, "%s/%s%s", ss->dir, id, root ? "/root" : "");

	return n < (int)size ? 0 : -ENAMETOOLONG;
}

int sandbox_make_place(struct sandbox *sb, struct error *err)
{
	char path[4096];
	int rc = place_path(sb->owner, sb->id, false, path, sizeof(path));

	if (rc == 0 && mkdir(path, 0700) < 0 && errno != EEXIST)
		rc = -errno;
	if (rc == 0)
		rc = place_path(sb->owner, sb->id, true, path, sizeof(path));
	if (rc == 0 && mkdir(path, 0755) < 0 && errno != EEXIST)
		rc = -errno;
	return rc < 0 ? error_set_errno(err, rc, "cannot make the place of sandbox %s", sb->id) : 0;
}

void sandbox_remove_place(const struct sandboxes *ss, const char *id)
{
	char path[4096];

	for (int root = 1; root >= 0; root--)
		if (place_path(ss, id, root, path, sizeof(path)) < 0 ||
		    (rmdir(path) < 0 && errno != ENOENT))
			log_warn("sandbox %s: its directory is left: %s", id, strerror(errno));
}

int sandbox_mount_at_place(struct sandbox *sb, const struct snapshot *snap,
			   struct mount_entry **out, struct error *err)
{
	struct mount_options opt = { .fsname = sb->id,
				     .allow_suid = true,
				     .container_root = true,
				     .cache = sb->rec.config.shared_cache ? MOUNT_CACHE_SHARED
									  : MOUNT_CACHE_PRIVATE,
				     .quota_inodes = sb->owner->inodes,
				     .quota_bytes = sb->rec.config.disk_mb << 20 };
	char path[4096];

	if (place_path(sb->owner, sb->id, true, path, sizeof(path)) < 0)
		return error_set(err, -ENAMETOOLONG, "the store's path is too long");
	opt.mountpoint = path;
	return mounts_create(sb->owner->mounts, snap, &opt, out, err);
}

void sandbox_discard_mount(struct sandboxes *ss, struct mount_entry *e)
{
	struct error err = ERROR_INIT;
	struct mount_info info;
	int rc;

	if (!e)
		return;
	mount_get_info(mount_entry_mount(e), &info);
	rc = mounts_drop(ss->mounts, e, &err);
	if (rc == 0)
		return;
	log_error("mount %s at %s is left until the next start: %s", info.id, info.mountpoint,
		  error_text(&err));
	mounts_put(ss->mounts, e);
}

/*
 * What the container has held of it the kernel lets go some time after its end,
 * and others may look into it: then they are cut off, so that its place is free.
 */
int sandbox_detach(struct sandbox *sb, struct error *err)
{
	struct mount *m = mount_entry_mount(sb->mount);
	struct mount_info info;
	int rc = 0;

	mount_get_info(m, &info);
	if (info.attached)
		rc = mounts_detach(sb->owner->mounts, sb->mount, MOUNT_LAZILY, false, err);
	if (rc < 0)
		return rc;
	for (int ms = 0; mount_get_info(m, &info), info.held; ms++) {
		if (ms == LET_GO_MS) {
			log_warn("sandbox %s: who still has its old mount is cut off", sb->id);
			mount_cut_off(m);
			break;
		}
		usleep(1000);
	}
	return 0;
}

/* Mounted where it belongs, and started. */
int sandbox_come_back(struct sandbox *sb, struct error *err)
{
	struct mount_info info;
	int rc;

	if (!sb->mount)
		return error_set(err, -ENOENT, "its mount is gone");
	rc = sandbox_make_place(sb, err);
	mount_get_info(mount_entry_mount(sb->mount), &info);
	if (rc == 0 && !info.attached)
		rc = mounts_attach(sb->owner->mounts, sb->mount, NULL, 0, NULL, err);
	return rc == 0 ? sandbox_up(sb, err) : rc;
}

/* ---- its container ---- */

/* That of a runtime which is not installed, say, is nothing that the caller has asked for. */
static int start_failure(int rc)
{
	switch (rc) {
	case -ENOMEM:
	case -ENOSPC:
	case -EAGAIN:
	case -EMFILE:
	case -ENFILE:
		return rc;
	default:
		return -EIO;
	}
}

static void set_container(struct sandbox *sb, struct container *container)
{
	pthread_mutex_lock(&sb->lock);
	sb->container = container;
	sb->closing = false;
	sb->used_ms = monotonic_ms();
	pthread_cond_broadcast(&sb->changed);
	pthread_mutex_unlock(&sb->lock);
}

int sandbox_up(struct sandbox *sb, struct error *err)
{
	struct sandboxes *ss = sb->owner;
	const struct sandbox_config *c = &sb->rec.config;
	struct container_options opt = { .id = sb->id,
					 .memory_bytes = c->memory_mb << 20,
					 .cpus = c->cpus,
					 .cpu_shares = ss->cpu_shares,
					 .pids = SANDBOX_PIDS,
					 .network_none = ss->network_none,
					 .resolv_conf = true,
					 .names = true,
					 .keep = true };
	struct container *container;
	struct mount_info info;
	int rc;

	mount_get_info(mount_entry_mount(sb->mount), &info);
	opt.rootfs = info.mountpoint;
	rc = container_start(ss->runtime, &opt, &container, err);
	if (rc < 0)
		return error_prefix(err, start_failure(rc), "sandbox %s", sb->id);
	set_container(sb, container);
	return 0;
}

bool sandbox_adopt(struct sandbox *sb)
{
	struct container *container;
	struct mount_info info;

	if (!sb->mount)
		return false;
	mount_get_info(mount_entry_mount(sb->mount), &info);
	if (!info.attached ||
	    container_adopt(sb->owner->runtime, sb->id, info.mountpoint, &container) < 0)
		return false;
	set_container(sb, container);
	return true;
}

void sandbox_down(struct sandbox *sb)
{
	struct container *container;

	pthread_mutex_lock(&sb->lock);
	container = sb->container;
	sb->closing = true;
	pthread_cond_broadcast(&sb->changed);
	pthread_mutex_unlock(&sb->lock);
	if (!container)
		return;
	/* Ends the programs that those inside wait for. */
	container_kill(container);
	pthread_mutex_lock(&sb->lock);
	while (sb->inside > 0)
		pthread_cond_wait(&sb->changed, &sb->lock);
	sb->container = NULL;
	pthread_mutex_unlock(&sb->lock);
	container_stop(container);
}

int sandbox_set_status(struct sandbox *sb, enum sandbox_status status, const char *reason)
{
	int rc;

	pthread_mutex_lock(&sb->lock);
	sb->rec.status = status;
	sb->rec.idle = false;
	sb->rec.ended_at_ms = status == SANDBOX_RUNNING ? 0 : clock_ms();
	snprintf(sb->rec.reason, sizeof(sb->rec.reason), "%s", reason ? reason : "");
	pthread_cond_broadcast(&sb->changed);
	pthread_mutex_unlock(&sb->lock);
	rc = sandbox_put_record(sb);
	if (rc < 0)
		log_error("sandbox %s: its record cannot be written: %s", sb->id, strerror(-rc));
	return rc;
}

/* ---- killing ---- */

int sandbox_kill_locked(struct sandbox *sb, struct error *err)
{
	struct mount_entry *e;
	bool was_listed;
	int rc;

	if (sb->gone)
		return error_set(err, -ENOENT, "sandbox %s has been killed", sb->id);
	rc = meta_del(sb->owner->store->kv, META_SANDBOX, sb->id, KV_LOG);
	if (rc < 0)
		return error_set_errno(err, rc, "sandbox %s: its record cannot be deleted", sb->id);
	pthread_mutex_lock(&sb->lock);
	sb->gone = true;
	pthread_mutex_unlock(&sb->lock);
	was_listed = sandbox_unlist(sb);
	sandbox_down(sb);
	pthread_mutex_lock(&sb->lock);
	e = STEAL(sb->mount);
	pthread_mutex_unlock(&sb->lock);
	sandbox_discard_mount(sb->owner, e);
	sandbox_remove_place(sb->owner, sb->id);
	if (was_listed)
		sandbox_put(sb);
	return 0;
}

int sandbox_kill(struct sandbox *sb, struct error *err)
{
	int rc;

	pthread_mutex_lock(&sb->change);
	rc = sandbox_kill_locked(sb, err);
	pthread_mutex_unlock(&sb->change);
	return rc;
}

/* ---- restoring ---- */

/* The sandbox's own mount, back at its place. */
static void restore_undo(struct sandbox *sb)
{
	struct error err = ERROR_INIT;
	struct mount_info info;
	int rc = 0;

	mount_get_info(mount_entry_mount(sb->mount), &info);
	if (!info.attached) /* else it could not be detached */
		rc = mounts_attach(sb->owner->mounts, sb->mount, NULL, 0, NULL, &err);
	if (rc == 0)
		rc = sandbox_up(sb, &err);
	if (rc == 0 && sb->rec.status != SANDBOX_RUNNING) /* it was stopped before */
		sandbox_set_status(sb, SANDBOX_RUNNING, NULL);
	if (rc < 0) {
		log_error("sandbox %s: %s", sb->id, error_text(&err));
		sandbox_set_status(sb, SANDBOX_FAILED, error_text(&err));
	}
}

/* The record names the new mount. */
static void restore_note(struct sandbox *sb, struct mount_entry *e, const struct snapshot *snap)
{
	struct mount_info info;

	mount_get_info(mount_entry_mount(e), &info);
	pthread_mutex_lock(&sb->lock);
	sb->mount = e;
	memcpy(sb->rec.mount_id, info.id, sizeof(sb->rec.mount_id));
	if (snap) {
		memcpy(sb->rec.snapshot_id, snap->id, sizeof(sb->rec.snapshot_id));
		memcpy(sb->rec.snapshot_name, snap->name, sizeof(sb->rec.snapshot_name));
	}
	pthread_mutex_unlock(&sb->lock);
}

/* Stopped; its own mount is detached. On failure that is so again. */
static int restore_mount(struct sandbox *sb, const struct snapshot *snap, struct error *err)
{
	struct mount_entry *old = sb->mount, *e;
	int rc = sandbox_mount_at_place(sb, snap, &e, err);

	if (rc < 0)
		return rc;
	restore_note(sb, e, NULL);
	rc = sandbox_up(sb, err);
	if (rc == 0) {
		restore_note(sb, e, snap);
		if (sandbox_set_status(sb, SANDBOX_RUNNING, NULL) == 0)
			sandbox_discard_mount(sb->owner, old);
		else /* the record names it still, also at the next start */
			mounts_put(sb->owner->mounts, old);
		return 0;
	}
	restore_note(sb, old, NULL);
	sandbox_discard_mount(sb->owner, e);
	return rc;
}

int sandbox_restore(struct sandbox *sb, const struct snapshot *snap, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&sb->change);
	if (sb->gone)
		rc = error_set(err, -ENOENT, "sandbox %s has been killed", sb->id);
	else if (!sb->mount)
		rc = error_set(err, -ENOTCONN, "sandbox %s: %s", sb->id, sb->rec.reason);
	if (rc == 0) {
		sandbox_down(sb);
		rc = sandbox_detach(sb, err);
		if (rc == 0)
			rc = restore_mount(sb, snap, err);
		if (rc < 0)
			restore_undo(sb);
	}
	pthread_mutex_unlock(&sb->change);
	return rc;
}
