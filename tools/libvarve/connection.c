/*
 * connection.c - calls to snapshotd, each with one easy handle that is kept, so
 * that the connection is too. An answer is JSON, or events of which the last
 * has the JSON, or bytes; what it is, its headers say.
 */
#include "tools/libvarve/connection.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#include "store/base/buf.h"
#include "store/base/version.h"
#include "tools/libvarve/events.h"
#include "tools/libvarve/image.h"
#include "tools/libvarve/retry.h"

#define SOCKET_DEFAULT "/run/snapshotd.sock"
#define ANSWER_MAX ((size_t)1 << 30) /* bytes of JSON */
#define CONNECT_TIMEOUT_MS 10000L

struct varve_client {
	CURL *curl;
	char *socket_path; /* or NULL */
	char *base;	   /* "http://HOST:PORT", without "/api" and slash */
	char *api_key;	   /* or NULL */
	struct retry_policy retry;
	struct retry_peer daemon;
	char curl_error[CURL_ERROR_SIZE];
};

/* One call while it runs. */
struct transfer {
	struct varve_client *client;
	const struct call *call;
	struct attempts *attempts;
	struct curl_slist *headers;
	long status;	    /* 0 until the body starts */
	bool keys, pending; /* it has the headers of retry.h */
	bool is_events;
	struct event_parser parser;
	struct buf answer;   /* JSON, or an error's body */
	json_t *result;	     /* of the event "result" */
	json_t *error_event; /* of the event "error" */
	size_t sent;
	int failure;	 /* of a callback */
	uint64_t told;	 /* logs that this answer has had */
	bool data_taken; /* a piece of it was given to on_data */
	bool again;	 /* after a failure: it may be made again, for `broken` */
	enum retry_failure broken;
};

/* What stays of a call that is made again. */
struct attempts {
	struct buf url;
	char *text;		  /* the body that is JSON; from jansson */
	char key[RETRY_KEY_SIZE]; /* Idempotency-Key, or "" */
	struct retry retry;
	uint64_t told; /* logs that were handed over: they come again */
};

/* ---- the client ---- */

