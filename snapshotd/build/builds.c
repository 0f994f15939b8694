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

static int start_locked(struct builds *b, const struct manifest *m, const struct build_request *rq,
			const char *base_id, struct build **out, struct error *err)
{
	pthread_t thread;
	struct build *bd = NULL;
	int rc;

	if (b->n_active >= BUILDS_ACTIVE_MAX)
		return error_set(err, -EAGAIN, "%u builds are under way already", b->n_active);
	rc = build_new(b, m, rq, &bd, err);
	if (rc < 0)
		return rc;
	bd->number = b->next_number++;
	memcpy(bd->base_id, base_id, sizeof(bd->base_id));
	rc = build_record_put(bd);
	if (rc == 0) /* after what names it: image_cache_sweep_manifests */
		rc = image_cache_put_manifest(b->opt.store, m->key, m->json);
	if (rc < 0)
		error_set_errno(err, rc, "cannot record the build");
	bd->refs = 1; /* the thread's */
	if (rc == 0 && (rc = -pthread_create(&thread, NULL, build_main, bd)) < 0)
		error_set_errno(err, rc, "cannot start a thread");
	if (rc < 0) {
		build_record_remove(b, bd->id);
		build_free(bd);
		return rc;
	}
	pthread_detach(thread);
	LIST_INSERT_HEAD(&b->active, bd, link);
	b->n_active++;
	b->n_threads++;
	*out = bd;
	return 0;
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
	int rc;

	if (!b)
		return error_set(err, -ENOMEM, "out of memory");
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
		rc = builds_recover(b, err);
	if (rc == 0)
		rc = image_cache_sweep(b->opt.store, err);
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
