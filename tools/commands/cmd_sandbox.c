/* cmd_sandbox.c - run, exec, sandboxes, kill, checkpoints, restore. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/bytes_json.h"
#include "tools/commands/commands.h"
#include "tools/cli/each.h"
#include "tools/cli/listing.h"
#include "tools/commands/exec_run.h"
#include "tools/cli/id_ref.h"
#include "tools/commands/image_build.h"
#include "tools/cli/remote_ref.h"
#include "tools/cli/table.h"
#include "tools/cli/text.h"

#define MIB (1u << 20)

const struct option_spec options_run[] = {
	{ 0, "image", "FILE", "of the image that this manifest describes (- is standard input)" },
	{ 0, "snapshot", "SNAPSHOT", "of this snapshot; without both, of the default template" },
	{ 'e', "env", "K=V", "set a variable; repeatable" },
	{ 'w', "workdir", "DIRECTORY", "run it there (default: as the image says)" },
	{ 'm', "memory", "SIZE", "limit on memory: 500M, 2G" },
	{ 0, "cpus", "NUMBER", "limit on processors: 0.5, 2" },
	{ 0, "disk", "SIZE", "limit on what may be written" },
	{ 0, "cache", "private|shared", "one page cache a sandbox, or one of all" },
	{ 0, "timeout", "DURATION", "kill the command after: 90s, 10m" },
	{ 0, "linger", "DURATION", "wait for output of what it leaves running (default 10s)" },
	{ 'k', "keep", NULL, "keep the sandbox, and print its id on standard error" },
	{ 'q', "quiet", NULL, "no log where the image is built" },
	{ 'i', "interactive", NULL, NULL },
	{ 't', "tty", NULL, NULL },
	{ 0 },
};

const struct option_spec options_exec[] = {
	{ 'e', "env", "K=V", "set a variable; repeatable" },
	{ 'w', "workdir", "DIRECTORY", "run it there (default: as the image says)" },
	{ 0, "timeout", "DURATION", "kill the command after: 90s, 10m" },
	{ 0, "linger", "DURATION", "wait for output of what it leaves running (default 10s)" },
	{ 'i', "interactive", NULL, NULL },
	{ 't', "tty", NULL, NULL },
	{ 0 },
};

const struct option_spec options_sandboxes[] = {
	LISTING_QUIET,
	LISTING_FILTER("status, snapshot or metadata.NAME"),
	{ 0 },
};

const struct option_spec options_checkpoints[] = {
	LISTING_QUIET,
	LISTING_FILTER("name or status"),
	{ 0 },
};

/* ---- run and exec ---- */

/* o[key] in MiB, rounded up, from an option that is a size. */
static int set_megabytes(json_t *o, const char *key, const struct args *args, const char *option,
			 struct error *err)
{
	const char *text = args_get(args, option);
	uint64_t bytes;

	if (!text)
		return 0;
	if (text_parse_size(text, &bytes) < 0 || bytes == 0 || bytes > INT64_MAX)
		return cli_usage(err, "'%s' is no size: 500M, 2G", text);
	return json_object_set_new(o, key, json_integer((json_int_t)((bytes + MIB - 1) / MIB)))
		       ? -ENOMEM
		       : 0;
}

static int set_cpus(json_t *o, const char *text, struct error *err)
{
	char *end;
	double n = text ? strtod(text, &end) : 0;

	if (!text)
		return 0;
	if (*end || !(n > 0 && n <= 1024))
		return cli_usage(err, "'%s' is no number of processors: 0.5, 2", text);
	return json_object_set_new(o, "cpuCount", json_real(n)) ? -ENOMEM : 0;
}

static int set_snapshot(struct cli *cli, json_t *o, const char *word, struct error *err)
{
	char *name = NULL;
	int r = remote_ref_resolve(cli, word, &name, err);

	if (r == 0 && json_object_set_new(o, "snapshot", bytes_json(name, strlen(name))))
		r = -ENOMEM;
	free(name);
	return r;
}

static int set_source(struct cli *cli, json_t *o, const struct args *args, struct error *err)
{
	const char *file = args_get(args, "image"), *snapshot = args_get(args, "snapshot");
	json_t *image = NULL;

	if (file && snapshot)
		return cli_usage(err, "give --image or --snapshot, not both");
	if (file) {
		int r = image_read(file, &image, err);
		return r < 0 ? r : json_object_set_new(o, "image", image) ? -ENOMEM : 0;
	}
	return snapshot ? set_snapshot(cli, o, snapshot, err) : 0;
}

