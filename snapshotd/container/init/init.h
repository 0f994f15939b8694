/*
 * init.h - the agent: the first process of every container, one static binary
 * that needs nothing of the image. It runs the programs that the daemon asks
 * for, reaps everything, and ends, and with it the container, when the daemon
 * closes the control socket or dies. Processes of the container are not
 * trusted: it takes nothing from them, and they cannot trace it.
 *
 * Called by name inside the container it does the daemon's file work, so that
 * every path means what it means inside (files.c); outside, it starts the
 * runtime such that it dies with the daemon (`launch`), and waits for the
 * daemon's end to end what is left of its containers (`reap`).
 */
#ifndef VARVE_INIT_INIT_H
#define VARVE_INIT_INIT_H

#include <stdbool.h>
#include <sys/types.h>

#include "snapshotd/container/init/request.h"
#include "store/base/macros.h"

/* agent.c: serve the control socket. Does not return. */
__attribute__((noreturn)) void agent_main(void);

/*
 * exec.c: in the forked child; become the program. stdio[0] may be -1, for
 * /dev/null. Says on `sock` why it could not.
 */
__attribute__((noreturn)) void child_main(struct request *rq, int sock, const int stdio[3]);
/* A message on a program's socket; a peer that has gone is no matter. */
void say(int sock, enum init_op op, uint32_t value, int error);

/* What /etc/passwd says of a user. */
struct user {
	char name[256];	 /* "" where the user has no line */
	char home[4096]; /* never "" */
};
/*
 * user.c: become "name", "uid", "name:group" or "uid:gid" of /etc/passwd and
 * /etc/group. "" is root. *out lives for ever. 0 or -errno (-EINVAL: no such
 * user or group).
 */
MUST_CHECK int user_become(const char *spec, const struct user **out);

/*
 * sweep.c: send `sig` to the process group and session of `leader`, which is a
 * child of ours that has not been reaped, and to its descendants; SIGKILL
 * until there is nothing left of them.
 */
void sweep(int proc, pid_t leader, int sig);

/*
 * reap.c: wait for EOF on stdin, then end what runs in containers. argv[2]: the
 * directory of the bundles, argv[3]: the runtime's. Exit status.
 */
int reap_main(char **argv);

/* files.c: argv[1] is a command. Exit status. */
int files_main(int argc, char **argv);
bool files_has_command(const char *name);
/* mkdir -p of path's first len bytes. */
MUST_CHECK int make_directories(const char *path, size_t len);
/* remove.c: a file, or a directory with all in it. 0 or -errno. */
MUST_CHECK int remove_tree(const char *path);

#endif
