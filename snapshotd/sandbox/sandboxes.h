/*
 * sandboxes.h - sandboxes: each a mount of a snapshot with a container whose
 * root it is. The table, their records and their lives.
 *
 * A sandbox is a record "sandbox/ID" in the meta family (sandbox_record.h), a
 * mount at DIR/sandboxes/ID/root and, while it runs, a container named by its
 * id. It outlives the daemon: the next one attaches its mount and starts its
 * container anew, so its files are kept and its processes are not. So it is with
 * one that nobody uses for its timeout: its container is stopped and its mount
 * detached until the next call that needs them (sandbox_enter). It is removed
 * when it has been stopped for keep_s.
 *
 * Every function may be called from any thread.
 */
#ifndef VARVE_SNAPSHOTD_SANDBOXES_H
#define VARVE_SNAPSHOTD_SANDBOXES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "snapshotd/http/budget.h"
#include "snapshotd/build/builds.h"
#include "snapshotd/container/container.h"
#include "snapshotd/build/image_config.h"
#include "snapshotd/state/mounts.h"
#include "snapshotd/container/runtime.h"
#include "snapshotd/sandbox/sandbox_record.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/store.h"

#define SANDBOX_MEMORY_MB 4096 /* where nobody says */
#define SANDBOX_PIDS 4096

struct keeper;
struct sandboxes;
struct sandbox;

/* Borrowed, also the strings. */
struct sandboxes_options {
	struct store *store;
	struct mounts *mounts;
	struct runtime *runtime;
	struct keeper *keeper;	   /* what holds programs for a successor; NULL: none */
	bool network_none;	   /* else the host's network */
	bool shared_cache;	   /* the cache mode of mounts where nobody says */
	uint64_t disk_mb;	   /* that one may write where nobody says; 0: no limit */
	uint64_t cpu_shares;	   /* of each where processors are short, of 1024; 0: the usual */
	uint64_t inodes;	   /* that one may make; 0: no limit */
	struct budget *output;	   /* of programs, as it is kept in memory */
	uint64_t keep_s;	   /* a stopped sandbox that has a timeout; 0: until it is killed */
	unsigned checkpoint_limit; /* of all sandboxes together; 0: none */
	unsigned patch_limit;	   /* of one checkpoint; 0: none */
};

/*
 * Loads the records; goes on with the containers and programs that a predecessor has left to the
 * keeper, and starts other containers in the background. Removes what was
 * half made or half removed when a former daemon ended. Where it fails, *out may be set, too: to
 * close, which ends them all, or to leave as it is to a successor.
 */
MUST_CHECK int sandboxes_open(const struct sandboxes_options *o, struct sandboxes **out,
			      struct error *err);
/* Stops the containers; the next daemon starts them again. No sandbox is in use. */
void sandboxes_close(struct sandboxes *ss);

/* What a new sandbox is to be. Borrowed. */
struct sandbox_spec {
	const char *id;		      /* that nobody has; or NULL: a new one */
	const char *template_id;      /* or NULL */
	json_t *envs, *metadata;      /* objects (envs: of strings), or NULL */
	uint64_t timeout_s;	      /* of idleness; 0: none */
	uint64_t memory_mb, disk_mb;  /* 0: SANDBOX_MEMORY_MB, the daemon's */
	double cpus;		      /* 0: no limit */
	const char *cache;	      /* cache mode, or NULL: the daemon's */
	bool (*cancelled)(void *arg); /* polled while it is made; may be NULL */
	void *arg;
};

/*
 * Make a sandbox of a ready snapshot: mounted, started, and the patches of that
 * snapshot applied. -ECHILD: a patch has failed. -ECANCELED. The sandbox is in use:
 * sandbox_put it.
 */
MUST_CHECK int sandboxes_create(struct sandboxes *ss, const struct snapshot *snap,
				const struct sandbox_spec *spec, struct sandbox **out,
				struct error *err);
/*
 * A sandbox in use: it counts as busy and is not freed until sandbox_put. Does
 * not keep it from being killed. -ENOENT.
 */
MUST_CHECK int sandboxes_get(struct sandboxes *ss, const char *id, struct sandbox **out,
			     struct error *err);
/* All, newest first, each in use; this does not count as a call to it. *out is malloc'd. */
MUST_CHECK int sandboxes_list(struct sandboxes *ss, struct sandbox ***out, size_t *out_n);
void sandbox_put(struct sandbox *sb);
static inline void sandbox_put_p(struct sandbox **sb)
{
	if (*sb)
		sandbox_put(*sb);
}
void sandboxes_count(struct sandboxes *ss, size_t *running, size_t *stopped);

/* The API's sandbox object, a new reference; NULL when out of memory. */
json_t *sandbox_to_json(struct sandbox *sb);
const char *sandbox_id(const struct sandbox *sb);

/*
 * Kill: its processes, its mount with all that it has changed, its record. The
 * caller's use of it stays (sandbox_put). -ENOENT where another was faster.
 */
MUST_CHECK int sandbox_kill(struct sandbox *sb, struct error *err);
MUST_CHECK int sandbox_set_timeout(struct sandbox *sb, uint64_t timeout_s, struct error *err);
/*
 * Stop it, put a mount of `snap` in place of its own, start it again. Where
 * that fails it is as it was, but for its processes.
 */
MUST_CHECK int sandbox_restore(struct sandbox *sb, const struct snapshot *snap, struct error *err);

/*
 * The container for as long as sandbox_leave has not been called: execs in it
 * end early when it is stopped. Waits where it is being restored or started, and
 * starts it where it was stopped because nobody used it. -ENOTCONN: the sandbox does not run, and
 * why; -ENOENT: it has been killed.
 */
MUST_CHECK int sandbox_enter(struct sandbox *sb, struct container **out, struct error *err);
void sandbox_leave(struct sandbox *sb);
/* Between the two: it is being stopped, so give up. */
bool sandbox_is_closing(struct sandbox *sb);

/* Its environment for a process: image, then sandbox, then extra (may be NULL). strv_free. */
char **sandbox_environ(struct sandbox *sb, const json_t *extra);
/* The image's directory and user for processes; borrowed, constant while in use. */
const char *sandbox_workdir(struct sandbox *sb);
const char *sandbox_user(struct sandbox *sb);

#endif
