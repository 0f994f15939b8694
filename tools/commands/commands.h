/* commands.h - the function of every command of the daemon's, for the table in commands.c. */
#ifndef VARVE_TOOLS_COMMANDS_H
#define VARVE_TOOLS_COMMANDS_H

#include "tools/inspect/inspect_commands.h"

#define COMMAND(name) int cmd_##name(struct cli *cli, const struct args *args, struct error *err)

COMMAND(import);
OPTIONS(import);
COMMAND(export);
COMMAND(mount);
OPTIONS(mount);
COMMAND(umount);
OPTIONS(umount);
OPTIONS(attach);
OPTIONS(discard);
COMMAND(discard);
COMMAND(attach);
COMMAND(mounts);
OPTIONS(mounts);
COMMAND(checkpoint);
OPTIONS(checkpoint);
COMMAND(fork);
COMMAND(diff);
COMMAND(history);
COMMAND(snapshots);
COMMAND(remote);
OPTIONS(remote);
COMMAND(push);
OPTIONS(push);
COMMAND(pull);
OPTIONS(pull);
COMMAND(show);
COMMAND(rename);
COMMAND(rm);
COMMAND(pin);
OPTIONS(pin);
COMMAND(gc);
OPTIONS(gc);
COMMAND(backup);
OPTIONS(backup);
COMMAND(stats);
COMMAND(daemon);
COMMAND(dashboard);
OPTIONS(dashboard);
COMMAND(verify);
COMMAND(build);
OPTIONS(build);
COMMAND(builds);
COMMAND(logs);
OPTIONS(logs);
COMMAND(cancel);
COMMAND(images);
COMMAND(cachekey);
COMMAND(run);
OPTIONS(run);
COMMAND(exec);
OPTIONS(exec);
COMMAND(sandboxes);
COMMAND(kill);
COMMAND(files);
COMMAND(checkpoints);
COMMAND(restore);
COMMAND(template);
OPTIONS(template);
COMMAND(completion);
COMMAND(complete);

#endif
