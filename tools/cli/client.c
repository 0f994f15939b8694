#include "tools/cli/client.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tools/cli/http_call.h"
#include "tools/libvarve/events.h"
#include "tools/libvarve/retry.h"

#define ANSWER_MAX ((size_t)1 << 30) /* of JSON */

struct client {
	struct address address;
	struct retry_policy retry;
	struct retry_peer daemon;
	bool broken; /* the last call failed, and may be made again as far as the daemon goes */
};

/* One call while it runs. */
struct transfer {
	struct client *client;
	const struct client_request *rq;
	const char *key; /* Idempotency-Key, or "" */
	struct http_answer http;
	bool handed_over; /* an event, or a piece of the answer */
	enum retry_failure broken;
	bool again;	/* after a failure: it may be made again, for `broken` */
	bool is_events; /* where the body has started */
	struct event_parser parser;
	struct buf answer;   /* JSON, or an error's body */
	json_t *result;	     /* of a "result" event */
	json_t *error_event; /* of an "error" event */
	uint64_t sent;
	int failure; /* -errno of a callback */
	bool failed_reading;
};

struct client *client_new(const struct address *address)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->address = *address;
	c->retry = retry_policy_get();
	return c;
}

void client_free(struct client *c)
{
	free(c);
}

static int append_escaped(struct buf *out, const char *s)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~";
	int r = 0;

	for (; *s && r == 0; s++)
		r = strchr(plain, *s) ? buf_append(out, s, 1)
				      : buf_printf(out, "%%%02X", (unsigned char)*s);
	return r;
}

int client_path(struct buf *out, const char *fmt, ...)
{
	va_list ap;
	int r = 0;

	va_start(ap, fmt);
	while (*fmt && r == 0) {
		size_t n = strcspn(fmt, "%");
		r = buf_append(out, fmt, n);
		fmt += n;
		if (r == 0 && *fmt == '%') {
			r = append_escaped(out, va_arg(ap, const char *));
			fmt += 2;
		}
	}
	va_end(ap);
	return r;
}

