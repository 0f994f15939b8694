/*
 * container.h - one container: its own processes, mounts, IPC and names, with a
 * mount as its root, and our agent (snapshotd/container/init) as its first
 * process. The agent starts programs for us, so that running one costs a fork
 * and an exec, not a start of the runtime. When the daemon dies, so does the
 * container, unless a keeper holds it for a successor.
 */
#ifndef VARVE_SNAPSHOTD_CONTAINER_H
#define VARVE_SNAPSHOTD_CONTAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshotd/container/container_options.h"
#include "snapshotd/container/runtime.h"
#include "store/base/error.h"
#include "store/base/macros.h"

struct container;

/*
 * Returns when the agent answers. -ENOENT: the runtime is not installed; any
 * other failure: what the runtime said. Leaves nothing behind then.
 */
MUST_CHECK int container_start(struct runtime *rt, const struct container_options *o,
			       struct container **out, struct error *err);
/*
 * Go on with a container that a predecessor has kept, as it is; if it is frozen, it is thawed.
 * -ENOENT: there is none, or its root is not what is mounted at rootfs: that one has been killed.
 */
MUST_CHECK int container_adopt(struct runtime *rt, const char *id, const char *rootfs,
			       struct container **out);
/*
 * Kill everything inside: execs under way and to come end with -ESRCH. c stays
 * what it is until container_stop; for who must first see that nobody uses it.
 */
void container_kill(struct container *c);
/*
 * Kill everything inside, delete it, and wait until no process, mount or
 * cgroup of it is left. Execs under way end with -ESRCH; returns after them.
 * Frees c. NULL is accepted.
 */
void container_stop(struct container *c);
/* False once the first process has died. */
bool container_is_running(struct container *c);

/*
 * The directory to freeze it by (cgroup v2, or that of v1's freezer); lives as
 * long as c. NULL where there is neither.
 */
const char *container_cgroup(const struct container *c);
/* How often the kernel has killed a process of it for memory, so far. */
uint64_t container_oom_kills(struct container *c);

struct exec_keep; /* exec_keep.h */

struct exec_request {
	char *const *argv; /* NULL-terminated, at least one; searched in env's PATH */
	char *const *env;  /* NULL-terminated "K=V"; all that the program gets */
	const char *cwd;   /* NULL: / */
	bool make_cwd;	   /* with missing parents, as root */
	/* HOME, USER and LOGNAME by the files inside, where env has none of them. */
	bool user_env;
	/* "name", "uid", "name:group" or "uid:gid", by the files inside; NULL or "": root */
	const char *user;
	/*
	 * Given to the program itself, and still the caller's: pipes, or what a
	 * container's root may do anything to. -1: /dev/null; on_output.
	 */
	int stdin_fd, stdout_fd, stderr_fd;
	/*
	 * Each byte that comes from it is the number of a signal for the program's
	 * process group, or 0. Does not block; the caller's. -1: none.
	 */
	int signal_fd;
	int64_t timeout_ms; /* 0: none; then everything of its session is killed */
	/*
	 * How long after its end to read on, where processes that it has left still hold
	 * its output; but not beyond timeout_ms. 0: only what is there by then.
	 */
	int64_t linger_ms;
	/*
	 * On the calling thread. While it does not return, the program's writes
	 * block once the pipe is full. NULL: dropped.
	 */
	void (*on_output)(void *arg, int stream /* 1, 2 */, const void *data, size_t len);
	/*
	 * Its output goes there, and it outlives the daemon; NULL: neither. on_room says how many
	 * of len bytes may be kept; 0: from now on the stream's output is dropped; EXEC_ROOM_LATER:
	 * none yet, ask again in a moment, or when a byte 0 comes from signal_fd. on_output gets
	 * NULL for bytes that are there.
	 */
	struct exec_keep *keep;
	size_t (*on_room)(void *arg, int stream, size_t len);
	bool (*cancelled)(void *arg); /* asked several times a second; may be NULL; true kills it */
	void *arg;
};
#define EXEC_LINGER_MS 10000
#define EXEC_ROOM_LATER SIZE_MAX
/* Nothing said: no stdin, output dropped. */
#define EXEC_REQUEST_INIT                                                          \
	{                                                                          \
		.stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .signal_fd = -1, \
		.linger_ms = EXEC_LINGER_MS                                        \
	}

/* What container_exec says of one that has ended. */
struct exec_result {
	int exit_code; /* 128 + signal where a signal ended it */
	int signal;    /* 0: it exited */
	bool timed_out, cancelled;
	bool output_open; /* others have its output still, and may write what nobody reads */
	bool oom_killed;  /* SIGKILL, and the kernel has killed for memory meanwhile */
};

/*
 * Runs a program and waits for it. Any number at a time, from any thread.
 * -ENOENT, -EACCES, ... where the program cannot be started, with which part
 * failed; -EINVAL for an unknown user; -E2BIG for more than 1 MiB of arguments;
 * -ESRCH where the container has died or is being stopped.
 *
 * After the program's end its output is read until EOF, however slowly on_output
 * takes it. Processes that it has left may hold it open: reading ends, with
 * output_open, linger_ms after the end. Time within on_output does not count.
 */
MUST_CHECK int container_exec(struct container *c, const struct exec_request *rq,
			      struct exec_result *out, struct error *err);

/*
 * Start it alone, from when on it is kept; rq->keep is set, and a container_exec with the same
 * keep waits for it, in this daemon or in a successor.
 */
MUST_CHECK int container_exec_begin(struct container *c, const struct exec_request *rq,
				    struct error *err);

#endif
