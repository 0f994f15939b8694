/*
 * recipe.h - template recipes: how a base image is made. A file NAME.json:
 *
 *   {"description": "...",
 *    "bootstrap": {"suite": "bookworm", "variant": "minbase", "components": ["main"],
 *                  "packages": ["ca-certificates"], "keyring": "/usr/share/keyrings/X.gpg",
 *                  "keyringPackage": "X"},
 *    "steps": [the steps of an image manifest]}
 *
 * `bootstrap` is what mmdebstrap is told; all but the suite may be left out. It
 * names no mirror, so that mmdebstrap's own choice holds. Recipes are looked for
 * in one directory: that of --templates, or of VARVE_TEMPLATES, or beside the
 * program (PREFIX/share/varve/templates, or tools/templates of a source tree).
 */
#ifndef VARVE_TOOLS_RECIPE_H
#define VARVE_TOOLS_RECIPE_H

#include <stddef.h>

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"

struct recipe {
	char *name;   /* owned */
	char *path;   /* owned; of the file, or NULL */
	json_t *json; /* owned; the others borrow from it */
	const char *description, *suite, *variant;
	const char *keyring, *keyring_package; /* "" for none */
	json_t *components, *packages, *steps; /* arrays; the first two may be NULL */
};

/* Check and take apart; takes a reference to json. -EINVAL with what is wrong. */
MUST_CHECK int recipe_parse(const char *name, json_t *json, struct recipe *out, struct error *err);
void recipe_fini(struct recipe *r);

/* The directory of recipes, malloc'd. given: --templates, or NULL. */
MUST_CHECK int recipe_dir(const char *given, char **out, struct error *err);
/* A recipe by its name, or by its file where that ends with ".json". -ENOENT. */
MUST_CHECK int recipe_load(const char *dir, const char *name, struct recipe *out,
			   struct error *err);
/* The names in dir, sorted: a NULL-terminated malloc'd array of malloc'd strings. */
MUST_CHECK int recipe_names(const char *dir, char ***out, struct error *err);
void recipe_names_free(char **names);

/* What the command line adds to a recipe's bootstrap. */
struct recipe_options {
	const char *suite;	    /* NULL: the recipe's */
	const char *keyring;	    /* NULL: the recipe's where that file is there */
	const char *const *mirrors; /* URLs or lines of a sources.list; NULL-terminated, or NULL */
};

/*
 * mmdebstrap's command line, which writes a tar to standard output: a
 * NULL-terminated malloc'd array of malloc'd strings (recipe_names_free).
 */
MUST_CHECK int recipe_argv(const struct recipe *r, const struct recipe_options *o, char ***out);
#define RECIPE_KEY_SIZE 9
/* 8 hex digits that change with anything that recipe_argv depends on but the keyring. */
MUST_CHECK int recipe_key(const struct recipe *r, const struct recipe_options *o,
			  char out[RECIPE_KEY_SIZE]);
/* The image manifest on that base: {"base": "snapshot:BASE", "steps"}, a new reference. */
json_t *recipe_manifest(const struct recipe *r, const char *base);

#endif
