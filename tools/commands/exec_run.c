#include "tools/commands/exec_run.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/bytes_json.h"
#include "store/base/clock.h"
#include "tools/commands/exec_input.h"

#define OUTPUT_MAX ((size_t)16 << 20) /* of each stream, with --json */
#define LASTING_MS 60000 /* a daemon that has lived for so long did not die of a call */

static volatile sig_atomic_t caught;
static atomic_ullong pending;  /* a bit each; those that a program has not got yet */
static atomic_uint interrupts; /* times that SIGINT came */

static void remember(int sig)
{
	caught = sig;
	atomic_fetch_or(&pending, 1ull << sig);
	if (sig == SIGINT)
		atomic_fetch_add(&interrupts, 1);
}

/* What is ignored (nohup) stays so. */
static void catch_signals(const int *signals, size_t n)
{
	struct sigaction sa = { .sa_handler = remember }, old;

	for (size_t i = 0; i < n; i++)
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			sigaction(signals[i], &sa, NULL);
}

void interrupt_catch(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

	catch_signals(signals, ARRAY_SIZE(signals));
	/* A reader that has gone is a failed write, so that what was made is cleaned up. */
	signal(SIGPIPE, SIG_IGN);
}

int interrupt_signal(void)
{
	return caught;
}

void interrupt_forget(void)
{
	caught = 0;
	atomic_store(&pending, 0);
	atomic_store(&interrupts, 0);
}

int exec_envs(const struct args *args, json_t **out, struct error *err)
{
	json_t *o = NULL;

	for (int i = 0; i < args->option_count; i++) {
		const char *value = args->options[i].value;
		if (strcmp(args->options[i].spec->name, "env") != 0)
			continue;
		size_t n = strcspn(value, "=");
		char *key = strndup(value, n);
		if (n == 0 || value[n] != '=') {
			free(key);
			json_decref(o);
			return cli_usage(err, "'%s' is no K=V", value);
		}
		if (!o)
			o = json_object();
		int failed = !key ||
			     json_object_set_new(o, key,
						 bytes_json(value + n + 1, strlen(value + n + 1)));
		free(key);
		if (failed) {
			json_decref(o);
			return -ENOMEM;
		}
	}
	*out = o;
	return 0;
}

/* A program while it runs. */
struct running {
	struct cli *cli;
	const struct exec_run *x;
	struct client *side; /* for signals; made when the first one comes */
	char exec_id[64];    /* "" until it has started */
	bool attached;	     /* it goes on without the daemon, and is followed */
	uint64_t at[2];	     /* so much of stdout and stderr has come */
	struct buf path;     /* of the call that follows it from there on */
	struct client_request follow;
	bool has_input;
	struct exec_input *input; /* or NULL */
	struct buf kept[2];	  /* stdout and stderr, with --json */
	bool cut;
	int failed;	  /* -errno: nothing more can be printed, started or passed on */
	struct error why; /* of failed, where it is not the output */
};

/* With --json the output is part of the result. */
static void keep(struct running *p, struct buf *b, const void *data, size_t len)
{
	size_t room = OUTPUT_MAX - b->len;

	p->cut |= len > room;
	if (buf_append(b, data, MIN(len, room)) < 0)
		p->failed = -ENOMEM;
}

static void print(struct running *p, const char *stream, const void *data, size_t len)
{
	bool is_err = strcmp(stream, "stderr") == 0;
	FILE *f = is_err ? stderr : stdout;

	if (p->cli->json)
		keep(p, &p->kept[is_err], data, len);
	else if (len > 0 && (fwrite(data, 1, len, f) != len || fflush(f) == EOF))
		p->failed = cli_write_failure();
}

/* "started", or the answer of run-async, {"execId"}: now it can be told something. */
static void on_started(struct running *p, const json_t *data)
{
	snprintf(p->exec_id, sizeof(p->exec_id), "%s", cli_str(data, "execId"));
	if (p->has_input && !p->input)
		p->failed = exec_input_start(&p->cli->daemon, p->x->sandbox, p->exec_id, &p->input,
					     &p->why);
}

/* Each byte once: what comes is what follows. */
static int note_end(struct running *p, const json_t *data, size_t len)
{
	uint64_t *at = &p->at[strcmp(cli_str(data, "stream"), "stderr") == 0];
	const json_t *end = json_object_get(data, "end");

	*at += len;
	return p->attached && (uint64_t)json_integer_value(end) != *at ? -EBADMSG : 0;
}

