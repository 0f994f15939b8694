/*
 * What a build has in common with other hosts, where the daemon shares ("share" in the config).
 *
 * The result of each step has a key that begins with what the base is, so equal keys are equal
 * images on all hosts. A build first takes what this host has, then what the bucket has, lazily.
 * For what neither has, it claims the key of the last step: one host builds, the others wait for it
 * and take its image. Whatever goes wrong with the bucket, the build goes on by itself; the daemon
 * publishes what it has made when the bucket is back.
 */
#include "snapshotd/build/builds_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "snapshotd/build/image_cache.h"
#include "snapshotd/state/sharer.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/share/claim.h"
#include "store/share/pull.h"
#include "store/remote/share_ids.h"

#define FIND_TIMEOUT_MS 10000

static bool stops_pull(void *arg)
{
	return build_is_cancelled(arg);
}

/* ---- images of other hosts ---- */

/*
 * Somebody has given the pulled snapshot a name: the cache gets one of its own, of the same tree.
 * It replaces *s.
 */
static int make_twin(struct store *store, const char *uuid, const struct share_id *id,
		     struct snapshot *s, struct error *err)
{
	CLEANUP(kv_batch_free_p) struct kv_batch *b = kv_batch_new();
	struct snapshot twin = { 0 };
	struct store_hold hold;
	int rc = b ? store_hold_snapshot(store, s->id, &twin, &hold, err) : -ENOMEM;

	if (rc < 0)
		return rc;
	twin.name[0] = '\0';
	twin.pinned = false;
	twin.new_bytes = 0;
	id_random(twin.id);
	rc = share_ids_put(store->kv, b, uuid, twin.id, id);
	if (rc == 0)
		rc = snapshots_put(store->snapshots, &twin, b, err);
	store_release(store, &hold);
	if (rc < 0) {
		snapshot_fini(&twin);
		return rc;
	}
	snapshot_fini(s);
	*s = twin;
	return 0;
}

/* Whether it was here before, for another reason than as an image in the cache. */
static bool is_somebodys(const struct pull_result *res)
{
	const struct snapshot *s = &res->snapshot;

	return s->name[0] || s->pinned || (res->existed && !image_cache_owns(s));
}

struct adoption {
	struct store *store;
	struct remotes *remotes;
	const char *build_id;
	struct progress *p; /* or NULL */
};

/* Pull it lazily, and make it the result of a step here. */
static int adopt(const struct adoption *a, struct remote *r, const char *step_key,
		 const struct share_record *rec, struct snapshot *out, struct error *err)
{
	struct lazy_index *index = remotes_index(a->remotes);
	const struct pull_options opt = { .index = index,
					  .prefetch = remotes_prefetch(a->remotes),
					  .lazy = index != NULL };
	struct pull_result res;
	char reference[SHARE_ID_SIZE];
	json_t *config;
	int rc;

	share_id_text(&rec->id, reference);
	rc = pull_snapshot(a->store, r, reference, &opt, a->p, &res, err);
	if (rc < 0)
		return rc;
	if (is_somebodys(&res))
		rc = make_twin(a->store, remote_uuid(r), &rec->id, &res.snapshot, err);
	config = res.snapshot.config ? json_incref(res.snapshot.config) : json_object();
	const struct image_step step = { .key = step_key,
					 .snapshot_id = res.snapshot.id,
					 .build_id = a->build_id,
					 .base = "",
					 .config = config };
	if (rc == 0)
		rc = image_cache_put(a->store, &step, NULL, err);
	if (rc == 0)
		rc = share_note_put(a->store->kv, remote_uuid(r), SHARE_NOTE_IMAGE, step_key,
				    res.snapshot.id);
	json_decref(config);
	if (rc < 0)
		snapshot_fini(&res.snapshot);
	else
		*out = res.snapshot;
	return rc;
}

int builds_take_image(struct store *s, struct remotes *rs, struct remote *r,
		      const struct lost_image *lost, struct error *err)
{
	struct snapshot own = { 0 }, taken = { 0 };
	struct adoption a = { .store = s, .remotes = rs };
	int rc = snapshots_get(s->snapshots, lost->local, &own, err);

	if (rc < 0)
		return rc;
	a.build_id = own.build_id;
	rc = adopt(&a, r, lost->key, lost->won, &taken, err);
	if (rc == 0) {
		rc = image_cache_move(s, lost->local, taken.id, err);
		snapshot_fini(&taken);
	}
	snapshot_fini(&own);
	/* What was noted of the key is no more so: it is published, and lost, again. */
	if (rc < 0)
		(void)!share_note_drop(s->kv, remote_uuid(r), SHARE_NOTE_IMAGE, lost->key);
	return rc;
}

/* The longest prefix of more than *n steps that the bucket has. 1: *n, *from are it. */
static int find(struct build *bd, struct remote *r, const char (*keys)[DIGEST_HEX_SIZE], size_t *n,
		struct snapshot *from, struct error *err)
{
	struct progress p = { .cancelled = stops_pull, .arg = bd };
	const struct adoption a = { .store = bd->owner->opt.store,
				    .remotes = bd->owner->opt.remotes,
				    .build_id = bd->id,
				    .p = &p };
	struct share_record rec;
	struct snapshot found;
	size_t at = bd->m.n_steps;
	int rc;

	do {
		if (at == *n)
			return 0;
		rc = remote_find_image(r, keys + *n, at - *n, FIND_TIMEOUT_MS, &at, &rec, err);
		if (rc < 0)
			return rc == -ENOENT ? 0 : rc;
		at += *n;
		rc = adopt(&a, r, keys[at], &rec, &found, err);
		share_record_fini(&rec);
		if (rc == -ENOTSUP) /* it is of a newer version, or borrows of what is not here */
			build_info(bd, "steps 1 to %zu are not taken from remote %s: %s", at + 1,
				   remote_name(r), error_text(err));
	} while (rc == -ENOTSUP);
	if (rc < 0)
		return rc;
	build_info(bd, "steps 1 to %zu are from remote %s", at + 1, remote_name(r));
	snapshot_fini(from);
	*from = found;
	*n = at + 1;
	return 1;
}