static void curl_start(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

static const char *environment(const char *name)
{
	const char *s = getenv(name);

	return s && *s ? s : NULL;
}

/* The url without slashes, and without "/api", at its end. */
static char *base_of(const char *url)
{
	size_t len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		len--;
	if (len >= 4 && memcmp(url + len - 4, "/api", 4) == 0)
		len -= 4;
	return strndup(url, len);
}

/* A key goes to no server but the one that its own variable names, or that the caller gave. */
static void ask_environment(const char **url, const char **socket, const char **key)
{
	const char *key_name = "OPENCOMPUTER_API_KEY";

	if (*url) {
		key_name = environment("VARVE_API_KEY") ? "VARVE_API_KEY" : key_name;
	} else if (!*socket && (*url = environment("VARVE_API_URL"))) {
		key_name = "VARVE_API_KEY";
	} else if (!*socket) {
		*socket = environment("VARVE_SOCKET");
		if (!*socket)
			*url = environment("OPENCOMPUTER_API_URL");
	}
	if (*url && !*key)
		*key = environment(key_name);
	if (!*url && !*socket)
		*socket = environment("SNAPSHOTD_SOCKET");
	if (!*url && !*socket)
		*socket = SOCKET_DEFAULT;
}

static int choose_address(const struct varve_client_options *o, struct varve_client *c,
			  struct error *err)
{
	const char *url = o->url, *socket = o->socket_path, *key = o->api_key;
	struct sockaddr_un address;

	if (url && socket)
		return error_set(err, -EINVAL, "a client has a socket or a url, not both");
	ask_environment(&url, &socket, &key);
	if (socket && strlen(socket) >= sizeof(address.sun_path))
		return error_set(err, -ENAMETOOLONG, "the socket's path is longer than %zu bytes",
				 sizeof(address.sun_path) - 1);
	if (url && strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
		return error_set(err, -EINVAL, "\"%.100s\" does not begin with http://", url);
	if (key && strpbrk(key, "\r\n"))
		return error_set(err, -EINVAL, "the API key has a line break");
	c->base = base_of(url ? url : "http://localhost");
	c->socket_path = url ? NULL : strdup(socket);
	c->api_key = key ? strdup(key) : NULL;
	if (!c->base || (!url && !c->socket_path) || (key && !c->api_key))
		return -ENOMEM;
	return 0;
}

int varve_client_new(const struct varve_client_options *o, struct varve_client **out,
		     struct varve_error *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	static const struct varve_client_options none;
	struct error why = ERROR_INIT;
	struct varve_client *c = calloc(1, sizeof(*c));

	if (c)
		c->retry = retry_policy_get();
	int r = c ? choose_address(o ? o : &none, c, &why) : -ENOMEM;

	if (r == 0) {
		pthread_once(&once, curl_start);
		c->curl = curl_easy_init();
		r = c->curl ? 0 : -ENOMEM;
	}
	if (r < 0)
		varve_client_free(c);
	else
		*out = c;
	return image_report(&why, r, err);
}

void varve_client_set_retry(struct varve_client *c, unsigned seconds)
{
	c->retry = (struct retry_policy){ .for_ms = (int64_t)seconds * 1000, .always = true };
}

void varve_client_free(struct varve_client *c)
{
	if (!c)
		return;
	curl_easy_cleanup(c->curl);
	free(c->socket_path);
	free(c->base);
	free(c->api_key);
	free(c);
}

/* ---- what comes back ---- */

static const char *string_of(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s ? s : "";
}

static int hand_over(struct transfer *t, const json_t *o)
{
	struct varve_log log = {
		.step = (int)json_integer_value(json_object_get(o, "step")),
		.type = string_of(o, "type"),
		.message = string_of(o, "message"),
		.stream = string_of(o, "stream"),
	};

	if (t->told++ < t->attempts->told)
		return 0;
	t->attempts->told++;
	return t->call->on_log && t->call->on_log(t->call->arg, &log) ? -ECANCELED : 0;
}

/* Events: the two that end the call are kept, logs handed over, others dropped. */
static int on_event(void *arg, const char *type, const char *data, size_t len)
{
	struct transfer *t = arg;
	json_t **kept = strcmp(type, "result") == 0  ? &t->result
			: strcmp(type, "error") == 0 ? &t->error_event
						     : NULL;
	json_auto_t *o = json_loadb(data, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

	if (!o)
		return -EBADMSG;
	if (kept) {
		json_decref(*kept);
		*kept = STEAL(o);
		return 0;
	}
	return strcmp(type, "build_log") == 0 ? hand_over(t, o) : 0;
}

static bool is_header(const char *line, size_t len, const char *name)
{
	size_t n = strlen(name);

	return len > n && line[n] == ':' && strncasecmp(line, name, n) == 0;
}

static void start_body(struct transfer *t)
{
	const char *type = NULL;

	curl_easy_getinfo(t->client->curl, CURLINFO_RESPONSE_CODE, &t->status);
	curl_easy_getinfo(t->client->curl, CURLINFO_CONTENT_TYPE, &type);
	t->is_events = t->call->events && type && strncmp(type, "text/event-stream", 17) == 0;
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * count;

	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
		t->keys = t->pending = false;
	t->keys |= is_header(line, len, RETRY_KEYS_HEADER);
	t->pending |= is_header(line, len, RETRY_PENDING_HEADER);
	return len;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	size_t len = size * count;
	int r;

	if (t->status == 0)
		start_body(t);
	if (t->status < 400 && t->is_events)
		r = event_parser_feed(&t->parser, data, len);
	else if (t->status < 400 && t->call->on_data) {
		t->data_taken = true;
		r = t->call->on_data(t->call->arg, data, len);
	} else if (t->answer.len + len > ANSWER_MAX)
		r = -EMSGSIZE;
	else
		r = buf_append(&t->answer, data, len);
	t->failure = r;
	return r ? 0 : len;
}

/* ---- what goes out ---- */

static size_t on_upload(char *to, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	size_t room = size * count;
	ssize_t n;

	if (t->call->fd < 0) {
		room = MIN(room, t->call->len - t->sent);
		if (room > 0)
			memcpy(to, (const char *)t->call->data + t->sent, room);
		t->sent += room;
		return room;
	}
	do
		n = read(t->call->fd, to, room);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return (size_t)n;
	t->failure = -errno;
	return CURL_READFUNC_ABORT;
}

static int put_escaped(struct buf *out, const char *s, struct error *err)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789-._~";
	int r = 0;

	if (!s || !*s)
		return error_set(err, -EINVAL, "an id, name or path is empty");
	for (; *s && r == 0; s++)
		r = strchr(plain, *s) ? buf_append(out, s, 1)
				      : buf_printf(out, "%%%02X", (unsigned char)*s);
	return r;
}

static int make_url(const struct varve_client *c, struct buf *url, const char *fmt, va_list ap,
		    struct error *err)
{
	int r = buf_append_str(url, c->base);

	while (*fmt && r == 0) {
		size_t n = strcspn(fmt, "%");
		r = buf_append(url, fmt, n);
		fmt += n;
		if (r == 0 && *fmt == '%') {
			r = put_escaped(url, va_arg(ap, const char *), err);
			fmt += 2;
		}
	}
	return r == 0 && !buf_cstr(url) ? -ENOMEM : r;
}

static int add_header(struct transfer *t, const char *name, const char *value)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct curl_slist *l = NULL;

	if (buf_printf(&b, "%s: %s", name, value) == 0)
		l = curl_slist_append(t->headers, (const char *)b.data);
	if (!l)
		return -ENOMEM;
	t->headers = l;
	return 0;
}

static int make_headers(struct transfer *t)
{
	const struct call *call = t->call;
	int r = add_header(t, "Accept",
			   call->events	   ? "text/event-stream, application/json;q=0.5"
			   : call->on_data ? "*/*"
					   : "application/json");

	if (r == 0)
		r = add_header(t, "User-Agent", "libvarve/" VARVE_VERSION);
	if (r == 0 && t->client->api_key)
		r = add_header(t, "X-API-Key", t->client->api_key);
	if (r == 0 && *t->attempts->key)
		r = add_header(t, "Idempotency-Key", t->attempts->key);
	if (r == 0 && (call->upload || t->attempts->text))
		r = add_header(t, "Content-Type",
			       call->upload ? "application/octet-stream" : "application/json");
	return r;
}

static void set_up(struct transfer *t)
{
	CURL *c = t->client->curl;
	const struct call *call = t->call;

	curl_easy_reset(c);
	t->client->curl_error[0] = '\0';
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->client->curl_error);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	if (t->client->socket_path)
		curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, t->client->socket_path);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	curl_easy_setopt(c, CURLOPT_PROXY, "");
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_URL, (const char *)t->attempts->url.data);
	curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->headers);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
	/* On an old connection that turns out to be dead, curl sends what it has sent again. */
	if (*t->attempts->key && t->client->daemon.keys != RETRY_KEYS)
		curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L);
	if (call->upload) {
		curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c, CURLOPT_READFUNCTION, on_upload);
		curl_easy_setopt(c, CURLOPT_READDATA, t);
		if (call->fd < 0)
			curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)call->len);
	} else if (t->attempts->text) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE,
				 (curl_off_t)strlen(t->attempts->text));
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, t->attempts->text);
	}
	curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, call->method);
}

