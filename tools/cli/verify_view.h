/* verify_view.h - what a verification finds, as it is printed: problems, then the result. */
#ifndef VARVE_TOOLS_VERIFY_VIEW_H
#define VARVE_TOOLS_VERIFY_VIEW_H

#include "tools/cli/cli.h"
#include "tools/cli/progress_bar.h"

struct verify_view {
	const struct cli *cli;
	struct progress_bar bar;
	json_t *problems; /* kept for --json only */
	uint64_t count;
};

/* verify_view_end is called after a failure, too. */
MUST_CHECK int verify_view_begin(struct verify_view *v, const struct cli *cli);
/* Print it at once, or keep it for --json. snapshot and path may be "". */
void verify_view_problem(struct verify_view *v, const char *snapshot, const char *path,
			 const char *problem);
/*
 * r is how the verification ended. Where it is 0, print its result: counts, with the
 * problems inside where that is JSON; CLI_FAILED where something is damaged.
 */
MUST_CHECK int verify_view_end(struct verify_view *v, int r, json_t *result);

#endif
