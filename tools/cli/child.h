/*
 * child.h - a program whose output is read here: standard output from a
 * descriptor, standard error line by line, by a thread.
 */
#ifndef VARVE_TOOLS_CHILD_H
#define VARVE_TOOLS_CHILD_H

#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>

#include "store/base/error.h"
#include "store/base/macros.h"

struct child {
	pid_t pid;  /* 0: none, or waited for */
	int out_fd; /* read it until its end; child_wait closes it */
	/* private */
	int err_fd;
	pthread_t reader;
	/* Called by the reader for each line of standard error, without its end. */
	void (*on_line)(void *arg, const char *line, size_t len);
	void *arg;
};

/* on_line and arg are set by the caller. argv[0] is looked up in PATH: -ENOENT. */
MUST_CHECK int child_start(struct child *c, char *const *argv, struct error *err);
/*
 * Wait for its end and for what it still says. The exit status, or 128 and the
 * signal that ended it. Reading out_fd is over: a program that still writes gets
 * SIGPIPE.
 */
MUST_CHECK int child_wait(struct child *c);

#endif