static int sandbox_body(struct cli *cli, const struct args *args, json_t *o, struct error *err)
{
	json_t *envs = NULL;
	int r = set_megabytes(o, "memoryMB", args, "memory", err);

	if (r == 0)
		r = set_megabytes(o, "diskMB", args, "disk", err);
	if (r == 0)
		r = set_cpus(o, args_get(args, "cpus"), err);
	if (r == 0 && args_get(args, "cache") &&
	    json_object_set_new(o, "cache", json_string(args_get(args, "cache"))))
		r = -ENOMEM;
	if (r == 0)
		r = exec_envs(args, &envs, err);
	if (r == 0 && envs && json_object_set_new(o, "envs", envs))
		r = -ENOMEM;
	return r != 0 ? r : set_source(cli, o, args, err);
}

/* What run and exec tell a command; CLI_USAGE. */
static int exec_options(const struct args *args, struct exec_run *x, struct error *err)
{
	const char *timeout = args_get(args, "timeout"), *linger = args_get(args, "linger");
	int64_t seconds = 0, linger_s = -1;

	if (args_has(args, "tty")) /* other programs have it, so it is tried */
		return cli_usage(err, "there are no terminals in sandboxes: without -t, what is no "
				      "terminal is the command's input, and \"cat | varve ...\" "
				      "passes on what is typed");
	x->workdir = args_get(args, "workdir");
	if (x->workdir && x->workdir[0] != '/')
		return cli_usage(err, "--workdir is an absolute path, not '%s'", x->workdir);
	if (timeout && (text_parse_duration(timeout, &seconds) < 0 || seconds == 0))
		return cli_usage(err, "'%s' is no duration: 90s, 10m", timeout);
	if (linger && text_parse_duration(linger, &linger_s) < 0)
		return cli_usage(err, "'%s' is no duration: 0, 90s, 10m", linger);
	x->timeout_s = (double)seconds;
	x->linger_s = (double)linger_s;
	return 0;
}

static int remove_sandbox(struct cli *cli, const char *id, struct error *err)
{
	return cli_call(cli, "DELETE", "/api/sandboxes/%s", id, NULL, NULL, err);
}

/* The end of run and exec: a failure of ours has a status of its own. */
static int end_of_run(struct cli *cli, int r)
{
	if (r == -EPIPE) /* as if the signal had ended us */
		return 128 + SIGPIPE;
	if (interrupt_signal())
		cli->failure_status = 128 + interrupt_signal();
	else if (r < 0)
		cli->failure_status = EXEC_FAILED;
	return r;
}

static int run_in(struct cli *cli, struct exec_run *x, bool keep, struct error *err)
{
	struct error gone = ERROR_INIT;
	int r = exec_run(cli, x, err);

	if (keep) {
		cli_tell("varve: the sandbox %s is kept", x->sandbox);
		return r;
	}
	int rm = remove_sandbox(cli, x->sandbox, &gone);
	if (rm < 0 && rm != -ENOENT && r == 0)
		r = error_set(err, rm, "removing the sandbox %s: %s", x->sandbox,
			      error_text(&gone));
	return r;
}

int cmd_run(struct cli *cli, const struct args *args, struct error *err)
{
	struct exec_run x = { .argv = args->words };
	json_t *body = json_object(), *sandbox = NULL;
	int r = body ? exec_options(args, &x, err) : -ENOMEM;

	if (r == 0)
		r = sandbox_body(cli, args, body, err);
	if (r == 0) {
		interrupt_catch();
		struct image_build b = { .path = "/api/sandboxes",
					 .body = body,
					 .quiet = args_has(args, "quiet"),
					 .interruptible = true };
		r = image_build(cli, &b, &sandbox, err);
	}
	if (r == 0) {
		x.sandbox = cli_str(sandbox, "sandboxID");
		r = run_in(cli, &x, args_has(args, "keep"), err);
	}
	json_decref(sandbox);
	json_decref(body);
	return end_of_run(cli, r);
}

int cmd_exec(struct cli *cli, const struct args *args, struct error *err)
{
	struct exec_run x = { .argv = args->words + 1 };
	json_t *sandbox = NULL, *envs = NULL;
	int r = exec_options(args, &x, err);

	if (r == 0)
		r = exec_envs(args, &envs, err);
	if (r == 0)
		r = sandbox_find(cli, args->words[0], &sandbox, err);
	if (r == 0) {
		interrupt_catch();
		x.sandbox = cli_str(sandbox, "sandboxID");
		x.envs = envs;
		r = exec_run(cli, &x, err);
	}
	json_decref(envs);
	json_decref(sandbox);
	return end_of_run(cli, r);
}

/* ---- sandboxes ---- */

static const char *snapshot_of(const json_t *o)
{
	const char *name = cli_str(o, "snapshot");

	return *name ? name : cli_str(o, "fromCheckpointId");
}

static void sandbox_row(struct table *t, const json_t *o)
{
	const char *name = snapshot_of(o);

	table_cell(t, "%s", cli_str(o, "sandboxID"));
	table_cell(t, "%s", cli_str(o, "status"));
	table_name(t, name, *cli_str(o, "snapshot") ? strlen(name) : MIN(strlen(name), 8ul));
	table_size(t, cli_num(o, "memoryMB") * MIB);
	table_cell(t, "%llu", (unsigned long long)cli_num(o, "changedInodes"));
	table_size(t, cli_num(o, "upperBytes"));
	table_time(t, cli_str(o, "startedAt"));
	table_time(t, cli_str(o, "endAt"));
	table_time(t, cli_str(o, "removeAt"));
}