/* "output" {"stream", "data" or "dataBase64", "end" where it is followed} */
static void on_event(void *arg, const char *type, const json_t *data)
{
	struct running *p = arg;
	CLEANUP(buf_fini_p) struct buf bytes = BUF_INIT;

	if (strcmp(type, "started") == 0)
		on_started(p, data);
	if (strcmp(type, "output") != 0 || p->failed)
		return;
	if (bytes_json_get(data, "data", &bytes) < 0 || note_end(p, data, bytes.len) < 0)
		p->failed = -EBADMSG;
	else
		print(p, cli_str(data, "stream"), bytes.data, bytes.len);
}

static bool is_impatient(void *arg)
{
	(void)arg;
	return atomic_load(&interrupts) > 2;
}

/* Over a connection of its own: that of the program is busy. fmt: sandbox, program. */
static int tell(struct running *p, const char *method, const char *fmt, const json_t *body)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	struct error err = ERROR_INIT;
	int r = p->side || (p->side = client_new(&p->cli->daemon)) ? 0 : -ENOMEM;

	if (r == 0 && (client_path(&path, fmt, p->x->sandbox, p->exec_id) < 0 || !buf_cstr(&path)))
		r = -ENOMEM;
	struct client_request rq = { .method = method,
				     .path = (const char *)path.data,
				     .body = body,
				     .cancelled = is_impatient };
	return r < 0 ? r : client_run(p->side, &rq, NULL, &err);
}

static int send_signal(struct running *p, int sig)
{
	json_t *body = json_pack("{s:i}", "signal", sig);
	int r = tell(p, "POST", "/api/sandboxes/%s/exec/%s/signal", body);

	json_decref(body);
	/* It has just ended: so will the call. */
	return r == -ENOENT || r == -EEXIST ? 0 : r;
}

static bool has_failed(struct running *p)
{
	if (!p->failed && exec_input_has_failed(p->input, &p->why))
		p->failed = p->why.code;
	return p->failed != 0;
}

/* Signals go on to the program, but the second SIGINT ends the call. */
static bool is_cancelled(void *arg)
{
	struct running *p = arg;
	unsigned long long signals;
	int r = 0;

	if (has_failed(p) || atomic_load(&interrupts) > 1)
		return true;
	if (!*p->exec_id)
		return false;
	signals = atomic_exchange(&pending, 0);
	for (int sig = 1; sig < 64 && r == 0; sig++)
		if (signals & 1ull << sig)
			r = send_signal(p, sig);
	return r < 0;
}

static json_t *request_body(const struct exec_run *x, bool has_input, bool attached)
{
	json_t *args = json_array(), *o;
	int failed = 0;

	for (char *const *a = x->argv + 1; *a && args; a++)
		failed |= json_array_append_new(args, bytes_json(*a, strlen(*a)));
	o = json_pack("{s:o, s:o}", "cmd", bytes_json(x->argv[0], strlen(x->argv[0])), "args",
		      args);
	failed |= json_object_set_new(o, has_input ? "openStdin" : "control", json_true());
	if (x->envs)
		failed |= json_object_set(o, "envs", (json_t *)(uintptr_t)x->envs);
	if (x->workdir)
		failed |= json_object_set_new(o, "cwd", json_string(x->workdir));
	if (x->timeout_s > 0)
		failed |= json_object_set_new(o, "timeout", json_real(x->timeout_s));
	if (attached)
		failed |= json_object_set_new(o, "attached", json_true());
	if (x->linger_s >= 0)
		failed |= json_object_set_new(o, "linger", json_real(x->linger_s));
	if (!failed)
		return o;
	json_decref(o);
	return NULL;
}

static int set_kept(struct running *p, json_t *result)
{
	if (p->cut && json_object_set_new(result, "truncated", json_true()) < 0)
		return -ENOMEM;
	for (int i = 0; i < 2; i++) {
		const char *key = i ? "stderr" : "stdout";

		if (p->kept[i].len > 0 &&
		    json_object_set_new(result, key, bytes_json(p->kept[i].data, p->kept[i].len)) <
			    0)
			return -ENOMEM;
	}
	return json_object_set_new(result, "sandboxID", json_string(p->x->sandbox)) < 0 ? -ENOMEM
											: 0;
}

static int print_result(struct running *p, json_t *result)
{
	struct cli *cli = p->cli;

	cli->status = (int)json_integer_value(json_object_get(result, "exitCode"));
	if (cli->json) {
		int r = set_kept(p, result);
		return r < 0 ? r : cli_print_json(result);
	}
	if (json_is_true(json_object_get(result, "truncated")))
		fputs("varve: processes that it has left still hold its output: "
		      "what they write from now on is not shown (--linger waits longer)\n",
		      stderr);
	return p->failed;
}

