#include "snapshotd/sandbox/sandboxes_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/pool.h"

#define TEND_MS 1000
#define STOP_THREADS 8

/* ---- one sandbox ---- */

struct sandbox *sandbox_new(struct sandboxes *ss, struct sandbox_record *rec, struct error *err)
{
	struct sandbox *sb = calloc(1, sizeof(*sb));

	if (!sb) {
		sandbox_record_fini(rec);
		error_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	sb->owner = ss;
	sb->rec = *rec;
	memset(rec, 0, sizeof(*rec));
	memcpy(sb->id, sb->rec.id, sizeof(sb->id));
	sb->users = 1;
	sb->closing = true; /* until its container is there */
	sb->used_ms = monotonic_ms();
	pthread_mutex_init(&sb->change, NULL);
	pthread_mutex_init(&sb->lock, NULL);
	cond_init_monotonic(&sb->changed);
	sb->execs = sandbox_execs_new(ss->output);
	if (!sb->execs || image_config_load(sb->rec.image, &sb->image) < 0) {
		error_set(err, -ENOMEM, "out of memory");
		sandbox_free(sb);
		return NULL;
	}
	return sb;
}

void sandbox_free(struct sandbox *sb)
{
	sandbox_execs_free(sb->execs);
	image_config_fini(&sb->image);
	sandbox_record_fini(&sb->rec);
	pthread_cond_destroy(&sb->changed);
	pthread_mutex_destroy(&sb->lock);
	pthread_mutex_destroy(&sb->change);
	free(sb);
}

int sandbox_put_record(struct sandbox *sb)
{
	char *json;
	int rc;

	pthread_mutex_lock(&sb->lock);
	rc = sandbox_record_encode(&sb->rec, &json);
	pthread_mutex_unlock(&sb->lock);
	return rc < 0 ? rc : record_put(sb->owner->store->kv, META_SANDBOX, sb->id, json);
}

void sandbox_touch(struct sandbox *sb)
{
	pthread_mutex_lock(&sb->lock);
	sb->used_ms = monotonic_ms();
	pthread_mutex_unlock(&sb->lock);
}

const char *sandbox_id(const struct sandbox *sb)
{
	return sb->id;
}

const char *sandbox_workdir(struct sandbox *sb)
{
	return sb->image.workdir;
}

const char *sandbox_user(struct sandbox *sb)
{
	return sb->image.user;
}

char **sandbox_environ(struct sandbox *sb, const json_t *extra)
{
	json_t *both = sb->rec.config.envs ? json_copy(sb->rec.config.envs) : json_object();
	char **env = NULL;

	if (both && (!extra || json_object_update(both, (json_t *)extra) == 0))
		env = image_config_environ(&sb->image, both);
	json_decref(both);
	return env;
}

int sandbox_set_timeout(struct sandbox *sb, uint64_t timeout_s, struct error *err)
{
	uint64_t was;
	int rc;

	pthread_mutex_lock(&sb->change);
	pthread_mutex_lock(&sb->lock);
	was = sb->rec.timeout_s;
	sb->rec.timeout_s = timeout_s;
	rc = sb->gone ? -ENOENT : 0;
	pthread_mutex_unlock(&sb->lock);
	if (rc < 0) {
		error_set(err, rc, "sandbox %s has been killed", sb->id);
	} else if ((rc = sandbox_put_record(sb)) < 0) {
		pthread_mutex_lock(&sb->lock);
		sb->rec.timeout_s = was;
		pthread_mutex_unlock(&sb->lock);
		error_set_errno(err, rc, "cannot write the sandbox's record");
	}
	pthread_mutex_unlock(&sb->change);
	return rc;
}

/* ---- inside ---- */

/* -EAGAIN: it is stopped because nobody used it, so sandbox_wake it. */
static int enter_awake(struct sandbox *sb, struct container **out, struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&sb->lock);
	while (sb->closing && !sb->gone && sb->rec.status == SANDBOX_RUNNING &&
	       !atomic_load(&sb->owner->stopping))
		pthread_cond_wait(&sb->changed, &sb->lock);
	if (atomic_load(&sb->owner->stopping))
		rc = error_set(err, -ECANCELED, "snapshotd is stopping");
	else if (sb->gone)
		rc = error_set(err, -ENOENT, "sandbox %s has been killed", sb->id);
	else if (sb->rec.idle)
		rc = -EAGAIN;
	else if (sb->rec.status != SANDBOX_RUNNING)
		rc = error_set(err, -ENOTCONN, "sandbox %s is %s: %s", sb->id,
			       sandbox_status_names[sb->rec.status], sb->rec.reason);
	else if (!container_is_running(sb->container))
		rc = error_set(err, -ENOTCONN, "sandbox %s is stopped: its first process has died",
			       sb->id);
	if (rc == 0) {
		sb->inside++;
		*out = sb->container;
	}
	pthread_mutex_unlock(&sb->lock);
	return rc;
}

