/*
 * async_exec.h - the programs of one sandbox: what one is told to run, what it has written, and
 * those that go on whoever asks, whose results are kept for a while.
 *
 * A struct async_execs is one sandbox's; sandbox_exec.c runs what is in it. Every function may be
 * called from any thread. Its lock is a leaf.
 */
#ifndef VARVE_SNAPSHOTD_ASYNC_EXEC_H
#define VARVE_SNAPSHOTD_ASYNC_EXEC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

#include "snapshotd/container/exec_keep.h"
#include "snapshotd/http/budget.h"
#include "snapshotd/sandbox/exec_control.h"
#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"

#define EXEC_OUTPUT_MAX (16u << 20) /* of stdout, and of stderr */
#define EXEC_KEEP_S 3600	    /* a result after its end ... */
#define EXEC_KEEP_COUNT 256	    /* ... unless a sandbox has more of them, */
#define EXEC_KEEP_BYTES                                                        \
	(64u << 20)	    /* ... or more output, or none can be kept of what \
			       runs: the oldest go first */
#define EXEC_RUNNING_MAX 64 /* asynchronous ones of a sandbox */
/*
 * Attached ones: they are their followers', clients that read their output as it comes, and end
 * some time after the last of these has left. So do their results, of which only so many are kept
 * whose followers have been told the end.
 */
#define EXEC_ATTACHED_MAX 512 /* of a sandbox, and results of such */
#define EXEC_GRACE_MS 15000
/* The same of those who may not know yet that they do not follow it any more. */
#define EXEC_LOST_GRACE_MS (10 * 60 * 1000)
#define EXEC_TOLD_COUNT 8
/*
 * Bytes of each stream that are kept of one that was told, about: more than a connection of ours
 * holds when the daemon dies, and what others have then is sent all the same.
 */
#define EXEC_TOLD_BYTES (512u << 10)

/* Borrowed. */
struct exec_spec {
	char *const *argv;  /* NULL-terminated, at least one */
	const json_t *envs; /* object of strings, or NULL */
	const char *cwd;    /* absolute; NULL: the image's */
	int64_t timeout_ms; /* 0: none */
	int64_t linger_ms;  /* as of container_exec; EXEC_LINGER_MS where nobody says */
	bool attached;	    /* of asynchronous ones */
	/*
	 * Gets the output as it comes, which is then not kept, but for our own lines;
	 * on the caller's thread, and while it does not return the program waits. Not
	 * of asynchronous ones. A failure (-errno) ends the program.
	 */
	int (*on_output)(void *arg, int stream /* 1, 2 */, const void *data, size_t len);
	void *output_arg;
	/* NULL, or set before it may run. Not of asynchronous ones. */
	bool *started;
	/* Its input, and how others signal it once it is shared; NULL: neither. */
	struct exec_control *control;
	/*
	 * Where its output goes, and with it what a successor of this daemon needs; then on_output
	 * is not used. NULL: it ends with the daemon.
	 */
	struct exec_keep *keep;
	void (*on_grow)(void *arg); /* there is more of its output */
	void *grow_arg;
};

struct exec_output {
	struct budget *budget; /* that the output is charged to */
	size_t charged;
	int exit_code;
	/* Some was cut, or what it has left running may write more (container_exec). */
	bool truncated;
	struct buf out, err;	     /* any bytes */
	bool out_mapped, err_mapped; /* not of malloc */
};
void exec_output_fini(struct exec_output *o);
/* No more is charged than k has. */
void exec_output_trimmed(struct exec_output *o, const struct exec_keep *k);

/* ---- those of a sandbox ---- */

struct async_execs;
/* output: the budget of all sandboxes, of which this one gets a fair part. NULL: no memory. */
struct async_execs *async_execs_new(struct budget *output);
/* Nothing runs any more. NULL is accepted. */
void async_execs_free(struct async_execs *x);
/* Forget results that are older than EXEC_KEEP_S, and attached ones whose followers have left. */
void async_execs_expire(struct async_execs *x);
/* Forget the oldest result, but of attached ones. False: there is none. */
bool async_execs_forget_oldest(struct async_execs *x);
/* Forget that of an attached one which was told first. False: there is none. */
bool async_execs_forget_told(struct async_execs *x);
/*
 * The end of the oldest result that a keeper has (CLOCK_MONOTONIC, ms), INT64_MAX: there is none.
 * told: of attached ones that were told; else of those that are not attached.
 */