/* The program has ended, or the call has: only the status of what it did not get is ours. */
static void running_fini(struct running *p, int r)
{
	exec_input_stop(p->input);
	client_free(p->side);
	buf_fini(&p->path);
	buf_fini(&p->kept[0]);
	buf_fini(&p->kept[1]);
	if (r == 0)
		interrupt_forget();
}

/* A call of the sandbox's programs. */
static int call_exec(struct running *p, const char *how, bool attached, json_t **out,
		     struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	json_t *body = request_body(p->x, p->has_input, attached);
	struct client *c = cli_client(p->cli, err);
	struct client_request rq = { .method = "POST",
				     .body = body,
				     .on_event = attached ? NULL : on_event,
				     .cancelled = is_cancelled,
				     .arg = p };
	int r = c ? 0 : err->code;

	if (r == 0 && (!body || client_path(&path, "/api/sandboxes/%s/exec/", p->x->sandbox) < 0 ||
		       buf_append_str(&path, how) < 0 || !buf_cstr(&path)))
		r = -ENOMEM;
	rq.path = (const char *)path.data;
	if (r == 0)
		r = client_run(c, &rq, out, err);
	json_decref(body);
	return r;
}

static int set_path(struct running *p)
{
	buf_clear(&p->path);
	if (client_path(&p->path, "/api/sandboxes/%s/exec/%s/output", p->x->sandbox, p->exec_id) <
		    0 ||
	    buf_printf(&p->path, "?stdout=%llu&stderr=%llu", (unsigned long long)p->at[0],
		       (unsigned long long)p->at[1]) < 0 ||
	    !buf_cstr(&p->path))
		return -ENOMEM;
	p->follow.path = (const char *)p->path.data;
	return 0;
}

/* The daemon has gone, or the connection: on with what has not come yet. */
static void on_again(void *arg)
{
	struct running *p = arg;
	int r = set_path(p);

	if (r < 0) {
		p->failed = r;
	} else if (exec_input_is_open(p->input)) {
		p->failed = -EIO;
		error_set(&p->why, -EIO,
			  "snapshotd has gone while it passed on the command's input, of which the "
			  "rest is lost");
	}
}

/* A daemon may be replaced any number of times, but not of a call that it dies of at once. */
static int follow(struct running *p, json_t **out, struct error *err)
{
	struct client *c = cli_client(p->cli, err);
	int64_t begun;
	int r = c ? set_path(p) : err->code;

	if (r < 0)
		return r;
	p->follow = (struct client_request){ .method = "GET",
					     .path = p->follow.path,
					     .on_event = on_event,
					     .on_again = on_again,
					     .cancelled = is_cancelled,
					     .arg = p };
	do {
		begun = monotonic_ms();
		r = client_run(c, &p->follow, out, err);
		if (r != -EIO || p->failed || !client_may_again(c) ||
		    monotonic_ms() - begun <= LASTING_MS)
			break;
		on_again(p);
	} while (!p->failed);
	if (r == -ENOENT)
		return error_prefix(err, r, "how the command has ended is not known");
	if (r == -EINTR || p->failed) /* else it would wait for somebody who comes back */
		(void)!tell(p, "DELETE", "/api/sandboxes/%s/exec/%s", NULL);
	return r;
}

/*
 * An older daemon refuses "attached" before it does anything. There the command ends with its
 * connection.
 */
static int run(struct running *p, json_t **out, struct error *err)
{
	json_t *started = NULL;
	int r;

	p->attached = true;
	r = call_exec(p, "run-async", true, &started, err);
	if (r == -EINVAL) {
		p->attached = false;
		return call_exec(p, "run", false, out, err);
	}
	if (r == 0) {
		on_started(p, started);
		r = follow(p, out, err);
	}
	json_decref(started);
	return r;
}

int exec_run(struct cli *cli, const struct exec_run *x, struct error *err)
{
	static const int more_signals[] = { SIGQUIT, SIGUSR1, SIGUSR2 };
	struct running p = { .cli = cli, .x = x, .has_input = exec_input_is_there() };
	json_t *o = NULL;
	int r;

	catch_signals(more_signals, ARRAY_SIZE(more_signals));
	r = run(&p, &o, err);
	if (r == 0 && !p.failed && has_failed(&p))
		r = p.failed; /* it has taken what it has got for all of its input */
	if (r == 0)
		r = print_result(&p, o);
	else if (p.failed && p.why.code)
		r = error_set(err, p.failed, "%s", error_text(&p.why));
	else if (p.failed)
		r = error_set_errno(err, p.failed, "writing the output");
	running_fini(&p, r);
	json_decref(o);
	return r;
}
