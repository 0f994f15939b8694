#include "tools/cli/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <curl/curl.h>

#include "tools/libvarve/events.h"

#define ANSWER_MAX ((size_t)1 << 30) /* of JSON */
#define CONNECT_TIMEOUT_MS 10000L

struct client {
	CURL *curl;
	char *socket_path;
	char curl_error[CURL_ERROR_SIZE];
};

/* One call while it runs. */
struct transfer {
	struct client *client;
	const struct client_request *rq;
	long status; /* 0 until the body starts */
	bool is_events;
	struct event_parser parser;
	struct buf answer;   /* JSON, or an error's body */
	json_t *result;	     /* of a "result" event */
	json_t *error_event; /* of an "error" event */
	uint64_t sent;
	int failure; /* -errno of a callback */
};

int client_new(const char *socket_path, struct client **out, struct error *err)
{
	struct sockaddr_un address;

	if (strlen(socket_path) >= sizeof(address.sun_path))
		return error_set(err, -ENAMETOOLONG, "the socket's path is longer than %zu bytes",
				 sizeof(address.sun_path) - 1);
	struct client *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->socket_path = strdup(socket_path);
	c->curl = curl_easy_init();
	if (!c->socket_path || !c->curl) {
		client_free(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

void client_free(struct client *c)
{
	if (!c)
		return;
	curl_easy_cleanup(c->curl);
	free(c->socket_path);
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
	t->rq->on_event(t->rq->arg, type, o);
	json_decref(o);
	return 0;
}

static void start_body(struct transfer *t)
{
	const char *type = NULL;

	curl_easy_getinfo(t->client->curl, CURLINFO_RESPONSE_CODE, &t->status);
	curl_easy_getinfo(t->client->curl, CURLINFO_CONTENT_TYPE, &type);
	t->is_events = t->rq->on_event && type && strncmp(type, "text/event-stream", 17) == 0;
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
	else if (t->status < 400 && t->rq->on_data)
		r = t->rq->on_data(t->rq->arg, data, len);
	else if (t->answer.len + len > ANSWER_MAX)
		r = -EMSGSIZE;
	else
		r = buf_append(&t->answer, data, len);
	t->failure = r;
	return r < 0 ? 0 : len;
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

static size_t on_upload(char *data, size_t size, size_t count, void *arg)
{
	struct transfer *t = arg;
	ssize_t n = read_upload(t->rq, data, size * count);

	if (n < 0) {
		t->failure = (int)n;
		return CURL_READFUNC_ABORT;
	}
	if (n == 0 && t->rq->on_end) {
		t->failure = t->rq->on_end(t->rq->arg);
		if (t->failure < 0)
			return CURL_READFUNC_ABORT;
	}
	t->sent += (uint64_t)n;
	if (t->rq->on_sent)
		t->rq->on_sent(t->rq->arg, t->sent);
	return (size_t)n;
}

static int on_progress(void *arg, curl_off_t dl_total, curl_off_t dl, curl_off_t ul_total,
		       curl_off_t ul)
{
	struct transfer *t = arg;

	(void)dl_total, (void)dl, (void)ul_total, (void)ul;
	if (!t->rq->cancelled(t->rq->arg))
		return 0;
	t->failure = -EINTR;
	return 1;
}

static int status_to_code(long status)
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

/* The call was not made, or broke off. */
static int transport_failure(struct transfer *t, CURLcode rc, struct error *err)
{
	struct client *c = t->client;

	if (rc == CURLE_COULDNT_CONNECT && access(c->socket_path, W_OK) < 0 && errno == EACCES)
		return error_set(err, -EACCES,
				 "no permission to use %s: run as root or as its group",
				 c->socket_path);
	if (rc == CURLE_COULDNT_CONNECT)
		return error_set(err, -ECONNREFUSED,
				 "cannot reach snapshotd at %s: is it running? "
				 "(snapshotd --state DIR)",
				 c->socket_path);
	if (rc == CURLE_OUT_OF_MEMORY)
		return -ENOMEM;
	if (rc == CURLE_PARTIAL_FILE || rc == CURLE_RECV_ERROR || rc == CURLE_GOT_NOTHING)
		return error_set(err, -EIO, "snapshotd broke off its answer; its log may say why");
	return error_set(err, -EIO, "talking to snapshotd: %s",
			 c->curl_error[0] ? c->curl_error : curl_easy_strerror(rc));
}

/* What the daemon answered with a status of 400 or more, or as an "error" event. */
static int refusal(const json_t *o, long status, struct error *err)
{
	int code = status_to_code(status);
	const char *text = json_string_value(json_object_get(o, "error"));

	if (!text)
		return error_set(err, code, "snapshotd answered with status %ld", status);
	return error_set(err, code, "%s", text);
}

static int conclude(struct transfer *t, json_t **out, struct error *err)
{
	json_t *o = NULL;

	curl_easy_getinfo(t->client->curl, CURLINFO_RESPONSE_CODE, &t->status);
	if (t->error_event)
		return refusal(t->error_event, t->status, err);
	if (t->is_events && t->status < 400) {
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
	if (t->status >= 400 || t->status < 200)
		r = refusal(o, t->status, err);
	else if (!o)
		r = error_set(err, -EBADMSG, "snapshotd's answer is not JSON");
	else if (out)
		*out = STEAL(o);
	json_decref(o);
	return r;
}

static void set_up(struct transfer *t, struct curl_slist *headers, const char *url,
		   const char *text)
{
	CURL *c = t->client->curl;
	const struct client_request *rq = t->rq;

	curl_easy_reset(c);
	t->client->curl_error[0] = '\0';
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->client->curl_error);
	curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, t->client->socket_path);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	curl_easy_setopt(c, CURLOPT_PROXY, "");
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 512L << 10);
	if (rq->cancelled) {
		curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
		curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
		curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
	}
	if (rq->upload) {
		curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10);
		curl_easy_setopt(c, CURLOPT_READFUNCTION, on_upload);
		curl_easy_setopt(c, CURLOPT_READDATA, t);
	} else if (text) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, text);
	}
	curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, rq->method);
}

