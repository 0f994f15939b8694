#include "snapshotd/api/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshotd/sandbox/exec_control.h"
#include "snapshotd/http/json_stream.h"
#include "snapshotd/sandbox/sandbox_exec.h"
#include "snapshotd/sandbox/sandboxes.h"
#include "store/base/base64.h"
#include "store/base/bytes_json.h"

#define TIMEOUT_MAX_S (30.0 * 86400)
/* A result that is about to come is waited for: this spares the client a poll. */
#define RESULT_WAIT_MS 300
#define FOLLOW_STEP (32u << 10)
#define FOLLOW_WAIT_MS 500 /* between looks at whether the client is there */

/* What a body says of a program; *body owns the strings, argv is the caller's to free. */
struct exec_body {
	json_t *body;
	const char **argv;
	struct exec_spec spec; /* its control is owned, too */
	bool control;	       /* the client wants to know its id while it runs */
};

static void exec_body_fini(struct exec_body *b)
{
	exec_control_put(b->spec.control);
	free(b->argv);
	json_decref(b->body);
}

static int argv_make(struct exec_body *b, const char *cmd, const json_t *args, struct error *err)
{
	size_t n = json_array_size(args);

	b->argv = calloc(n + 2, sizeof(char *));
	if (!b->argv)
		return error_set(err, -ENOMEM, "out of memory");
	b->argv[0] = cmd;
	for (size_t i = 0; i < n; i++) {
		b->argv[i + 1] = json_string_value(json_array_get(args, i));
		if (!b->argv[i + 1])
			return error_set(err, -EINVAL, "args: [%zu] must be a string", i);
	}
	b->spec.argv = (char *const *)b->argv;
	return 0;
}

/* What the program reads: members stdin or stdinBase64, or what is sent later. */
struct exec_input {
	json_t *text, *base64;
	bool open;
};

static int input_make(struct exec_body *b, const char *id, const struct exec_input *in,
		      struct error *err)
{
	CLEANUP(buf_fini_p) struct buf bytes = BUF_INIT;
	struct exec_control *ec;
	int rc;

	if ((in->text != NULL) + (in->base64 != NULL) + in->open > 1)
		return error_set(err, -EINVAL,
				 "only one of stdin, stdinBase64 and openStdin can be given");
	rc = exec_control_new(id, &b->spec.control, err);
	if (rc < 0)
		return rc;
	ec = b->spec.control;
	if (in->open)
		return exec_control_open_input(ec, err);
	if (!in->text && !in->base64)
		return 0;
	if (!json_is_string(in->text ? in->text : in->base64) ||
	    bytes_json_get(b->body, "stdin", &bytes) < 0)
		return error_set(err, -EINVAL,
				 in->text ? "stdin must be a string"
					  : "stdinBase64 must be base64");
	return exec_control_give_input(ec, bytes.data, bytes.len, err);
}

static int exec_parse(struct api_call *c, struct exec_body *b, struct error *err)
{
	struct exec_input in = { 0 };
	const char *cmd = NULL, *cwd = NULL;
	json_t *args = NULL, *envs = NULL;
	double timeout = 0, linger = EXEC_LINGER_MS / 1000.0;
	const struct field fields[] = {
		{ "cmd", FIELD_STRING, &cmd, true },
		{ "args", FIELD_ARRAY, &args, false },
		{ "envs", FIELD_OBJECT, &envs, false },
		{ "cwd", FIELD_STRING, &cwd, false },
		{ "timeout", FIELD_NUMBER, &timeout, false },
		{ "linger", FIELD_NUMBER, &linger, false },
		{ "stdin", FIELD_IMAGE, &in.text, false },
		{ "stdinBase64", FIELD_ANY, &in.base64, false },
		{ "openStdin", FIELD_BOOL, &in.open, false },
		{ "control", FIELD_BOOL, &b->control, false },
		{ "attached", FIELD_BOOL, &b->spec.attached, false },
	};
	int rc;

	*b = (struct exec_body){ 0 };
	rc = api_body(c, fields, ARRAY_SIZE(fields), &b->body, err);
	if (rc == 0 && !*cmd)
		rc = error_set(err, -EINVAL, "cmd is empty");
	if (rc == 0 && cwd && *cwd && cwd[0] != '/')
		rc = error_set(err, -EINVAL, "cwd \"%.100s\" is not an absolute path", cwd);
	if (rc == 0 && timeout > TIMEOUT_MAX_S)
		rc = error_set(err, -EINVAL, "timeout is at most %.0f seconds", TIMEOUT_MAX_S);
	if (rc == 0 && linger > TIMEOUT_MAX_S)
		rc = error_set(err, -EINVAL, "linger is at most %.0f seconds", TIMEOUT_MAX_S);
	if (rc == 0 && envs)
		rc = envs_check(envs, err);
	if (rc == 0)
		rc = argv_make(b, cmd, args, err);
	if (rc == 0)
		rc = input_make(b, *c->once.id ? c->once.id : NULL, &in, err);
	b->control |= in.open;
	if (rc < 0)
		return rc;
	b->spec.envs = envs;
	b->spec.cwd = cwd && *cwd ? cwd : NULL;
	b->spec.linger_ms = (int64_t)(linger * 1000);
	b->spec.timeout_ms = (int64_t)(timeout * 1000);
	if (timeout > 0 && b->spec.timeout_ms == 0)
		b->spec.timeout_ms = 1;
	return 0;
}

