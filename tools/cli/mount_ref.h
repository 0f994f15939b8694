/* mount_ref.h - which mount or snapshot a word of the command line means. */
#ifndef VARVE_TOOLS_MOUNT_REF_H
#define VARVE_TOOLS_MOUNT_REF_H

#include "tools/cli/cli.h"

/*
 * The mount whose directory, id, or only id that starts with it, `word` is: a
 * new reference to its object. -ENOENT; -EINVAL where several fit.
 */
MUST_CHECK int mount_find(struct cli *cli, const char *word, json_t **out, struct error *err);

/*
 * A mount, or the snapshot of that name (or id), which goes before a mount's
 * id; a word with a '/' is a directory. *is_mount says which.
 */
MUST_CHECK int mount_or_snapshot(struct cli *cli, const char *word, json_t **out, bool *is_mount,
				 struct error *err);

/*
 * Where below the daemon's state directory the mount is ("sandboxes/sb-.../root"): then it
 * is one of the daemon's own, a sandbox's or a build's. NULL for others; else malloc'd.
 */
char *mount_own_place(const char *state_dir, const json_t *m);

/*
 * Take those of the daemon's own out of a list of mounts, but for what a failed
 * build was asked to keep. *out_hidden is how many.
 */
MUST_CHECK int mounts_hide_own(struct cli *cli, json_t *list, size_t *out_hidden,
			       struct error *err);

#endif
