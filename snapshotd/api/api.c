#include "snapshotd/api/api.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "snapshotd/http/http_conns.h"
#include "snapshotd/http/json_bounds.h"
#include "store/base/buf.h"
#include "store/base/clock.h"
#include "store/base/log.h"
#include "store/base/hash.h"

#define STOP_POLL_MS 50	       /* while a client takes nothing */
#define STATUS_CLIENT_GONE 499 /* seen by nobody but the log and the metrics */

/* ---- replies ---- */

/* The text of j and a newline, malloc'd; takes j. */
static char *json_line(json_t *j)
{
	char *text = j ? json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	size_t len = text ? strlen(text) : 0;
	char *line = text ? realloc(text, len + 2) : NULL;

	json_decref(j);
	if (!line) {
		free(text);
		return NULL;
	}
	line[len] = '\n';
	line[len + 1] = '\0';
	return line;
}

/* One event, formed as the HTML standard's section 9.2 says; takes j. */
static int event_text(const char *type, json_t *j, struct buf *out)
{
	char *line = json_line(j);
	int rc = line ? buf_printf(out, "event: %s\ndata: %s\n", type, line) : -ENOMEM;

	free(line);
	return rc;
}

static int event_send(struct api_call *c, const char *type, json_t *j)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	int rc = event_text(type, j, &b);

	return rc < 0 ? rc : http_stream_write(c->rq, b.data, b.len);
}

int api_event(struct api_call *c, const char *type, json_t *j)
{
	if (c->events)
		return event_send(c, type, j);
	json_decref(j);
	return 0;
}

int api_stream_write(struct api_call *c, const void *data, size_t len, bool (*stop)(void *arg),
		     void *arg)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = http_stream_write_some(c->rq, p, len, STOP_POLL_MS);

		if (n == -EAGAIN && stop(arg)) {
			http_stream_abort(c->rq);
			return -ENOTCONN;
		}
		if (n < 0 && n != -EAGAIN)
			return (int)n;
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

int api_event_until(struct api_call *c, const char *type, json_t *j, bool (*stop)(void *arg),
		    void *arg)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	int rc = event_text(type, j, &b);

	return rc < 0 ? rc : api_stream_write(c, b.data, b.len, stop, arg);
}

int api_result(struct api_call *c, int status, json_t *j, struct error *err)
{
	char *line;

	api_audit_result(c, j);
	if (j)
		api_once_result(c, status, j);
	if (j && c->events) {
		if (event_send(c, "result", j) == -ENOMEM)
			return error_set(err, -ENOMEM, "out of memory");
		return 0; /* a client that has gone misses it */
	}
	line = json_line(j);
	if (!line)
		return error_set(err, -ENOMEM, "out of memory");
	http_reply(c->rq, status, "application/json", line, strlen(line));
	return 0;
}

int api_no_content(struct api_call *c)
{
	api_once_result(c, 204, NULL);
	http_reply(c->rq, 204, NULL, NULL, 0);
	return 0;
}

static int status_of(int code)
{
	static const struct {
		int code, status;
	} table[] = {
		{ -EINVAL, 400 },    { -ENAMETOOLONG, 400 }, { -ENOTDIR, 400 },	 { -ENOENT, 404 },
		{ -EEXIST, 409 },    { -EBUSY, 409 },	     { -ENOTCONN, 409 }, { -EROFS, 409 },
		{ -ENOTEMPTY, 409 }, { -EACCES, 403 },	     { -EPERM, 403 },	 { -EFBIG, 413 },
		{ -E2BIG, 413 },     { -EOPNOTSUPP, 405 },   { -ENOSPC, 507 },	 { -EDQUOT, 507 },
		{ -ENOMEM, 503 },    { -EMFILE, 503 },	     { -ENFILE, 503 },	 { -EAGAIN, 503 },
		{ -ECHILD, 422 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].code == code)
			return table[i].status;
	return 500;
}

static void fail_log(struct api_call *c, int status, const char *why)
{
	enum log_level level = status >= 500 && status != 503 ? LOG_ERROR : LOG_INFO;
	char path[AUDIT_PATH_SIZE];

	if (http_needs_key(c->rq) && !c->keyed && !*c->who && !c->untold)
		api_audit_refused(c); /* of an open route */
	if (c->untold)
		return;
	api_audit_path(http_path(c->rq), path);
	log_line(level, "%.20s %s: %d: %s", http_method(c->rq), path, status, why);
}

/* The edge: a failure becomes a reply and one line of log. */
void api_fail(struct api_call *c, int code, const struct error *err)
{
	int status = c->fail_status ? c->fail_status : status_of(code);
	const char *why = error_text(err);
	char *line;
	json_t *j;

	if (code == -ECANCELED || code == -EPIPE) {
		status = http_stopping(c->rq) ? 503 : STATUS_CLIENT_GONE;
		why = http_stopping(c->rq) ? "snapshotd is stopping" : "the client has gone";
	}
	fail_log(c, status, why);
	c->fail_status = status; /* which a stream that has begun does not say */
	j = json_pack("{s:o}", "error", api_text(why));
	if (c->fail_step && json_object_set_new(j, "step", json_integer(c->fail_step)))
		log_debug("out of memory: an error without its step");
	if (http_stream_begun(c->rq)) {
		if (!c->events || event_send(c, "error", json_incref(j)) < 0)
			http_stream_abort(c->rq);
		json_decref(j);
		return;
	}
	if (c->once_pending)
		http_reply_header(c->rq, "Idempotency-Pending", "true");
	if (status == 503 && !c->once_effect)
		http_reply_header(c->rq, "Retry-After",
				  http_stopping(c->rq) || c->once_pending ? HTTP_RETRY_SOON_S
									  : HTTP_RETRY_AFTER_S);
	line = json_line(j);
	http_reply(c->rq, status, "application/json", line, line ? strlen(line) : 0);
}

