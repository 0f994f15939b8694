/*
 * A checkpoint is there when its record is. Its snapshot is made first, by the
 * mount, under an id that nobody knows before; so a note "checkpointing/SANDBOX"
 * is written before it and deleted after the record. A note that is found at a
 * start means that the mount's unnamed checkpoints since then without a record
 * are nobody's.
 *
 * A snapshot may also be deleted behind our back, by its own call: then the
 * checkpoint is forgotten when it is next looked at.
 */
#include "snapshotd/sandbox/sandbox_checkpoints.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/sandbox/sandbox_patches.h"
#include "snapshotd/sandbox/sandboxes_internal.h"
#include "store/base/log.h"

struct checkpoint {
	TAILQ_ENTRY(checkpoint) link;
	struct checkpoint_record rec; /* constant */
};
TAILQ_HEAD(checkpoint_list, checkpoint);

struct checkpoints {
	struct store *store;
	pthread_mutex_t lock;
	struct checkpoint_list list; /* guarded by lock, in order of sequence; as the next two */
	size_t n;
	uint64_t next_sequence;
};

/* ---- the table ---- */

static void checkpoint_free(struct checkpoint *c)
{
	checkpoint_record_fini(&c->rec);
	free(c);
}

static void table_add_locked(struct checkpoints *cs, struct checkpoint *c)
{
	struct checkpoint *after;

	TAILQ_FOREACH_REVERSE(after, &cs->list, checkpoint_list, link)
	if (after->rec.sequence <= c->rec.sequence)
		break;
	if (after)
		TAILQ_INSERT_AFTER(&cs->list, after, c, link);
	else
		TAILQ_INSERT_HEAD(&cs->list, c, link);
	cs->n++;
	cs->next_sequence = MAX(cs->next_sequence, c->rec.sequence + 1);
}

static struct checkpoint *find_locked(struct checkpoints *cs, const char *id)
{
	struct checkpoint *c;

	TAILQ_FOREACH(c, &cs->list, link)
	if (strcmp(c->rec.id, id) == 0)
		return c;
	return NULL;
}

static void forget(struct checkpoints *cs, const char *id)
{
	struct checkpoint *c;

	pthread_mutex_lock(&cs->lock);
	c = find_locked(cs, id);
	if (c) {
		TAILQ_REMOVE(&cs->list, c, link);
		cs->n--;
	}
	pthread_mutex_unlock(&cs->lock);
	if (c)
		checkpoint_free(c);
	if (c && meta_del(cs->store->kv, META_CHECKPOINT, id, KV_LOG) < 0)
		log_error("the record of checkpoint %s cannot be deleted", id);
}

static int load_one(void *arg, const char *rest, const void *text, size_t len)
{
	struct checkpoints *cs = arg;
	struct checkpoint *c = calloc(1, sizeof(*c));
	int rc = c ? checkpoint_record_decode(text, len, &c->rec) : -ENOMEM;

	if (rc == 0) {
		table_add_locked(cs, c);
		return 0;
	}
	free(c);
	if (rc == -ENOMEM)
		return rc;
	log_error("the record of checkpoint %s is damaged: left alone", rest);
	return 0;
}

int checkpoints_open(struct store *s, struct checkpoints **out, struct error *err)
{
	struct checkpoints *cs = calloc(1, sizeof(*cs));
	int rc;

	if (!cs)
		return error_set(err, -ENOMEM, "out of memory");
	cs->store = s;
	cs->next_sequence = 1;
	pthread_mutex_init(&cs->lock, NULL);
	TAILQ_INIT(&cs->list);
	rc = meta_each(s->kv, META_CHECKPOINT, "", load_one, cs);
	if (rc < 0) {
		checkpoints_close(cs);
		return error_set_errno(err, rc, "cannot read the records of checkpoints");
	}
	*out = cs;
	return 0;
}

void checkpoints_close(struct checkpoints *cs)
{
	struct checkpoint *c;

	if (!cs)
		return;
	while ((c = TAILQ_FIRST(&cs->list))) {
		TAILQ_REMOVE(&cs->list, c, link);
		checkpoint_free(c);
	}
	pthread_mutex_destroy(&cs->lock);
	free(cs);
}

/* Copies of the records of a sandbox, oldest first. The array is malloc'd; configs are not set. */
static int records_of(struct checkpoints *cs, const char *sandbox_id,
		      struct checkpoint_record **out, size_t *out_n)
{
	struct checkpoint_record *list;
	struct checkpoint *c;
	size_t n = 0;