static const char *sandbox_id(const json_t *o)
{
	return cli_str(o, "sandboxID");
}

static bool snapshot_fits(const json_t *o, const char *pattern)
{
	return listing_fits(snapshot_of(o), pattern);
}

static const struct listing_key sandbox_keys[] = {
	{ "status", "status", NULL },
	{ "snapshot", NULL, snapshot_fits },
	{ "metadata.", "metadata", NULL },
	{ 0 },
};

const struct listing sandboxes_listing = {
	.columns = "SANDBOX|STATUS|SNAPSHOT|>MEMORY|>CHANGED|>WRITTEN|STARTED|STOPS|REMOVED",
	.empty = "no sandboxes; 'varve run --keep --snapshot NAME -- COMMAND' makes one",
	.add_row = sandbox_row,
	.label = sandbox_id,
	.keys = sandbox_keys,
};

int cmd_sandboxes(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *list = NULL;
	int r = listing_check(cli, args, &sandboxes_listing, err);

	if (r == 0)
		r = cli_call(cli, "GET", "/api/sandboxes", NULL, NULL, &list, err);
	if (r == 0)
		r = listing_print(cli, args, &sandboxes_listing, list);
	json_decref(list);
	return r;
}

static int kill_one(struct cli *cli, const char *word, void *arg, json_t **out, struct error *err)
{
	json_t *o = NULL;
	int r = sandbox_find(cli, word, &o, err);

	(void)arg, (void)out;
	if (r == 0)
		r = remove_sandbox(cli, cli_str(o, "sandboxID"), err);
	json_decref(o);
	return r;
}

int cmd_kill(struct cli *cli, const struct args *args, struct error *err)
{
	const struct each e = { .command = "kill", .one = kill_one };

	return each_run(cli, args->words, &e, err);
}

/* ---- checkpoints ---- */

static void checkpoint_row(struct table *t, const json_t *o)
{
	const char *name = cli_str(o, "name");

	table_name(t, name, strlen(name));
	table_cell(t, "%s", cli_str(o, "id"));
	table_cell(t, "%s", cli_str(o, "status"));
	table_size(t, cli_num(o, "sizeBytes"));
	table_time(t, cli_str(o, "createdAt"));
}

static const struct listing_key checkpoint_keys[] = {
	{ "name", "name", NULL },
	{ "status", "status", NULL },
	{ 0 },
};

const struct listing checkpoints_listing = {
	.columns = "NAME|ID|STATUS|>SIZE|CREATED",
	.empty = "no checkpoints; 'varve checkpoint SANDBOX NAME' takes one",
	.add_row = checkpoint_row,
	.label = listing_id,
	.keys = checkpoint_keys,
};

int cmd_checkpoints(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *sandbox = NULL, *list = NULL;
	int r = listing_check(cli, args, &checkpoints_listing, err);

	if (r == 0)
		r = sandbox_find(cli, args->words[0], &sandbox, err);
	if (r == 0)
		r = cli_call(cli, "GET", "/api/sandboxes/%s/checkpoints",
			     cli_str(sandbox, "sandboxID"), NULL, &list, err);
	if (r == 0)
		r = listing_print(cli, args, &checkpoints_listing, list);
	json_decref(list);
	json_decref(sandbox);
	return r;
}

/* By its name, or by its id or the start of it. */
static int find_checkpoint(const json_t *list, const char *word, json_t **out, struct error *err)
{
	json_t *o;
	size_t i;

	json_array_foreach(list, i, o) {
		if (strcmp(cli_str(o, "name"), word) == 0) {
			*out = o;
			return 0;
		}
	}
	return id_match(list, "id", "", word, "checkpoint of it", out, err);
}

int cmd_restore(struct cli *cli, const struct args *args, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	json_t *sandbox = NULL, *list = NULL, *o;
	int r = sandbox_find(cli, args->words[0], &sandbox, err);
	const char *id = cli_str(sandbox, "sandboxID");

	if (r == 0)
		r = cli_call(cli, "GET", "/api/sandboxes/%s/checkpoints", id, NULL, &list, err);
	if (r == 0)
		r = find_checkpoint(list, args->words[1], &o, err);
	if (r == 0) {
		r = client_path(&path, "/api/sandboxes/%s/checkpoints/%s/restore", id,
				cli_str(o, "id"));
		if (r < 0 || !buf_cstr(&path))
			r = -ENOMEM;
		else
			r = client_call(cli_client(cli, err), "POST", (const char *)path.data, NULL,
					NULL, err);
	}
	json_decref(list);
	json_decref(sandbox);
	return r;
}