static json_t *output_to_json(const struct exec_output *o)
{
	return json_pack("{s:i, s:o, s:o, s:o*}", "exitCode", o->exit_code, "stdout",
			 bytes_json(o->out.data, o->out.len), "stderr",
			 bytes_json(o->err.data, o->err.len), "truncated",
			 o->truncated ? json_true() : NULL);
}

static int stream_write(void *arg, const void *data, size_t len)
{
	struct api_call *c = arg;

	return http_stream_write(c->rq, data, len);
}

/*
 * The reply with the output, in pieces: as JSON values it would take many times
 * its size. is_async: with the member "running".
 */
static int reply_output(struct api_call *c, const struct exec_output *o, bool is_async,
			struct error *err)
{
	struct json_stream js = { .write = stream_write, .arg = c };
	char head[64];
	int rc = http_stream_begin(c->rq, 200, "application/json");

	snprintf(head, sizeof(head), "{\"exitCode\":%d,\"stdout\":", o->exit_code);
	if (rc == 0)
		rc = json_stream_raw(&js, head);
	if (rc == 0)
		rc = json_stream_string(&js, o->out.data, o->out.len);
	if (rc == 0)
		rc = json_stream_raw(&js, ",\"stderr\":");
	if (rc == 0)
		rc = json_stream_string(&js, o->err.data, o->err.len);
	if (rc == 0)
		rc = json_stream_raw(&js, o->truncated ? ",\"truncated\":true" : "");
	if (rc == 0)
		rc = json_stream_raw(&js, is_async ? ",\"running\":false}\n" : "}\n");
	if (rc == 0)
		rc = json_stream_flush(&js);
	json_stream_fini(&js);
	return rc < 0 ? error_set_errno(err, rc, "the reply") : 0;
}

static bool is_cancelled(void *arg)
{
	struct api_call *c = arg;

	return http_cancelled(c->rq);
}

/* Where output goes as it comes. */
struct output_to {
	struct api_call *c;
	struct sandbox *sb;
};

static bool is_closing(void *arg)
{
	return sandbox_is_closing(arg);
}

/*
 * For a client that takes events: "output" {"stream", "data"}, or "dataBase64"
 * where it is not UTF-8 or has a NUL in it.
 */
static int send_bytes(struct output_to *to, int stream, const void *data, size_t len,
		      const uint64_t *end)
{
	CLEANUP(buf_fini_p) struct buf base64 = BUF_INIT;
	json_t *text = memchr(data, '\0', len) ? NULL : json_stringn(data, len);
	const char *key = text ? "data" : "dataBase64";

	if (!text) {
		if (base64_encode(data, len, &base64) < 0)
			return -ENOMEM;
		text = json_stringn((const char *)base64.data, base64.len);
	}
	return api_event_until(to->c, "output",
			       json_pack("{s:s, s:o, s:o*}", "stream",
					 stream == 1 ? "stdout" : "stderr", key, text, "end",
					 end ? json_integer((json_int_t)*end) : NULL),
			       is_closing, to->sb);
}

