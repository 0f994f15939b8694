/* commands.h - the function of every command of the daemon's, for the table in commands.c. */
#ifndef VARVE_TOOLS_COMMANDS_H
#define VARVE_TOOLS_COMMANDS_H

#include "tools/cli/listing.h"
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
OPTIONS(builds);
COMMAND(logs);
OPTIONS(logs);
COMMAND(cancel);
COMMAND(images);
OPTIONS(images);
COMMAND(cachekey);
COMMAND(run);
OPTIONS(run);
COMMAND(exec);
OPTIONS(exec);
COMMAND(sandboxes);
OPTIONS(sandboxes);
COMMAND(kill);
COMMAND(files);
COMMAND(checkpoints);
OPTIONS(checkpoints);
COMMAND(restore);
COMMAND(template);
OPTIONS(template);
COMMAND(completion);
COMMAND(complete);

/* What they list: for completion of filters. */
extern const struct listing mounts_listing, remotes_listing, builds_listing, images_listing,
	sandboxes_listing, checkpoints_listing;

/* Where a group of commands begins in cli_commands, which begins with one. Ends with an empty
 * entry. */
extern const struct command_group {
	const char *first; /* a command */
	const char *title;
} cli_groups[];

#endif
