/* snapshots_view.h - snapshots, of the daemon or of a store, as they are printed. */
#ifndef VARVE_TOOLS_SNAPSHOTS_VIEW_H
#define VARVE_TOOLS_SNAPSHOTS_VIEW_H

#include "tools/cli/each.h"
#include "tools/cli/listing.h"

/* Of SnapshotInfo objects. */
extern const struct listing snapshots_listing;
#define SNAPSHOTS_KEYS "name, status, source, pinned (yes, no) or share"
/* Several, which `get` gives: fields, one a line, or JSON, of more than one a list. */
MUST_CHECK int snapshots_show(struct cli *cli, char *const *words, each_fn *get, struct error *err);
/* One that has just been made, in a sentence that says how much of it was new; or JSON. */
MUST_CHECK int snapshot_print_new(const struct cli *cli, const json_t *o);
/* What to call it: its name, or its id where it has none. */
const char *snapshot_label(const json_t *o);

#endif
