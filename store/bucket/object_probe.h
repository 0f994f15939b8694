/*
 * object_probe.h - does a bucket do what this room relies on? Tries it, and says what it found.
 *
 * A service that fails one of the first three checks would lose data, sooner or later: it must not
 * be used. One that passes may still do so on other days; this is no proof.
 */
#ifndef VARVE_OBJECT_PROBE_H
#define VARVE_OBJECT_PROBE_H

#include "store/bucket/object_store.h"

#define OBJECT_CHECKS_MAX 9u

enum object_check_result {
	CHECK_OK,
	CHECK_NOTED,   /* not as one would wish, but nothing relies on it */
	CHECK_SKIPPED, /* of a read-only bucket, or after a failure */
	CHECK_FAILED,
};

struct object_check {
	const char *name; /* "create once", "create again", "list", "overwrite", "ranges", ... */
	enum object_check_result result;
	char text[256]; /* what was found, for a person */
};

struct object_probe {
	struct object_check checks[OBJECT_CHECKS_MAX];
	size_t n;
	bool usable;		 /* nothing failed */
	bool refuses_old;	 /* signatures of 16 minutes ago */
	int64_t ahead;		 /* seconds that the service's clock is before ours */
	uint64_t get_us, put_us; /* medians of small ones */
};

/*
 * `rounds`: of PUT and LIST, 0 for the usual 100 (of two each). All keys are below "probe/" and
 * removed at the end. 0 with *out, whatever was found. -errno with err set if the bucket cannot be
 * asked at all: -EACCES, -ETIMEDOUT, ...
 */
MUST_CHECK int object_probe(struct object_store *os, unsigned rounds, struct object_probe *out,
			    struct error *err);
const char *object_check_result_text(enum object_check_result r); /* "ok", "failed", ... */

#endif
