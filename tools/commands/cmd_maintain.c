/* cmd_maintain.c - gc, verify, stats: work on the store as a whole. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/base/bytes_json.h"
#include "tools/commands/commands.h"
#include "tools/commands/remote_care.h"
#include "tools/cli/progress_bar.h"
#include "tools/cli/text.h"
#include "tools/cli/verify_view.h"

const struct option_spec options_gc[] = {
	{ 0, "no-compact", NULL, "leave it to the database when to give the space back" },
	{ 0, "recompress", NULL, "then store chunks anew, compressed as well as may be (slow)" },
	{ 0, "remote", "REMOTE", "of this remote's bucket instead" },
	{ 'n', "dry-run", NULL, "only say what is garbage" },
	{ 0, "grace", "DURATION", "--remote: keep what was deleted for so long (24h)" },
	{ 0, "push-timeout", "DURATION",
	  "--remote: end pushes that show no sign of life for so long (1h)" },
	{ 0 },
};

static void gc_event(void *arg, const char *type, const json_t *data)
{
	if (strcmp(type, "progress") == 0)
		progress_bar_update_json(arg, data);
}

/* What a dry run has found. */
static int print_garbage(const json_t *o)
{
	unsigned long long expired = cli_num(o, "expiredSnapshots");
	char size[TEXT_SIZE_MAX];

	text_size(cli_num(o, "garbageBytes"), size);
	if (expired)
		printf("%llu snapshot%s whose time is up would be deleted\n", expired,
		       expired == 1 ? "" : "s");
	printf("%llu chunks and %llu nodes with %s would be removed\n",
	       (unsigned long long)cli_num(o, "garbageChunks"),
	       (unsigned long long)cli_num(o, "garbageNodes"), size);
	return 0;
}

static int store_gc(struct cli *cli, const struct args *args, struct error *err)
{
	struct progress_bar bar;
	struct client *c = cli_client(cli, err);
	const bool dry_run = args_has(args, "dry-run");
	json_t *o = NULL, *body = json_pack("{s:b, s:b}", "compact", !args_has(args, "no-compact"),
					    "recompress", args_has(args, "recompress"));
	struct client_request rq = { .method = "POST",
				     .path = "/api/gc",
				     .body = body,
				     .on_event = gc_event,
				     .on_again = client_again,
				     .arg = &bar };

	int r = !c ? err->code : !body ? -ENOMEM : 0;
	/* Only where it is asked for: a daemon that does not know it refuses it. */
	if (r == 0 && dry_run && json_object_set_new(body, "dryRun", json_true()))
		r = -ENOMEM;
	progress_bar_init(&bar);
	if (r == 0)
		r = client_run(c, &rq, &o, err);
	progress_bar_fini(&bar);
	if (r == 0)
		r = cli->json ? cli_print_json(o)
		    : dry_run ? print_garbage(o)
			      : cli_print_fields(o);
	json_decref(o);
	json_decref(body);
	return r;
}

int cmd_gc(struct cli *cli, const struct args *args, struct error *err)
{
	if (args_has(args, "remote"))
		return remote_gc(cli, args, err);
	if (args_has(args, "grace") || args_has(args, "push-timeout"))
		return cli_usage(err, "--grace and --push-timeout go with --remote");
	if (args_has(args, "dry-run") &&
	    (args_has(args, "no-compact") || args_has(args, "recompress")))
		return cli_usage(err, "--dry-run goes without --no-compact and --recompress");
	return store_gc(cli, args, err);
}

/* ---- verify ---- */

/* A problem in the daemon's words: a path may be any bytes. */
static void verify_told(struct verify_view *v, const json_t *o)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;

	if (bytes_json_get(o, "path", &path) < 0)
		buf_clear(&path);
	const char *s = buf_cstr(&path);
	verify_view_problem(v, cli_str(o, "snapshot"), s ? s : "", cli_str(o, "problem"));
}

static void verify_event(void *arg, const char *type, const json_t *data)
{
	struct verify_view *v = arg;

	if (strcmp(type, "progress") == 0)
		progress_bar_update_json(&v->bar, data);
	else if (strcmp(type, "problem") == 0)
		verify_told(v, data);
}

static int verify_store(struct cli *cli, const char *name, struct verify_view *v, json_t **out,
			struct error *err)
{
	struct client *c = cli_client(cli, err);
	json_t *body = json_object();
	struct client_request rq = { .method = "POST",
				     .path = "/api/verify",
				     .body = body,
				     .on_event = verify_event,
				     .arg = v };
	int r = !c ? err->code : !body ? -ENOMEM : 0;

	if (r == 0 && name)
		r = json_object_set_new(body, "snapshot", bytes_json(name, strlen(name))) ? -ENOMEM
											  : 0;
	if (r == 0)
		r = client_run(c, &rq, out, err);
	json_decref(body);
	return r;
}

int cmd_verify(struct cli *cli, const struct args *args, struct error *err)
{
	const char *name = args->count ? args->words[0] : NULL;
	struct verify_view v;
	json_t *o = NULL, *problem;
	size_t i;
	int r;

	if (args_has(args, "remote"))
		return remote_verify(cli, args, err);
	if (args_has(args, "deep"))
		return cli_usage(err, "--deep goes with --remote: in the store all bytes are read");
	r = verify_view_begin(&v, cli);

	if (r == 0)
		r = verify_store(cli, name, &v, &o, err);
	/* A daemon may tell them one by one, or with the result. */
	if (r == 0 && v.count == 0)
		json_array_foreach(json_object_get(o, "problems"), i, problem)
			verify_event(&v, "problem", problem);
	if (r == 0 && json_is_array(json_object_get(o, "problems")))
		json_object_del(o, "problems");
	r = verify_view_end(&v, r, o);
	json_decref(o);
	return r;
}

/* ---- stats ---- */

int cmd_stats(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *o = NULL;
	int r = cli_call(cli, "GET", "/api/stats", NULL, NULL, &o, err);

	(void)args;
	if (r == 0)
		r = cli->json ? cli_print_json(o) : cli_print_fields(o);
	json_decref(o);
	return r;
}
