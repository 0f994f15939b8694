/* The commands of varve-store. Their words have been checked by varve. */
#include "tools/inspect/inspect_commands.h"

const struct inspect_command inspect_commands[] = {
	{ "ls", options_ls, inspect_ls },
	{ "cat", NULL, inspect_cat },
	{ "stat", NULL, inspect_stat },
	{ "chunks", NULL, inspect_chunks },
	{ "tree", NULL, inspect_tree },
	{ "du", options_du, inspect_du },
	{ "diff", NULL, inspect_diff },
	{ "export", NULL, inspect_export },
	{ "snapshots", options_snapshots, inspect_snapshots },
	{ "show", NULL, inspect_show },
	{ "history", options_history, inspect_history },
	{ "verify", options_verify, inspect_verify },
	{ "stats", NULL, inspect_stats },
	{ "__complete", NULL, inspect_complete },
	{ "__unpack", NULL, inspect_unpack },
	{ 0 },
};