static int add_header(struct curl_slist **list, const char *name, const char *value)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	if (buf_printf(&b, "%s: %s", name, value) < 0 || !buf_cstr(&b))
		return -ENOMEM;
	struct curl_slist *l = curl_slist_append(*list, (const char *)b.data);
	if (!l)
		return -ENOMEM;
	*list = l;
	return 0;
}

static int perform(struct transfer *t, const char *text, json_t **out, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf url = BUF_INIT;
	struct curl_slist *headers = NULL;
	const struct client_request *rq = t->rq;
	int r = buf_printf(&url, "http://localhost%s", rq->path);

	if (r == 0 && !buf_cstr(&url))
		r = -ENOMEM;
	if (r == 0)
		r = add_header(&headers, "Accept",
			       rq->on_event  ? "text/event-stream, application/json;q=0.5"
			       : rq->on_data ? "*/*"
					     : "application/json");
	if (r == 0 && (rq->upload || text))
		r = add_header(&headers, "Content-Type",
			       rq->upload ? rq->upload_type : "application/json");
	if (r == 0) {
		set_up(t, headers, (const char *)url.data, text);
		CURLcode rc = curl_easy_perform(t->client->curl);
		if (t->failure == -EINTR)
			r = error_set(err, -EINTR, "interrupted");
		else if (t->failure < 0)
			r = error_set_errno(err, t->failure, "%s",
					    rc == CURLE_ABORTED_BY_CALLBACK ? "reading the input"
					    : rq->on_data		    ? "writing the output"
									    : "snapshotd's answer");
		else
			r = rc == CURLE_OK ? conclude(t, out, err) : transport_failure(t, rc, err);
	}
	curl_slist_free_all(headers);
	return r;
}

int client_run(struct client *c, const struct client_request *rq, json_t **out, struct error *err)
{
	struct transfer t = { .client = c, .rq = rq };
	char *text = NULL;

	if (rq->body) {
		text = json_dumps(rq->body, JSON_COMPACT);
		if (!text)
			return -ENOMEM;
	}
	event_parser_init(&t.parser, on_stream_event, &t);
	int r = perform(&t, text, out, err);
	event_parser_fini(&t.parser);
	buf_fini(&t.answer);
	json_decref(t.result);
	json_decref(t.error_event);
	free(text);
	return r;
}

int client_call(struct client *c, const char *method, const char *path, const json_t *body,
		json_t **out, struct error *err)
{
	struct client_request rq = { .method = method, .path = path, .body = body };

	return client_run(c, &rq, out, err);
}