static int send_output(void *arg, int stream, const void *data, size_t len)
{
	return send_bytes(arg, stream, data, len, NULL);
}

/* What is left of the output, where that went out as events, is what we said ourselves. */
static int send_notes(struct output_to *to, struct exec_output *out)
{
	int rc = out->out.len ? send_output(to, 1, out->out.data, out->out.len) : 0;

	if (rc == 0 && out->err.len)
		rc = send_output(to, 2, out->err.data, out->err.len);
	buf_clear(&out->out);
	buf_clear(&out->err);
	return rc;
}

/* With its id as the first event, "started": from then on the client can reach it. */
static int run_shared(struct api_call *c, struct sandbox *sb, const struct exec_spec *spec,
		      struct exec_output *out, struct error *err)
{
	int rc;

	sandbox_exec_share(sb, spec->control);
	rc = api_event_until(c, "started",
			     json_pack("{s:s}", "execId", exec_control_id(spec->control)),
			     is_closing, sb);
	rc = rc < 0 ? error_set_errno(err, rc, "the reply")
		    : sandbox_exec(sb, spec, is_cancelled, c, out, err);
	sandbox_exec_unshare(sb, spec->control);
	return rc;
}

static int run_with_events(struct api_call *c, struct sandbox *sb, struct exec_body *b,
			   struct exec_output *out, struct error *err)
{
	struct output_to to = { c, sb };
	struct exec_spec *spec = &b->spec;
	int rc;

	if (!api_progress(c, err))
		return err->code;
	spec->on_output = send_output;
	spec->output_arg = &to;
	rc = b->control ? run_shared(c, sb, spec, out, err)
			: sandbox_exec(sb, spec, is_cancelled, c, out, err);
	return rc < 0 ? rc : send_notes(&to, out);
}

int api_exec_run(struct api_call *c, struct error *err)
{
	CLEANUP(sandbox_put_p) struct sandbox *sb = NULL;
	struct exec_output out;
	struct exec_body b = { 0 };
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = sandboxes_get(c->api->sandboxes, api_capture(c, 0), &sb, err);
	if (rc == 0)
		rc = exec_parse(c, &b, err);
	if (rc == 0 && b.spec.attached)
		rc = error_set(err, -EINVAL, "attached is a member of run-async");
	if (rc == 0 && b.control && !http_wants_events(c->rq))
		rc = error_set(err, -EINVAL,
			       "control and openStdin need a reply of events (Accept: "
			       "text/event-stream), or run-async");
	b.spec.started = &c->once_effect;
	if (rc == 0 && http_wants_events(c->rq))
		rc = run_with_events(c, sb, &b, &out, err);
	else if (rc == 0)
		rc = sandbox_exec(sb, &b.spec, is_cancelled, c, &out, err);
	exec_body_fini(&b);
	if (rc < 0)
		return rc;
	if (c->events)
		api_once_leave(c); /* the result lacks the output */
	rc = c->events ? api_result(c, 200, output_to_json(&out), err)
		       : reply_output(c, &out, false, err);
	exec_output_fini(&out);
	return rc;
}

/* Whether a daemon that has died has started it for this call. */
static bool has_begun(struct api_call *c, struct sandbox *sb)
{
	struct error ignored = ERROR_INIT;
	struct async_exec *e;

	if (!c->once.again || sandbox_exec_get(sb, c->once.id, &e, &ignored) < 0)
		return false;
	async_exec_put(e);
	return true;
}

static int reply_id(struct api_call *c, const char *id, struct error *err)
{
	return api_result(c, 200, json_pack("{s:s}", "execId", id), err);
}

