/* image_build.h - asking the daemon for an image, with the build's log on standard error. */
#ifndef VARVE_TOOLS_IMAGE_BUILD_H
#define VARVE_TOOLS_IMAGE_BUILD_H

#include <stdbool.h>

#include "store/base/hash.h"
#include "tools/cli/cli.h"

struct image_build {
	const char *path; /* "/api/snapshots" or what else builds */
	const json_t *body;
	bool force, keep_failed; /* the query's */
	bool quiet;		 /* no log */
	/*
	 * interrupt_catch was called. A signal ends the call, -EINTR, and the build goes
	 * on: how to follow and cancel it is said.
	 */
	bool interruptible;
	bool stays; /* a first SIGINT at a terminal does not end the call, only a second */
};

/*
 * The call's answer, a new reference. Where the build failed because something
 * could not be reached, err says what.
 */
MUST_CHECK int image_build(struct cli *cli, const struct image_build *b, json_t **out,
			   struct error *err);
/* The key of a manifest's image. */
MUST_CHECK int image_key(const json_t *manifest, char key[DIGEST_HEX_SIZE], struct error *err);
/* A manifest from a file ("-": standard input), a new reference. */
MUST_CHECK int image_read(const char *path, json_t **out, struct error *err);

#endif
