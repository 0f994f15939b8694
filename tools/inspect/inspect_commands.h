/* inspect_commands.h - the commands that look into a snapshot. */
#ifndef VARVE_TOOLS_INSPECT_COMMANDS_H
#define VARVE_TOOLS_INSPECT_COMMANDS_H

#include "tools/cli/cli.h"

#define COMMAND(name) int cmd_##name(struct cli *cli, const struct args *args, struct error *err)
#define OPTIONS(name) extern const struct option_spec options_##name[]

COMMAND(ls);
OPTIONS(ls);
COMMAND(cat);
COMMAND(stat);
COMMAND(chunks);
COMMAND(tree);
COMMAND(du);
OPTIONS(du);

#endif
