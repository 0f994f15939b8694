/*
 * each.h - one command on several words: each is done, whatever has become of the others.
 */
#ifndef VARVE_TOOLS_EACH_H
#define VARVE_TOOLS_EACH_H

#include "tools/cli/cli.h"

/* 0, or -errno with the reason in err. *out (NULL before) may get what --json prints of it. */
typedef int each_fn(struct cli *cli, const char *word, void *arg, json_t **out, struct error *err);

struct each {
	const char *command; /* its name, for messages */
	each_fn *one;
	void *arg;
	bool list; /* --json prints a list for one word, too */
};

/*
 * For each of `words`, which end with NULL: 0, CLI_FAILED where several have failed or one of
 * several, which has been told, or the failure of the only one. Where no daemon answers it ends
 * with the first one. With --json what they have given is printed: of several words a list.
 */
MUST_CHECK int each_run(struct cli *cli, char *const *words, const struct each *e,
			struct error *err);

#endif
