/*
 * sandbox_exec.h - programs that are run in a sandbox: waited for, or started
 * and asked for later.
 *
 * What a shell would say of them is said: exit code 124 for one that was killed
 * after its time, 127 for one that is not there, 126 for one that cannot be
 * started, 128 + N for one that signal N has ended, and a line "varve: ..." in
 * stderr that says so. Of each stream EXEC_OUTPUT_MAX bytes are kept, and less
 * where the budget for output is used up; a line in it tells where it was cut. Nothing is cut of
 * an attached program's output: it waits until its followers have what it has written.
 */
#ifndef VARVE_SNAPSHOTD_SANDBOX_EXEC_H
#define VARVE_SNAPSHOTD_SANDBOX_EXEC_H

#include <stdbool.h>

#include "snapshotd/sandbox/async_exec.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/names/snapshot.h"

struct sandbox;
struct container;

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

/*
 * Start it in sb's container c, which the caller is inside; it goes on whoever asks, also
 * without this daemon where there is a keeper. Its control may not be NULL, and its id becomes
 * the program's. -EAGAIN: too many are running. Uses sb until its end.
 */
MUST_CHECK int sandbox_exec_start(struct sandbox *sb, struct container *c,
				  const struct exec_spec *spec, char id[SNAPSHOT_ID_SIZE],
				  struct error *err);
/* Go on with one that a predecessor of this daemon has started; takes k over. */
void sandbox_exec_adopt(struct sandbox *sb, struct exec_keep *k);

/* One of them: async_exec_put it. -ENOENT. */
MUST_CHECK int sandbox_exec_get(struct sandbox *sb, const char *id, struct async_exec **out,
				struct error *err);

#endif