int sandbox_enter(struct sandbox *sb, struct container **out, struct error *err)
{
	int rc = enter_awake(sb, out, err);

	/* It may be stopped once more before we are inside. */
	while (rc == -EAGAIN) {
		rc = sandbox_wake(sb, err);
		if (rc == 0)
			rc = enter_awake(sb, out, err);
	}
	return rc;
}

void sandbox_leave(struct sandbox *sb)
{
	pthread_mutex_lock(&sb->lock);
	sb->used_ms = monotonic_ms();
	if (--sb->inside == 0)
		pthread_cond_broadcast(&sb->changed);
	pthread_mutex_unlock(&sb->lock);
}

bool sandbox_is_closing(struct sandbox *sb)
{
	bool closing;

	pthread_mutex_lock(&sb->lock);
	closing = sb->closing;
	pthread_mutex_unlock(&sb->lock);
	return closing;
}

/* ---- as JSON ---- */

static int set_time(json_t *o, const char *name, int64_t ms)
{
	char text[TIME_TEXT_SIZE];

	if (!ms)
		return json_object_set_new(o, name, json_null());
	time_to_text(ms, text);
	return json_object_set_new(o, name, json_string(text));
}

/* When it was stopped, or would be if it were left alone; 0: never. */
static int64_t end_of_locked(const struct sandbox *sb)
{
	if (sb->rec.ended_at_ms || !sb->rec.timeout_s)
		return sb->rec.ended_at_ms;
	return clock_ms() + sb->used_ms - monotonic_ms() + (int64_t)sb->rec.timeout_s * 1000;
}

static json_t *cpu_count(double cpus)
{
	if (cpus == 0)
		return json_integer(sysconf(_SC_NPROCESSORS_ONLN));
	return cpus == (double)(int)cpus ? json_integer((int)cpus) : json_real(cpus);
}

static int set_state_locked(struct sandbox *sb, json_t *o)
{
	const struct sandbox_record *r = &sb->rec;
	enum sandbox_status status = r->status;
	const char *reason = r->reason;
	int rc;

	if (sb->container && !container_is_running(sb->container)) {
		status = SANDBOX_STOPPED;
		reason = "its first process has died";
	}
	rc = json_object_set_new(o, "status", json_string(sandbox_status_names[status]));
	if (status != SANDBOX_RUNNING)
		rc |= json_object_set_new(o, "reason", json_string(reason));
	rc |= set_time(o, "startedAt", r->started_at_ms);
	rc |= set_time(o, "endAt", end_of_locked(sb));
	rc |= set_time(o, "removeAt", sandbox_removal_ms_locked(sb));
	return rc | json_object_set_new(o, "timeout", json_integer((json_int_t)r->timeout_s));
}

/* The mount's own locks may be held over a write to the log: that is short. */
static int set_mount_locked(struct sandbox *sb, json_t *o)
{
	struct mount_info info = { 0 };
	int rc;

	if (sb->mount)
		mount_get_info(mount_entry_mount(sb->mount), &info);
	rc = json_object_set_new(o, "mountID", json_string(sb->rec.mount_id));
	rc |= json_object_set_new(o, "changedInodes",
				  json_integer((json_int_t)info.changed_inodes));
	return rc |
	       json_object_set_new(o, "upperBytes", json_integer((json_int_t)info.upper_bytes));
}

static json_t *text_or_null(const char *s)
{
	return *s ? json_string(s) : json_null();
}