int64_t async_execs_oldest_kept(struct async_execs *x, bool told);
/* The keeper gives that one up: it is forgotten with this daemon. False: there is none. */
bool async_execs_let_go(struct async_execs *x, bool told);
/* Bytes of output in results. */
size_t async_execs_kept(struct async_execs *x);
/* What all output of the sandbox is charged to, also that of programs that are waited for. */
struct budget *async_execs_budget(struct async_execs *x);
/*
 * Whether attached ones have to do with little: else they would fill it, and no result would find
 * room in it.
 */
bool async_execs_is_tight(struct async_execs *x);
/* Of all that run and may be told something. */
struct exec_controls *async_execs_controls(struct async_execs *x);

/* ---- one of them ---- */

struct async_exec;
/*
 * Copies what it is to run; its control, which may not be NULL, is held, and the control's id
 * becomes its own. In use until async_exec_end or async_exec_put. NULL: no memory.
 */
struct async_exec *async_exec_new(struct async_execs *x, const struct exec_spec *spec);
/* It is found from now on, by its id. -EAGAIN: EXEC_RUNNING_MAX, or EXEC_ATTACHED_MAX, run already.
 */
MUST_CHECK int async_exec_begin(struct async_exec *e, struct error *err);
/* Undoes async_exec_begin: it cannot be run after all. */
void async_exec_abandon(struct async_exec *e);
/*
 * Where its output is kept; e's from now on, which is not found by others yet. What runs it ends
 * it with kept_exec_end.
 */
void async_exec_set_keep(struct async_exec *e, struct exec_keep *k);
/* What it runs; lives as long as it is in use. */
const struct exec_spec *async_exec_spec(const struct async_exec *e);
/* It has ended with rc: 0 and its output, or else err. Takes the output over; ends the use. */
void async_exec_end(struct async_exec *e, int rc, struct exec_output *out, const struct error *err);

/* The same of one that was never begun here: a predecessor has seen its end, whatever runs now. */
void async_exec_adopt_ended(struct async_exec *e, int rc, struct exec_output *out,
			    const struct error *err);

/* One that runs or has ended: async_exec_put it. NULL: there is none. */
struct async_exec *async_exec_find(struct async_execs *x, const char *id);
void async_exec_put(struct async_exec *e);
/* Whether it has ended; waits for that, at most timeout_ms. */
bool async_exec_wait(struct async_exec *e, int timeout_ms);
/*
 * What it has written to a stream (1, 2) from a place on: bytes, 0: no more yet, or for ever
 * where it has ended. -ENOTSUP: its output is not there before its end; -ENODATA: what an attached
 * one has written there is not kept any more.
 */
MUST_CHECK ssize_t async_exec_read(struct async_exec *e, int stream, uint64_t at, void *room,
				   size_t len);
/* Until there is more than that of a stream, or it has ended; at most timeout_ms. Whether it has.
 */
bool async_exec_wait_more(struct async_exec *e, const uint64_t at[2], int timeout_ms);
/*
 * Of an ended one: 0 and its output, or why there is none. Both live as long as e is held. The
 * output of an attached one is not there: async_exec_read has it.
 */
int async_exec_outcome(struct async_exec *e, const struct exec_output **out,
		       const struct error **err);

/* ---- followers ---- */

bool async_exec_is_attached(const struct async_exec *e);
/* Somebody reads its output from now on. */
void async_exec_follow(struct async_exec *e);
/* He has got a stream up to there. */
void async_exec_note_sent(struct async_exec *e, int stream, uint64_t at);
enum follower_end {
	FOLLOWER_LEFT,
	FOLLOWER_TOLD, /* the end: nobody comes back for long */
	FOLLOWER_LOST, /* by us: this daemon ends, or did not wait for one that takes nothing */
};
void async_exec_unfollow(struct async_exec *e, enum follower_end how);
/* It is to be killed, with all that it has started; one that has ended is forgotten. */
void async_exec_kill(struct async_exec *e);
/* Whether it is to be killed, from when on it stays so. why (may be NULL): for a person. */
bool async_exec_is_unwanted(struct async_exec *e, const char **why);
/* The clock, for tests: milliseconds that have passed besides. */
void async_execs_set_passed(struct async_execs *x, int64_t ms);

#endif
