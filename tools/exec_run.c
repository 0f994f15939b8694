#include "tools/exec_run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "store/base/bytes_json.h"

static volatile sig_atomic_t caught;

static void remember(int sig)
{
	caught = sig;
}

void interrupt_catch(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction sa = { .sa_handler = remember }, old;

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		/* What is ignored (nohup) stays so. */
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			sigaction(signals[i], &sa, NULL);
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

struct printer {
	bool json;
	int failed;
};

static void print(struct printer *p, const char *stream, const void *data, size_t len)
{
	FILE *f = strcmp(stream, "stderr") == 0 ? stderr : stdout;

	if (len > 0 && (fwrite(data, 1, len, f) != len || fflush(f) == EOF))
		p->failed = cli_write_failure();
}

/* "output" {"stream", "data" or "dataBase64"} */
static void on_event(void *arg, const char *type, const json_t *data)
{
	struct printer *p = arg;
	CLEANUP(buf_fini_p) struct buf bytes = BUF_INIT;

	if (strcmp(type, "output") != 0 || p->json)
		return;
	if (bytes_json_get(data, "data", &bytes) < 0)
		p->failed = -EBADMSG;
	else
		print(p, cli_str(data, "stream"), bytes.data, bytes.len);
}

static bool is_cancelled(void *arg)
{
	const struct printer *p = arg;

	return caught || p->failed;
}

static json_t *request_body(const struct exec_run *x)
{
	json_t *args = json_array(), *o;
	int failed = 0;

	for (char *const *a = x->argv + 1; *a && args; a++)
		failed |= json_array_append_new(args, bytes_json(*a, strlen(*a)));
	o = json_pack("{s:o, s:o}", "cmd", bytes_json(x->argv[0], strlen(x->argv[0])), "args",
		      args);
	if (x->envs)
		failed |= json_object_set(o, "envs", (json_t *)(uintptr_t)x->envs);
	if (x->workdir)
		failed |= json_object_set_new(o, "cwd", json_string(x->workdir));
	if (x->timeout_s > 0)
		failed |= json_object_set_new(o, "timeout", json_real(x->timeout_s));
	if (!failed)
		return o;
	json_decref(o);
	return NULL;
}

static int print_result(struct cli *cli, struct printer *p, json_t *result, const char *id)
{
	static const char *const streams[] = { "stdout", "stderr" };

	cli->status = (int)json_integer_value(json_object_get(result, "exitCode"));
	if (cli->json) {
		int r = json_object_set_new(result, "sandboxID", json_string(id));
		return r < 0 ? -ENOMEM : cli_print_json(result);
	}
	if (json_is_true(json_object_get(result, "truncated")))
		fputs("varve: processes that it has left still hold its output: "
		      "what they write from now on is not shown\n",
		      stderr);
	/* Of a daemon that has not sent it as events. */
	for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
		CLEANUP(buf_fini_p) struct buf bytes = BUF_INIT;
		int r = bytes_json_get(result, streams[i], &bytes);
		if (r == 0)
			print(p, streams[i], bytes.data, bytes.len);
		else if (r != -ENOENT)
			return r;
	}
	return p->failed;
}

/* Input that somebody has piped in and nobody gets is not dropped without a word. */
static void tell_unread_input(void)
{
	int n = 0;

	if (!isatty(STDIN_FILENO) && ioctl(STDIN_FILENO, FIONREAD, &n) == 0 && n > 0)
		fputs("varve: standard input is not passed to the command\n", stderr);
}

int exec_run(struct cli *cli, const struct exec_run *x, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	struct printer p = { .json = cli->json };
	struct client *c = cli_client(cli, err);
	json_t *body, *o = NULL;

	if (!c)
		return err->code;
	if (client_path(&path, "/api/sandboxes/%s/exec/run", x->sandbox) < 0 || !buf_cstr(&path))
		return -ENOMEM;
	body = request_body(x);
	struct client_request rq = { .method = "POST",
				     .path = (const char *)path.data,
				     .body = body,
				     .on_event = cli->json ? NULL : on_event,
				     .cancelled = is_cancelled,
				     .arg = &p };
	int r = body ? client_run(c, &rq, &o, err) : -ENOMEM;
	if (r == 0)
		r = print_result(cli, &p, o, x->sandbox);
	else if (p.failed)
		r = error_set_errno(err, p.failed, "writing the output");
	tell_unread_input();
	json_decref(o);
	json_decref(body);
	return r;
}
