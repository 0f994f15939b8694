/*
 * sandbox_exec.h - programs that are run in a sandbox: waited for, or started
 * and asked for later.
 *
 * What a shell would say of them is said: exit code 124 for one that was killed
 * after its time, 127 for one that is not there, 126 for one that cannot be
 * started, 128 + N for one that signal N has ended, and a line "varve: ..." in
 * stderr that says so. Of each stream EXEC_OUTPUT_MAX bytes are kept, and less
 * where the budget for output is used up; a line in it tells where it was cut.
 */
#ifndef VARVE_SNAPSHOTD_SANDBOX_EXEC_H
#define VARVE_SNAPSHOTD_SANDBOX_EXEC_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/names/snapshot.h"

#define EXEC_OUTPUT_MAX (16u << 20) /* of stdout, and of stderr */
#define EXEC_KEEP_S 3600	    /* a result after its end ... */
#define EXEC_KEEP_COUNT 256	    /* ... unless a sandbox has more of them, */
#define EXEC_KEEP_BYTES                                                        \
	(64u << 20)	    /* ... or more output, or none can be kept of what \
			       runs: the oldest go first */
#define EXEC_RUNNING_MAX 64 /* asynchronous ones of a sandbox */

struct budget;
struct exec_control;
struct sandbox;

/* Borrowed. */
struct exec_spec {
	char *const *argv;  /* NULL-terminated, at least one */
	const json_t *envs; /* object of strings, or NULL */
	const char *cwd;    /* absolute; NULL: the image's */
	int64_t timeout_ms; /* 0: none */
	int64_t linger_ms;  /* as of container_exec; EXEC_LINGER_MS where nobody says */
	/*
	 * Gets the output as it comes, which is then not kept, but for our own lines;
	 * on the caller's thread, and while it does not return the program waits. Not
	 * of asynchronous ones. A failure (-errno) ends the program.
	 */
	int (*on_output)(void *arg, int stream /* 1, 2 */, const void *data, size_t len);
	void *output_arg;
	/* Its input, and how others signal it once it is shared; NULL: neither. */
	struct exec_control *control;
};

struct exec_output {
	struct budget *budget; /* that the output is charged to */
	size_t charged;
	int exit_code;
	/* Some was cut, or what it has left running may write more (container_exec). */
	bool truncated;
	struct buf out, err; /* any bytes */
};
void exec_output_fini(struct exec_output *o);

/* The exit code that stands for a failed start, or 0 where it was not the program's fault. */
int exec_code_of_failure(int rc);

/*
 * Run it and wait. cancelled (may be NULL) is polled; true kills it: -ECANCELED.
 * -ENOTCONN where the sandbox does not run, or was stopped meanwhile. -EAGAIN
 * and the like: it could not be run at all.
 */
MUST_CHECK int sandbox_exec(struct sandbox *sb, const struct exec_spec *spec,
			    bool (*cancelled)(void *arg), void *arg, struct exec_output *out,
			    struct error *err);

/*
 * Let others find the control of a program by its id, from before it runs until it
 * has ended. What sandbox_exec_start runs is shared without it.
 */
void sandbox_exec_share(struct sandbox *sb, struct exec_control *ec);
void sandbox_exec_unshare(struct sandbox *sb, struct exec_control *ec);
/* exec_control_put it. -ENOENT; -ENOTCONN: it has ended. */
MUST_CHECK int sandbox_exec_control(struct sandbox *sb, const char *id, struct exec_control **out,
				    struct error *err);

/* The programs of a sandbox that have an id. */
struct sandbox_execs;
/* output: the budget of all sandboxes, of which this one gets a fair part. NULL: no memory. */
struct sandbox_execs *sandbox_execs_new(struct budget *output);
void sandbox_execs_free(struct sandbox_execs *x);
/* Forget results that are older than EXEC_KEEP_S. */
void sandbox_execs_expire(struct sandbox_execs *x);

/*
 * Start it; it goes on whoever asks. Its control may not be NULL, and its id becomes
 * the program's. -EAGAIN: too many are running. Uses sb until its end.
 */
MUST_CHECK int sandbox_exec_start(struct sandbox *sb, const struct exec_spec *spec,
				  char id[SNAPSHOT_ID_SIZE], struct error *err);

/* One of them: async_exec_put it. -ENOENT. */
struct async_exec;
MUST_CHECK int sandbox_exec_get(struct sandbox *sb, const char *id, struct async_exec **out,
				struct error *err);
void async_exec_put(struct async_exec *e);
/* Whether it has ended; waits for that, at most timeout_ms. */
bool async_exec_wait(struct async_exec *e, int timeout_ms);
/* Of an ended one: 0 and its output, or why there is none. Both live as long as e is held. */
int async_exec_outcome(struct async_exec *e, const struct exec_output **out,
		       const struct error **err);

#endif