	pthread_mutex_lock(&cs->lock);
	TAILQ_FOREACH(c, &cs->list, link)
	n += strcmp(c->rec.sandbox_id, sandbox_id) == 0;
	list = calloc(n + 1, sizeof(*list));
	n = 0;
	TAILQ_FOREACH(c, &cs->list, link)
	{
		if (!list || strcmp(c->rec.sandbox_id, sandbox_id) != 0)
			continue;
		list[n] = c->rec;
		list[n++].config = (struct sandbox_config){ 0 };
	}
	pthread_mutex_unlock(&cs->lock);
	if (!list)
		return -ENOMEM;
	*out = list;
	*out_n = n;
	return 0;
}

/* ---- as JSON ---- */

static json_t *checkpoint_to_json(const struct checkpoint_record *r, const struct snapshot *s)
{
	static const char *const names[] = { [SNAPSHOT_BUILDING] = "processing",
					     [SNAPSHOT_READY] = "ready",
					     [SNAPSHOT_FAILED] = "failed" };
	char created[TIME_TEXT_SIZE];
	json_t *o;

	time_to_text(r->created_at_ms, created);
	o = json_pack("{s:s, s:s, s:s, s:s, s:I, s:s}", "id", r->id, "sandboxId", r->sandbox_id,
		      "name", r->name, "status", names[s->status], "sizeBytes",
		      (json_int_t)s->size_bytes, "createdAt", created);
	if (s->status == SNAPSHOT_FAILED &&
	    json_object_set_new(o, "errorMsg", json_string(s->error)) < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* -ENOENT: its snapshot is gone, and the record with it. */
static int show(struct sandboxes *ss, const struct checkpoint_record *r, json_record_fn fn,
		void *arg, struct error *err)
{
	struct snapshot s = { 0 };
	json_t *j;
	int rc = snapshots_get(ss->store->snapshots, r->id, &s, err);

	if (rc == -ENOENT)
		forget(ss->checkpoints, r->id);
	if (rc < 0)
		return rc;
	j = checkpoint_to_json(r, &s);
	rc = j ? fn(arg, r->id, j) : error_set(err, -ENOMEM, "out of memory");
	json_decref(j);
	snapshot_fini(&s);
	return rc;
}

int checkpoints_each(struct sandboxes *ss, const char *sandbox_id, json_record_fn fn, void *arg,
		     struct error *err)
{
	struct checkpoint_record *list;
	bool any = false;
	size_t n;
	int rc = records_of(ss->checkpoints, sandbox_id, &list, &n);

	if (rc < 0)
		return error_set(err, rc, "out of memory");
	for (size_t i = 0; rc == 0 && i < n; i++) {
		rc = show(ss, &list[i], fn, arg, err);
		any |= rc != -ENOENT;
		if (rc == -ENOENT)
			rc = 0;
	}
	free(list);
	if (rc == 0 && !any && !sandboxes_has(ss, sandbox_id))
		return error_set(err, -ENOENT, "there is no sandbox \"%.60s\"", sandbox_id);
	return rc;
}

/* ---- deleting ---- */

int checkpoint_delete(struct sandboxes *ss, const char *sandbox_id, const char *id,
		      struct error *err)
{
	struct checkpoints *cs = ss->checkpoints;
	struct checkpoint *c;
	bool found;
	int rc;

	pthread_mutex_lock(&cs->lock);
	c = find_locked(cs, id);
	found = c && strcmp(c->rec.sandbox_id, sandbox_id) == 0;
	pthread_mutex_unlock(&cs->lock);
	if (!found)
		return error_set(err, -ENOENT, "sandbox %.60s has no checkpoint \"%.60s\"",
				 sandbox_id, id);
	rc = snapshots_delete(ss->store->snapshots, id, err);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	forget(cs, id);
	patches_drop(ss, id);
	return rc;
}

/* The oldest of the sandbox go until `keep` are left; the newest is never one. */
static void retain(struct sandboxes *ss, const char *sandbox_id, uint64_t keep)
{
	struct checkpoint_record *list;
	size_t n;

	if (!keep || records_of(ss->checkpoints, sandbox_id, &list, &n) < 0)
		return;
	for (size_t i = 0; n - i > keep; i++) {
		struct error err = ERROR_INIT;
		int rc = checkpoint_delete(ss, sandbox_id, list[i].id, &err);

		if (rc < 0 && rc != -ENOENT)
			log_warn("checkpoint %s of sandbox %s stays: %s", list[i].id, sandbox_id,
				 error_text(&err));
	}
	free(list);
}

/* ---- making ---- */

/* One that has failed, or whose snapshot is gone, gives its name up: else -EEXIST. */
static int name_take(struct sandboxes *ss, const struct checkpoint_record *r, struct error *err)
{
	enum snapshot_status status;
	struct snapshot s;
	int rc = snapshots_get(ss->store->snapshots, r->id, &s, err);

	if (rc == -ENOENT) {
		forget(ss->checkpoints, r->id);
		return 0;
	}
	if (rc < 0)
		return rc;
	status = s.status;
	snapshot_fini(&s);
	if (status != SNAPSHOT_FAILED)
		return error_set(err, -EEXIST, "sandbox %s has a checkpoint \"%s\" already",
				 r->sandbox_id, r->name);
	rc = checkpoint_delete(ss, r->sandbox_id, r->id, err);
	return rc == -ENOENT ? 0 : rc;
}

static int name_free(struct sandboxes *ss, const char *sandbox_id, const char *name,
		     struct error *err)
{
	struct checkpoint_record *list;
	size_t n;
	int rc = checkpoint_name_check(name, err);

	if (rc < 0)
		return rc;
	if (records_of(ss->checkpoints, sandbox_id, &list, &n) < 0)
		return error_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n && rc == 0; i++)
		if (strcmp(list[i].name, name) == 0)
			rc = name_take(ss, &list[i], err);
	free(list);
	return rc;
}

/*
 * Whether there may be one more; keep: as of a wish, where one is deleted then. Those
 * of several sandboxes that are being made at once may go beyond the limit, each by one.
 */
static int limit_check(struct sandboxes *ss, const char *sandbox_id, uint64_t keep,
		       struct error *err)
{
	struct checkpoints *cs = ss->checkpoints;
	struct checkpoint *c;
	size_t own = 0, all;

	if (!ss->checkpoint_limit)
		return 0;
	pthread_mutex_lock(&cs->lock);
	all = cs->n;
	if (keep && all >= ss->checkpoint_limit)
		TAILQ_FOREACH(c, &cs->list, link)
	own += strcmp(c->rec.sandbox_id, sandbox_id) == 0;
	pthread_mutex_unlock(&cs->lock);
	if (all < ss->checkpoint_limit || (keep && own >= keep))
		return 0;
	return error_set(err, -EBUSY,
			 "there are %zu checkpoints of sandboxes, and checkpointLimit allows %u: "
			 "delete some first",
			 all, ss->checkpoint_limit);
}

static struct checkpoint *checkpoint_new(struct sandbox *sb, const char *name,
					 const struct snapshot *s)
{
	struct checkpoint *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	memcpy(c->rec.id, s->id, sizeof(c->rec.id));
	memcpy(c->rec.sandbox_id, sb->id, sizeof(c->rec.sandbox_id));
	strcpy(c->rec.name, name); /* checked */
	c->rec.created_at_ms = s->created_at_ms;
	sandbox_config_copy(&c->rec.config, &sb->rec.config);
	return c;
}

static int note_put(struct sandbox *sb)
{
	char text[64];
	char *json;

	snprintf(text, sizeof(text), "{\"sinceMs\":%lld}", (long long)clock_ms());
	json = strdup(text);
	return json ? record_put(sb->owner->store->kv, META_CHECKPOINTING, sb->id, json, KV_LOG)
		    : -ENOMEM;
}

static void note_del(struct sandboxes *ss, const char *sandbox_id)
{
	if (meta_del(ss->store->kv, META_CHECKPOINTING, sandbox_id, KV_LOG) < 0)
		log_error("sandbox %s: a note of a checkpoint is left", sandbox_id);
}

/* The record of a checkpoint whose snapshot has been made. */
static int record_new(struct sandbox *sb, const char *name, const struct snapshot *s, json_t **out)
{
	struct checkpoints *cs = sb->owner->checkpoints;
	struct checkpoint *c = checkpoint_new(sb, name, s);
	json_t *j = c ? checkpoint_to_json(&c->rec, s) : NULL;
	char *json = NULL;
	int rc = j ? 0 : -ENOMEM;

	if (rc == 0) {
		pthread_mutex_lock(&cs->lock);
		c->rec.sequence = cs->next_sequence++;
		pthread_mutex_unlock(&cs->lock);
		rc = checkpoint_record_encode(&c->rec, &json);
	}
	if (rc == 0)
		rc = record_put(cs->store->kv, META_CHECKPOINT, s->id, json, KV_SYNC);
	if (rc < 0) {
		json_decref(j);
		if (c)
			checkpoint_free(c);
		return rc;
	}
	pthread_mutex_lock(&cs->lock);
	table_add_locked(cs, c);
	pthread_mutex_unlock(&cs->lock);
	*out = j;
	return 0;
}

/* change held, the name is free. */
static int checkpoint_locked(struct sandbox *sb, const struct sandbox_checkpoint_wish *w,
			     json_t **out, struct checkpoint_times *times, struct error *err)
{
	struct mount *m = mount_entry_mount(sb->mount);
	bool runs = sb->container && container_is_running(sb->container);
	const char *cgroup = runs ? container_cgroup(sb->container) : NULL;
	struct snapshot s;
	int rc = note_put(sb);

	if (rc < 0)
		return error_set_errno(err, rc, "cannot note the checkpoint");
	rc = w->id ? mount_checkpoint_as(m, w->id, NULL, cgroup, &s, err)
		   : mount_checkpoint(m, NULL, cgroup, &s, err);
	if (rc == 0) {
		times->pause_ns = mount_last_pause_ns(m);
		times->frozen_ns = mount_last_frozen_ns(m);
		rc = record_new(sb, w->name, &s, out);
		if (rc < 0) {
			error_set_errno(err, rc, "cannot write the checkpoint's record");
			(void)!snapshots_delete(sb->owner->store->snapshots, s.id, NULL);
		}
		snapshot_fini(&s);
	}
	note_del(sb->owner, sb->id);
	return rc;
}

int checkpoint_times_tell(const struct checkpoint_times *t, json_t *reply)
{
	json_int_t pause_us = (json_int_t)(t->pause_ns / 1000);
	json_int_t frozen_us = (json_int_t)(t->frozen_ns / 1000);
	int rc = json_object_set_new(reply, "pauseUs", json_integer(pause_us));

	rc |= json_object_set_new(reply, "frozenUs", json_integer(frozen_us));
	return rc ? -ENOMEM : 0;
}

int sandbox_checkpoint(struct sandbox *sb, const struct sandbox_checkpoint_wish *w, json_t **out,
		       struct checkpoint_times *times, struct error *err)
{
	int rc;

	pthread_mutex_lock(&sb->change);
	if (sb->gone)
		rc = error_set(err, -ENOENT, "sandbox %s has been killed", sb->id);
	else if (!sb->mount)
		rc = error_set(err, -ENOTCONN, "sandbox %s: %s", sb->id, sb->rec.reason);
	else
		rc = name_free(sb->owner, sb->id, w->name, err);
	if (rc == 0)
		rc = limit_check(sb->owner, sb->id, w->keep, err);
	if (rc == 0)
		rc = checkpoint_locked(sb, w, out, times, err);
	if (rc == 0)
		retain(sb->owner, sb->id, w->keep);
	pthread_mutex_unlock(&sb->change);
	return rc;
}

/* ---- using ---- */

/* The record of a checkpoint, where there is one: its config. */
static int find_config(struct checkpoints *cs, const char *sandbox_id, const char *id,
		       struct sandbox_config *out, struct error *err)
{
	struct checkpoint *c;
	bool fits;

	pthread_mutex_lock(&cs->lock);
	c = find_locked(cs, id);
	fits = !sandbox_id || (c && strcmp(c->rec.sandbox_id, sandbox_id) == 0);
	if (c && fits && out)
		sandbox_config_copy(out, &c->rec.config);
	pthread_mutex_unlock(&cs->lock);
	return fits ? 0
		    : error_set(err, -ENOENT, "sandbox %.60s has no checkpoint \"%.60s\"",
				sandbox_id, id);
}

/* Where its mount is sealing it: wait, and read it again. */
static int wait_sealed(struct sandboxes *ss, struct snapshot *s, struct error *err)
{
	struct error ignored = ERROR_INIT;
	struct mount_entry *e;
	char id[SNAPSHOT_ID_SIZE];

	if (!s->mount_id[0] || mounts_get(ss->mounts, s->mount_id, &e, &ignored) < 0)
		return 0;
	memcpy(id, s->id, sizeof(id));
	/* Its record says how it went: another may be the last one by now. */
	if (mount_wait_sealed(mount_entry_mount(e), &ignored) < 0)
		log_debug("sealing %s: %s", id, error_text(&ignored));
	mounts_put(ss->mounts, e);
	snapshot_fini(s);
	*s = (struct snapshot){ 0 };
	return snapshots_get(ss->store->snapshots, id, s, err);
}

int checkpoint_ready(struct sandboxes *ss, const char *sandbox_id, const char *id,
		     struct snapshot *out, struct sandbox_config *out_config, struct error *err)
{
	struct sandbox_config config = { 0 };
	struct snapshot s = { 0 };
	int rc = find_config(ss->checkpoints, sandbox_id, id, &config, err);

	if (rc == 0) {
		rc = snapshots_get(ss->store->snapshots, id, &s, NULL);
		if (rc == 0 && s.status == SNAPSHOT_BUILDING)
			rc = wait_sealed(ss, &s, err);
		if (rc == -ENOENT)
			error_set(err, rc, "there is no checkpoint \"%.60s\"", id);
		else if (rc < 0)
			error_set_errno(err, rc, "checkpoint %.60s", id);
		else if (s.status == SNAPSHOT_BUILDING)
			rc = error_set(err, -EBUSY, "checkpoint %s is being made", s.id);
		else if (s.status == SNAPSHOT_FAILED)
			rc = error_set(err, -EBUSY, "checkpoint %s has failed: %s", s.id, s.error);
	}
	if (rc < 0) {
		snapshot_fini(&s);
		sandbox_config_fini(&config);
		return rc;
	}
	*out = s;
	if (out_config)
		*out_config = config;
	else
		sandbox_config_fini(&config);
	return 0;
}

/* ---- after a restart ---- */

struct note {
	char sandbox_id[SANDBOX_ID_SIZE];
	int64_t since_ms;
};
struct notes {
	struct note *list;
	size_t n;
};

static int note_read(void *arg, const char *rest, const void *text, size_t len)
{
	struct notes *notes = arg;
	json_t *j = json_loadb(text, len, 0, NULL);
	struct note *list = reallocarray(notes->list, notes->n + 1, sizeof(*list));

	if (list) {
		struct note *n = &list[notes->n++];

		notes->list = list;
		snprintf(n->sandbox_id, sizeof(n->sandbox_id), "%s", rest);
		n->since_ms = json_integer_value(json_object_get(j, "sinceMs"));
	}
	json_decref(j);
	return list ? 0 : -ENOMEM;
}

static void drop_unrecorded(struct sandboxes *ss, const char *mount_id, int64_t since_ms)
{
	struct snapshots *snapshots = ss->store->snapshots;
	struct error err = ERROR_INIT;
	struct snapshot *list;
	size_t n;

	if (snapshots_list(snapshots, &list, &n, &err) < 0) {
		log_error("%s", error_text(&err));
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const struct snapshot *s = &list[i];

		if (s->name[0] || strcmp(s->mount_id, mount_id) != 0 ||
		    s->created_at_ms < since_ms || find_locked(ss->checkpoints, s->id))
			continue;
		log_info("checkpoint %s was cut short: deleted", s->id);
		if (snapshots_delete(snapshots, s->id, &err) < 0)
			log_error("checkpoint %s: %s", s->id, error_text(&err));
	}
	snapshots_list_free(list, n);
}

int checkpoints_recover(struct sandboxes *ss, struct error *err)
{
	struct notes notes = { 0 };
	int rc = meta_each(ss->store->kv, META_CHECKPOINTING, "", note_read, &notes);

	for (size_t i = 0; rc == 0 && i < notes.n; i++) {
		struct sandbox *sb;

		TAILQ_FOREACH(sb, &ss->list, link)
		if (strcmp(sb->id, notes.list[i].sandbox_id) == 0)
			drop_unrecorded(ss, sb->rec.mount_id, notes.list[i].since_ms);
		note_del(ss, notes.list[i].sandbox_id);
	}
	free(notes.list);
	return rc < 0 ? error_set_errno(err, rc, "cannot read the notes of checkpoints") : 0;
}