/* ---- progress ---- */

static void progress_report(void *arg, const struct progress *p)
{
	struct api_call *c = arg;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	json_t *j;

	/* While the client still sends, it reads nothing. */
	if (!c->events || (http_body_fd(c->rq) >= 0 && !http_body_complete(c->rq)))
		return;
	j = json_pack("{s:s, s:I, s:I, s:I, s:I}", "phase", p->phase ? p->phase : "", "doneItems",
		      (json_int_t)p->done_items, "totalItems", (json_int_t)p->total_items,
		      "doneBytes", (json_int_t)p->done_bytes, "totalBytes",
		      (json_int_t)p->total_bytes);
	if (event_text("progress", j, &b) == 0)
		http_stream_offer(c->rq, b.data, b.len);
}

static bool progress_is_cancelled(void *arg)
{
	struct api_call *c = arg;

	return http_cancelled(c->rq);
}

struct progress *api_progress(struct api_call *c, struct error *err)
{
	if (!c->events && http_wants_events(c->rq)) {
		int rc;

		http_reply_header(c->rq, "Cache-Control", "no-cache");
		rc = http_stream_begin(c->rq, 200, "text/event-stream");
		if (rc < 0) {
			error_set_errno(err, rc, "cannot begin the events");
			return NULL;
		}
		c->events = true;
	}
	c->progress = (struct progress){ .report = progress_report,
					 .cancelled = progress_is_cancelled,
					 .arg = c };
	return &c->progress;
}

struct progress *api_cancellation(struct api_call *c)
{
	c->progress = (struct progress){ .cancelled = progress_is_cancelled, .arg = c };
	return &c->progress;
}

/* ---- requests ---- */

int api_query(const struct api_call *c, struct error *err, ...)
{
	const char *known[QUERY_PARAMS_MAX + 1];
	size_t n = 0;
	va_list ap;

	va_start(ap, err);
	do
		known[n] = va_arg(ap, const char *);
	while (known[n++] && n <= QUERY_PARAMS_MAX);
	va_end(ap);
	return query_check(&c->query, known, err);
}

/* The body as JSON of any kind; an empty object where there is none. */
static int body_parse(const struct api_call *c, json_t **out, struct error *err)
{
	json_error_t jerr;
	size_t len, values, parsing, tree;
	const char *text = http_body(c->rq, &len);
	json_t *j;

	if (json_bounds_check(text, len, JSON_VALUES_MAX, &values, err) < 0)
		return error_prefix(err, -EINVAL, "the body is refused");
	parsing = len * JSON_PARSE_FACTOR;
	tree = len + values * JSON_VALUE_BYTES;
	if (parsing + tree <= HTTP_BODY_SMALL)
		parsing = tree = 0;
	if (http_hold(c->rq, parsing + tree) < 0)
		return error_set(err, -EAGAIN,
				 "the memory for requests (requestMemoryBytes) is "
				 "used up: try again later");
	j = len ? json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL,
			     &jerr)
		: json_object();
	http_unhold(c->rq, parsing);
	http_body_drop(c->rq);
	if (!j && !len)
		return error_set(err, -ENOMEM, "out of memory");
	if (!j)
		return error_set(err, -EINVAL, "the body is no JSON: %s (line %d, column %d)",
				 jerr.text, jerr.line, jerr.column);
	*out = j;
	return 0;
}

/* Takes j. */
static int body_check(json_t *j, const struct field *fields, size_t n, json_t **out,
		      struct error *err)
{
	int rc = fields_parse(j, fields, n, err);

	if (rc < 0)
		json_decref(j);
	else
		*out = j;
	return rc;
}

int api_body(const struct api_call *c, const struct field *fields, size_t n, json_t **out,
	     struct error *err)
{
	json_t *j = NULL;
	int rc = body_parse(c, &j, err);

	return rc < 0 ? rc : body_check(j, fields, n, out, err);
}

int api_body_known(const struct api_call *c, const struct field *fields, size_t n, json_t **out,
		   struct error *err)
{
	const char *name, *first = NULL;
	json_t *j = NULL, *known;
	int rc = body_parse(c, &j, err);
	size_t left_out = 0;
	json_t *v;

	if (rc < 0)
		return rc;
	if (!json_is_object(j))
		return body_check(j, fields, n, out, err);
	known = json_object();
	json_object_foreach(j, name, v) {
		if (!field_find(fields, n, name)) {
			first = first ? first : name;
			left_out++;
		} else if (json_object_set(known, name, v) < 0) {
			rc = error_set(err, -ENOMEM, "out of memory");
		}
	}
	if (left_out)
		log_info("%s %s: ignored member \"%.60s\"%s", http_method(c->rq), http_path(c->rq),
			 first, left_out > 1 ? " and others" : "");
	json_decref(j);
	if (rc == 0)
		return body_check(known, fields, n, out, err);
	json_decref(known);
	return rc;
}