/* ---- how it ended ---- */

static int status_to_code(long status)
{
	switch (status) {
	case 400:
	case 413:
		return -EINVAL;
	case 401:
	case 403:
		return -EACCES;
	case 404:
		return -ENOENT;
	case 409:
		return -EEXIST;
	case 422:
		return -ECHILD;
	case 507:
		return -ENOSPC;
	}
	return -EIO;
}

/* Whether, after that, it may be made again, but for retry_may. */
static void judge(struct transfer *t, CURLcode rc)
{
	t->again = rc == CURLE_COULDNT_CONNECT || rc == CURLE_SEND_ERROR ||
		   rc == CURLE_GOT_NOTHING || rc == CURLE_RECV_ERROR || rc == CURLE_PARTIAL_FILE;
	t->again &= !t->data_taken;
	t->broken = rc == CURLE_COULDNT_CONNECT ? RETRY_NOT_REACHED
		    : t->status			? RETRY_BROKEN_OFF
						: RETRY_BROKEN;
}

/* The call was not made, or broke off. */
static int transport_failure(struct transfer *t, CURLcode rc, struct error *err)
{
	const struct varve_client *c = t->client;
	const char *where = c->socket_path ? c->socket_path : c->base;

	judge(t, rc);
	if (rc == CURLE_COULDNT_CONNECT && c->socket_path && access(where, W_OK) < 0 &&
	    errno == EACCES)
		t->again = false;

	if (rc == CURLE_COULDNT_CONNECT && c->socket_path && access(where, W_OK) < 0 &&
	    errno == EACCES)
		return error_set(err, -EACCES, "no permission to use %s", where);
	if (rc == CURLE_COULDNT_CONNECT)
		return error_set(err, -ECONNREFUSED, "cannot reach snapshotd at %s", where);
	if (rc == CURLE_OUT_OF_MEMORY)
		return -ENOMEM;
	if (rc == CURLE_PARTIAL_FILE || rc == CURLE_RECV_ERROR || rc == CURLE_GOT_NOTHING)
		return error_set(err, -EIO, "snapshotd broke off its answer");
	return error_set(err, -EIO, "talking to snapshotd: %s",
			 c->curl_error[0] ? c->curl_error : curl_easy_strerror(rc));
}

