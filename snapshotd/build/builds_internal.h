/*
 * builds_internal.h - what the files of the build controller share.
 *
 *   build.c         one build; finding an active one
 *   build_record.c  records, and the list of them
 *   build_base.c    what an image is built upon: templates and other snapshots
 *   build_named.c   named snapshots become what their build has become
 *   build_info.c    what all parts of a running build ask and tell it
 *   build_exec.c    one program in the build's container, and why it failed
 *   build_steps.c   one step
 *   build_share.c   images of other hosts; one builder among all hosts
 *   build_recover.c what a former daemon left
 *   build_run.c     the life of one build, on its thread
 *   builds.c        open and close; which build a request gets
 *   builds_wait.c   waiting for one; hits; named snapshots
 *
 * A file calls only those before it.
 *
 * Lock: builds.lock guards the table of builds and the fields marked so. A
 * build's other fields are its thread's own, or constant once its log has
 * ended, which is what waiters wait for.
 */
#ifndef VARVE_SNAPSHOTD_BUILDS_INTERNAL_H
#define VARVE_SNAPSHOTD_BUILDS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "snapshotd/build/build_log.h"
#include "snapshotd/build/build_state.h"
#include "snapshotd/build/builds.h"
#include "snapshotd/container/container.h"
#include "snapshotd/build/image_config.h"
#include "snapshotd/build/manifest.h"

struct claim;
struct remote;

#define BUILDS_KEPT 200	       /* records of builds that have ended, and their logs */
#define BUILDS_ACTIVE_MAX 1000 /* queued and running */
#define BUILDS_NAMED_MAX 1000  /* named snapshots that wait for one build */

/* A snapshot that a build is to make ready. */
struct named {
	char id[SNAPSHOT_ID_SIZE];
	char take[SNAPSHOT_NAME_MAX + 1]; /* the name that it then takes from another; or "" */
};

struct build {
	struct builds *owner;
	LIST_ENTRY(build) link; /* guarded; in `active` until the record says how it ended */
	unsigned refs;		/* guarded */
	uint64_t number;	/* of its creation: the queue's order */

	/* Constant. */
	char id[SNAPSHOT_ID_SIZE];
	struct manifest m;
	char name[SNAPSHOT_NAME_MAX + 1]; /* who asked, or "" */
	bool force;
	unsigned restarts; /* how often a successor has begun it again */
	struct build_log *log;
	char *dir; /* STATE/builds/ID; the mount is at dir + "/root" */

	char base_id[DIGEST_HEX_SIZE]; /* guarded: image_base_id of what it is built upon */
	atomic_bool keep_failed;
	atomic_bool cancelled; /* by a request */
	struct named *named;   /* guarded, as the next */
	size_t n_named;
	char mount_id[SNAPSHOT_ID_SIZE]; /* guarded; "" while there is no mount */

	/* The record; see above. */
	enum build_state state; /* guarded too, for the queue, as the next */
	bool has_turn;		/* it is one of n_running */
	unsigned step;		/* 1-based; 0: before the first */
	unsigned cached_steps;
	int64_t created_at_ms, started_at_ms, ended_at_ms; /* 0: not yet */
	char snapshot_id[SNAPSHOT_ID_SIZE];		   /* ready: the image */
	struct error error;				   /* failed or cancelled: why */
	unsigned failed_step;
	json_t *failure; /* owned; details of what a step has failed with, or NULL */
	bool mount_kept;

	/* While it runs; its thread's own. */
	struct mount_entry *mount;
	struct container *container;
	struct image_config config;
	json_t *base_config;		       /* owned; the rest of the image's config */
	int64_t deadline_ms, step_deadline_ms; /* CLOCK_MONOTONIC */
	uint64_t new_bytes;
	char last_key[DIGEST_HEX_SIZE]; /* of the last step's result; "" before that is known */
	struct claim *claim;		/* of it among all hosts, or NULL */
	struct remote *claim_remote;	/* what it is of: released after it */
};

struct builds {
	struct builds_options opt; /* its strings are owned, and env */
	char *dir;		   /* STATE/builds, without symlinks */
	pthread_mutex_t lock;
	pthread_cond_t changed;	   /* a build may have its turn, or has gone */
	LIST_HEAD(, build) active; /* guarded, as the next three */
	unsigned n_active, n_running, n_threads;
	uint64_t next_number;
	atomic_bool stopping;
};

/* build.c */
/*
 * One that nobody knows yet, with its log, and no reference. past: what a record says of it that a
 * former daemon has begun; NULL: it is new.
 */
struct build_past {
	const char *id;
	int64_t created_at_ms;
	unsigned restarts; /* this one is counted */
};
MUST_CHECK int build_new(struct builds *b, const struct manifest *m, const struct build_request *rq,
			 const struct build_past *past, struct build **out, struct error *err);
/* NULL is accepted, as in build_unref. */
void build_free(struct build *bd);
void build_unref(struct build *bd);
/* The active build of an id, with a reference, or NULL. */
struct build *builds_find(struct builds *b, const char *id);

/* build_base.c */
/* What an image is built upon, as it is now: its name may mean something else later. */
struct build_base {
	struct snapshot snap;	  /* owned */
	char id[DIGEST_HEX_SIZE]; /* image_base_id */
};
/* That of m. -ENOENT, -EBUSY. */
MUST_CHECK int builds_base(struct builds *b, const struct manifest *m, struct build_base *out,
			   struct error *err);
