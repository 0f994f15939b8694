/*
 * The life of a build, on a thread of its own: wait for a turn, find the longest
 * prefix of steps that is cached, mount its snapshot, and then for each further
 * step run it and take a checkpoint, which goes into the cache.
 *
 * While the container runs it is frozen for the checkpoint. It is ended before
 * that where no step follows, and after a step that left processes: they are
 * not to go on behind the next one.
 */
#include "snapshotd/build/builds_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshotd/build/image_cache.h"
#include "store/base/clock.h"
#include "store/base/log.h"

static int enter(struct build *bd, enum build_state to, struct error *err)
{
	int rc;

	pthread_mutex_lock(&bd->owner->lock);
	assert(build_state_may_follow(bd->state, to));
	bd->state = to;
	pthread_mutex_unlock(&bd->owner->lock);
	rc = build_record_put(bd);
	return rc < 0 ? error_set_errno(err, rc, "cannot record the build") : 0;
}

/* ---- preparing ---- */

/* What the steps' results are called, and where to begin. */
struct plan {
	struct build_base base;
	char (*keys)[DIGEST_HEX_SIZE]; /* malloc'd; one a step */
	struct snapshot from;	       /* the longest cached prefix, or the base */
	size_t begin;		       /* steps that it has */
};

static void plan_fini(struct plan *p)
{
	build_base_fini(&p->base);
	snapshot_fini(&p->from);
	free(p->keys);
}

static int plan_make(struct build *bd, struct plan *p, struct error *err)
{
	const struct manifest *m = &bd->m;
	struct store *store = bd->owner->opt.store;
	int rc = builds_base(bd->owner, m, &p->base, err);

	if (rc < 0)
		return error_set(err, -ECHILD, "%s", error_text(err));
	/* It may be another one than that of the request: those to come are to know. */
	pthread_mutex_lock(&bd->owner->lock);
	memcpy(bd->base_id, p->base.id, sizeof(bd->base_id));
	pthread_mutex_unlock(&bd->owner->lock);
	p->keys = calloc(m->n_steps, sizeof(*p->keys));
	if (!p->keys)
		return error_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < m->n_steps; i++) {
		rc = manifest_step_key(i ? p->keys[i - 1] : p->base.id, &m->steps[i], p->keys[i]);
		if (rc < 0)
			return error_set_errno(err, rc, "step %zu", i + 1);
	}
	if (m->n_steps)
		memcpy(bd->last_key, p->keys[m->n_steps - 1], sizeof(bd->last_key));
	for (size_t n = bd->force ? 0 : m->n_steps; n > 0 && p->begin == 0; n--) {
		rc = image_cache_find_step(store, p->keys[n - 1], &p->from);
		if (rc == 0)
			p->begin = n;
		else if (rc != -ENOENT)
			log_warn("step %zu of build %s: its cache entry: %s", n, bd->id,
				 strerror(-rc));
	}
	if (p->begin == 0) {
		p->from = p->base.snap;
		json_incref(p->from.config);
	}
	return build_share_begin(bd, (const char(*)[DIGEST_HEX_SIZE])p->keys, &p->begin, &p->from,
				 err);
}

static struct image_entry entry_of(const struct build *bd, const struct plan *p,
				   const char *snapshot_id)
{
	struct image_entry e = { .n_steps = bd->m.n_steps,
				 .new_bytes = bd->new_bytes,
				 .created_at_ms = clock_ms() };

	memcpy(e.key, bd->m.key, sizeof(e.key));
	memcpy(e.base_id, p->base.id, sizeof(e.base_id));
	snprintf(e.snapshot_id, sizeof(e.snapshot_id), "%s", snapshot_id);
	return e;
}

static const char *base_text(const struct build *bd)
{
	return json_string_value(json_object_get(bd->m.json, "base"));
}

