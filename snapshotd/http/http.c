/*
 * One http_request lives from its request line to the end of its reply. The
 * connection's thread runs libmicrohttpd's callbacks; a worker request has one
 * more thread. What the two share:
 *
 *   body pipe   connection -> worker; closed by the connection at the end of
 *               the body (body_complete set before) or when the client has gone
 *   reply       decided by the worker under `lock`, awaited by the connection
 *   stream      worker -> connection, a byte queue
 *
 * A client that goes away is seen by the connection when it reads or writes
 * (on_completed: marks it gone, closes pipe and queue, joins the worker), and by
 * the worker through http_cancelled, which looks at the socket itself, because
 * the connection's thread may be waiting for the worker. The socket stays open
 * until on_completed has joined the worker.
 *
 * Clients that are slow to say what they want are ended by a thread of the
 * server's (http_conns.h), which shuts their sockets down.
 *
 * Locks: server.lock (list of requests) and request.lock are never held together;
 * the connections' lock comes after either.
 */
#include "snapshotd/http/http.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <microhttpd.h>

#include "snapshotd/http/accept.h"
#include "snapshotd/http/http_internal.h"
#include "store/base/clock.h"
#include "store/base/log.h"

#define REAP_S 1
#define IDLE_TIMEOUT_S 60u /* of a connection that neither sends nor takes bytes */
/* Of a streamed body: what makes it may pause. */
#define UPLOAD_TIMEOUT_S 1800u
#define CONNECTION_MEMORY (128u << 10)
#define CONNECTION_MEMORY_STEP (32u << 10)
#define CONNECTION_STACK (1u << 20)
#define STREAM_BLOCK_BYTES (64u << 10)
#define STREAM_SEND_BUFFER (512 << 10) /* the kernel doubles it */
#define KEEP_ALIVE_MS 15000

/* ---- sending ---- */

const char *http_header(struct http_request *rq, const char *name)
{
	return MHD_lookup_connection_value(rq->conn, MHD_HEADER_KIND, name);
}

static enum MHD_Result count_header(void *cls, enum MHD_ValueKind kind, const char *key,
				    const char *value)
{
	struct {
		const char *name;
		size_t n;
	} *count = cls;

	(void)kind, (void)value;
	count->n += strcasecmp(key, count->name) == 0;
	return MHD_YES;
}

size_t http_header_count(struct http_request *rq, const char *name)
{
	struct {
		const char *name;
		size_t n;
	} count = { name, 0 };

	MHD_get_connection_values(rq->conn, MHD_HEADER_KIND, count_header, &count);
	return count.n;
}

static void timeout_set(struct http_request *rq, unsigned seconds)
{
	MHD_set_connection_option(rq->conn, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}

static bool sends_events(const struct http_request *rq)
{
	return strcmp(rq->content_type, "text/event-stream") == 0;
}

/* The next bytes, or a comment where there are none for long. */
static ssize_t stream_next(struct http_request *rq, char *out, size_t max)
{
	static const char comment[] = ": keep-alive\n\n";
	bool events = sends_events(rq);

	for (;;) {
		ssize_t n = byte_queue_read(rq->stream, out, max, CLIENT_CHECK_MS);

		if (n > 0)
			return n;
		if (n == 0)
			return MHD_CONTENT_READER_END_OF_STREAM;
		if (n != -EAGAIN)
			return MHD_CONTENT_READER_END_WITH_ERROR;
		if (events && monotonic_ms() - rq->sent_ms >= KEEP_ALIVE_MS &&
		    max >= sizeof(comment) - 1) {
			memcpy(out, comment, sizeof(comment) - 1);
			return sizeof(comment) - 1;
		}
		if (!http_stopping(rq) && http_cancelled(rq))
			return MHD_CONTENT_READER_END_WITH_ERROR;
	}
}

/* The library asks for more when the client has taken what it got before. */
static ssize_t stream_read(void *cls, uint64_t pos, char *out, size_t max)
{
	struct http_request *rq = cls;
	ssize_t n;

	(void)pos;
	conns_stream_bytes(rq->conns, rq->watched, rq->sending, monotonic_ms());
	n = stream_next(rq, out, max);
	rq->sent_ms = monotonic_ms();
	rq->sending = n > 0 ? (size_t)n : 0;
	conns_stream_next(rq->conns, rq->watched, rq->sent_ms);
	return n;
}

/*
 * A pipe's worth is little between two processes: each would wait for the other
 * at every block. TCP sizes its buffers itself.
 */
static void send_buffer_grow(int fd)
{
	int domain, size = STREAM_SEND_BUFFER;
	socklen_t len = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX &&
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		log_debug("a socket's buffer stays small"); /* only slower */
}

/* Give the decided reply to the library; in the connection's thread. */
static enum MHD_Result reply_queue(struct http_request *rq)
{
	struct MHD_Response *r;
	enum MHD_Result rc;

	if (rq->kind == REPLY_STREAM) {
		if (!sends_events(rq)) /* those are few, and their streams many */
			send_buffer_grow(rq->fd);
		r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES,
						      stream_read, rq, NULL);
	} else {
		r = MHD_create_response_from_buffer_with_free_callback(
			rq->reply_len, rq->reply_len ? rq->reply_body : NULL, free);
	}
	if (!r)
		return MHD_NO;
	if (rq->kind == REPLY_WHOLE && rq->reply_len)
		rq->reply_body = NULL; /* the response's now */
	if (rq->content_type)
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, rq->content_type);
	if (rq->server->app.header)
		MHD_add_response_header(r, rq->server->app.header, rq->server->app.header_value);
	for (size_t i = 0; i < rq->n_headers; i++)
		MHD_add_response_header(r, rq->headers[i].name, rq->headers[i].value);
	rq->sent_ms = monotonic_ms();
	if (rq->kind == REPLY_STREAM)
		conns_stream(rq->conns, rq->watched, rq->server->app.stream_pause_ms, rq->sent_ms);
	else
		conns_reply(rq->conns, rq->watched, rq->reply_len, rq->sent_ms);
	rc = MHD_queue_response(rq->conn, (unsigned)rq->status, r);
	MHD_destroy_response(r);
	return rc;
}

