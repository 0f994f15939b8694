/*
 * store_program.h - varve-store, the program that reads stores for varve.
 *
 * varve is linked with what a client of the daemon needs and no more: loading RocksDB and
 * libarchive takes longer than most commands do. What opens a store or unpacks an
 * archive is therefore in a second program, PREFIX/libexec/varve/varve-store beside
 * PREFIX/bin/varve, which varve executes in its own place: with its standard input and
 * output, its environment, and its arguments behind "--store DIR".
 *
 * The two belong together: argv[0] is STORE_PROGRAM_CALLER, and varve-store refuses another
 * version's, as after half an upgrade.
 */
#ifndef VARVE_TOOLS_STORE_PROGRAM_H
#define VARVE_TOOLS_STORE_PROGRAM_H

#include "store/base/version.h"
#include "tools/cli/cli.h"

#define STORE_PROGRAM_CALLER "varve " VARVE_VERSION

/* Where it is, malloc'd; found from where this program is. -ENOENT where it is missing. */
MUST_CHECK int store_program_find(char **out, struct error *err);

/*
 * Become it. args: what stands behind "--store DIR", ends with NULL. DIR is that of
 * cli->store_dir, else the daemon's store (cli_state_dir). Returns only on failure.
 */
MUST_CHECK int store_program_exec(struct cli *cli, char *const *args, struct error *err);

#endif
