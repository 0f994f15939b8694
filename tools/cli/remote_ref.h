/* remote_ref.h - REMOTE:NAME where a snapshot is typed: the daemon pulls it. */
#ifndef VARVE_TOOLS_REMOTE_REF_H
#define VARVE_TOOLS_REMOTE_REF_H

#include "tools/cli/cli.h"

/* Whether the word is REMOTE:REFERENCE and no path. */
bool remote_ref_is(const char *word);
/*
 * Have it pulled, with a bar of progress. name: of the local snapshot; NULL: as there; "": none.
 * lazy: its chunks come when they are read. *out: SnapshotInfo with "pulled".
 */
MUST_CHECK int remote_ref_pull(struct cli *cli, const char *word, const char *name, bool lazy,
			       json_t **out, struct error *err);
/* A word for a snapshot that the store has, malloc'd: the same, or the id of what was pulled. */
MUST_CHECK int remote_ref_resolve(struct cli *cli, const char *word, char **out, struct error *err);
/*
 * The same of SNAPSHOT[:PATH], where REMOTE:NAME[:PATH] may stand. A snapshot of the store goes
 * before a remote of its name; so does a path that begins with '/'. *out NULL: take the word.
 */
MUST_CHECK int remote_ref_resolve_path(struct cli *cli, const char *word, char **out,
				       struct error *err);

/* A POST with a body, whose events "progress" move a bar; takes body. */
MUST_CHECK int remote_ref_post(struct cli *cli, const char *path, json_t *body, json_t **out,
			       struct error *err);

#endif
