/*
 * id_ref.h - builds and sandboxes by their id or the start of it; builds also by
 * the name of what they make.
 */
#ifndef VARVE_TOOLS_ID_REF_H
#define VARVE_TOOLS_ID_REF_H

#include "tools/cli/cli.h"

/* The object that `word` means, a new reference. -ENOENT; -EINVAL where several begin so. */
MUST_CHECK int build_find(struct cli *cli, const char *word, json_t **out, struct error *err);
MUST_CHECK int sandbox_find(struct cli *cli, const char *word, json_t **out, struct error *err);
/* Does it look like a sandbox's id? */
bool is_sandbox_id(const char *word);

/*
 * The one of `list` whose member `key` is or begins with word, behind `prefix`
 * or not; borrowed. `what`: for the message. Pure.
 */
MUST_CHECK int id_match(const json_t *list, const char *key, const char *prefix, const char *word,
			const char *what, json_t **out, struct error *err);

#endif
