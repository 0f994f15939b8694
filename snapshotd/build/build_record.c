/*
 * Records of builds. "build/ID" is what the API shows, but for times, which are
 * numbers (createdAtMs, ...).
 */
#include "snapshotd/build/builds_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshotd/state/json_record.h"
#include "store/base/bytes_json.h"
#include "store/base/listed.h"
#include "store/base/log.h"

static const char *const times[] = { "createdAt", "startedAt", "endedAt" };

char *builds_path(const struct builds *b, const char *id, const char *suffix)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;

	if (buf_printf(&path, "%s/%s%s", b->dir, id, suffix) < 0 || !buf_cstr(&path))
		return NULL;
	return (char *)STEAL(path.data);
}

static json_t *text_or_null(const char *s)
{
	return s[0] ? bytes_json(s, strlen(s)) : json_null();
}

static json_t *time_or_null(int64_t ms)
{
	return ms ? json_integer(ms) : json_null();
}

static json_t *record_of(struct build *bd)
{
	const struct manifest *m = &bd->m;
	bool in_step = bd->step >= 1 && bd->step <= m->n_steps;
	json_t *j =
		json_pack("{s:s, s:s, s:o, s:O?, s:s, s:i, s:I, s:s?, s:i, s:b, s:b, s:o}", "id",
			  bd->id, "key", m->key, "name", text_or_null(bd->name), "base",
			  json_object_get(m->json, "base"), "state", build_state_name(bd->state),
			  "step", (int)bd->step, "stepCount", (json_int_t)m->n_steps, "stepType",
			  in_step ? m->steps[bd->step - 1].type_name : NULL, "cachedSteps",
			  (int)bd->cached_steps, "force", bd->force, "keepFailed",
			  atomic_load(&bd->keep_failed), "error", text_or_null(bd->error.msg));
	int rc = j ? 0 : -1;

	rc |= json_object_set_new(j, "failedStep",
				  bd->failed_step ? json_integer(bd->failed_step) : json_null());
	rc |= json_object_set_new(j, "failure",
				  bd->failure ? json_incref(bd->failure) : json_null());
	rc |= json_object_set_new(j, "restarts", json_integer(bd->restarts));
	rc |= json_object_set_new(j, "snapshotID", text_or_null(bd->snapshot_id));
	rc |= json_object_set_new(j, "mountID", text_or_null(bd->mount_kept ? bd->mount_id : ""));
	rc |= json_object_set_new(j, "createdAtMs", time_or_null(bd->created_at_ms));
	rc |= json_object_set_new(j, "startedAtMs", time_or_null(bd->started_at_ms));
	rc |= json_object_set_new(j, "endedAtMs", time_or_null(bd->ended_at_ms));
	if (rc == 0)
		return j;
	json_decref(j);
	return NULL;
}

int build_record_put(struct build *bd)
{
	json_auto_t *j = record_of(bd);
	/* Whoever waits is told of the end; before it a build is lost in any crash. */
	enum kv_durability d = build_state_is_final(bd->state) ? KV_SYNC : KV_LOG;

	return j ? json_record_put(bd->owner->opt.store->kv, META_BUILD, bd->id, j, d) : -ENOMEM;
}

/* ---- the list ---- */

static json_int_t get_int(const json_t *j, const char *name)
{
	return json_integer_value(json_object_get(j, name));
}

/* A record as the API shows it. */
static json_t *to_api(const json_t *record)
{
	json_t *j = json_deep_copy(record);

	for (size_t i = 0; i < ARRAY_SIZE(times) && j; i++) {
		char name[32], text[TIME_TEXT_SIZE];
		json_int_t ms;

		snprintf(name, sizeof(name), "%sMs", times[i]);
		ms = get_int(j, name);
		time_to_text(ms, text);
		if (json_object_del(j, name) ||
		    json_object_set_new(j, times[i], ms ? json_string(text) : json_null())) {
			json_decref(j);
			j = NULL;
		}
	}
	return j;
}