static inline void build_base_fini(struct build_base *base) /* of a zeroed one too */
{
	snapshot_fini(&base->snap);
}

/* build_named.c */
/* The end of bd: its named snapshots become what it became. */
void build_finish_named(struct build *bd, const struct named *named, size_t n);
/*
 * Let s, which waits, become what its build is by the build's record, though the former daemon died
 * before it did that. False: the image is not ready.
 */
bool build_finish_late(struct builds *b, const struct snapshot *s);
/*
 * The snapshot `id` takes the name. -EBUSY: its holder is pinned, or not ready; -EEXIST: that was
 * made after until_ms. Then it never gets it.
 */
MUST_CHECK int build_take_name(struct snapshots *ss, const char *id, const char *name,
			       int64_t until_ms, struct error *err);
/* The record of a named snapshot says that it is this image. */
void build_become_ready(struct snapshot *s, const struct snapshot *image);

/* build_record.c */
MUST_CHECK int build_record_put(struct build *bd);
char *builds_path(const struct builds *b, const char *id, const char *suffix); /* malloc'd */
/* With its log. */
void build_record_remove(struct builds *b, const char *id);
void builds_prune(struct builds *b);
/* The outcome of a build that is not active any more; as builds_wait. */
MUST_CHECK int build_record_outcome(struct builds *b, const char *id, struct build_outcome *out,
				    struct error *err);

/* build_recover.c */
/* Adds ids and records of those that are to go on (builds_options.goes_on) to `unfinished`. */
MUST_CHECK int builds_recover(struct builds *b, json_t *unfinished, struct error *err);
/* One of these cannot: it is failed. */
void builds_recover_failed(struct builds *b, const char *id, const char *why);
/* Detach and discard a mount of ours. */
void builds_drop_mount(struct builds *b, struct mount_entry *e);

/* build_info.c */
bool build_is_cancelled(const struct build *bd);
/* An event of the controller itself. */
void build_info(struct build *bd, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* build_share.c */
/*
 * Of the results of keys[i], i < n_steps, this host has the first *n. Where others have more:
 * *from (replaced) is the snapshot after *n steps. Else this build becomes the one of all hosts
 * that builds, or waits for the one that does. -ECHILD: that one has failed; -ECANCELED. All else
 * that fails is only noted: the build goes on by itself.
 */
MUST_CHECK int build_share_begin(struct build *bd, const char (*keys)[DIGEST_HEX_SIZE], size_t *n,
				 struct snapshot *from, struct error *err);
/* The end of a build that is ready (its record is written): publish its image. Waits for that. */
void build_share_done(struct build *bd);
/* The end of any other. */
void build_share_failed(struct build *bd);

/* build_turn.c */
/* From queued to preparing, or -ECANCELED. */
MUST_CHECK int build_turn_wait(struct build *bd);
/* It waits for another host: builds of this one may run meanwhile. */
void build_turn_lend(struct build *bd);
/* It works again: at once, or not; or as soon as it may, ahead of those that are queued: 0 or
 * -ECANCELED. Also of one that has its turn. */
bool build_turn_try(struct build *bd);
MUST_CHECK int build_turn_back(struct build *bd);
void build_turn_end_locked(struct build *bd);

/* build_run.c */
void *build_main(void *bd);

/* build_steps.c */
MUST_CHECK int build_step_run(struct build *bd, const struct manifest_step *s, struct error *err);

/* build_exec.c */
struct build_command {
	char *const *argv;
	const char *user;	 /* NULL: root */
	const char *cwd;	 /* NULL: / */
	const json_t *extra_env; /* over the image's, or NULL */
	const void *stdin_data;	 /* or NULL */
	size_t stdin_len;
	struct buf *stdout_to; /* instead of the log; or NULL */
	bool quiet;	       /* its output is the reason where it fails, not for the log */
	const char *shown;     /* how it is called in messages; NULL: argv[0] */
	/*
	 * Where it has failed: how the part of it that did is called; borrowed. NULL, or
	 * a result of NULL: `shown`.
	 */
	const char *(*failed_part)(void *arg);
	void *arg;
};
/*
 * Run it and wait. -ECHILD: it failed, and err and bd->failure say how. Any
 * other failure is ours.
 */
MUST_CHECK int build_exec(struct build *bd, const struct build_command *c, struct error *err);
/* "ran out of space: ...", and what room there is. */
#define BUILD_SPACE_TEXT 128
void build_say_space(const struct build *bd, char out[BUILD_SPACE_TEXT]);
/* Processes in the container beside the agent; 0 where that cannot be told. */
unsigned build_leftovers(struct build *bd);

/* builds.c */
/*
 * Join the build of m's key upon that base or start one, with a reference. named:
 * a snapshot that it is to make ready (may be NULL). 1: it is in the cache meanwhile, and
 * *oc says which. -EAGAIN: too many; -ECANCELED: the daemon stops.
 */
MUST_CHECK int builds_join(struct builds *b, const struct manifest *m,
			   const struct build_request *rq, const char *base_id,
			   const struct named *named, struct build **out, struct build_outcome *oc,
			   struct error *err);

#endif
