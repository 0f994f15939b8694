/*
 * client.h - calls to snapshotd: HTTP over its unix socket or TCP (http_call.h).
 * One thread. JSON both ways, event streams, and bodies of any length.
 */
#ifndef VARVE_TOOLS_CLIENT_H
#define VARVE_TOOLS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "tools/cli/address.h"

struct client;
/* Copies the address; what its key points to stays the caller's. NULL: no memory. */
MUST_CHECK struct client *client_new(const struct address *address);
void client_free(struct client *c);
DEFINE_CLEANUP(struct client *, client_free)

/* Append fmt to out; each %s in it is replaced by the next argument, escaped for a URL. */
MUST_CHECK int client_path(struct buf *out, const char *fmt, ...);

struct client_request {
	const char *method;
	const char *path;   /* "/api/...", escaped (client_path) */
	const json_t *body; /* or NULL */

	/* A body streamed from a descriptor, instead of `body`. */
	bool upload;
	int upload_fd;
	const char *upload_type; /* Content-Type */
	/* May be NULL: read here instead; bytes, 0 at the end, a failure (-errno) ends the call. */
	ssize_t (*on_read)(void *arg, void *data, size_t size);
	/* May be NULL: bytes sent so far. */
	void (*on_sent)(void *arg, uint64_t bytes);
	/* May be NULL: nothing more is to be read. A failure (-errno) ends the call, unsent. */
	int (*on_end)(void *arg);

	/*
	 * Ask for events. "result" and "error" end up as the call's result;
	 * comments are dropped; each other event is handed over. The answer may
	 * be plain JSON all the same.
	 */
	void (*on_event)(void *arg, const char *type, const json_t *data);

	/* Stream the answer here instead; a failure (-errno) ends the call. */
	int (*on_data)(void *arg, const void *data, size_t len);

	/*
	 * May be NULL. The call is made again, and what was handed over may come again, from its
	 * begin. Without it, one that has handed something over is not made again.
	 */
	void (*on_again)(void *arg);

	/* May be NULL. Asked every second, and after each signal: true ends it, -EINTR. */
	bool (*cancelled)(void *arg);

	void *arg; /* of them all */
};

/*
 * A daemon that is being replaced is waited for (libvarve/retry.h), and the call made again: with
 * the same Idempotency-Key where it changes something, so that it is done once; one that an older
 * daemon, without such keys, has been sent is not. Nor is one that has an upload, nor one that has
 * handed over a part of its answer, but for on_again.
 *
 * *out (may be NULL) gets the answer, a new reference; json null where there
 * is none. Failures carry the daemon's own words: -ENOENT (404), -EEXIST
 * (409), -EINVAL (400, 413, 422), -EACCES (401, 403), -ENOSPC (507),
 * -ECONNREFUSED (cannot be reached), -EIO, or what on_data returned.
 */
MUST_CHECK int client_run(struct client *c, const struct client_request *rq, json_t **out,
			  struct error *err);
/*
 * Whether the last call has failed for want of a daemon alone, so that another one may go better:
 * none was reached, it had no time, the connection broke off. False where nothing is to be made
 * again (VARVE_RETRY_SECONDS), and for what the daemon itself has said.
 */
bool client_may_again(const struct client *c);
/* An on_again of a call whose events only tell how far it is. */
void client_again(void *arg);
/* The common case: JSON or nothing (NULL) there, JSON back. */
MUST_CHECK int client_call(struct client *c, const char *method, const char *path,
			   const json_t *body, json_t **out, struct error *err);

#endif
