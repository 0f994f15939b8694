/*
 * builds.h - the build controller: from a manifest to the snapshot of its
 * image. A cached image is found at once; otherwise there is one build a key,
 * however many ask for it, and they share its log and its result.
 *
 * A build is a record ("build/ID" in the meta family), a log (DIR/builds/ID.log,
 * one JSON event a line) and, while it runs, a thread, a mount and a container.
 * Every function may be called from any thread.
 */
#ifndef VARVE_SNAPSHOTD_BUILDS_H
#define VARVE_SNAPSHOTD_BUILDS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "snapshotd/state/json_record.h"
#include "snapshotd/state/mounts.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/names/snapshot.h"
#include "store/store.h"

#define BUILDS_TEMPLATE "debian-12" /* the default template's name where nobody says */

struct builds;
struct lost_image; /* snapshotd/state/sharer.h */
struct manifest;
struct remote;
struct remotes;
struct runtime;
struct sharer;

/* Borrowed, also the strings. A number that is 0 means the default given with it. */
struct builds_options {
	struct store *store;
	struct remotes *remotes; /* of bases "snapshot:REMOTE:NAME"; NULL: none */
	struct sharer *sharer;	 /* what other hosts have, and are given; NULL: nothing */
	struct mounts *mounts;
	struct runtime *runtime;
	const char *state_dir;
	const char *default_template; /* a snapshot's name */
	unsigned max_concurrent;      /* 2 */
	uint64_t memory_mb;	      /* of a build, where its manifest says nothing: 4096 */
	uint64_t pids;		      /* 4096 */
	uint64_t quota_bytes;	      /* of what a build writes; 0: none */
	uint64_t quota_inodes;	      /* that a step may make; 0: no limit */
	unsigned step_timeout_s;      /* 1800 */
	unsigned total_timeout_s;     /* 7200 */
	bool network_none;	      /* else the host's network */
	bool goes_on; /* with what a former daemon began, which has died; else that has failed */
	const json_t *env; /* strings that build steps see, or NULL */
};

/* As sharer_options.lost wants it: the image that was first becomes the one of this host, too. */
MUST_CHECK int builds_take_image(struct store *s, struct remotes *rs, struct remote *r,
				 const struct lost_image *lost, struct error *err);
/*
 * What a former daemon left unfinished becomes failed, or begins again at its first step that is
 * not cached, three times at most (o->goes_on). The mounts go.
 */
MUST_CHECK int builds_open(const struct builds_options *o, struct builds **out, struct error *err);
/* Cancels what runs and waits for it. Nobody waits for a build any more. NULL is accepted. */
void builds_close(struct builds *b);

/* {"step", "type", "message", "stream"}; borrowed for the call. Runs in the waiter's thread. */
typedef void (*build_log_fn)(void *arg, const json_t *event);

struct build_request {
	bool force;		      /* build even what is cached */
	bool keep_failed;	      /* a failed build keeps its mount */
	bool replace;		      /* builds_snapshot: take the name from another image */
	const char *name;	      /* who asks, for the list of builds; or NULL */
	build_log_fn log;	      /* every event from the build's start, in order; or NULL */
	bool (*cancelled)(void *arg); /* polled: stop waiting (the build goes on); or NULL */
	void *arg;		      /* of both */
};

struct build_outcome {
	char snapshot_id[SNAPSHOT_ID_SIZE]; /* of the image */
	char build_id[SNAPSHOT_ID_SIZE];    /* "" where it was cached */
	bool cached;
	unsigned failed_step; /* set on failure too: 1-based; 0: none, or before the first */
};

/*
 * The image of m. On a hit at once; else starts or joins its build and waits.
 * -ECANCELED (the caller gave up), -ECHILD (the build failed or was cancelled:
 * the step and the reason are in err), -ENOENT (no such base), -EBUSY (the base
 * is not ready).
 */
MUST_CHECK int builds_resolve(struct builds *b, const struct manifest *m,
			      const struct build_request *rq, struct build_outcome *out,
			      struct error *err);
/* The same without waiting: out->build_id is to be asked for. */
MUST_CHECK int builds_start(struct builds *b, const struct manifest *m,
			    const struct build_request *rq, struct build_outcome *out,
			    struct error *err);
/*
 * A named snapshot of m's image: its record, "building" at first, in *out
 * (snapshot_fini). It becomes ready or failed when the build ends, whoever
 * waits. -EEXIST where a snapshot that has not failed has the name; with
 * rq->replace (and rq->name the same name) the image takes it from the image that
 * has it, once it is ready, and has none before. -EEXIST then where that
 * was not built, -EBUSY where it is pinned or being built. Follow it
 * with builds_wait where oc->build_id is not "".
 */
MUST_CHECK int builds_snapshot(struct builds *b, const struct manifest *m, const char *name,
			       const struct build_request *rq, struct build_outcome *oc,
			       struct snapshot *out, struct error *err);
/* Wait for a build, with its log, as builds_resolve does. -ENOENT. */
MUST_CHECK int builds_wait(struct builds *b, const char *build_id, const struct build_request *rq,
			   struct build_outcome *out, struct error *err);

/*
 * The snapshot of the default template (snapshot_fini). -ENOENT, saying how it
 * is made.
 */
MUST_CHECK int builds_template(struct builds *b, struct snapshot *out, struct error *err);

/*
 * Records as the API shows them: each, newest first, while nothing is locked (what fn
 * returns, if not 0, ends the walk and is returned); one (a new reference, -ENOENT). {"id", "key",
 * "name" or null, "base", "state" (build_state.h), "step" (1-based; 0: before the first),
 * "stepCount", "stepType" or null, "cachedSteps", "restarts", "force", "keepFailed", "error" or
 * null, "failedStep" or null, "failure" or null:
 * {"step", "type", "kind" ("exit", "signal", "timeout", "memory", "space", "start",
 * "container"), "command", "exitCode", "signal"}, "snapshotID" or null: the image,
 * "mountID" or null: the mount that keepFailed left, "createdAt", "startedAt" and
 * "endedAt" or null}.
 */
MUST_CHECK int builds_each(struct builds *b, json_record_fn fn, void *arg, struct error *err);
/* Builds that wait for their turn, and that have it. */
void builds_count(struct builds *b, size_t *queued, size_t *running);
MUST_CHECK int builds_get(struct builds *b, const char *id, json_t **out, struct error *err);
/* -ENOENT; -ENOTCONN where it has ended. Returns before the build has. */
MUST_CHECK int builds_cancel(struct builds *b, const char *id, struct error *err);
/* Each event of the log so far. -ENOENT. */
MUST_CHECK int builds_log(struct builds *b, const char *id, build_log_fn fn, void *arg,
			  struct error *err);

/* Whether a running build works on the mount of that id. */
bool builds_owns_mount(struct builds *b, const char *mount_id);

/* Cached images as the API shows them, by key; as builds_each. */
MUST_CHECK int builds_images(struct builds *b, json_record_fn fn, void *arg, struct error *err);
/* Forget a cached image; gc takes what nobody else uses. -ENOENT. */
MUST_CHECK int builds_image_delete(struct builds *b, const char *key, struct error *err);
/* The manifest of a key that was built or is being built (a new reference), or NULL. */
json_t *builds_manifest(struct builds *b, const char *key);

#endif