static void reply_too_large(struct http_request *rq)
{
	char text[100];

	snprintf(text, sizeof(text), "{\"error\":\"the request's body is larger than %zu KiB\"}\n",
		 request_body_max(rq) >> 10);
	reply_static(rq, 413, text);
}

static bool content_length_too_large(struct http_request *rq)
{
	const char *v = http_header(rq, MHD_HTTP_HEADER_CONTENT_LENGTH);

	return v && strtoull(v, NULL, 10) > request_body_max(rq);
}

static bool accepts_events(struct http_request *rq)
{
	return accept_prefers_events(http_header(rq, MHD_HTTP_HEADER_ACCEPT));
}

static int connection_fd(struct MHD_Connection *conn)
{
	return MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

static void request_list(struct http_request *rq)
{
	struct http_server *s = rq->server;

	pthread_mutex_lock(&s->lock);
	rq->next = s->requests;
	if (rq->next)
		rq->next->prev = rq;
	s->requests = rq;
	pthread_mutex_unlock(&s->lock);
}

static void request_unlist(struct http_request *rq)
{
	struct http_server *s = rq->server;

	pthread_mutex_lock(&s->lock);
	if (rq->prev)
		rq->prev->next = rq->next;
	else
		s->requests = rq->next;
	if (rq->next)
		rq->next->prev = rq->prev;
	if (!s->requests)
		pthread_cond_broadcast(&s->idle);
	pthread_mutex_unlock(&s->lock);
}

/*
 * A reply that is known before the body: sending it now makes the library close
 * the connection on a client that may still be writing, and so may not read it.
 * So only where the client waits to be asked for the body, or may not talk to us.
 */
static bool reply_before_body(struct http_request *rq)
{
	return rq->status == MHD_HTTP_UNAUTHORIZED || http_header(rq, MHD_HTTP_HEADER_EXPECT);
}

static int body_pause_ms(const struct http_plan *plan)
{
	if (plan->body_live)
		return CONN_LIVE_PAUSE_MS;
	return plan->body_stream ? CONN_STREAM_PAUSE_MS : CONN_BODY_PAUSE_MS;
}

/* The headers are here. */
static enum MHD_Result request_begin(struct http_request *rq, const char *method)
{
	struct http_app *app = &rq->server->app;

	rq->begun = true;
	rq->method = method;
	rq->fd = connection_fd(rq->conn);
	rq->wants_events = accepts_events(rq);
	app->begin(app->ctx, rq, &rq->plan);
	conns_body(rq->conns, rq->watched, body_pause_ms(&rq->plan), monotonic_ms());
	request_list(rq);
	if (rq->kind == REPLY_NONE && !rq->plan.body_stream && content_length_too_large(rq))
		reply_too_large(rq);
	if (rq->kind == REPLY_NONE && rq->plan.body_stream) {
		timeout_set(rq, rq->plan.body_live ? 0 : UPLOAD_TIMEOUT_S);
		if (request_body_open(rq) == 0)
			return MHD_YES;
	}
	if (rq->kind == REPLY_NONE)
		return MHD_YES;
	rq->body_dropped = true;
	return reply_before_body(rq) ? reply_queue(rq) : MHD_YES;
}

/*
 * The body is here. The library counts the time that this takes as idle time
 * of the connection: so the limit is off meanwhile, and counts anew when it is
 * set again.
 */
static enum MHD_Result request_finish(struct http_request *rq)
{
	conns_serving(rq->conns, rq->watched);
	if (rq->body_dropped)
		return reply_queue(rq);
	timeout_set(rq, 0);
	if (rq->body_too_large) {
		reply_too_large(rq);
	} else if (rq->body_without_room) {
		reply_no_room(rq);
	} else if (rq->plan.body_stream) {
		request_body_end(rq);
	} else if (rq->plan.worker) {
		(void)!request_worker_start(rq);
	} else {
		request_handle(rq);
	}
	request_wait_decided(rq);
	if (rq->kind == REPLY_WHOLE)
		timeout_set(rq, IDLE_TIMEOUT_S);
	return reply_queue(rq);
}

/* ---- the library's callbacks ---- */

/* The request line is here, not decoded; what it returns becomes *con_cls. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *conn)
{
	struct http_request *rq = request_new(cls, uri, conn);

	if (!rq)
		return NULL;
	rq->watched =
		MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
	conns_request(rq->conns, rq->watched, monotonic_ms());
	return rq;
}

/* The library closes the socket only after it has told of the end. */
static void on_connection(void *cls, struct MHD_Connection *conn, void **socket_context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct endpoint *e = cls;

	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		*socket_context =
			conns_add(e->conns, connection_fd(conn),
				  MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS)
					  ->client_addr,
				  monotonic_ms());
	else
		conns_remove(e->conns, *socket_context);
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *conn, const char *url,
				 const char *method, const char *version, const char *data,
				 size_t *len, void **con_cls)
{
	struct http_request *rq = *con_cls;

	(void)cls, (void)conn, (void)url, (void)version;
	if (!rq)
		return MHD_NO;
	if (!rq->begun)
		return request_begin(rq, method);
	if (*len == 0)
		return request_finish(rq);
	conns_body_bytes(rq->conns, rq->watched, *len, monotonic_ms());
	if (rq->body_dropped)
		;
	else if (rq->plan.body_stream)
		request_body_put(rq, data, *len);
	else
		request_body_collect(rq, data, *len);
	conns_body_next(rq->conns, rq->watched, monotonic_ms());
	*len = 0;
	return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
			 enum MHD_RequestTerminationCode toe)
{
	struct http_request *rq = *con_cls;

