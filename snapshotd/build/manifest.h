/*
 * manifest.h - an image's recipe as clients send it (JSON), checked, with the
 * keys that name its result and that of each of its steps.
 */
#ifndef VARVE_SNAPSHOTD_MANIFEST_H
#define VARVE_SNAPSHOTD_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/base64.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/hash.h"

#define MANIFEST_STEPS_MAX 10000
#define MANIFEST_PATH_MAX 4095	  /* bytes */
#define MANIFEST_MEMORY_MB_MIN 64 /* of builderMemoryMB */
#define MANIFEST_MEMORY_MB_MAX (16u << 20)

enum manifest_base { BASE_TEMPLATE, BASE_SNAPSHOT, BASE_OCI };
enum step_type {
	STEP_APT_INSTALL,
	STEP_PIP_INSTALL,
	STEP_RUN,
	STEP_ENV,
	STEP_WORKDIR,
	STEP_ADD_FILE,
	STEP_ADD_DIR
};

struct manifest_step {
	enum step_type type;
	const char *type_name; /* as in JSON; static */
	json_t *json;	       /* the whole step; borrowed from the manifest */
	json_t *args;	       /* its "args"; borrowed */
};

struct manifest {
	json_t *json; /* owned: {"base", "steps"[, "builderMemoryMB"]} as given */
	enum manifest_base base;
	const char *base_ref; /* NAME or REFERENCE; "" for the template; borrowed from json */
	struct manifest_step *steps; /* owned */
	size_t n_steps;
	uint64_t builder_memory_mb; /* 0: not asked for */
	char key[DIGEST_HEX_SIZE];  /* cache key: SHA-256 of the canonical {"base", "steps"} */
};

/*
 * Check all of a manifest; what it says is then safe to act upon: args has what
 * api.md lists and nothing else, each of its type; paths are absolute, without
 * NUL, "." or ".." or empty components but for a slash at the end; content is
 * base64; variables' names are [A-Za-z_][A-Za-z0-9_]*; packages and commands
 * are not empty, and a package does not start with "-". No string has a NUL but
 * decoded content. Takes a reference to j, which must not change afterwards.
 * -EINVAL with why ("step 3 (add_file): ..."; steps count from 1), -ENOMEM.
 */
MUST_CHECK int manifest_parse(const json_t *j, struct manifest *out, struct error *err);
void manifest_fini(struct manifest *m); /* of a zeroed one too */

/*
 * The key of the steps up to s: SHA-256 of the canonical
 * ["varve step 1", prev, step]. prev is the key up to the step before, and for
 * the first step what the base is (image_base_id), in hex.
 */
MUST_CHECK int manifest_step_key(const char *prev, const struct manifest_step *s,
				 char out[DIGEST_HEX_SIZE]);

/*
 * The permission bits that args or an entry of add_dir's files or dirs asks for
 * with "mode" (checked by manifest_parse), or fallback where it does not.
 */
unsigned manifest_mode(const json_t *args, unsigned fallback);

#endif
