/* snapshots_view.h - snapshots of the daemon or of a store, as JSON and as tables. */
#ifndef VARVE_TOOLS_SNAPSHOTS_VIEW_H
#define VARVE_TOOLS_SNAPSHOTS_VIEW_H

#include "tools/cli/cli.h"

/* The array of SnapshotInfo objects of GET /api/snapshots, newest first. */
MUST_CHECK int snapshots_fetch(struct cli *cli, json_t **out, struct error *err);
/* One SnapshotInfo, by name or id. */
MUST_CHECK int snapshot_fetch(struct cli *cli, const char *name, json_t **out, struct error *err);
/* A snapshot and its ancestors. */
MUST_CHECK int history_fetch(struct cli *cli, const char *name, json_t **out, struct error *err);

/* JSON or a table, as cli says. */
MUST_CHECK int snapshots_print(const struct cli *cli, const json_t *list);
/* JSON or a field a line. */
MUST_CHECK int snapshot_print(const struct cli *cli, const json_t *o);
/* What to call it: its name, or its id where it has none. */
const char *snapshot_label(const json_t *o);

#endif
