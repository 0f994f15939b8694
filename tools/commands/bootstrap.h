/*
 * bootstrap.h - a recipe's base system: mmdebstrap runs here, and its tar goes
 * to the daemon as it comes. Needs root, or what mmdebstrap needs without.
 */
#ifndef VARVE_TOOLS_BOOTSTRAP_H
#define VARVE_TOOLS_BOOTSTRAP_H

#include "tools/cli/cli.h"
#include "tools/commands/recipe.h"

/*
 * Import it as the snapshot `name`; what mmdebstrap says goes to standard
 * error. A failure says what could not be reached, where that is known, and
 * leaves no snapshot.
 */
MUST_CHECK int bootstrap_import(struct cli *cli, const struct recipe *r,
				const struct recipe_options *o, const char *name,
				struct error *err);

#endif
