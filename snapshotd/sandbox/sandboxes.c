/*
 * The entity and its table: what a sandbox is, who uses it, which there are. The other files of
 * sandboxes call this one; it calls none of them.
 */
#include "snapshotd/sandbox/sandboxes_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"

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
	sb->execs = async_execs_new(ss->output);
	if (!sb->execs || image_config_load(sb->rec.image, &sb->image) < 0) {
		error_set(err, -ENOMEM, "out of memory");
		sandbox_free(sb);
		return NULL;
	}
	return sb;
}

void sandbox_free(struct sandbox *sb)
{
	async_execs_free(sb->execs);
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
	if (rc == 0)
		rc = record_put(sb->owner->store->kv, META_SANDBOX, sb->id, json, KV_LOG);
	pthread_mutex_lock(&sb->lock);
	if (rc == 0 && sb->mount)
		mount_note_record(mount_entry_mount(sb->mount));
	pthread_mutex_unlock(&sb->lock);
	return rc;
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
