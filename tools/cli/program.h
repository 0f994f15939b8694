/*
 * program.h - what varve and varve-store share of their main(): how they begin, what the
 * options of every command do, how a command's end becomes an exit status.
 */
#ifndef VARVE_TOOLS_PROGRAM_H
#define VARVE_TOOLS_PROGRAM_H

#include "tools/cli/cli.h"

/* Standard input, the locale and the log's level. */
void program_begin(void);
/* What of cli_global_options was given, --help and --version aside. */
void program_apply_globals(struct cli *cli, const struct args *args);
/* Tell of a wrong use of the command, or of varve (NULL): CLI_USAGE. */
int program_usage_failure(const char *command, const struct error *err);
/* Run it and tell of its failure: the exit status. */
int program_run(struct cli *cli, const char *command, command_fn *run, const struct args *args);
/* Write out what is printed. The exit status of the whole, from that of the command. */
int program_end(const struct cli *cli, int status);

#endif