static int make_mount(struct build *bd, const struct plan *p, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf root = BUF_INIT;
	struct builds *b = bd->owner;
	struct mount_options o = { .is_volatile = true, /* it is of no use after a power cut */
				   .allow_suid = true,
				   .container_root = true,
				   .quota_inodes = b->opt.quota_inodes,
				   .quota_bytes = b->opt.quota_bytes };
	struct mount_info info;
	int rc;

	if (buf_printf(&root, "%s/root", bd->dir) < 0 || !(o.mountpoint = buf_cstr(&root)))
		return error_set(err, -ENOMEM, "out of memory");
	if (mkdir(bd->dir, 0700) < 0 || mkdir(o.mountpoint, 0700) < 0)
		return error_set_errno(err, -errno, "cannot make %s", o.mountpoint);
	rc = mounts_create(b->opt.mounts, &p->from, &o, &bd->mount, err);
	if (rc < 0)
		return rc;
	mount_get_info(mount_entry_mount(bd->mount), &info);
	pthread_mutex_lock(&b->lock);
	memcpy(bd->mount_id, info.id, sizeof(bd->mount_id));
	pthread_mutex_unlock(&b->lock);
	return 0;
}

static int start_container(struct build *bd, struct error *err)
{
	const struct builds_options *o = &bd->owner->opt;
	CLEANUP(buf_fini_p) struct buf root = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf id = BUF_INIT;
	uint64_t mb = bd->m.builder_memory_mb ? bd->m.builder_memory_mb : o->memory_mb;
	struct container_options c = { .hostname = "build",
				       .memory_bytes = mb << 20,
				       .pids = o->pids,
				       .network_none = o->network_none,
				       .resolv_conf = true };

	if (buf_printf(&root, "%s/root", bd->dir) < 0 || buf_printf(&id, "build-%s", bd->id) < 0 ||
	    !(c.rootfs = buf_cstr(&root)) || !(c.id = buf_cstr(&id)))
		return error_set(err, -ENOMEM, "out of memory");
	return container_start(o->runtime, &c, &bd->container, err);
}

static int prepare(struct build *bd, const struct plan *p, struct error *err)
{
	int rc = image_config_load(p->from.config, &bd->config);

	if (rc < 0)
		return error_set_errno(err, rc, "the config of the base");
	bd->base_config = json_incref(p->from.config);
	bd->cached_steps = (unsigned)p->begin;
	for (size_t i = 0; i < p->begin; i++) {
		bd->step = (unsigned)i + 1;
		build_info(bd, "step %zu of %zu (%s): cached", i + 1, bd->m.n_steps,
			   bd->m.steps[i].type_name);
	}
	bd->step = 0;
	return p->begin < bd->m.n_steps ? make_mount(bd, p, err) : 0;
}

/* ---- one step ---- */

/* What a step has left running is not to go on behind the next one. */
static void end_leftovers(struct build *bd)
{
	unsigned n = build_leftovers(bd);

	if (n == 0)
		return;
	build_info(bd, "%u processes that the step left running are ended", n);
	container_stop(STEAL(bd->container));
}

/* -ECHILD where pages that were still to be written found no room. */
static int check_space(struct build *bd, uint64_t before, struct error *err)
{
	char text[BUILD_SPACE_TEXT];
	struct mount_info info;

	mount_get_info(mount_entry_mount(bd->mount), &info);
	if (info.no_space == before)
		return 0;
	json_decref(bd->failure);
	bd->failure = json_pack("{s:i, s:s, s:s}", "step", (int)bd->step, "type",
				bd->m.steps[bd->step - 1].type_name, "kind", "space");
	build_say_space(bd, text);
	return error_set(err, -ECHILD, "%s", text);
}

