/*
 * Which build a request gets. All of that happens under one lock: is a build of
 * the key under way, has one ended just now (then its image is in the cache),
 * else begin one. So there is one build a key, however many ask.
 *
 * A build leaves `active` only after its record and its image are written, so
 * whoever does not find it there finds those.
 */
#include "snapshotd/build/builds_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "snapshotd/build/image_cache.h"
#include "snapshotd/state/json_record.h"
#include "store/base/listed.h"
#include "store/base/log.h"

static int add_named_locked(struct build *bd, const struct named *named)
{
	struct named *list;

	if (bd->n_named == BUILDS_NAMED_MAX)
		return -EAGAIN;
	list = reallocarray(bd->named, bd->n_named + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	bd->named = list;
	list[bd->n_named++] = *named;
	return 0;
}

/* ---- joining and starting ---- */

/*
 * A request that ignores the cache is not served by a build that uses it, nor
 * one upon a base by a build upon what had that base's name before.
 */
static struct build *find_key_locked(struct builds *b, const char *key, const char *base_id,
				     bool force)
{
	struct build *bd;

	LIST_FOREACH(bd, &b->active, link)
	if (strcmp(bd->m.key, key) == 0 && strcmp(bd->base_id, base_id) == 0 &&
	    (bd->force || !force) && !atomic_load(&bd->cancelled) &&
	    !build_state_is_final(bd->state))
		return bd;
	return NULL;
}

/* Its thread, with what bd has so far; bd is the thread's from then on. */
static int launch_locked(struct builds *b, struct build *bd, const char *base_id, struct error *err)
{
	pthread_t thread;
	int rc;

	bd->number = b->next_number++;
	memcpy(bd->base_id, base_id, sizeof(bd->base_id));
	rc = build_record_put(bd);
	if (rc == 0) /* after what names it: image_cache_sweep_manifests */
		rc = image_cache_put_manifest(b->opt.store, bd->m.key, bd->m.json);
	if (rc < 0)
		error_set_errno(err, rc, "cannot record the build");
	bd->refs = 1; /* the thread's */
	if (rc == 0 && (rc = -pthread_create(&thread, NULL, build_main, bd)) < 0)
		error_set_errno(err, rc, "cannot start a thread");
	if (rc < 0)
		return rc;
	pthread_detach(thread);
	LIST_INSERT_HEAD(&b->active, bd, link);
	b->n_active++;
	b->n_threads++;
	return 0;
}

static int start_locked(struct builds *b, const struct manifest *m, const struct build_request *rq,
			const char *base_id, struct build **out, struct error *err)
{
	struct build *bd = NULL;
	int rc;

	if (b->n_active >= BUILDS_ACTIVE_MAX)
		return error_set(err, -EAGAIN, "%u builds are under way already", b->n_active);
	rc = build_new(b, m, rq, NULL, &bd, err);
	if (rc == 0 && (rc = launch_locked(b, bd, base_id, err)) < 0) {
		build_record_remove(b, bd->id);
		build_free(bd);
	}
	if (rc == 0)
		*out = bd;
	return rc;
}

/* Whether the key has been built since the caller looked. */
static bool is_cached(struct builds *b, const struct manifest *m, const char *base_id,
		      struct build_outcome *oc)
{
	struct image_entry e;
	struct snapshot s = { 0 };

	if (image_cache_find(b->opt.store, m->key, base_id, &e, &s) < 0)
		return false;
	memcpy(oc->snapshot_id, s.id, sizeof(oc->snapshot_id));
	oc->cached = true;
	snapshot_fini(&s);
	return true;
}

int builds_join(struct builds *b, const struct manifest *m, const struct build_request *rq,
		const char *base_id, const struct named *named, struct build **out,
		struct build_outcome *oc, struct error *err)
{
	struct build *bd;
	int rc = 0;

	/* I/O under the lock: a look into the cache and two small records; see above. */
	pthread_mutex_lock(&b->lock);
	bd = find_key_locked(b, m->key, base_id, rq->force);
	if (atomic_load(&b->stopping))
		rc = error_set(err, -ECANCELED, "snapshotd is stopping");
	else if (!bd && !rq->force && is_cached(b, m, base_id, oc))
		rc = 1;
	else if (!bd)
		rc = start_locked(b, m, rq, base_id, &bd, err);
	if (rc == 0 && named && (rc = add_named_locked(bd, named)) < 0)
		error_set_errno(err, rc, "cannot wait for build %s", bd->id);
	if (rc == 0) {
		bd->refs++;
		if (rq->keep_failed)
			atomic_store(&bd->keep_failed, true);
		memcpy(oc->build_id, bd->id, sizeof(oc->build_id));
		*out = bd;
	}
	pthread_mutex_unlock(&b->lock);
	return rc;
}

int builds_cancel(struct builds *b, const char *id, struct error *err)
{
	struct build *bd = builds_find(b, id);
	json_t *j = NULL;
	int rc;

	if (bd) {
		atomic_store(&bd->cancelled, true);
		pthread_mutex_lock(&b->lock);
		pthread_cond_broadcast(&b->changed);
		pthread_mutex_unlock(&b->lock);
		build_unref(bd);
		return 0;
	}
	rc = builds_get(b, id, &j, err);
	if (rc == 0)
		rc = error_set(err, -ENOTCONN, "build %s has ended: it is %s", id,
			       json_string_value(json_object_get(j, "state")));
	json_decref(j);
	return rc;
}

/* ---- what a former daemon has begun ---- */

static int add_if_waiting(void *arg, const struct snapshot *s)
{
	struct build *bd = arg;
	struct named named = { .id = "" };

	if (s->status != SNAPSHOT_BUILDING || strcmp(s->build_id, bd->id) != 0)
		return 0;
	memcpy(named.id, s->id, sizeof(named.id));
	memcpy(named.take, s->takes, sizeof(named.take));
	return add_named_locked(bd, &named);
}

/* The snapshots that it is to make ready. */
static int find_named(struct builds *b, struct build *bd)
{
	return snapshots_each_unfinished(b->opt.store->snapshots, add_if_waiting, bd, NULL);
}

static int resume(struct builds *b, const char *id, const json_t *record, struct error *err)
{
	const struct build_past past = { id, json_record_int(record, "createdAtMs"),
					 (unsigned)json_record_int(record, "restarts") + 1 };
	const char *name = json_record_text(record, "name");
	const struct build_request rq = { .force = json_is_true(json_object_get(record, "force")),
					  .keep_failed = json_is_true(
						  json_object_get(record, "keepFailed")),
					  .name = name[0] ? name : NULL };
	json_t *j = image_cache_manifest(b->opt.store, json_record_text(record, "key"));
	struct build_base base = { 0 };
	struct build *bd = NULL;
	struct manifest m;
	int rc = j ? manifest_parse(j, &m, err) : error_set(err, -ENOENT, "its manifest is gone");

	json_decref(j);
	if (rc < 0)
		return rc;
	/* Without its base it fails by itself, and says why. */
	if (builds_base(b, &m, &base, NULL) < 0)
		log_debug("the base of build %s is gone", id);
	rc = build_new(b, &m, &rq, &past, &bd, err);
	if (rc == 0) {
		build_info(bd, "snapshotd has died; its successor goes on with the build");
		pthread_mutex_lock(&b->lock);
		rc = find_named(b, bd);
		if (rc == 0)
			rc = launch_locked(b, bd, base.id, err);
		pthread_mutex_unlock(&b->lock);
		if (rc < 0)
			build_free(bd);
	}
	build_base_fini(&base);
	manifest_fini(&m);
	return rc;
}

/* Oldest first, as they were queued. What cannot go on has failed. */
static void resume_all(struct builds *b, const json_t *unfinished)
{
	CLEANUP(buf_fini_p) struct buf order = BUF_INIT;
	const struct listed *l;
	const char *id;
	json_t *record;
	size_t n = 0;

	json_object_foreach((json_t *)unfinished, id, record)
		if (listed_add(&order, json_record_int(record, "createdAtMs"), id) < 0)
			log_error("out of memory: build %s does not go on", id);
	l = listed_sort(&order, &n);
	for (size_t i = 0; i < n; i++) {
		struct error err = ERROR_INIT;

		if (resume(b, l[i].id, json_object_get(unfinished, l[i].id), &err) < 0)
			builds_recover_failed(b, l[i].id, error_text(&err));
		else
			log_info("build %s goes on", l[i].id);
	}
}

/* ---- open and close ---- */

static void builds_free(struct builds *b)
{
	free((char *)b->opt.default_template);
	json_decref((json_t *)b->opt.env);
	free(b->dir);
	pthread_cond_destroy(&b->changed);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static void set_defaults(struct builds_options *o)
{
	o->max_concurrent = o->max_concurrent ? o->max_concurrent : 2;
	o->memory_mb = o->memory_mb ? o->memory_mb : 4096;
	o->pids = o->pids ? o->pids : 4096;
	o->step_timeout_s = o->step_timeout_s ? o->step_timeout_s : 1800;
	o->total_timeout_s = o->total_timeout_s ? o->total_timeout_s : 7200;
}

/* STATE/builds, made where it is missing, as the kernel names it. */
static int make_dir(struct builds *b, const char *state_dir, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	const char *p;

	if (buf_printf(&path, "%s/builds", state_dir) < 0 || !(p = buf_cstr(&path)))
		return error_set(err, -ENOMEM, "out of memory");
	if (mkdir(p, 0700) < 0 && errno != EEXIST)
		return error_set_errno(err, -errno, "cannot make %s", p);
	b->dir = realpath(p, NULL);
	return b->dir ? 0 : error_set_errno(err, -errno, "%s", p);
}

int builds_open(const struct builds_options *o, struct builds **out, struct error *err)
{
	struct builds *b = calloc(1, sizeof(*b));
	json_t *unfinished = json_object();
	int rc;

	if (!b || !unfinished) {
		free(b);
		json_decref(unfinished);
		return error_set(err, -ENOMEM, "out of memory");
	}
	b->opt = *o;
	set_defaults(&b->opt);
	b->opt.state_dir = NULL; /* not kept */
	b->opt.env = json_incref((json_t *)o->env);
	b->opt.default_template = strdup(o->default_template);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
	LIST_INIT(&b->active);
	atomic_init(&b->stopping, false);
	rc = b->opt.default_template ? make_dir(b, o->state_dir, err)
				     : error_set(err, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = builds_recover(b, unfinished, err);
	if (rc == 0)
		rc = image_cache_sweep(b->opt.store, err);
	if (rc == 0)
		resume_all(b, unfinished);
	json_decref(unfinished);
	if (rc < 0)
		builds_free(b);
	else
		*out = b;
	return rc;
}

void builds_close(struct builds *b)
{
	if (!b)
		return;
	atomic_store(&b->stopping, true);
	pthread_mutex_lock(&b->lock);
	pthread_cond_broadcast(&b->changed);
	while (b->n_threads)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
	builds_free(b);
}
