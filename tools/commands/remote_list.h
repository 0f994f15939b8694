/* remote_list.h - what a remote has, for commands on snapshots. In cmd_remote.c. */
#ifndef VARVE_TOOLS_REMOTE_LIST_H
#define VARVE_TOOLS_REMOTE_LIST_H

#include "tools/cli/cli.h"

/* The snapshots of a remote, as a table or JSON. */
MUST_CHECK int remote_list_print(struct cli *cli, const struct args *args, struct error *err);
/* Remove what REMOTE:REFERENCE is; says if it stays under another name. */
MUST_CHECK int remote_list_remove(struct cli *cli, const char *word, struct error *err);

#endif
