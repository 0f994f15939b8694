/* cmd_maintain.c - gc, verify, stats: work on the store as a whole. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/base/bytes_json.h"
#include "store/store.h"
#include "store/gc/verify.h"
#include "tools/commands/commands.h"
#include "tools/cli/progress_bar.h"

const struct option_spec options_gc[] = {
	{ 0, "no-compact", NULL, "leave it to the database when to give the space back" },
	{ 0, "recompress", NULL, "then store chunks anew, compressed as well as may be (slow)" },
	{ 0 },
};

static void gc_event(void *arg, const char *type, const json_t *data)
{
	if (strcmp(type, "progress") == 0)
		progress_bar_update_json(arg, data);
}

int cmd_gc(struct cli *cli, const struct args *args, struct error *err)
{
	struct progress_bar bar;
	struct client *c = cli_client(cli, err);
	json_t *o = NULL, *body = json_pack("{s:b, s:b}", "compact", !args_has(args, "no-compact"),
					    "recompress", args_has(args, "recompress"));
	struct client_request rq = {
		.method = "POST", .path = "/api/gc", .body = body, .on_event = gc_event, .arg = &bar
	};

	progress_bar_init(&bar);
	int r = !c ? err->code : !body ? -ENOMEM : client_run(c, &rq, &o, err);
	progress_bar_fini(&bar);
	if (r == 0)
		r = cli->json ? cli_print_json(o) : cli_print_fields(o);
	json_decref(o);
	json_decref(body);
	return r;
}

/* ---- verify ---- */

struct verify {
	const struct cli *cli;
	struct progress_bar bar;
	json_t *problems; /* kept for --json only */
	uint64_t count;
};

static void show_part(const char *s, const char *behind)
{
	if (cli_print_name(s, strlen(s)) == 0)
		fputs(behind, stdout);
}

static void verify_problem(struct verify *v, const char *snapshot, const char *path,
			   const char *problem)
{
	v->count++;
	if (v->cli->json) {
		json_t *o = json_object();
		if (o && bytes_json_set(o, "snapshot", snapshot, strlen(snapshot)) == 0 &&
		    bytes_json_set(o, "path", path, strlen(path)) == 0 &&
		    bytes_json_set(o, "problem", problem, strlen(problem)) == 0)
			json_array_append(v->problems, o);
		json_decref(o);
		return;
	}
	progress_bar_fini(&v->bar);
	if (*snapshot)
		show_part(snapshot, *path ? ":" : ": ");
	if (*path)
		show_part(path, ": ");
	show_part(problem, "\n");
}

/* A problem in the daemon's words: a path may be any bytes. */
static void verify_told(struct verify *v, const json_t *o)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;

	if (bytes_json_get(o, "path", &path) < 0)
		buf_clear(&path);
	const char *s = buf_cstr(&path);
	verify_problem(v, cli_str(o, "snapshot"), s ? s : "", cli_str(o, "problem"));
}

static void verify_event(void *arg, const char *type, const json_t *data)
{
	struct verify *v = arg;

	if (strcmp(type, "progress") == 0)
		progress_bar_update_json(&v->bar, data);
	else if (strcmp(type, "problem") == 0)
		verify_told(v, data);
}

static void verify_report(void *arg, const char *snapshot, const char *path, const char *problem)
{
	verify_problem(arg, snapshot, path, problem);
}

static int verify_local(struct cli *cli, const char *name, struct verify *v, json_t **out,
			struct error *err)
{
	struct progress p = progress_bar_hook(&v->bar);
	struct verify_result res = { 0 };
	struct store *s;
	int r = cli_store(cli, &s, err);

	if (r == 0)
		r = verify_run(s, name, &p, verify_report, v, &res, err);
	if (r < 0)
		return r;
	*out = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "snapshots",
			 (json_int_t)res.snapshots, "trees", (json_int_t)res.trees, "nodes",
			 (json_int_t)res.nodes, "chunks", (json_int_t)res.chunks, "rawBytes",
			 (json_int_t)res.raw_bytes, "storedBytes", (json_int_t)res.stored_bytes,
			 "damaged", (json_int_t)res.damaged);
	return *out ? 0 : -ENOMEM;
}

static int verify_remote(struct cli *cli, const char *name, struct verify *v, json_t **out,
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

/* The result's counts; the problems stand above it, or inside it as JSON. */
static int verify_print(struct verify *v, json_t *o)
{
	json_t *told = json_object_get(o, "problems"), *e;
	size_t i;

	/* A daemon may tell them one by one, or with the result. */
	if (v->count == 0)
		json_array_foreach(told, i, e)
			verify_event(v, "problem", e);
	if (v->cli->json) {
		json_object_set(o, "problems", v->problems);
		return cli_print_json(o);
	}
	if (json_is_array(json_object_get(o, "problems")))
		json_object_del(o, "problems");
	return cli_print_fields(o);
}

int cmd_verify(struct cli *cli, const struct args *args, struct error *err)
{
	const char *name = args->count ? args->words[0] : NULL;
	struct verify v = { .cli = cli, .problems = json_array() };
	json_t *o = NULL;
	int r;

	progress_bar_init(&v.bar);
	if (!v.problems)
		r = -ENOMEM;
	else if (cli->store_dir)
		r = verify_local(cli, name, &v, &o, err);
	else
		r = verify_remote(cli, name, &v, &o, err);
	progress_bar_fini(&v.bar);
	if (r == 0)
		r = verify_print(&v, o);
	if (r == 0 && (v.count || cli_num(o, "damaged")))
		r = CLI_FAILED;
	json_decref(v.problems);
	json_decref(o);
	return r;
}

/* ---- stats ---- */

static int stats_local(struct cli *cli, json_t **out, struct error *err)
{
	struct store_stats st = { 0 };
	struct store *s;
	int r = cli_store(cli, &s, err);

	if (r == 0)
		r = store_stats(s, &st, err);
	if (r < 0)
		return r;
	*out = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "snapshotCount",
			 (json_int_t)st.snapshot_count, "logicalBytes",
			 (json_int_t)st.logical_bytes, "uniqueBytes", (json_int_t)st.unique_bytes,
			 "storedBytes", (json_int_t)st.stored_bytes, "chunkCount",
			 (json_int_t)st.chunk_count, "nodeCount", (json_int_t)st.node_count);
	return *out ? 0 : -ENOMEM;
}

int cmd_stats(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *o = NULL;
	int r = cli->store_dir ? stats_local(cli, &o, err)
			       : cli_call(cli, "GET", "/api/stats", NULL, NULL, &o, err);

	(void)args;
	if (r == 0)
		r = cli->json ? cli_print_json(o) : cli_print_fields(o);
	json_decref(o);
	return r;
}
