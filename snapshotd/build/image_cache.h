/*
 * image_cache.h - which snapshot is the image of which key. Meta records:
 *
 *   "image/KEY"     -> {"snapshot", "base", "baseID", "steps", "newBytes",
 *                       "createdAtMs"}: the image of a manifest
 *   "imagestep/KEY" -> {"snapshot"}: the image after a prefix of steps
 *   "manifest/KEY"  -> the manifest
 *
 * A manifest only names its base, so its key alone does not say what is built:
 * an image counts for the base that it was built upon (image_base_id), and the
 * keys of steps start from that. Entries of earlier versions have the root of
 * the base's tree ("baseRoot") instead; they are no hits and are replaced by
 * the next build.
 *
 * The snapshots have no name and the source "build". They have a time to live,
 * so that gc takes those that are not used any more; a record whose snapshot is
 * gone is no hit and is dropped when it is seen.
 */
#ifndef VARVE_SNAPSHOTD_IMAGE_CACHE_H
#define VARVE_SNAPSHOTD_IMAGE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "snapshotd/state/json_record.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/names/snapshot.h"
#include "store/store.h"

#define IMAGE_CACHE_SOURCE "build" /* struct snapshot, source */
#define IMAGE_CACHE_TTL_S \
	((int64_t)30 * 86400)		/* of an image and its steps, since their last use */
#define IMAGE_CACHE_REPLACED_TTL_S 3600 /* of one that is not found any more */

/*
 * What a base is to a build, in hex: SHA-256 over the root of its tree, its
 * image config, the environment that the daemon gives to builds (build_env, an
 * object of strings or NULL) and the machine's architecture. Proxies are left
 * out of the environment: they say how something is fetched, not what. -ENOMEM.
 */
MUST_CHECK int image_base_id(const struct snapshot *base, const json_t *build_env,
			     char out[DIGEST_HEX_SIZE]);

struct image_entry {
	char key[DIGEST_HEX_SIZE];
	char snapshot_id[SNAPSHOT_ID_SIZE];
	char base_id[DIGEST_HEX_SIZE];
	uint64_t n_steps;
	uint64_t new_bytes; /* stored by all of its steps */
	int64_t created_at_ms;
};

/* Whether s is a cache entry, not a snapshot that somebody named. */
bool image_cache_owns(const struct snapshot *s);

/*
 * The image of a key. base_id: of the base as it is now, or NULL where the base
 * is gone. -ENOENT: no entry, one of another base, or its snapshot is not
 * there (any more). Counts as a use. snap: snapshot_fini.
 */
MUST_CHECK int image_cache_find(struct store *s, const char *key, const char *base_id,
				struct image_entry *out, struct snapshot *snap);
/* The same for a prefix of steps. */
MUST_CHECK int image_cache_find_step(struct store *s, const char *step_key, struct snapshot *snap);

/* What a step has left. All is borrowed. */
struct image_step {
	const char *key;
	const char *snapshot_id; /* a checkpoint that is ready */
	const char *build_id;
	const char *base; /* for the list */
	json_t *config;
};

/*
 * Make the snapshot the result of the step: it gets config and its place in the
 * cache; with e (NULL: there are more steps) it is also the image e->key. One
 * write. What was there before lives on for an hour.
 */
MUST_CHECK int image_cache_put(struct store *s, const struct image_step *step,
			       const struct image_entry *e, struct error *err);
/* Make what a step has left an image: all steps of e were cached. */
MUST_CHECK int image_cache_link(struct store *s, const struct image_entry *e, const char *base,
				struct error *err);
/* What was the image `from` (a snapshot's id) is `to` from now on: for all keys. */
MUST_CHECK int image_cache_move(struct store *s, const char *from, const char *to,
				struct error *err);

/* Forget an image, and let gc take it. -ENOENT. */
MUST_CHECK int image_cache_forget(struct store *s, const char *key, struct error *err);
/*
 * A snapshot that was built from key is deleted: where no named one is left,
 * let gc take the image, and the steps below it that lead to nothing else.
 * Until then they are found, and a use keeps them.
 */
void image_cache_release(struct store *s, const char *key);

/*
 * Each image whose snapshot is ready, by key: {"key", "snapshotID", "base", "steps", ...};
 * see image_cache_drop.c. What fn returns, if not 0, ends the walk and is returned.
 */
MUST_CHECK int image_cache_each(struct store *s, json_record_fn fn, void *arg, struct error *err);

MUST_CHECK int image_cache_put_manifest(struct store *s, const char *key, const json_t *manifest);
/* A new reference, or NULL. */
json_t *image_cache_manifest(struct store *s, const char *key);

/* At start: drop records of snapshots that are gone, and manifests that nothing names. */
MUST_CHECK int image_cache_sweep(struct store *s, struct error *err);
/*
 * Drop the manifests that no build and no snapshot names, beside builds that begin: whoever puts a
 * manifest has put the record that names it before.
 */
MUST_CHECK int image_cache_sweep_manifests(struct store *s, struct error *err);

#endif
