/*
 * inspect_commands.h - the commands that varve-store has: what looks into a snapshot, what
 * other commands do with --store, and what varve asks it for by itself ("__...").
 */
#ifndef VARVE_TOOLS_INSPECT_COMMANDS_H
#define VARVE_TOOLS_INSPECT_COMMANDS_H

#include "tools/cli/cli.h"

#define OPTIONS(name) extern const struct option_spec options_##name[]

OPTIONS(ls);
OPTIONS(du);
OPTIONS(snapshots);
OPTIONS(history);
OPTIONS(verify);

struct inspect_command {
	const char *name;
	const struct option_spec *options; /* or NULL */
	command_fn *run;
};

/* Ends with an empty entry. */
extern const struct inspect_command inspect_commands[];

#define INSPECT(name) \
	int inspect_##name(struct cli *cli, const struct args *args, struct error *err)

INSPECT(ls);
INSPECT(cat);
INSPECT(stat);
INSPECT(chunks);
INSPECT(tree);
INSPECT(du);
INSPECT(diff);
INSPECT(export);
INSPECT(snapshots);
INSPECT(show);
INSPECT(history);
INSPECT(verify);
INSPECT(stats);
/* __complete snapshots|paths WORD BEHIND: candidates for WORD; BEHIND follows a snapshot's name. */
INSPECT(complete);
/*
 * __unpack: a tar from standard input into the working directory. Why it fails goes to standard
 * output, where varve reads it.
 */
INSPECT(unpack);

#endif