static int callback_failure(const struct transfer *t, CURLcode rc, struct error *err)
{
	if (t->failure == -ECANCELED && t->call->on_log)
		return error_set(err, t->failure, "the caller did not want to wait");
	if (t->failure > 0) /* of on_data, which should have been negative */
		return error_set(err, -ECANCELED, "the caller ended the call");
	return error_set_errno(err, t->failure, "%s",
			       rc == CURLE_ABORTED_BY_CALLBACK ? "reading what is to be sent"
			       : t->call->on_data	       ? "taking the answer"
							       : "snapshotd's answer");
}

/* What the daemon answered with a status of 400 or more, or as the event "error". */
static int refusal(const json_t *o, int code, long status, struct error *err)
{
	const char *text = string_of(o, "error");

	if (*text)
		return error_set(err, code, "%s", text);
	return error_set(err, code, "snapshotd answered with status %ld", status);
}

static int conclude(struct transfer *t, json_t **out, struct error *err)
{
	json_auto_t *o = NULL;

	if (t->error_event)
		return refusal(t->error_event,
			       json_object_get(t->error_event, "step") ? -ECHILD : -EIO, t->status,
			       err);
	if (t->is_events && t->status < 400)
		o = t->result || !t->call->no_result ? STEAL(t->result) : json_null();
	else if (t->answer.len > 0)
		o = json_loadb((const char *)t->answer.data, t->answer.len,
			       JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	else
		o = json_null();
	if (t->status == 503) {
		curl_off_t after = -1;

		curl_easy_getinfo(t->client->curl, CURLINFO_RETRY_AFTER, &after);
		t->again = after > 0 && after <= RETRY_AFTER_MAX_S;
		t->broken = t->pending ? RETRY_PENDING : RETRY_UNAVAILABLE;
	}
	if (t->status >= 400 || t->status < 200)
		return refusal(o, status_to_code(t->status), t->status, err);
	t->again = !o && t->is_events;
	t->broken = RETRY_BROKEN_OFF;
	if (!o)
		return error_set(err, -EBADMSG,
				 t->is_events ? "snapshotd ended before it had a result"
					      : "snapshotd's answer is not JSON");
	if (out)
		*out = STEAL(o);
	return 0;
}

static int perform(struct transfer *t, json_t **out, struct error *err)
{
	CURL *curl = t->client->curl;

	set_up(t);
	CURLcode rc = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &t->status);
	if (t->status)
		retry_answered(&t->client->daemon, t->keys);
	if (t->failure)
		return callback_failure(t, rc, err);
	if (rc != CURLE_OK)
		return transport_failure(t, rc, err);
	return conclude(t, out, err);
}

