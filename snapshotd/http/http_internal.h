/*
 * http_internal.h - what http.c and http_request.c share; for nobody else.
 * http_request.c owns the request's state and threads, http.c the library.
 */
#ifndef VARVE_SNAPSHOTD_HTTP_INTERNAL_H
#define VARVE_SNAPSHOTD_HTTP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "snapshotd/http/byte_queue.h"
#include "snapshotd/http/http.h"
#include "snapshotd/http/http_conns.h"
#include "store/base/clock.h"

#define LISTENERS_MAX 2
#define REPLY_HEADERS_MAX 4
#define CLIENT_CHECK_MS 100

struct MHD_Connection;
struct MHD_Daemon;

struct endpoint {
	struct http_server *server;
	struct MHD_Daemon *daemon;
	bool needs_key;
	struct listener listener;
	struct conns *conns;
};

struct http_server {
	struct http_app app;
	unsigned connection_limit;
	struct endpoint endpoints[LISTENERS_MAX];
	size_t n_endpoints;
	atomic_bool stopping;
	pthread_mutex_t lock;
	pthread_cond_t idle;
	struct http_request *requests; /* begun and not ended; guarded by lock */
	pthread_t reaper;	       /* ends connections that are too slow */
	bool reaper_started;
	pthread_cond_t reaper_stop; /* stopping, under lock */
};

enum reply_kind { REPLY_NONE, REPLY_WHOLE, REPLY_STREAM };

struct reply_header {
	char name[32];
	char value[256];
};

struct http_request {
	struct http_server *server;
	struct MHD_Connection *conn;
	struct conns *conns;
	struct conn *watched; /* the connection among them, or NULL */
	int fd;		      /* the connection's */
	bool needs_key, wants_events;
	const char *method;
	char *uri; /* owned; split at the '?' */
	const char *query;
	bool begun;
	struct http_plan plan;
	void *user;

	/*
	 * Collected. One beyond HTTP_BODY_SMALL has a mapping of its own, of all that it
	 * may need: it takes pages as it grows, is never copied, and goes as a whole.
	 */
	uint8_t *body;
	size_t body_len, body_mapped; /* body_mapped: 0 where it is malloc'd */
	size_t body_charged;	      /* to the bodies' budget: body, and what it has become */
	bool body_too_large;
	bool body_without_room;		 /* others' bodies have all of it */
	bool body_dropped;		 /* replied before the body came */
	int body_read_fd, body_write_fd; /* streamed; -1 where not */
	atomic_bool body_complete;

	pthread_t worker;
	bool worker_started;
	atomic_bool gone;
	atomic_llong checked_ms; /* when http_cancelled last looked at the socket */

	pthread_mutex_t lock;
	pthread_cond_t decided;
	/* reply: guarded by lock until decided, then constant */
	enum reply_kind kind;
	int status;
	const char *content_type;
	char *reply_body;
	size_t reply_len;
	size_t reply_charged; /* to the replies' budget */
	struct reply_header headers[REPLY_HEADERS_MAX];
	size_t n_headers;
	struct byte_queue *stream;
	/* Of a stream; connection's thread only: */
	int64_t sent_ms;
	size_t sending; /* bytes that the library has, the last ones read */

	struct http_request *prev, *next; /* guarded by server.lock */
};

/* uri is copied. NULL when out of memory. */
struct http_request *request_new(struct endpoint *e, const char *uri, struct MHD_Connection *conn);
void request_free(struct http_request *rq);

/* Run the application's handle here, or in the worker. It leaves a reply in any case. */
void request_handle(struct http_request *rq);
MUST_CHECK int request_worker_start(struct http_request *rq);
/* Until handle has decided on the reply. */
void request_wait_decided(struct http_request *rq);
/* The connection is done with rq: no more body, nobody reads the stream. Joins the worker. */
void request_worker_join(struct http_request *rq);

/* A streamed body: makes the pipe and starts the worker; or has replied. */
MUST_CHECK int request_body_open(struct http_request *rq);
void request_body_put(struct http_request *rq, const char *data, size_t len);
void request_body_end(struct http_request *rq);
void request_body_collect(struct http_request *rq, const char *data, size_t len);

/* A failure of this layer itself; text is JSON. */
void reply_static(struct http_request *rq, int status, const char *text);
/* 503: memory is used up. */
void reply_no_room(struct http_request *rq);
/* What a collected body may have. */
size_t request_body_max(const struct http_request *rq);

#endif
