#include "snapshotd/http/http_internal.h"

#include <errno.h>
#include <stdio.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/base/log.h"

#define STREAM_QUEUE_BYTES (256u << 10)
#define BODY_PIPE_BYTES (1 << 20)

static void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

struct http_request *request_new(struct endpoint *e, const char *uri, struct MHD_Connection *conn)
{
	struct http_request *rq = calloc(1, sizeof(*rq));
	char *q;

	if (!rq)
		return NULL;
	rq->uri = strdup(uri);
	if (!rq->uri) {
		free(rq);
		return NULL;
	}
	q = strchr(rq->uri, '?');
	if (q)
		*q++ = '\0';
	rq->query = q ? q : "";
	rq->server = e->server;
	rq->needs_key = e->needs_key;
	rq->conn = conn;
	rq->conns = e->conns;
	rq->fd = rq->body_read_fd = rq->body_write_fd = -1;
	pthread_mutex_init(&rq->lock, NULL);
	pthread_cond_init(&rq->decided, NULL);
	return rq;
}

static void body_free(struct http_request *rq)
{
	size_t charged = rq->body_len > HTTP_BODY_SMALL ? rq->body_len : 0;

	if (rq->body_mapped)
		munmap(rq->body, rq->body_mapped);
	else
		free(rq->body);
	rq->body = NULL;
	rq->body_len = rq->body_mapped = 0;
	http_unhold(rq, MIN(charged, rq->body_charged));
}

void request_free(struct http_request *rq)
{
	fd_close(&rq->body_read_fd);
	fd_close(&rq->body_write_fd);
	byte_queue_free(rq->stream);
	body_free(rq);
	http_unhold(rq, rq->body_charged);
	budget_release(rq->server->app.replies, rq->reply_charged);
	free(rq->reply_body);
	free(rq->uri);
	pthread_cond_destroy(&rq->decided);
	pthread_mutex_destroy(&rq->lock);
	free(rq);
}

/* ---- the request, for the application ---- */

const char *http_method(const struct http_request *rq)
{
	return rq->method;
}

const char *http_path(const struct http_request *rq)
{
	return rq->uri;
}

const char *http_query(const struct http_request *rq)
{
	return rq->query;
}

bool http_needs_key(const struct http_request *rq)
{
	return rq->needs_key;
}

const char *http_local_address(const struct http_request *rq, char out[HTTP_ADDRESS_SIZE])
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	if (getsockname(rq->fd, (struct sockaddr *)&a, &len) < 0 ||
	    (a.ss_family != AF_INET && a.ss_family != AF_INET6) ||
	    getnameinfo((struct sockaddr *)&a, len, out, HTTP_ADDRESS_SIZE, NULL, 0,
			NI_NUMERICHOST) != 0)
		out[0] = '\0';
	out[strcspn(out, "%")] = '\0'; /* without the interface */
	return out;
}