int api_exec_run_async(struct api_call *c, struct error *err)
{
	CLEANUP(sandbox_put_p) struct sandbox *sb = NULL;
	char id[SNAPSHOT_ID_SIZE];
	struct exec_body b = { 0 };
	struct container *container;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = sandboxes_get(c->api->sandboxes, api_capture(c, 0), &sb, err);
	if (rc == 0 && has_begun(c, sb))
		return reply_id(c, c->once.id, err);
	if (rc == 0 && c->once.again &&
	    c->once.effect) /* it ended with that daemon, or is forgotten */
		return error_set(err, -EBUSY,
				 "snapshotd has ended since the program was started: whether it "
				 "has run is not known");
	if (rc == 0)
		rc = exec_parse(c, &b, err);
	if (rc == 0) /* one that does not run is told at once */
		rc = sandbox_enter(sb, &container, err);
	if (rc == 0) {
		rc = idempotency_effect(c->api->idempotency, &c->once, err);
		if (rc == 0)
			rc = sandbox_exec_start(sb, container, &b.spec, id, err);
		sandbox_leave(sb);
	}
	exec_body_fini(&b);
	return rc < 0 ? rc : reply_id(c, id, err);
}

static int reply_outcome(struct api_call *c, struct async_exec *e, struct error *err)
{
	const struct exec_output *out;
	const struct error *why;

	if (async_exec_outcome(e, &out, &why) == 0)
		return reply_output(c, out, true, err);
	return api_result(c, 200,
			  json_pack("{s:b, s:o}", "running", 0, "error", api_text(error_text(why))),
			  err);
}

int api_exec_result(struct api_call *c, struct error *err)
{
	CLEANUP(sandbox_put_p) struct sandbox *sb = NULL;
	struct async_exec *e;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = sandboxes_get(c->api->sandboxes, api_capture(c, 0), &sb, err);
	if (rc == 0)
		rc = sandbox_exec_get(sb, api_capture(c, 1), &e, err);
	if (rc < 0)
		return rc;
	if (async_exec_is_attached(e))
		rc = error_set(err, -EBUSY,
			       "exec %s is attached: its output and its end are told to those who "
			       "follow its output",
			       api_capture(c, 1));
	else if (async_exec_wait(e, RESULT_WAIT_MS))
		rc = reply_outcome(c, e, err);
	else
		rc = api_result(c, 200, json_pack("{s:b}", "running", 1), err);
	async_exec_put(e);
	return rc;
}

/* ---- following one ---- */

/* Bytes from *at on, as an event with the place of their end. 0: there are none yet. */
static int follow_stream(struct output_to *to, struct async_exec *e, int stream, uint64_t *at)
{
	char room[FOLLOW_STEP];
	ssize_t n = async_exec_read(e, stream, *at, room, sizeof(room));

	if (n <= 0)
		return (int)n;
	*at += (uint64_t)n;
	int rc = send_bytes(to, stream, room, (size_t)n, at);

	if (rc < 0)
		return rc;
	async_exec_note_sent(e, stream, *at);
	return 1;
}

static int follow(struct api_call *c, struct sandbox *sb, struct async_exec *e, uint64_t at[2],
		  struct error *err)
{
	struct output_to to = { c, sb };

	for (;;) {
		bool ended = async_exec_wait_more(e, at, FOLLOW_WAIT_MS);
		int a, b;

		do {
			a = follow_stream(&to, e, 1, &at[0]);
			b = a < 0 ? a : follow_stream(&to, e, 2, &at[1]);
		} while (b >= 0 && a + b > 0 && !is_cancelled(c));
		if (b == -ENODATA)
			return error_set(err, -EINVAL,
					 "the output there is not kept any more: it has been sent");
		if (b < 0)
			return error_set_errno(err, b, "the reply");
		if (is_cancelled(c)) {
			/* Another daemon goes on with it: no event is to say an end. */
			http_stream_abort(c->rq);
			return error_set(err, -ECANCELED, "cancelled");
		}
		if (ended)
			return 0;
	}
}

/* Whether he may come back, and when. */
static enum follower_end how_left(const struct api_call *c, bool told)
{
	if (told)
		return FOLLOWER_TOLD;
	return http_stopping(c->rq) || http_was_cut(c->rq) ? FOLLOWER_LOST : FOLLOWER_LEFT;
}

/*
 * What it has written from the given places on, and what it will write, as events "output" with
 * "end", the place where to go on after a connection that broke off.
 */
