/* Sandboxes come back after a restart; what was half made or half removed goes. */
#include "snapshotd/sandbox/sandboxes_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/sandbox/sandbox_checkpoints.h"
#include "snapshotd/sandbox/sandbox_exec.h"
#include "snapshotd/sandbox/sandbox_patches.h"
#include "store/base/log.h"
#include "store/base/pool.h"

#define START_THREADS 4

static int load_one(void *arg, const char *rest, const void *text, size_t len)
{
	struct sandboxes *ss = arg;
	struct sandbox_record rec;
	struct error err = ERROR_INIT;
	struct sandbox *sb;
	int rc = sandbox_record_decode(text, len, &rec);

	if (rc == -ENOMEM)
		return rc;
	if (rc < 0 || strcmp(rec.id, rest) != 0) {
		log_error("the record of sandbox %s is damaged: left alone", rest);
		if (rc == 0)
			sandbox_record_fini(&rec);
		return 0;
	}
	sb = sandbox_new(ss, &rec, &err);
	if (!sb)
		return -ENOMEM;
	if (mounts_get(ss->mounts, sb->rec.mount_id, &sb->mount, &err) < 0)
		sb->mount = NULL;
	if (sb->rec.status != SANDBOX_STOPPED && sandbox_adopt(sb))
		log_info("sandbox %s goes on", sb->id);
	sandbox_list(sb);
	sandbox_put(sb);
	return 0;
}

static bool is_wanted(const struct sandboxes *ss, const struct mount_entry *e)
{
	struct sandbox *sb;

	TAILQ_FOREACH(sb, &ss->list, link)
	if (sb->mount == e)
		return true;
	return false;
}

/* Mounts at sandboxes' places that belong to none. */
static int drop_mounts(struct sandboxes *ss, struct error *err)
{
	struct mount_entry **list;
	size_t n, len = strlen(ss->dir);

	if (mounts_list(ss->mounts, &list, &n) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		struct mount_info info;

		mount_get_info(mount_entry_mount(list[i]), &info);
		if (strncmp(info.mountpoint, ss->dir, len) == 0 && info.mountpoint[len] == '/' &&
		    !is_wanted(ss, list[i])) {
			log_info("mount %s at %s belongs to no sandbox: discarded", info.id,
				 info.mountpoint);
			sandbox_discard_mount(ss, list[i]);
		} else {
			mounts_put(ss->mounts, list[i]);
		}
	}
	free(list);
	return 0;
}

static void drop_places(struct sandboxes *ss)
{
	DIR *d = opendir(ss->dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		struct sandbox *sb;

		if (!sandbox_id_is_valid(e->d_name))
			continue;
		TAILQ_FOREACH(sb, &ss->list, link)
		if (strcmp(sb->id, e->d_name) == 0)
			break;
		if (!sb)
			sandbox_remove_place(ss, e->d_name);
	}
	if (d)
		closedir(d);
}

/* change held. */
static void start_locked(struct sandbox *sb)
{
	struct error err = ERROR_INIT;
	int rc = sandbox_come_back(sb, &err);

	if (rc < 0) {
		log_error("sandbox %s: %s", sb->id, error_text(&err));
		sandbox_set_status(sb, SANDBOX_FAILED, error_text(&err));
	} else if (sb->rec.ended_at_ms) {
		sandbox_set_status(sb, SANDBOX_RUNNING, NULL);
	}
}

/* change held. The daemon may have died between the record that it is idle and the detaching. */
static void finish_idle_stop(struct sandbox *sb)
{
	struct error err = ERROR_INIT;

	if (sb->mount && sandbox_detach(sb, &err) < 0)
		log_warn("sandbox %s: its mount stays attached: %s", sb->id, error_text(&err));
}

/* In a thread of the pool; the sandbox is in use. */
static void settle_one(void *arg)
{
	struct sandbox *sb = arg;

	pthread_mutex_lock(&sb->change);
	if (!sb->gone && !sb->container && !atomic_load(&sb->owner->stopping)) {
		if (sb->rec.status != SANDBOX_STOPPED)
			start_locked(sb);
		else if (sb->rec.idle)
			finish_idle_stop(sb);
	}
	pthread_mutex_unlock(&sb->change);
	sandbox_put(sb);
}

/* Programs that a predecessor has started: each before its sandbox starts again, if it must. */
static void adopt_execs(struct sandboxes *ss)
{
	struct exec_keep *k;
	struct sandbox *sb;

	while ((k = exec_keep_next(ss->keeper))) {
		TAILQ_FOREACH(sb, &ss->list, link)
		if (strcmp(sb->id, k->state->owner) == 0)
			break;
		if (sb)
			sandbox_exec_adopt(sb, k);
		else
			exec_keep_free(k);
	}
}

/* One that has stopped by itself stays so; what failed is tried again. */
static int start_all(struct sandboxes *ss, struct error *err)
{
	struct sandbox *sb;

	if (TAILQ_EMPTY(&ss->list))
		return 0;
	ss->starters = pool_new(START_THREADS, ss->n);
	if (!ss->starters)
		return error_set(err, -EAGAIN, "cannot start threads");
	TAILQ_FOREACH(sb, &ss->list, link)
	{
		if (sb->rec.status == SANDBOX_STOPPED && !sb->rec.idle)
			continue;
		if (sb->rec.status != SANDBOX_STOPPED)
			sb->rec.status = SANDBOX_RUNNING; /* whoever calls it waits for that */
		if (sb->container && sb->rec.status == SANDBOX_RUNNING && !sb->rec.ended_at_ms)
			continue; /* it has never ended */
		sandbox_hold(sb);
		pool_submit(ss->starters, settle_one, sb);
	}
	return 0;
}

int sandboxes_load(struct sandboxes *ss, struct error *err)
{
	int rc = meta_each(ss->store->kv, META_SANDBOX, "", load_one, ss);

	if (rc < 0)
		return error_set_errno(err, rc, "cannot read the records of sandboxes");
	runtime_drop_kept(ss->runtime); /* before their mounts go */
	rc = checkpoints_recover(ss, err);
	if (rc == 0)
		rc = patches_sweep(ss, err);
	if (rc == 0)
		rc = drop_mounts(ss, err);
	if (rc < 0)
		return rc;
	drop_places(ss);
	rc = start_all(ss, err);
	if (rc == 0)
		adopt_execs(ss);
	return rc;
}