/* The mount as it is now; *out is ready. */
static int seal(struct build *bd, struct snapshot *out, struct error *err)
{
	struct mount *m = mount_entry_mount(bd->mount);
	const char *cgroup = bd->container ? container_cgroup(bd->container) : NULL;
	char id[SNAPSHOT_ID_SIZE];
	int rc = mount_checkpoint(m, NULL, cgroup, out, err);

	if (rc < 0 || out->status == SNAPSHOT_READY)
		return rc;
	memcpy(id, out->id, sizeof(id));
	snapshot_fini(out);
	*out = (struct snapshot){ 0 };
	rc = mount_wait_sealed(m, err);
	if (rc == 0)
		rc = snapshots_get(bd->owner->opt.store->snapshots, id, out, err);
	if (rc == 0 && out->status != SNAPSHOT_READY)
		rc = error_set(err, -EIO, "%s", out->error);
	return rc;
}

static int record_step(struct build *bd, const struct plan *p, const struct snapshot *s,
		       struct error *err)
{
	struct image_entry e;
	json_t *config = image_config_merge(bd->base_config, &bd->config);
	const struct image_step step = { .key = p->keys[bd->step - 1],
					 .snapshot_id = s->id,
					 .build_id = bd->id,
					 .base = base_text(bd),
					 .config = config };
	bool last = bd->step == bd->m.n_steps;
	int rc;

	if (!config)
		return error_set(err, -ENOMEM, "out of memory");
	bd->new_bytes += s->new_bytes;
	e = entry_of(bd, p, s->id);
	rc = image_cache_put(bd->owner->opt.store, &step, last ? &e : NULL, err);
	json_decref(config);
	if (rc == 0 && last)
		memcpy(bd->snapshot_id, s->id, sizeof(bd->snapshot_id));
	return rc;
}

static int checkpoint(struct build *bd, const struct plan *p, struct error *err)
{
	struct snapshot s = { 0 };
	struct mount_info before;
	int rc;

	if (bd->container)
		end_leftovers(bd);
	if (bd->step == bd->m.n_steps)
		container_stop(STEAL(bd->container));
	rc = enter(bd, BUILD_CHECKPOINTING, err);
	if (rc < 0)
		return rc;
	mount_get_info(mount_entry_mount(bd->mount), &before);
	rc = seal(bd, &s, err);
	if (rc == 0)
		rc = check_space(bd, before.no_space, err);
	else
		rc = error_prefix(err, rc, "cannot checkpoint");
	if (rc == 0)
		rc = record_step(bd, p, &s, err);
	if (rc < 0 && s.id[0] && snapshots_delete(bd->owner->opt.store->snapshots, s.id, NULL) < 0)
		log_debug("snapshot %s is gone already", s.id);
	snapshot_fini(&s);
	return rc;
}

static int run_step(struct build *bd, const struct plan *p, struct error *err)
{
	const struct manifest_step *s = &bd->m.steps[bd->step - 1];
	int rc = enter(bd, BUILD_STEP, err);

	if (rc < 0)
		return rc;
	build_info(bd, "step %u of %zu: %s", bd->step, bd->m.n_steps, s->type_name);
	bd->step_deadline_ms = monotonic_ms() + (int64_t)bd->owner->opt.step_timeout_s * 1000;
	if (!bd->container)
		rc = start_container(bd, err);
	if (rc == 0)
		rc = build_step_run(bd, s, err);
	if (rc == 0 && build_is_cancelled(bd))
		rc = error_set(err, -ECANCELED, "cancelled");
	return rc < 0 ? rc : checkpoint(bd, p, err);
}

/* ---- all of it ---- */

static int link_cached(struct build *bd, const struct plan *p, struct error *err)
{
	struct image_entry e = entry_of(bd, p, p->from.id);
	int rc = image_cache_link(bd->owner->opt.store, &e, base_text(bd), err);

	if (rc == 0)
		memcpy(bd->snapshot_id, p->from.id, sizeof(bd->snapshot_id));
	return rc;
}

