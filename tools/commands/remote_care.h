/* remote_care.h - gc and verify of a remote, for the commands of these names. */
#ifndef VARVE_TOOLS_REMOTE_CARE_H
#define VARVE_TOOLS_REMOTE_CARE_H

#include "tools/cli/cli.h"

/* Set body[member] to the seconds of an option that is a duration, if it was given. */
MUST_CHECK int remote_set_seconds(json_t *body, const struct args *args, const char *option,
				  const char *member, struct error *err);

/* args: of cmd_gc and cmd_verify, with --remote. Print what was done, or found. */
MUST_CHECK int remote_gc(struct cli *cli, const struct args *args, struct error *err);
/* CLI_FAILED where something is damaged. */
MUST_CHECK int remote_verify(struct cli *cli, const struct args *args, struct error *err);

#endif