	(void)cls, (void)conn;
	if (!rq)
		return;
	*con_cls = NULL;
	if (toe != MHD_REQUEST_TERMINATED_COMPLETED_OK)
		atomic_store_explicit(&rq->gone, true, memory_order_relaxed);
	request_worker_join(rq);
	if (rq->begun) {
		timeout_set(rq, IDLE_TIMEOUT_S);
		rq->server->app.end(rq->server->app.ctx, rq);
		request_unlist(rq);
		conns_idle(rq->conns, rq->watched, monotonic_ms());
	}
	request_free(rq);
}

/* Paths and queries are left as they were sent: the router decodes them. */
static size_t on_unescape(void *cls, struct MHD_Connection *conn, char *s)
{
	(void)cls, (void)conn;
	return strlen(s);
}

__attribute__((format(printf, 2, 0))) static void on_log(void *cls, const char *fmt, va_list ap)
{
	char line[512];

	(void)cls;
	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	log_debug("http: %s", line);
}

/* ---- the server ---- */

static void *reaper_main(void *arg)
{
	struct http_server *s = arg;

	pthread_setname_np(pthread_self(), "varve-http");
	pthread_mutex_lock(&s->lock);
	while (!atomic_load_explicit(&s->stopping, memory_order_relaxed)) {
		struct timespec until = monotonic_after_ms(REAP_S * 1000);

		pthread_cond_timedwait(&s->reaper_stop, &s->lock, &until);
		for (size_t i = 0; i < s->n_endpoints; i++)
			conns_reap(s->endpoints[i].conns, monotonic_ms());
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static void reaper_end(struct http_server *s)
{
	if (!s->reaper_started)
		return;
	pthread_mutex_lock(&s->lock);
	pthread_cond_signal(&s->reaper_stop);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->reaper, NULL);
	s->reaper_started = false;
}

int http_server_new(const struct http_app *app, unsigned connection_limit, struct http_server **out,
		    struct error *err)
{
	struct http_server *s = calloc(1, sizeof(*s));

	if (!s)
		return error_set(err, -ENOMEM, "out of memory");
	s->app = *app;
	s->connection_limit = connection_limit;
	pthread_mutex_init(&s->lock, NULL);
	cond_init_monotonic(&s->idle);
	cond_init_monotonic(&s->reaper_stop);
	s->reaper_started = pthread_create(&s->reaper, NULL, reaper_main, s) == 0;
	if (!s->reaper_started) {
		http_server_free(s);
		return error_set(err, -EAGAIN, "cannot start a thread");
	}
	*out = s;
	return 0;
}

int http_server_listen(struct http_server *s, struct listener *l, bool needs_key, struct error *err)
{
	struct endpoint *e = &s->endpoints[s->n_endpoints];

	if (s->n_endpoints == LISTENERS_MAX)
		return error_set(err, -EINVAL, "more than %d listeners", LISTENERS_MAX);
	e->server = s;
	e->needs_key = needs_key;
	e->conns = conns_new(s->connection_limit, !needs_key);
	if (!e->conns)
		return error_set(err, -ENOMEM, "out of memory");
	e->daemon = MHD_start_daemon(
		MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
			MHD_USE_ITC | MHD_USE_ERROR_LOG,
		0, NULL, NULL, on_access, e, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, l->fd, MHD_OPTION_URI_LOG_CALLBACK, on_uri, e,
		MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL, MHD_OPTION_NOTIFY_COMPLETED,
		on_completed, e, MHD_OPTION_NOTIFY_CONNECTION, on_connection, e,
		MHD_OPTION_CONNECTION_LIMIT, s->connection_limit, MHD_OPTION_CONNECTION_TIMEOUT,
		IDLE_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
		MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)CONNECTION_MEMORY_STEP,
		MHD_OPTION_THREAD_STACK_SIZE, (size_t)CONNECTION_STACK, MHD_OPTION_END);
	if (!e->daemon) {
		conns_free(STEAL(e->conns));
		return error_set(err, -EIO, "cannot start the HTTP server");
	}
	e->listener = *l;
	*l = (struct listener)LISTENER_NONE;
	pthread_mutex_lock(&s->lock);
	s->n_endpoints++;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

/* Wait until every request has ended, at most grace_ms. */
static void requests_wait(struct http_server *s, int grace_ms)
{
	struct timespec until = monotonic_after_ms(grace_ms);

	pthread_mutex_lock(&s->lock);
	/* A body that is being sent has no end that is worth waiting for. */
	for (struct http_request *rq = s->requests; rq; rq = rq->next)
		if (rq->plan.body_stream && !http_body_complete(rq))
			shutdown(rq->fd, SHUT_RD);
	while (s->requests)
		if (pthread_cond_timedwait(&s->idle, &s->lock, &until) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&s->lock);
}

void http_server_leave(struct http_server *s, int grace_ms)
{
	for (size_t i = 0; i < s->n_endpoints; i++)
		(void)MHD_quiesce_daemon(s->endpoints[i].daemon);
	requests_wait(s, grace_ms);
}

void http_server_stop(struct http_server *s, int grace_ms)
{
	if (atomic_exchange(&s->stopping, true))
		return;
	for (size_t i = 0; i < s->n_endpoints; i++) {
		struct endpoint *e = &s->endpoints[i];

		listener_unlink(&e->listener);
		/* It is ours to close again; where it fails, stopping closes it. */
		e->listener.fd = MHD_quiesce_daemon(e->daemon);
	}
	requests_wait(s, grace_ms);
	reaper_end(s);
	for (size_t i = 0; i < s->n_endpoints; i++) {
		MHD_stop_daemon(s->endpoints[i].daemon);
		listener_fini(&s->endpoints[i].listener);
		conns_free(s->endpoints[i].conns);
	}
}

void http_server_free(struct http_server *s)
{
	if (!s)
		return;
	http_server_stop(s, 0);
	pthread_cond_destroy(&s->reaper_stop);
	pthread_cond_destroy(&s->idle);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