/* ---- one builder ---- */

static void say_waiting(void *arg)
{
	struct build *bd = arg;

	build_info(bd, "another host builds this image: waiting for it");
	build_turn_lend(bd);
}

static bool gives_up(void *arg)
{
	const struct build *bd = arg;

	return build_is_cancelled(bd) || monotonic_ms() >= bd->deadline_ms;
}

/* Until the image is here, or this host is the one that builds it. */
static int find_or_claim(struct build *bd, struct remote *r, const char (*keys)[DIGEST_HEX_SIZE],
			 size_t *n, struct snapshot *from, struct error *err)
{
	const struct claim_options o = { .beat_ms = sharer_beat_ms(bd->owner->opt.sharer),
					 .waiting = say_waiting,
					 .cancelled = gives_up,
					 .arg = bd };
	char path[sizeof("build/") + DIGEST_HEX_SIZE];
	size_t all = bd->m.n_steps;
	int rc = find(bd, r, keys, n, from, err);

	snprintf(path, sizeof(path), "build/%s", keys[all - 1]);
	while (rc >= 0 && *n < all && !bd->claim) {
		rc = remote_writable(r, err);
		if (rc == 0)
			rc = claim_take(remote_objects(r), path, &o, &bd->claim, err);
		if (rc == 0 && bd->claim && !build_turn_try(bd)) {
			/* Another host may have room for it. */
			claim_end(STEAL(bd->claim), NULL);
			rc = build_turn_back(bd);
		}
		if (rc >= 0) /* who had the claim before us may have just ended */
			rc = find(bd, r, keys, n, from, err);
	}
	return MIN(rc, 0);
}

static void end_claim(struct build *bd, const char *failure)
{
	if (!bd->claim)
		return;
	claim_end(STEAL(bd->claim), failure);
	remotes_release(bd->owner->opt.remotes, STEAL(bd->claim_remote));
}

int build_share_begin(struct build *bd, const char (*keys)[DIGEST_HEX_SIZE], size_t *n,
		      struct snapshot *from, struct error *err)
{
	struct sharer *sh = bd->owner->opt.sharer;
	struct error why = ERROR_INIT;
	struct remote *r;
	int rc;

	if (!sh || bd->force || *n == bd->m.n_steps)
		return 0;
	rc = sharer_get(sh, &r, &why);
	if (rc == 0) {
		rc = find_or_claim(bd, r, keys, n, from, &why);
		sharer_failed(sh, rc, &why);
		if (bd->claim)
			bd->claim_remote = r;
		else
			remotes_release(bd->owner->opt.remotes, r);
	}
	if (bd->claim && *n == bd->m.n_steps)
		end_claim(bd, NULL);
	if (*n < bd->m.n_steps && rc != -ECHILD)
		(void)!build_turn_back(bd); /* or it is cancelled */
	if (build_is_cancelled(bd))
		return error_set(err, -ECANCELED, "cancelled");
	if (rc == -ECHILD) /* what fails there would fail here */
		return error_set(err, rc, "on another host: %s", error_text(&why));
	/* Waiting was not work. */
	bd->deadline_ms = monotonic_ms() + (int64_t)bd->owner->opt.total_timeout_s * 1000;
	if (rc == -ECANCELED)
		error_set(&why, rc, "another host has built for %u s",
			  bd->owner->opt.total_timeout_s);
	if (rc < 0) {
		build_info(bd, "this host builds by itself: %s", error_text(&why));
		log_info("build %s: not shared: %s", bd->id, error_text(&why));
	}
	return 0;
}

/* ---- the result ---- */

void build_share_failed(struct build *bd)
{
	const char *kind = json_string_value(json_object_get(bd->failure, "kind"));
	bool everywhere = bd->state == BUILD_FAILED && kind && strcmp(kind, "exit") == 0;

	/* All else may be this host's: its memory, its disk, its patience. */
	end_claim(bd, everywhere ? bd->error.msg : NULL);
}

/* Two hosts have built it, and the other was first: its image is the one. */
static void yield(struct build *bd, const char *step_key, const struct share_record *won)
{
	const struct lost_image lost = { step_key, bd->snapshot_id, won };
	struct sharer *sh = bd->owner->opt.sharer;
	struct error err = ERROR_INIT;
	struct remote *r;
	int rc = sharer_get(sh, &r, &err);

	if (rc < 0)
		return;
	rc = builds_take_image(bd->owner->opt.store, bd->owner->opt.remotes, r, &lost, &err);
	remotes_release(bd->owner->opt.remotes, r);
	if (rc < 0)
		log_warn("build %s: the image of another host is not taken: %s", bd->id,
			 error_text(&err));
	else
		log_info("build %s: another host was first; its image is used", bd->id);
}

void build_share_done(struct build *bd)
{
	struct sharer *sh = bd->owner->opt.sharer;
	struct error err = ERROR_INIT;
	struct share_record won;
	int rc;

	if (!sh || !bd->last_key[0] || (!bd->claim && !bd->force))
		return;
	rc = sharer_publish_image(sh, bd->last_key, bd->snapshot_id, bd->force, &won, &err);
	if (rc == 1) {
		yield(bd, bd->last_key, &won);
		share_record_fini(&won);
	}
	if (rc < 0)
		log_info("build %s: its image is published later: %s", bd->id, error_text(&err));
	end_claim(bd, NULL);
}