int api_exec_output(struct api_call *c, struct error *err)
{
	CLEANUP(sandbox_put_p) struct sandbox *sb = NULL;
	const struct exec_output *out;
	const struct error *why;
	struct async_exec *e;
	uint64_t at[2] = { 0, 0 };
	int rc = api_query(c, err, "stdout", "stderr", NULL);

	if (rc == 0)
		rc = query_u64(&c->query, "stdout", &at[0], err);
	if (rc == 0)
		rc = query_u64(&c->query, "stderr", &at[1], err);
	if (rc == 0)
		rc = sandboxes_get(c->api->sandboxes, api_capture(c, 0), &sb, err);
	if (rc == 0 && !http_wants_events(c->rq))
		rc = error_set(err, -EINVAL,
			       "the output comes as events (Accept: text/event-stream)");
	if (rc == 0)
		rc = sandbox_exec_get(sb, api_capture(c, 1), &e, err);
	if (rc < 0)
		return rc;
	if (!api_progress(c, err))
		rc = err->code;
	async_exec_follow(e);
	if (rc == 0)
		rc = follow(c, sb, e, at, err);
	bool told = rc == 0;
	if (rc == 0 && async_exec_outcome(e, &out, &why) < 0)
		rc = error_set(err, why->code, "%s", error_text(why));
	else if (rc == 0)
		rc = api_result(c, 200,
				json_pack("{s:i, s:o*}", "exitCode", out->exit_code, "truncated",
					  out->truncated ? json_true() : NULL),
				err);
	async_exec_unfollow(e, how_left(c, told));
	async_exec_put(e);
	return rc;
}

/* Kill it, with all that it has started; its result is forgotten. */
int api_exec_kill(struct api_call *c, struct error *err)
{
	CLEANUP(sandbox_put_p) struct sandbox *sb = NULL;
	struct async_exec *e;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = sandboxes_get(c->api->sandboxes, api_capture(c, 0), &sb, err);
	if (rc == 0)
		rc = sandbox_exec_get(sb, api_capture(c, 1), &e, err);
	if (rc < 0)
		return c->once.again && rc == -ENOENT ? api_no_content(c) : rc;
	async_exec_kill(e);
	async_exec_put(e);
	return api_no_content(c);
}

/* ---- what is told to one that runs ---- */

static int find_control(struct api_call *c, struct exec_control **out, struct error *err)
{
	CLEANUP(sandbox_put_p) struct sandbox *sb = NULL;
	int rc = api_query(c, err, NULL);

	if (rc == 0)
		rc = sandboxes_get(c->api->sandboxes, api_capture(c, 0), &sb, err);
	return rc < 0 ? rc : sandbox_exec_control(sb, api_capture(c, 1), out, err);
}

static int signal_of(const json_t *j, struct error *err)
{
	char number[24];

	if (json_is_string(j))
		return signal_parse(json_string_value(j), err);
	if (!json_is_integer(j))
		return error_set(err, -EINVAL, "signal must be a name or a number");
	snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(j));
	return signal_parse(number, err);
}

int api_exec_signal(struct api_call *c, struct error *err)
{
	CLEANUP(exec_control_put_p) struct exec_control *ec = NULL;
	json_t *body = NULL, *name = NULL;
	const struct field fields[] = { { "signal", FIELD_ANY, &name, true } };
	int sig, rc = find_control(c, &ec, err);

	if (rc == 0)
		rc = api_body(c, fields, ARRAY_SIZE(fields), &body, err);
	if (rc == 0) {
		sig = signal_of(name, err);
		rc = sig < 0 ? sig : exec_control_signal(ec, sig, err);
	}
	json_decref(body);
	return rc < 0 ? rc : api_no_content(c);
}

/* Before the body is read: whether there is a program to take it. */
int api_exec_stdin_check(struct api_call *c, struct error *err)
{
	CLEANUP(exec_control_put_p) struct exec_control *ec = NULL;
	int rc = find_control(c, &ec, err);

	return rc < 0 ? rc : exec_control_can_feed(ec, err);
}

int api_exec_stdin(struct api_call *c, struct error *err)
{
	CLEANUP(exec_control_put_p) struct exec_control *ec = NULL;
	int rc = find_control(c, &ec, err);

	if (rc == 0)
		rc = exec_control_feed(ec, http_body_fd(c->rq), is_cancelled, c, err);
	return rc < 0 ? rc : api_no_content(c);
}