int builds_get(struct builds *b, const char *id, json_t **out, struct error *err)
{
	json_auto_t *j = NULL;
	int rc = json_record_get(b->opt.store->kv, META_BUILD, id, &j);

	if (rc == -ENOENT)
		return error_set(err, rc, "no build has the id \"%.64s\"", id);
	if (rc < 0)
		return error_set_errno(err, rc, "build %.64s", id);
	*out = to_api(j);
	return *out ? 0 : error_set(err, -ENOMEM, "out of memory");
}

static int collect(void *arg, const char *name, const json_t *j)
{
	return listed_add(arg, -get_int(j, "createdAtMs"), name);
}

/* Each record as it is in the store, newest first. As json_record_each. */
static int each_record(struct builds *b, json_record_fn fn, void *arg)
{
	CLEANUP(buf_fini_p) struct buf list = BUF_INIT;
	struct kv *kv = b->opt.store->kv;
	int rc = json_record_each(kv, META_BUILD, collect, &list);
	size_t n;
	const struct listed *l = listed_sort(&list, &n);

	for (size_t i = 0; i < n && rc == 0; i++) {
		json_auto_t *j = NULL;

		rc = json_record_get(kv, META_BUILD, l[i].id, &j);
		if (rc == 0)
			rc = fn(arg, l[i].id, j);
		else if (rc == -ENOENT) /* pruned meanwhile */
			rc = 0;
	}
	return rc;
}

struct shown {
	json_record_fn fn;
	void *arg;
};

static int show(void *arg, const char *id, const json_t *record)
{
	const struct shown *s = arg;
	json_auto_t *j = to_api(record);

	return j ? s->fn(s->arg, id, j) : -ENOMEM;
}

int builds_each(struct builds *b, json_record_fn fn, void *arg, struct error *err)
{
	struct shown s = { fn, arg };
	int rc = each_record(b, show, &s);

	return rc < 0 ? error_set_errno(err, rc, "cannot list the builds") : rc;
}

int builds_log(struct builds *b, const char *id, build_log_fn fn, void *arg, struct error *err)
{
	json_t *j = NULL;
	char *path;
	int rc = builds_get(b, id, &j, err);

	json_decref(j);
	if (rc < 0)
		return rc;
	path = builds_path(b, id, ".log");
	rc = path ? build_log_replay(path, fn, arg) : -ENOMEM;
	free(path);
	return rc < 0 && rc != -ENOENT ? error_set_errno(err, rc, "the log of build %s", id) : 0;
}

int build_record_outcome(struct builds *b, const char *id, struct build_outcome *out,
			 struct error *err)
{
	json_auto_t *j = NULL;
	int rc = builds_get(b, id, &j, err);

	if (rc < 0)
		return rc;
	snprintf(out->build_id, sizeof(out->build_id), "%s", id);
	snprintf(out->snapshot_id, sizeof(out->snapshot_id), "%s",
		 json_record_text(j, "snapshotID"));
	out->failed_step = (unsigned)get_int(j, "failedStep");
	if (strcmp(json_record_text(j, "state"), build_state_name(BUILD_READY)) == 0)
		return 0;
	return error_set(err, -ECHILD, "%s", json_record_text(j, "error"));
}

static bool record_is_final(const json_t *j)
{
	enum build_state s;

	return build_state_parse(json_record_text(j, "state"), &s) < 0 || build_state_is_final(s);
}

void build_record_remove(struct builds *b, const char *id)
{
	char *path = builds_path(b, id, ".log");

	if (meta_del(b->opt.store->kv, META_BUILD, id, KV_LOG) < 0 ||
	    (path && unlink(path) < 0 && errno != ENOENT))
		log_warn("build %s cannot be removed", id);
	free(path);
}

struct pruning {
	struct builds *b;
	unsigned kept;
};

static int prune_one(void *arg, const char *id, const json_t *j)
{
	struct pruning *p = arg;

	if (record_is_final(j) && p->kept++ >= BUILDS_KEPT)
		build_record_remove(p->b, id);
	return 0;
}

void builds_prune(struct builds *b)
{
	struct pruning p = { .b = b };
	int rc = each_record(b, prune_one, &p);

	if (rc < 0)
		log_warn("old builds are kept: %s", strerror(-rc));
}
