#include "tools/commands/remote_care.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/cli/progress_bar.h"
#include "tools/cli/text.h"
#include "tools/cli/verify_view.h"

static void on_progress(void *arg, const char *type, const json_t *data)
{
	if (strcmp(type, "progress") == 0)
		progress_bar_update_json(arg, data);
}

/* POST to the remote of --remote; `what` is "gc" or "verify". */
static int post(struct cli *cli, const struct args *args, const char *what, json_t *body,
		json_t **out, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	struct client *c = cli_client(cli, err);
	struct progress_bar bar;
	struct client_request rq = { .method = "POST",
				     .body = body,
				     .on_event = on_progress,
				     .on_again = client_again,
				     .arg = &bar };
	int r;

	if (!c)
		return err->code;
	if (client_path(&path, "/api/remotes/%s", args_get(args, "remote")) < 0 ||
	    buf_printf(&path, "/%s", what) < 0)
		return -ENOMEM;
	rq.path = buf_cstr(&path);
	if (!rq.path)
		return -ENOMEM;
	progress_bar_init(&bar);
	r = client_run(c, &rq, out, err);
	progress_bar_fini(&bar);
	return r;
}

/* ---- gc ---- */

int remote_set_seconds(json_t *body, const struct args *args, const char *option,
		       const char *member, struct error *err)
{
	const char *text = args_get(args, option);
	int64_t seconds;

	if (!text)
		return 0;
	if (text_parse_duration(text, &seconds) < 0)
		return cli_usage(err, "'%s' is no duration: 0, 30m, 12h, 7d", text);
	return json_object_set_new(body, member, json_integer(seconds)) ? -ENOMEM : 0;
}

/* Packs that were mostly garbage. */
static void print_repacked(const json_t *o)
{
	bool dry_run = cli_flag(o, "dryRun");
	unsigned long long packs = cli_num(o, dry_run ? "sparsePacks" : "repackedPacks");
	char size[TEXT_SIZE_MAX], now[TEXT_SIZE_MAX];

	if (!packs)
		return;
	text_size(cli_num(o, dry_run ? "sparseBytes" : "repackedBytes"), size);
	text_size(cli_num(o, "rewrittenBytes"), now);
	if (dry_run)
		printf("%llu packs with %s would be rewritten\n", packs, size);
	else
		printf("%llu packs with %s rewritten as %s\n", packs, size, now);
}

static int print_collected(const struct cli *cli, const json_t *o)
{
	char all[TEXT_SIZE_MAX], size[TEXT_SIZE_MAX];
	unsigned long long ended = cli_num(o, "endedPushes");

	if (cli->json)
		return cli_print_json(o);
	text_size(cli_num(o, "bytes"), all);
	printf("%llu snapshots, %llu packs with %s\n", (unsigned long long)cli_num(o, "snapshots"),
	       (unsigned long long)cli_num(o, "packs"), all);
	text_size(cli_num(o, cli_flag(o, "dryRun") ? "garbageBytes" : "removedBytes"), size);
	printf("%llu packs with %s %s\n",
	       (unsigned long long)cli_num(o,
					   cli_flag(o, "dryRun") ? "garbagePacks" : "removedPacks"),
	       size, cli_flag(o, "dryRun") ? "would be removed" : "removed");
	print_repacked(o);
	if (ended)
		printf("%llu pushes showed no sign of life and were ended\n", ended);
	return 0;
}

int remote_gc(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *o = NULL, *body;
	int r;

	if (args_has(args, "no-compact") || args_has(args, "recompress"))
		return cli_usage(err, "--no-compact and --recompress go with the store, not with "
				      "--remote");
	body = json_pack("{s:b}", "dryRun", args_has(args, "dry-run"));
	r = body ? remote_set_seconds(body, args, "grace", "graceSeconds", err) : -ENOMEM;
	if (r == 0)
		r = remote_set_seconds(body, args, "push-timeout", "pushSeconds", err);
	if (r == 0)
		r = post(cli, args, "gc", body, &o, err);
	if (r == 0)
		r = print_collected(cli, o);
	json_decref(o);
	json_decref(body);
	return r;
}

/* ---- verify ---- */

static int print_verified(struct cli *cli, json_t *o)
{
	const json_t *problem;
	size_t i;
	int r = 0;

	if (!cli->json) {
		json_array_foreach(json_object_get(o, "problems"), i, problem)
			printf("%s: %s\n", cli_str(problem, "key"), cli_str(problem, "problem"));
		json_object_del(o, "problems");
	}
	r = cli->json ? cli_print_json(o) : cli_print_fields(o);
	return r == 0 && (cli_num(o, "damaged") || cli_num(o, "unchecked")) ? CLI_FAILED : r;
}

int remote_verify(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *o = NULL, *body;
	int r;

	if (args->count)
		return cli_usage(err, "--remote takes no SNAPSHOT: all of the remote is checked");
	body = json_pack("{s:b}", "deep", args_has(args, "deep"));
	r = body ? post(cli, args, "verify", body, &o, err) : -ENOMEM;
	if (r == 0)
		r = print_verified(cli, o);
	json_decref(o);
	json_decref(body);
	return r;
}