static int run(struct build *bd, struct error *err)
{
	struct plan p = { 0 };
	int rc;

	bd->started_at_ms = clock_ms();
	bd->deadline_ms = monotonic_ms() + (int64_t)bd->owner->opt.total_timeout_s * 1000;
	rc = build_record_put(bd);
	if (rc < 0)
		error_set_errno(err, rc, "cannot record the build");
	else
		rc = plan_make(bd, &p, err);
	if (rc == 0)
		rc = prepare(bd, &p, err);
	for (size_t i = p.begin; i < bd->m.n_steps && rc == 0; i++) {
		bd->step = (unsigned)i + 1;
		rc = build_is_cancelled(bd) ? error_set(err, -ECANCELED, "cancelled")
					    : run_step(bd, &p, err);
		if (rc < 0) {
			bd->failed_step = bd->step;
			error_prefix(err, rc, "step %u (%s)", bd->step, bd->m.steps[i].type_name);
		}
	}
	if (rc == 0 && p.begin == bd->m.n_steps)
		rc = link_cached(bd, &p, err);
	plan_fini(&p);
	return rc;
}

/* Everything that only a running build has. keep: its mount stays. */
static void tear_down(struct build *bd, bool keep)
{
	CLEANUP(buf_fini_p) struct buf root = BUF_INIT;

	container_stop(STEAL(bd->container));
	if (bd->mount && keep) {
		bd->mount_kept = true;
		mounts_put(bd->owner->opt.mounts, STEAL(bd->mount));
		return;
	}
	if (bd->mount)
		builds_drop_mount(bd->owner, STEAL(bd->mount));
	if (buf_printf(&root, "%s/root", bd->dir) < 0 || !buf_cstr(&root))
		return;
	if ((rmdir((char *)root.data) < 0 || rmdir(bd->dir) < 0) && errno != ENOENT)
		log_warn("%s cannot be removed: %s", bd->dir, strerror(errno));
}

static void set_end(struct build *bd, int rc, const struct error *err)
{
	enum build_state to = BUILD_READY;

	bd->ended_at_ms = clock_ms();
	if (rc < 0 && build_is_cancelled(bd)) {
		to = BUILD_CANCELLED;
		error_set(&bd->error, -ECANCELED, "the build was cancelled%s",
			  atomic_load(&bd->cancelled) ? "" : ": snapshotd is stopping");
	} else if (rc < 0) {
		to = BUILD_FAILED;
		error_set(&bd->error, rc, "%s", error_text(err));
	}
	if (rc == 0)
		build_info(bd, "the image is ready");
	else
		build_info(bd, "%s", bd->error.msg);
	if (rc < 0)
		bd->snapshot_id[0] = '\0';
	build_log_sync(bd->log); /* a record of an end has its log */
	if (enter(bd, to, &bd->error) < 0)
		log_error("build %s: %s", bd->id, error_text(&bd->error));
}

/* From here on nobody joins; those who wait are told. See builds.c for the order. */
static void finish(struct build *bd)
{
	struct builds *b = bd->owner;
	struct named *named;
	size_t n;

	pthread_mutex_lock(&b->lock);
	LIST_REMOVE(bd, link);
	b->n_active--;
	build_turn_end_locked(bd);
	named = STEAL(bd->named);
	n = bd->n_named;
	bd->n_named = 0;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
	build_finish_named(bd, named, n);
	free(named);
	build_log_end(bd->log);
	if (bd->state == BUILD_FAILED)
		log_info("build %s has failed: %s", bd->id, bd->error.msg);
	else
		log_info("build %s is %s", bd->id, build_state_name(bd->state));
	builds_prune(b);
}

void *build_main(void *arg)
{
	struct build *bd = arg;
	struct builds *b = bd->owner;
	struct error err = ERROR_INIT;
	int rc;

	pthread_setname_np(pthread_self(), "varve-build");
	rc = build_turn_wait(bd);
	if (rc == 0)
		rc = run(bd, &err);
	tear_down(bd, rc < 0 && !build_is_cancelled(bd) && atomic_load(&bd->keep_failed));
	set_end(bd, rc, &err);
	finish(bd);
	if (rc == 0)
		build_share_done(bd);
	else
		build_share_failed(bd);
	build_unref(bd);
	pthread_mutex_lock(&b->lock);
	b->n_threads--;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
	return NULL;
}