/* The name of a process, which has chosen it itself; "" where it has gone. */
static void process_name(pid_t pid, char *out, size_t size)
{
	char path[40];
	FILE *f;

	out[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (!fgets(out, (int)size, f))
		out[0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	fclose(f);
}

void http_peer(const struct http_request *rq, char out[HTTP_PEER_SIZE])
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	struct ucred who;
	char name[20];

	strcpy(out, "somebody");
	if (getpeername(rq->fd, (struct sockaddr *)&a, &len) < 0)
		return;
	if (a.ss_family == AF_INET || a.ss_family == AF_INET6) {
		(void)!getnameinfo((struct sockaddr *)&a, len, out, HTTP_PEER_SIZE, NULL, 0,
				   NI_NUMERICHOST);
		return;
	}
	len = sizeof(who);
	if (getsockopt(rq->fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return;
	process_name(who.pid, name, sizeof(name));
	snprintf(out, HTTP_PEER_SIZE, "uid %u, pid %d%s%s%s", (unsigned)who.uid, (int)who.pid,
		 *name ? " (" : "", name, *name ? ")" : "");
}

pid_t http_peer_pid(const struct http_request *rq)
{
	struct ucred who = { 0 };
	socklen_t len = sizeof(who);

	return getsockopt(rq->fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 ? 0 : who.pid;
}

void http_set_trusted(struct http_request *rq)
{
	conns_trust(rq->conns, rq->watched);
}

bool http_wants_events(const struct http_request *rq)
{
	return rq->wants_events;
}

const char *http_body(const struct http_request *rq, size_t *len)
{
	*len = rq->body_len;
	return rq->body_len ? (const char *)rq->body : "";
}

int http_hold(struct http_request *rq, size_t bytes)
{
	if (!budget_charge(rq->server->app.bodies, bytes))
		return -EAGAIN;
	rq->body_charged += bytes;
	return 0;
}

void http_unhold(struct http_request *rq, size_t bytes)
{
	budget_release(rq->server->app.bodies, bytes);
	rq->body_charged -= bytes;
}

void http_body_drop(struct http_request *rq)
{
	body_free(rq);
}

int http_body_fd(const struct http_request *rq)
{
	return rq->body_read_fd;
}

bool http_body_complete(const struct http_request *rq)
{
	return atomic_load_explicit(&rq->body_complete, memory_order_acquire);
}

bool http_stopping(const struct http_request *rq)
{
	return atomic_load_explicit(&rq->server->stopping, memory_order_relaxed);
}

bool http_was_cut(const struct http_request *rq)
{
	return conns_has_ended(rq->conns, rq->watched);
}

bool http_cancelled(struct http_request *rq)
{
	struct pollfd p = { .fd = rq->fd, .events = POLLRDHUP };
	long long last = atomic_load_explicit(&rq->checked_ms, memory_order_relaxed);
	long long now = monotonic_ms();

	if (http_stopping(rq) || atomic_load_explicit(&rq->gone, memory_order_relaxed))
		return true;
	if (now - last < CLIENT_CHECK_MS)
		return false;
	atomic_store_explicit(&rq->checked_ms, now, memory_order_relaxed);
	if (poll(&p, 1, 0) <= 0 || !(p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)))
		return false;
	atomic_store_explicit(&rq->gone, true, memory_order_relaxed);
	return true;
}

void http_set_user(struct http_request *rq, void *user)
{
	rq->user = user;
}

void *http_user(const struct http_request *rq)
{
	return rq->user;
}

/* ---- the reply, for the application ---- */

int http_status(const struct http_request *rq)
{
	return rq->status;
}

void http_reply_header(struct http_request *rq, const char *name, const char *value)
{
	struct reply_header *h = &rq->headers[rq->n_headers];

	if (rq->n_headers == REPLY_HEADERS_MAX || strlen(name) >= sizeof(h->name) ||
	    strlen(value) >= sizeof(h->value))
		return;
	strcpy(h->name, name);
	strcpy(h->value, value);
	rq->n_headers++;
}

void http_reply(struct http_request *rq, int status, const char *content_type, char *body,
		size_t len)
{
	size_t charge = len > HTTP_BODY_SMALL ? len : 0;

	if (charge && !budget_charge(rq->server->app.replies, charge)) {
		free(body);
		reply_no_room(rq);
		return;
	}
	pthread_mutex_lock(&rq->lock);
	if (rq->kind == REPLY_NONE) {
		rq->kind = REPLY_WHOLE;
		rq->status = status;
		rq->content_type = content_type;
		rq->reply_body = STEAL(body);
		rq->reply_len = len;
		rq->reply_charged = charge;
		charge = 0;
		pthread_cond_signal(&rq->decided);
	}
	pthread_mutex_unlock(&rq->lock);
	budget_release(rq->server->app.replies, charge);
	free(body);
}

int http_stream_begin(struct http_request *rq, int status, const char *content_type)
{
	struct byte_queue *q;

	if (rq->kind != REPLY_NONE || !rq->worker_started)
		return -EINVAL;
	q = byte_queue_new(STREAM_QUEUE_BYTES);
	if (!q)
		return -ENOMEM;
	pthread_mutex_lock(&rq->lock);
	rq->kind = REPLY_STREAM;
	rq->status = status;
	rq->content_type = content_type;
	rq->stream = q;
	if (atomic_load_explicit(&rq->gone, memory_order_relaxed))
		byte_queue_abandon(q); /* request_worker_join came first */
	pthread_cond_signal(&rq->decided);
	pthread_mutex_unlock(&rq->lock);
	return 0;
}

bool http_stream_begun(const struct http_request *rq)
{
	return rq->kind == REPLY_STREAM;
}

int http_stream_write(struct http_request *rq, const void *data, size_t len)
{
	return byte_queue_write(rq->stream, data, len);
}

ssize_t http_stream_write_some(struct http_request *rq, const void *data, size_t len,
			       int timeout_ms)
{
	return byte_queue_write_some(rq->stream, data, len, timeout_ms);
}

void http_stream_offer(struct http_request *rq, const void *data, size_t len)
{
	if (byte_queue_try_write(rq->stream, data, len) == -EPIPE)
		atomic_store_explicit(&rq->gone, true, memory_order_relaxed);
}

void http_stream_abort(struct http_request *rq)
{
	if (rq->stream)
		byte_queue_end(rq->stream, true);
}

void reply_static(struct http_request *rq, int status, const char *text)
{
	char *copy = strdup(text);

	http_reply(rq, status, "application/json", copy, copy ? strlen(copy) : 0);
}

void reply_no_room(struct http_request *rq)
{
	http_reply_header(rq, "Retry-After", HTTP_RETRY_AFTER_S);
	reply_static(rq, 503,
		     "{\"error\":\"the memory for requests (requestMemoryBytes) is used up: try "
		     "again later\"}\n");
}

/* ---- running ---- */

void request_handle(struct http_request *rq)
{
	struct http_app *app = &rq->server->app;

	app->handle(app->ctx, rq);
	if (rq->kind == REPLY_NONE)
		reply_static(rq, 500, "{\"error\":\"the request was left without a reply\"}\n");
}

static void *worker_main(void *arg)
{
	struct http_request *rq = arg;

	request_handle(rq);
	if (rq->stream)
		byte_queue_end(rq->stream, false);
	fd_close(&rq->body_read_fd); /* what is still sent is dropped */
	return NULL;
}

int request_worker_start(struct http_request *rq)
{
	rq->worker_started = true;
	if (pthread_create(&rq->worker, NULL, worker_main, rq) == 0)
		return 0;
	rq->worker_started = false;
	reply_static(rq, 503, "{\"error\":\"cannot start a thread for the request\"}\n");
	return -EAGAIN;
}

int request_body_open(struct http_request *rq)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0) {
		reply_static(rq, 503, "{\"error\":\"too many open files\"}\n");
		return -errno;
	}
	rq->body_read_fd = fds[0];
	rq->body_write_fd = fds[1];
	if (fcntl(fds[1], F_SETPIPE_SZ, BODY_PIPE_BYTES) < 0)
		log_debug("pipe stays small"); /* beyond a user's limit; only slower */
	return request_worker_start(rq);
}

void request_body_put(struct http_request *rq, const char *data, size_t len)
{
	while (len > 0 && rq->body_write_fd >= 0) {
		ssize_t n = write(rq->body_write_fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			fd_close(&rq->body_write_fd); /* the worker has given up */
			return;
		}
		data += n;
		len -= (size_t)n;
	}
}

void request_body_end(struct http_request *rq)
{
	atomic_store_explicit(&rq->body_complete, true, memory_order_release);
	fd_close(&rq->body_write_fd);
}

size_t request_body_max(const struct http_request *rq)
{
	return rq->plan.body_max ? rq->plan.body_max : HTTP_BODY_MAX;
}

/* Small ones need no room, so that they get through; there are only as many as connections. */
static bool body_take_room(struct http_request *rq, size_t len)
{
	size_t all = rq->body_len + len;

	return all <= HTTP_BODY_SMALL || http_hold(rq, all - rq->body_charged) == 0;
}

/* -ENOMEM. */
static int body_map(struct http_request *rq)
{
	size_t max = request_body_max(rq);
	void *map = mmap(NULL, max, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return -ENOMEM;
	if (rq->body_len)
		memcpy(map, rq->body, rq->body_len);
	free(rq->body);
	rq->body = map;
	rq->body_mapped = max;
	return 0;
}

/* There is room in what it may have. */
static int body_append(struct http_request *rq, const char *data, size_t len)
{
	if (!rq->body)
		rq->body = malloc(MIN(request_body_max(rq), (size_t)HTTP_BODY_SMALL));
	if (!rq->body)
		return -ENOMEM;
	if (!rq->body_mapped && rq->body_len + len > HTTP_BODY_SMALL && body_map(rq) < 0)
		return -ENOMEM;
	memcpy(rq->body + rq->body_len, data, len);
	rq->body_len += len;
	return 0;
}

void request_body_collect(struct http_request *rq, const char *data, size_t len)
{
	if (rq->body_too_large || rq->body_without_room)
		return;
	if (len > request_body_max(rq) - rq->body_len)
		rq->body_too_large = true;
	else
		rq->body_without_room = !body_take_room(rq, len) || body_append(rq, data, len) < 0;
	if (rq->body_too_large || rq->body_without_room)
		body_free(rq);
}

void request_wait_decided(struct http_request *rq)
{
	pthread_mutex_lock(&rq->lock);
	while (rq->kind == REPLY_NONE)
		pthread_cond_wait(&rq->decided, &rq->lock);
	pthread_mutex_unlock(&rq->lock);
}

void request_worker_join(struct http_request *rq)
{
	fd_close(&rq->body_write_fd);
	if (!rq->worker_started)
		return;
	pthread_mutex_lock(&rq->lock); /* stream is set under it */
	if (rq->stream)
		byte_queue_abandon(rq->stream);
	pthread_mutex_unlock(&rq->lock);
	pthread_join(rq->worker, NULL);
}