json_t *sandbox_to_json(struct sandbox *sb)
{
	const struct sandbox_record *r = &sb->rec;
	json_t *o;
	int rc;

	pthread_mutex_lock(&sb->lock);
	o = json_pack("{s:s, s:s, s:s, s:o, s:I, s:I}", "sandboxID", sb->id, "templateID",
		      r->config.template_id, "fromCheckpointId", r->snapshot_id, "cpuCount",
		      cpu_count(r->config.cpus), "memoryMB", (json_int_t)r->config.memory_mb,
		      "diskMB", (json_int_t)r->config.disk_mb);
	rc = json_object_set_new(o, "snapshot", text_or_null(r->snapshot_name));
	rc |= json_object_set_new(o, "contentHash", text_or_null(r->content_hash));
	rc |= json_object_set_new(o, "cache",
				  json_string(r->config.shared_cache ? "shared" : "private"));
	rc |= json_object_set_new(o, "metadata",
				  r->metadata ? json_incref(r->metadata) : json_object());
	rc |= set_state_locked(sb, o);
	rc |= set_mount_locked(sb, o);
	pthread_mutex_unlock(&sb->lock);
	if (rc) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* ---- the table ---- */

void sandbox_hold(struct sandbox *sb)
{
	pthread_mutex_lock(&sb->owner->lock);
	sb->users++;
	pthread_mutex_unlock(&sb->owner->lock);
}

void sandbox_put(struct sandbox *sb)
{
	struct sandboxes *ss = sb->owner;
	bool last;

	pthread_mutex_lock(&ss->lock);
	last = --sb->users == 0;
	pthread_cond_broadcast(&ss->changed);
	pthread_mutex_unlock(&ss->lock);
	if (last)
		sandbox_free(sb);
}

/* Newest first, and those of the same millisecond by id: so it is after a restart, too. */
static bool comes_before(const struct sandbox *a, const struct sandbox *b)
{
	if (a->rec.started_at_ms != b->rec.started_at_ms)
		return a->rec.started_at_ms > b->rec.started_at_ms;
	return strcmp(a->id, b->id) < 0;
}

void sandbox_list(struct sandbox *sb)
{
	struct sandboxes *ss = sb->owner;
	struct sandbox *older;

	pthread_mutex_lock(&ss->lock);
	TAILQ_FOREACH(older, &ss->list, link)
	if (comes_before(sb, older))
		break;
	if (older)
		TAILQ_INSERT_BEFORE(older, sb, link);
	else
		TAILQ_INSERT_TAIL(&ss->list, sb, link);
	ss->n++;
	sb->users++;
	sb->listed = true;
	pthread_mutex_unlock(&ss->lock);
}

bool sandbox_unlist(struct sandbox *sb)
{
	struct sandboxes *ss = sb->owner;
	bool was;

	pthread_mutex_lock(&ss->lock);
	was = sb->listed;
	if (was) {
		TAILQ_REMOVE(&ss->list, sb, link);
		ss->n--;
		sb->listed = false;
	}
	pthread_mutex_unlock(&ss->lock);
	return was;
}

static struct sandbox *find_locked(struct sandboxes *ss, const char *id)
{
	struct sandbox *sb;

	TAILQ_FOREACH(sb, &ss->list, link)
	if (strcmp(sb->id, id) == 0)
		return sb;
	return NULL;
}

bool sandboxes_has(struct sandboxes *ss, const char *id)
{
	bool has;

	pthread_mutex_lock(&ss->lock);
	has = find_locked(ss, id);
	pthread_mutex_unlock(&ss->lock);
	return has;
}

int sandboxes_get(struct sandboxes *ss, const char *id, struct sandbox **out, struct error *err)
{
	struct sandbox *sb;

	pthread_mutex_lock(&ss->lock);
	sb = find_locked(ss, id);
	if (sb)
		sb->users++;
	pthread_mutex_unlock(&ss->lock);
	if (!sb)
		return error_set(err, -ENOENT, "there is no sandbox \"%.60s\"", id);
	sandbox_touch(sb);
	*out = sb;
	return 0;
}

int sandboxes_list(struct sandboxes *ss, struct sandbox ***out, size_t *out_n)
{
	struct sandbox **list, *sb;
	size_t n = 0;

	pthread_mutex_lock(&ss->lock);
	list = calloc(ss->n + 1, sizeof(struct sandbox *));
	if (list) {
		TAILQ_FOREACH(sb, &ss->list, link)
		{
			sb->users++;
			list[n++] = sb;
		}
	}
	pthread_mutex_unlock(&ss->lock);
	if (!list)
		return -ENOMEM;
	*out = list;
	*out_n = n;
	return 0;
}

void sandboxes_count(struct sandboxes *ss, size_t *running, size_t *stopped)
{
	struct sandbox **list;
	size_t n;

	*running = *stopped = 0;
	if (sandboxes_list(ss, &list, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		pthread_mutex_lock(&list[i]->lock);
		++*(list[i]->rec.status == SANDBOX_RUNNING ? running : stopped);
		pthread_mutex_unlock(&list[i]->lock);
		sandbox_put(list[i]);
	}
	free(list);
}

/* ---- the reaper ---- */

static bool tend_wait(struct sandboxes *ss)
{
	struct timespec until = monotonic_after_ms(TEND_MS);
	int rc = 0;

	pthread_mutex_lock(&ss->lock);
	while (!atomic_load(&ss->stopping) && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&ss->changed, &ss->lock, &until);
	pthread_mutex_unlock(&ss->lock);
	return !atomic_load(&ss->stopping);
}

static void *reaper_main(void *arg)
{
	struct sandboxes *ss = arg;

	pthread_setname_np(pthread_self(), "varve-tend");
	while (tend_wait(ss)) {
		struct sandbox **list;
		size_t n;

		if (sandboxes_list(ss, &list, &n) < 0)
			continue;
		for (size_t i = 0; i < n; i++) {
			sandbox_tend(list[i]);
			sandbox_put(list[i]);
		}
		free(list);
	}
	return NULL;
}

/* ---- opening and closing ---- */

static int dir_make(struct sandboxes *ss, struct error *err)
{
	char *dir = NULL;
	int rc = 0;

	if (asprintf(&dir, "%s/sandboxes", ss->store->dir) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		rc = error_set_errno(err, -errno, "cannot make %s", dir);
	else if (!(ss->dir = realpath(dir, NULL)))
		rc = error_set_errno(err, -errno, "%s", dir);
	free(dir);
	return rc;
}

int sandboxes_open(const struct sandboxes_options *o, struct sandboxes **out, struct error *err)
{
	struct sandboxes *ss = calloc(1, sizeof(*ss));
	int rc;

	if (!ss)
		return error_set(err, -ENOMEM, "out of memory");
	ss->store = o->store;
	ss->mounts = o->mounts;
	ss->runtime = o->runtime;
	ss->network_none = o->network_none;
	ss->shared_cache = o->shared_cache;
	ss->disk_mb = o->disk_mb;
	ss->inodes = o->inodes;
	ss->keep_s = o->keep_s;
	ss->checkpoint_limit = o->checkpoint_limit;
	ss->patch_limit = o->patch_limit;
	ss->output = o->output;
	pthread_mutex_init(&ss->lock, NULL);
	pthread_mutex_init(&ss->patch_lock, NULL);
	cond_init_monotonic(&ss->changed);
	TAILQ_INIT(&ss->list);
	rc = dir_make(ss, err);
	if (rc == 0)
		rc = checkpoints_open(ss->store, &ss->checkpoints, err);
	if (rc == 0)
		rc = sandboxes_load(ss, err);
	if (rc == 0 && pthread_create(&ss->reaper, NULL, reaper_main, ss) != 0)
		rc = error_set(err, -EAGAIN, "cannot start a thread");
	ss->has_reaper = rc == 0;
	if (rc < 0)
		sandboxes_close(ss);
	else
		*out = ss;
	return rc;
}

static void stop_one(void *arg)
{
	struct sandbox *sb = arg;

	pthread_mutex_lock(&sb->change);
	sandbox_note_death(sb); /* of itself: the next daemon is not to start it */
	sandbox_down(sb);
	pthread_mutex_unlock(&sb->change);
}

/* Every container, several at a time. */
static void stop_all(struct sandboxes *ss)
{
	struct pool *p = pool_new(STOP_THREADS, STOP_THREADS);
	struct sandbox *sb;

	TAILQ_FOREACH(sb, &ss->list, link)
	{
		if (p)
			pool_submit(p, stop_one, sb);
		else
			stop_one(sb);
	}
	pool_free(p);
}

/* Asynchronous execs use their sandbox until they have noted their end. */
static void wait_unused(struct sandboxes *ss, struct sandbox *sb)
{
	pthread_mutex_lock(&ss->lock);
	while (sb->users > 1)
		pthread_cond_wait(&ss->changed, &ss->lock);
	pthread_mutex_unlock(&ss->lock);
}

void sandboxes_close(struct sandboxes *ss)
{
	struct sandbox *sb;

	if (!ss)
		return;
	pthread_mutex_lock(&ss->lock);
	atomic_store(&ss->stopping, true);
	pthread_cond_broadcast(&ss->changed);
	pthread_mutex_unlock(&ss->lock);
	if (ss->has_reaper)
		pthread_join(ss->reaper, NULL);
	pool_free(ss->starters);
	stop_all(ss);
	while ((sb = TAILQ_FIRST(&ss->list))) {
		wait_unused(ss, sb);
		sandbox_unlist(sb);
		if (sb->mount)
			mounts_put(ss->mounts, sb->mount);
		sandbox_put(sb);
	}
	checkpoints_close(ss->checkpoints);
	pthread_cond_destroy(&ss->changed);
	pthread_mutex_destroy(&ss->patch_lock);
	pthread_mutex_destroy(&ss->lock);
	free(ss->dir);
	free(ss);
}
