/*
 * exec_control.h - what others tell a running program: signals, and what it reads
 * on its standard input.
 *
 * Counted: whoever runs the program holds it, and whoever is telling it something.
 * All functions may be called from any thread. What has not been read is in pipes,
 * which the kernel bounds; a program that reads nothing makes nothing grow.
 */
#ifndef VARVE_SNAPSHOTD_EXEC_CONTROL_H
#define VARVE_SNAPSHOTD_EXEC_CONTROL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#include "fs/host/keeper.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/names/snapshot.h"

#define EXEC_CONTROL_PREFIX "stdin-" /* of the keeper's names for inputs */
#define EXEC_STDIN_MAX (1u << 20)    /* of input given at once */

struct exec_control;
/* Without input: the program reads /dev/null. id: that nobody has; NULL: a new one. */
MUST_CHECK int exec_control_new(const char *id, struct exec_control **out, struct error *err);
/*
 * That of a program which a predecessor has started, with the input that the keeper has of it.
 * It is kept from then on, as by exec_control_keep.
 */
MUST_CHECK int exec_control_revive(struct keeper *keeper, const char *id, struct exec_control **out,
				   struct error *err);
/*
 * Of a program that is kept: the keeper holds its open input, if it has room for it, until
 * somebody feeds it or it ends. So the program sees no end of it when the daemon dies. False: there
 * is no name for it.
 */
bool exec_control_keep(struct exec_control *ec, struct keeper *keeper);
void exec_control_hold(struct exec_control *ec);
void exec_control_put(struct exec_control *ec); /* NULL is accepted */
DEFINE_CLEANUP(struct exec_control *, exec_control_put)
const char *exec_control_id(const struct exec_control *ec);

/* Before the program runs, at most one of these. Its whole input; -EINVAL: over EXEC_STDIN_MAX. */
MUST_CHECK int exec_control_give_input(struct exec_control *ec, const void *data, size_t len,
				       struct error *err);
/* A pipe that exec_control_feed fills. */
MUST_CHECK int exec_control_open_input(struct exec_control *ec, struct error *err);

/* For an exec_request; owned by ec. -1: there is no input. */
int exec_control_stdin_fd(const struct exec_control *ec);
int exec_control_signal_fd(const struct exec_control *ec);
/* Nothing runs any more, and nothing uses those descriptors. */
void exec_control_end(struct exec_control *ec);

/* -ENOTCONN: it has ended. -EAGAIN: too many signals wait already. */
MUST_CHECK int exec_control_signal(struct exec_control *ec, int sig, struct error *err);

/* Whoever runs it looks again at what it waits for (container_exec). */
void exec_control_wake(struct exec_control *ec);

/* Whether exec_control_feed would begin: -EBUSY, -ENOTCONN as there. */
MUST_CHECK int exec_control_can_feed(struct exec_control *ec, struct error *err);
/*
 * Pass on what comes from a descriptor, up to its end, then close the program's
 * input. Returns 0 early where the program has ended or closed its input.
 * -EBUSY: its input is not open, or somebody feeds it already; -ENOTCONN: it has
 * ended; -ECANCELED: cancelled (asked several times a second) has said so.
 */
MUST_CHECK int exec_control_feed(struct exec_control *ec, int from, bool (*cancelled)(void *arg),
				 void *arg, struct error *err);

/* Those that others find by their ids. */
struct exec_controls {
	pthread_mutex_t lock;
	TAILQ_HEAD(exec_control_list, exec_control) list; /* guarded by lock */
};
void exec_controls_init(struct exec_controls *cs);
void exec_controls_fini(struct exec_controls *cs); /* none is in it */
/* ec stays the caller's, who holds it until exec_controls_remove. */
void exec_controls_add(struct exec_controls *cs, struct exec_control *ec);
void exec_controls_remove(struct exec_controls *cs, struct exec_control *ec);
/* exec_control_put it. NULL: there is none. */
struct exec_control *exec_controls_find(struct exec_controls *cs, const char *id);

/* 1 to 64 of "TERM", "SIGTERM" or "15"; -EINVAL. */
MUST_CHECK int signal_parse(const char *text, struct error *err);

#endif
