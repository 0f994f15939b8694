/*
 * listing.h - what commands that list something have in common: --quiet, --filter, a table or JSON.
 */
#ifndef VARVE_TOOLS_LISTING_H
#define VARVE_TOOLS_LISTING_H

#include "tools/cli/cli.h"

/* For tables of options; `keys` tells people of the listing's. */
#define LISTING_QUIET                                                         \
	{                                                                     \
		'q', "quiet", NULL, "print ids or names alone, one on a line" \
	}
#define LISTING_FILTER(keys)                                            \
	{                                                               \
		0, "filter", "KEY=VALUE",                               \
			"list only those whose " keys                   \
			" matches VALUE (*, ? and [abc] are wildcards)" \
	}

struct listing_key {
	/* "name". One that ends with a '.' stands for all that begin so: members of an object. */
	const char *key;
	const char
		*member; /* of what is listed: text, true or false ("yes", "no"), or that object */
	/* Used instead of member, unless NULL: whether o fits the pattern (listing_fits). */
	bool (*fits)(const json_t *o, const char *pattern);
};

struct listing {
	const char *columns, *empty; /* as cli_print_list */
	void (*add_row)(struct table *t, const json_t *o);
	const char *(*label)(const json_t *o); /* what --quiet prints */
	const struct listing_key *keys;	       /* end with an empty one */
};

/* Before anything is asked for: do its --quiet and --filter make sense? 0 or CLI_USAGE. */
MUST_CHECK int listing_check(const struct cli *cli, const struct args *args,
			     const struct listing *l, struct error *err);
/*
 * Print what of the list fits. Of several filters with one key one has to fit, and of each key.
 * listing_check has said yes.
 */
MUST_CHECK int listing_print(const struct cli *cli, const struct args *args,
			     const struct listing *l, const json_t *list);

/* fnmatch(3), without a special role for slashes. */
bool listing_fits(const char *text, const char *pattern);
/* Labels. */
const char *listing_id(const json_t *o);
const char *listing_name(const json_t *o);

#endif