/* *again: after a failure, it may be made again, for *why. */
static int run_once(struct varve_client *c, const struct call *call, struct attempts *a,
		    bool *again, enum retry_failure *why, json_t **out, long *status,
		    struct error *err)
{
	struct transfer t = { .client = c, .call = call, .attempts = a };
	int r = make_headers(&t);

	event_parser_init(&t.parser, on_event, &t);
	if (r == 0)
		r = perform(&t, out, err);
	event_parser_fini(&t.parser);
	curl_slist_free_all(t.headers);
	buf_fini(&t.answer);
	json_decref(t.result);
	json_decref(t.error_event);
	*again = r < 0 && t.again && !(call->upload && call->fd >= 0) &&
		 retry_may(&c->retry, &c->daemon, t.broken, call->method);
	*why = t.broken;
	*status = t.status;
	return r;
}

/* Whether the daemon knows keys, before one is needed. Where none answers, the call will tell. */
static void ask_for_keys(struct varve_client *c)
{
	const struct call call = { .method = "GET", .fd = -1 };
	struct attempts a = { .told = 0 };
	struct error ignored = ERROR_INIT;
	enum retry_failure why;
	bool again;
	long status;

	if (buf_printf(&a.url, "%s/healthz", c->base) == 0 && buf_cstr(&a.url))
		(void)!run_once(c, &call, &a, &again, &why, NULL, &status, &ignored);
	buf_fini(&a.url);
}

static int run_asking(struct varve_client *c, const struct call *call, struct attempts *a,
		      bool *again, enum retry_failure *why, json_t **out, long *status,
		      struct error *err)
{
	if (retry_asks(&c->retry, &c->daemon, a->key))
		ask_for_keys(c);
	return run_once(c, call, a, again, why, out, status, err);
}

/* Until it is answered, or not to be made again. */
static int run(struct varve_client *c, const struct call *call, struct attempts *a, json_t **out,
	       long *status, struct error *err)
{
	struct error later = ERROR_INIT;
	enum retry_failure why;
	bool again;
	int r = run_asking(c, call, a, &again, &why, out, status, err);

	while (again) {
		int64_t ms = retry_next(&a->retry, &c->retry, why);
		const struct timespec pause = { .tv_sec = ms / 1000,
						.tv_nsec = ms % 1000 * 1000000 };

		if (ms < 0)
			return r;
		nanosleep(&pause, NULL);
		r = run_asking(c, call, a, &again, &why, out, status, &later);
		if (r < 0 && !(again && why == RETRY_NOT_REACHED))
			*err = later;
	}
	return r;
}

int connection_run(struct varve_client *c, const struct call *call, json_t **out,
		   struct varve_error *err, const char *fmt, ...)
{
	struct attempts a = { .told = 0 };
	struct error why = ERROR_INIT;
	long status = 0;
	va_list ap;

	va_start(ap, fmt);
	int r = make_url(c, &a.url, fmt, ap, &why);
	va_end(ap);
	if (r == 0 && call->body) {
		a.text = json_dumps(call->body, JSON_COMPACT);
		r = a.text ? 0 : -ENOMEM;
	}
	if (strcmp(call->method, "GET") != 0 && !call->upload)
		retry_key(a.key);
	if (r == 0)
		r = run(c, call, &a, out, &status, &why);
	buf_fini(&a.url);
	free(a.text);
	image_report(&why, r, err);
	if (err && r < 0)
		err->status = status >= 400 ? (int)status : 0;
	return r;
}