/* Events of the stream: the two that end the call are kept, the others handed over. */
static int on_stream_event(void *arg, const char *type, const char *data, size_t len)
{
	struct transfer *t = arg;
	json_t *o = json_loadb(data, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

	if (!o)
		return -EBADMSG;
	if (strcmp(type, "result") == 0) {
		json_decref(t->result);
		t->result = o;
		return 0;
	}
	if (strcmp(type, "error") == 0) {
		json_decref(t->error_event);
		t->error_event = o;
		return 0;
	}
	t->handed_over = true;
	t->rq->on_event(t->rq->arg, type, o);
	json_decref(o);
	return 0;
}

static int on_body(void *arg, const void *data, size_t len)
{
	struct transfer *t = arg;
	bool good = t->http.status < 400;
	int r;

	t->is_events = t->rq->on_event && strncmp(t->http.type, "text/event-stream", 17) == 0;
	if (good && t->is_events)
		r = event_parser_feed(&t->parser, data, len);
	else if (good && t->rq->on_data) {
		t->handed_over = true;
		r = t->rq->on_data(t->rq->arg, data, len);
	} else if (t->answer.len + len > ANSWER_MAX)
		r = -EMSGSIZE;
	else
		r = buf_append(&t->answer, data, len);
	t->failure = r;
	return r;
}

static ssize_t read_upload(const struct client_request *rq, char *data, size_t size)
{
	ssize_t n;

	if (rq->on_read)
		return rq->on_read(rq->arg, data, size);
	do
		n = read(rq->upload_fd, data, size);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t on_upload(void *arg, void *data, size_t size)
{
	struct transfer *t = arg;
	ssize_t n = read_upload(t->rq, data, size);

	if (n == 0 && t->rq->on_end)
		n = t->rq->on_end(t->rq->arg);
	if (n < 0) {
		t->failure = (int)n;
		t->failed_reading = true;
		return n;
	}
	t->sent += (uint64_t)n;
	if (t->rq->on_sent)
		t->rq->on_sent(t->rq->arg, t->sent);
	return n;
}

static bool on_look(void *arg)
{
	const struct transfer *t = arg;

	return t->rq->cancelled && t->rq->cancelled(t->rq->arg);
}

static int status_to_code(int status)
{
	switch (status) {
	case 400:
	case 413:
	case 422:
		return -EINVAL;
	case 401:
	case 403:
		return -EACCES;
	case 404:
		return -ENOENT;
	case 409:
		return -EEXIST;
	case 507:
		return -ENOSPC;
	}
	return -EIO;
}

/* The daemon has gone. */
static bool is_break(int r)
{
	return r == -ECONNRESET || r == -EPIPE;
}

/* There is no connection, for the reason why. */
static int no_connection(struct transfer *t, const struct error *why, struct error *err)
{
	const struct address *a = &t->client->address;

	if (address_is_tcp(a))
		return error_set(err, -ECONNREFUSED,
				 "cannot reach snapshotd at %s: %s (it serves TCP with --listen)",
				 a->text, error_text(why));
	if (access(a->socket, W_OK) < 0 && errno == EACCES) {
		t->again = false;
		return error_set(err, -EACCES,
				 "no permission to use %s: run as root or as its group", a->socket);
	}
	return error_set(err, -ECONNREFUSED,
			 "cannot reach snapshotd at %s: is it running? (snapshotd --state DIR)",
			 a->socket);
}

/* The call was not made, or broke off. */
static int transport_failure(struct transfer *t, int r, const struct error *why, struct error *err)
{
	t->broken = r == -ENOTCONN   ? RETRY_NOT_REACHED
		    : t->http.status ? RETRY_BROKEN_OFF
				     : RETRY_BROKEN;
	t->again = r == -ENOTCONN || is_break(r);
	switch (r) {
	case -EINTR:
		return error_set(err, r, "interrupted");
	case -ENOTCONN:
		return no_connection(t, why, err);
	case -ECONNRESET:
	case -EPIPE:
		return error_set(err, -EIO, "snapshotd broke off its answer; its log may say why");
	case -ENOMEM:
		return r;
	case -EPROTO:
		if (address_is_tcp(&t->client->address))
			return error_set(err, -EIO, "what answers at %s is no snapshotd",
					 t->client->address.text);
		break;
	}
	return error_set(err, -EIO, "talking to snapshotd: %s",
			 why->msg[0] ? error_text(why) : strerror(-r));
}

static int callback_failure(const struct transfer *t, struct error *err)
{
	if (t->failure == -EINTR)
		return error_set(err, -EINTR, "interrupted");
	return error_set_errno(err, t->failure, "%s",
			       t->failed_reading ? "reading the input"
			       : t->rq->on_data	 ? "writing the output"
						 : "snapshotd's answer");
}

/* What the daemon answered with a status of 400 or more, or as an "error" event. */
static int refusal(const struct transfer *t, const json_t *o, struct error *err)
{
	const struct address *a = &t->client->address;
	int status = t->http.status, code = status_to_code(status);
	const char *text = json_string_value(json_object_get(o, "error"));

	if (status == 401 && address_is_tcp(a))
		return error_set(err, code,
				 a->key ? "snapshotd at %s does not take the key in VARVE_API_KEY"
					: "snapshotd at %s wants a key: put it into VARVE_API_KEY",
				 a->text);
	if (!text)
		return error_set(err, code, "snapshotd answered with status %d", status);
	return error_set(err, code, "%s", text);
}

static int conclude(struct transfer *t, json_t **out, struct error *err)
{
	json_t *o = NULL;
	int status = t->http.status;

	if (t->error_event)
		return refusal(t, t->error_event, err);
	if (t->is_events && status < 400) {
		t->again = !t->result;
		t->broken = RETRY_BROKEN_OFF;
		if (!t->result)
			return error_set(err, -EIO, "snapshotd ended before it had a result");
		o = STEAL(t->result);
	} else if (t->answer.len > 0) {
		o = json_loadb((const char *)t->answer.data, t->answer.len,
			       JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	} else {
		o = json_null();
	}
	int r = 0;
	if (status == 503 && t->http.retry_after_s <= RETRY_AFTER_MAX_S) {
		t->again = true;
		t->broken = t->http.pending ? RETRY_PENDING : RETRY_UNAVAILABLE;
	}
	if (status >= 400)
		r = refusal(t, o, err);
	else if (!o)
		r = error_set(err, -EBADMSG, "snapshotd's answer is not JSON");
	else if (out)
		*out = STEAL(o);
	json_decref(o);
	return r;
}

/*
 * The call, in which this thread gets no SIGPIPE, also not where a callback writes to a pipe: that
 * fails then, and so the call, which tells why.
 */
static int run_without_sigpipe(const struct client *c, const struct http_call *call,
			       struct http_answer *answer, struct error *why)
{
	static const struct timespec at_once;
	sigset_t pipe, old, pending;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &pipe, &old);
	int r = http_call_run(&c->address, call, answer, why);
	if (!sigismember(&pending, SIGPIPE))
		sigtimedwait(&pipe, NULL, &at_once);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

static int perform(struct transfer *t, const char *text, json_t **out, struct error *err)
{
	const struct client_request *rq = t->rq;
	struct http_call call = {
		.method = rq->method,
		.path = rq->path,
		.accept = rq->on_event	? "text/event-stream, application/json;q=0.5"
			  : rq->on_data ? "*/*"
					: "application/json",
		.key = *t->key ? t->key : NULL,
		.type = rq->upload ? rq->upload_type
			: text	   ? "application/json"
				   : NULL,
		.body = rq->upload ? NULL : text,
		.on_read = rq->upload ? on_upload : NULL,
		.cancelled = on_look,
		.arg = t,
	};
	struct error why = ERROR_INIT;
	int r = run_without_sigpipe(t->client, &call, &t->http, &why);

	if (t->http.status)
		retry_answered(&t->client->daemon, t->http.keys);
	if (t->failure < 0)
		return callback_failure(t, err);
	return r < 0 ? transport_failure(t, r, &why, err) : conclude(t, out, err);
}

/* *again: it may be made again, for *why. */
static int run_once(struct client *c, const struct client_request *rq, const char *text,
		    const char *key, bool *again, enum retry_failure *why, json_t **out,
		    struct error *err)
{
	struct transfer t = { .client = c, .rq = rq, .key = key };

	event_parser_init(&t.parser, on_stream_event, &t);
	http_answer_init(&t.http, on_body, &t);
	int r = perform(&t, text, out, err);
	c->broken = r < 0 && t.again;
	*again = c->broken && (!t.handed_over || rq->on_again) &&
		 retry_may(&c->retry, &c->daemon, t.broken, rq->method);
	*why = t.broken;
	http_answer_fini(&t.http);
	event_parser_fini(&t.parser);
	buf_fini(&t.answer);
	json_decref(t.result);
	json_decref(t.error_event);
	return r;
}

/* False: the caller wants no more. */
static bool wait_ms(const struct client_request *rq, int64_t ms)
{
	const struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	if (rq->cancelled && rq->cancelled(rq->arg))
		return false;
	nanosleep(&pause, NULL);
	return !rq->cancelled || !rq->cancelled(rq->arg);
}

/* Whether the daemon knows keys, before one is needed. Where none answers, the call will tell. */
static void ask_for_keys(struct client *c, const struct client_request *rq)
{
	const struct client_request ask = {
		.method = "GET", .path = "/healthz", .cancelled = rq->cancelled, .arg = rq->arg
	};
	struct error ignored = ERROR_INIT;
	enum retry_failure why;
	bool again;

	(void)!run_once(c, &ask, NULL, "", &again, &why, NULL, &ignored);
}

static int run_asking(struct client *c, const struct client_request *rq, const char *text,
		      const char *key, bool *again, enum retry_failure *why, json_t **out,
		      struct error *err)
{
	if (retry_asks(&c->retry, &c->daemon, key))
		ask_for_keys(c, rq);
	return run_once(c, rq, text, key, again, why, out, err);
}

/* Until it is answered, or not to be made again. err tells of the first failure. */
static int run_until_answered(struct client *c, const struct client_request *rq, const char *text,
			      const char *key, json_t **out, struct error *err)
{
	struct error later = ERROR_INIT;
	struct retry retry = { 0 };
	enum retry_failure why;
	bool again;
	int r = run_asking(c, rq, text, key, &again, &why, out, err);

	while (again && !rq->upload) {
		int64_t pause = retry_next(&retry, &c->retry, why);

		if (pause < 0)
			return r;
		if (!wait_ms(rq, pause)) {
			return error_set(err, -EINTR, "interrupted");
		}
		if (rq->on_again)
			rq->on_again(rq->arg);
		r = run_asking(c, rq, text, key, &again, &why, out, &later);
		if (r < 0 && !(again && why == RETRY_NOT_REACHED))
			*err = later;
	}
	return r;
}

int client_run(struct client *c, const struct client_request *rq, json_t **out, struct error *err)
{
	char key[RETRY_KEY_SIZE] = "", *text = NULL;

	if (rq->body) {
		text = json_dumps(rq->body, JSON_COMPACT);
		if (!text)
			return -ENOMEM;
	}
	if (strcmp(rq->method, "GET") != 0 && !rq->upload)
		retry_key(key);
	int r = run_until_answered(c, rq, text, key, out, err);
	free(text);
	return r;
}

bool client_may_again(const struct client *c)
{
	return c->broken && c->retry.for_ms > 0;
}

void client_again(void *arg)
{
	(void)arg;
}

int client_call(struct client *c, const char *method, const char *path, const json_t *body,
		json_t **out, struct error *err)
{
	struct client_request rq = { .method = method, .path = path, .body = body };

	return client_run(c, &rq, out, err);
}
