/*
 * image_config.h - what an image says about the processes that run in it:
 * environment, working directory and user, as in an OCI image's config object,
 * which a snapshot keeps (struct snapshot, config).
 */
#ifndef VARVE_SNAPSHOTD_IMAGE_CONFIG_H
#define VARVE_SNAPSHOTD_IMAGE_CONFIG_H

#include <stddef.h>

#include <jansson.h>

#include "store/base/macros.h"

struct image_config {
	char **env; /* "NAME=VALUE", each name once; owned */
	size_t n_env;
	char *workdir; /* absolute; "/" where the image says nothing; owned */
	char *user;    /* "NAME", "UID" or either ":GROUP"; "" is root; owned */
};

/*
 * Read "Env", "WorkingDir" and "User"; config may be NULL. Images come from
 * anywhere: members of another type, and variables without a name, are left
 * out. -ENOMEM.
 */
MUST_CHECK int image_config_load(const json_t *config, struct image_config *out);
void image_config_fini(struct image_config *c); /* of a zeroed one too */
static inline void image_config_fini_p(struct image_config *c)
{
	image_config_fini(c);
}

/* Add or replace. -ENOMEM; -EINVAL for a name that is empty or has a '='. */
MUST_CHECK int image_config_setenv(struct image_config *c, const char *name, const char *value);
MUST_CHECK int image_config_set_workdir(struct image_config *c, const char *path);

/*
 * The config object of an image that comes from one with old_config (may be
 * NULL): that, with Env, WorkingDir and User replaced by c's. A new reference;
 * NULL when out of memory.
 */
json_t *image_config_merge(const json_t *old_config, const struct image_config *c);

/*
 * A process's environment, NULL-terminated: PATH and LANG=C.UTF-8 by default
 * (HOME and the like only /etc/passwd inside knows), over them c's, over them extra (an object of
 * strings; may be NULL). The caller frees it with strv_free. NULL when out of memory.
 */
char **image_config_environ(const struct image_config *c, const json_t *extra);

void strv_free(char **v); /* and its strings; NULL is accepted */
DEFINE_CLEANUP(char **, strv_free)

#endif
