/* inspect_options.c - options of the commands here: varve parses and explains them, too. */
#include "tools/cli/snapshots_view.h"
#include "tools/inspect/inspect_commands.h"

const struct option_spec options_ls[] = {
	{ 'l', "long", NULL, "mode, links, owner, size and time of each" },
	{ 'R', "recursive", NULL, "and all below it; names are paths from there" },
	{ 0 },
};

const struct option_spec options_du[] = {
	{ 'd', "depth", "COUNT", "also a line for each directory so far down (default 0)" },
	{ 'u', "unique", NULL, "also the stored bytes that no other snapshot has (reads all)" },
	{ 0 },
};

const struct option_spec options_verify[] = {
	{ 0, "remote", "REMOTE", "all that this remote's bucket has instead" },
	{ 0, "deep", NULL, "--remote: also read and hash all bytes" },
	{ 0 },
};

const struct option_spec options_snapshots[] = {
	{ 0, "remote", "REMOTE", "those of this remote instead, by name" },
	LISTING_QUIET,
	LISTING_FILTER(SNAPSHOTS_KEYS),
	{ 0 },
};

const struct option_spec options_history[] = {
	LISTING_QUIET,
	LISTING_FILTER(SNAPSHOTS_KEYS),
	{ 0 },
};
