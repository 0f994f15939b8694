/*
 * exec_run.h - a command in a sandbox whose output and exit status become ours.
 */
#ifndef VARVE_TOOLS_EXEC_RUN_H
#define VARVE_TOOLS_EXEC_RUN_H

#include <stdbool.h>

#include "tools/cli/cli.h"

/* Of varve itself where it runs a command, so that the command's can be told apart. */
#define EXEC_FAILED 125

struct exec_run {
	const char *sandbox; /* its id */
	char *const *argv;   /* NULL-terminated, at least one */
	const json_t *envs;  /* object of strings, or NULL */
	const char *workdir; /* or NULL */
	double timeout_s;    /* 0: none */
	double linger_s;     /* how long to wait for output after its end; -1: the daemon's */
};

/*
 * Run it; output goes to standard output and error as it comes, or with --json
 * as one object at the end. Standard input (exec_input.h) goes to the command, and
 * so do the signals of interrupt_catch, SIGQUIT, SIGUSR1 and SIGUSR2. cli->status
 * gets the exit status. -EINTR where SIGINT came twice, or a signal cannot be
 * passed on: the command is killed.
 */
MUST_CHECK int exec_run(struct cli *cli, const struct exec_run *x, struct error *err);

/* From now on SIGINT, SIGTERM and SIGHUP are only remembered. */
void interrupt_catch(void);
/* The signal that came, or 0. */
int interrupt_signal(void);
/* As if none had come. */
void interrupt_forget(void);

/* {"K": "V"} of every option --env K=V: *out NULL where there is none. CLI_USAGE. */
MUST_CHECK int exec_envs(const struct args *args, json_t **out, struct error *err);

#endif
