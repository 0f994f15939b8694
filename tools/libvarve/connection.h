/* connection.h - one call to the daemon and its answer (HTTP, by libcurl). */
#ifndef VARVE_IMAGE_CONNECTION_H
#define VARVE_IMAGE_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "store/base/error.h"
#include "store/base/macros.h"
#include "tools/libvarve/varve.h"

struct call {
	const char *method;
	const json_t *body; /* or NULL */

	/* A body of bytes, instead of `body`: data, or what fd yields. */
	bool upload;
	const void *data;
	size_t len;
	int fd; /* where data is NULL; -1: none */

	/* The answer may be events: logs are handed over (on_log may be NULL). */
	bool events;
	bool no_result; /* the events need not end in a result */
	varve_log_fn on_log;

	/* Stream the answer here. Not 0 ends the call and is its result. */
	int (*on_data)(void *arg, const void *data, size_t len);

	void *arg; /* of both */
};

/*
 * path: fmt, each %s of which is replaced by the next argument, escaped; it may
 * be neither NULL nor empty. *out (may be NULL) gets the answer, a new
 * reference; json null where there is none. Failures as in varve.h.
 */
MUST_CHECK int connection_run(struct varve_client *c, const struct call *call, json_t **out,
			      struct varve_error *err, const char *fmt, ...);

#endif
