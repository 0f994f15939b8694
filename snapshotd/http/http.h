/*
 * http.h - the HTTP server: connections, bodies, replies. The only module that
 * calls libmicrohttpd; knows nothing of what is served.
 *
 * Every connection has a thread. A request goes through three functions of the
 * application: begin (headers are here), handle (makes the reply), end (the
 * reply has been sent or the client has gone). handle of a plain request runs
 * in the connection's thread, that of a `worker` request in a thread of its
 * own, beside the connection's, which meanwhile brings it the body or sends
 * what it writes.
 */
#ifndef VARVE_SNAPSHOTD_HTTP_H
#define VARVE_SNAPSHOTD_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "snapshotd/http/budget.h"
#include "snapshotd/http/listener.h"
#include "store/base/error.h"
#include "store/base/macros.h"

#define HTTP_BODY_MAX (16u << 20)   /* of a collected body, where the plan does not say */
#define HTTP_BODY_SMALL (64u << 10) /* of a body or reply that is charged to no budget */

#define HTTP_RETRY_AFTER_S "5" /* of a 503 that a while may mend */
#define HTTP_RETRY_SOON_S "1"  /* of one that the next daemon mends */

struct http_server;
struct http_request;

/* What begin decides. */
struct http_plan {
	bool worker;	  /* handle gets a thread of its own and may stream */
	bool body_stream; /* needs worker: the body is read from http_body_fd */
	bool body_live;	  /* needs body_stream: it may pause for as long as it likes */
	size_t body_max;  /* bytes of a collected body, beyond that 413; 0: HTTP_BODY_MAX */
};

struct http_app {
	/* May reply at once; then handle is not called and the body is not read. */
	void (*begin)(void *ctx, struct http_request *rq, struct http_plan *plan);
	void (*handle)(void *ctx, struct http_request *rq);
	/* Called once for each begin, when nothing uses rq any more. */
	void (*end)(void *ctx, struct http_request *rq);
	void *ctx;
	int stream_pause_ms; /* how long a client may take nothing of a streamed reply */
	/* Of what all requests hold at a time; where one is used up, the reply is 503. */
	struct budget *bodies, *replies;
	const char *header, *header_value; /* that every reply has, or NULL */
};

/* connection_limit: of each listener. */
MUST_CHECK int http_server_new(const struct http_app *app, unsigned connection_limit,
			       struct http_server **out, struct error *err);
/* Takes the listener's fd over. needs_key: http_needs_key() of its requests. At most 2. */
MUST_CHECK int http_server_listen(struct http_server *s, struct listener *l, bool needs_key,
				  struct error *err);
/*
 * Accept no more, tell what runs to stop (http_cancelled), give it grace_ms to
 * reply, then close every connection and wait for its thread. Idempotent.
 */
void http_server_stop(struct http_server *s, int grace_ms);
/*
 * The same for a process that is about to end while another goes on with the sockets: their files
 * stay, and after grace_ms nothing is waited for.
 */
void http_server_leave(struct http_server *s, int grace_ms);
/* Stops where that has not been done. NULL is accepted. */
void http_server_free(struct http_server *s);

/* The request. Strings live as long as it does. */
const char *http_method(const struct http_request *rq);
const char *http_path(const struct http_request *rq);  /* as sent, without the query */
const char *http_query(const struct http_request *rq); /* as sent, "" where none */
bool http_needs_key(const struct http_request *rq);
/* A header's value or NULL. Only inside begin. */
const char *http_header(struct http_request *rq, const char *name);
/* How many headers of that name there are. Only inside begin. */
size_t http_header_count(struct http_request *rq, const char *name);
#define HTTP_ADDRESS_SIZE 46
/* The address that the client has reached us at, numeric; "" of a unix socket. */
const char *http_local_address(const struct http_request *rq, char out[HTTP_ADDRESS_SIZE]);
/*
 * Who has connected: "uid 1000, pid 42 (varve)" of a unix socket, an address of TCP. The pid is
 * that of whoever connected.
 */
#define HTTP_PEER_SIZE 80
void http_peer(const struct http_request *rq, char out[HTTP_PEER_SIZE]);
/* The process that has connected, of a unix socket; 0 of TCP. */
pid_t http_peer_pid(const struct http_request *rq);
/* The client may call: its connection is no longer one of those that may have to go. */
void http_set_trusted(struct http_request *rq);
/* Whether the client would rather have events than JSON (accept.h). */
bool http_wants_events(const struct http_request *rq);
/* The collected body; "" where none. */
const char *http_body(const struct http_request *rq, size_t *len);
/*
 * Charge more memory to the bodies' budget, for what the body becomes; rq gives it
 * back at its end. -EAGAIN: there is no room. The thread of handle.
 */
MUST_CHECK int http_hold(struct http_request *rq, size_t bytes);
/* Give some of it back before that. */
void http_unhold(struct http_request *rq, size_t bytes);
/* The collected body is not needed any more. */
void http_body_drop(struct http_request *rq);
/* Streamed body: a pipe's end to read; owned by rq. */
int http_body_fd(const struct http_request *rq);
/* Whether a streamed body has come whole. Final once http_body_fd is at its end. */
bool http_body_complete(const struct http_request *rq);
/* The client has gone or the server stops: give up. From any thread while handle runs. */
bool http_cancelled(struct http_request *rq);
bool http_stopping(const struct http_request *rq);
/* The client has been cut off, as one that was too slow: it may not know. While handle runs. */
bool http_was_cut(const struct http_request *rq);

void http_set_user(struct http_request *rq, void *user);
void *http_user(const struct http_request *rq);
/* The reply's status, 0 before there is one. */
int http_status(const struct http_request *rq);

/* The reply, either whole or as a stream; a second one is ignored. */
/* Value is copied; at most 4 headers, before the reply. */
void http_reply_header(struct http_request *rq, const char *name, const char *value);
/*
 * Takes body (malloc'd; may be NULL where len is 0). content_type is not copied.
 * Becomes 503 where the budget has no room for the body.
 */
void http_reply(struct http_request *rq, int status, const char *content_type, char *body,
		size_t len);
/*
 * Worker requests only. text/event-stream gets a comment every 15 s without data. A
 * client that takes the bytes too slowly (http_conns.h) is cut off. -ENOMEM.
 */
MUST_CHECK int http_stream_begin(struct http_request *rq, int status, const char *content_type);
bool http_stream_begun(const struct http_request *rq);
/* Waits for room. -EPIPE: the client has gone. */
MUST_CHECK int http_stream_write(struct http_request *rq, const void *data, size_t len);
/* As much as there is room for within timeout_ms: bytes (> 0), -EAGAIN, -EPIPE. */
MUST_CHECK ssize_t http_stream_write_some(struct http_request *rq, const void *data, size_t len,
					  int timeout_ms);
/* Drops the data where it would have to wait. */
void http_stream_offer(struct http_request *rq, const void *data, size_t len);
/* Break the connection off, so that the client can tell that the stream is not whole. */
void http_stream_abort(struct http_request *rq);

#endif
