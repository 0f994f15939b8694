/*
 * http_call.h - one HTTP/1.1 request to the daemon and its answer, each on a connection of its own.
 * That is all of HTTP that a command needs: a library that knows all of it, as libcurl does, takes
 * longer to load than most commands take.
 */
#ifndef VARVE_TOOLS_HTTP_CALL_H
#define VARVE_TOOLS_HTTP_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "store/base/macros.h"
#include "tools/cli/address.h"
#include "tools/cli/http_answer.h"

struct http_call {
	const char *method;
	const char *path; /* escaped */
	const char *accept;
	const char *key;  /* Idempotency-Key, or NULL */
	const char *type; /* Content-Type of the body; NULL where there is none */
	const char *body; /* or NULL: on_read has it */
	/* Bytes, 0 at the end; a failure (-errno) ends the call. It may wait, the call with it. */
	ssize_t (*on_read)(void *arg, void *data, size_t size);
	/* May be NULL. Asked every second, and after each signal: true ends the call, -EINTR. */
	bool (*cancelled)(void *arg);
	void *arg; /* of both */
};

/*
 * Sends the request and feeds *answer until that is whole. A body from on_read is begun when the
 * daemon asks for it, or after a second; an answer with a status of 400 or more ends it.
 * 0, -ENOTCONN (no connection; err has the reason), -ETIMEDOUT (none in time, or an end that has
 * fallen silent), -ECONNRESET (broken off before the answer was whole), -EPROTO (that was no
 * HTTP), what a callback returned, -ENOMEM, or what poll(2), send(2) or recv(2) failed with.
 * Writing to a connection that has ended raises no SIGPIPE.
 */
MUST_CHECK int http_call_run(const struct address *address, const struct http_call *call,
			     struct http_answer *answer, struct error *err);

#endif
