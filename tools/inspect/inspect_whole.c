/* inspect_whole.c - verify and stats of a store as a whole. */
#include <errno.h>

#include "store/gc/verify.h"
#include "store/store.h"
#include "tools/cli/verify_view.h"
#include "tools/inspect/inspect_commands.h"

static void verify_report(void *arg, const char *snapshot, const char *path, const char *problem)
{
	verify_view_problem(arg, snapshot, path, problem);
}

static int verify_local(struct cli *cli, const char *name, struct verify_view *v, json_t **out,
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
	*out = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "snapshots",
			 (json_int_t)res.snapshots, "trees", (json_int_t)res.trees, "nodes",
			 (json_int_t)res.nodes, "chunks", (json_int_t)res.chunks, "rawBytes",
			 (json_int_t)res.raw_bytes, "storedBytes", (json_int_t)res.stored_bytes,
			 "farChunks", (json_int_t)res.far_chunks, "damaged",
			 (json_int_t)res.damaged);
	return *out ? 0 : -ENOMEM;
}

int inspect_verify(struct cli *cli, const struct args *args, struct error *err)
{
	struct verify_view v;
	json_t *o = NULL;
	int r;

	if (args_has(args, "remote") || args_has(args, "deep"))
		return error_set(err, -EINVAL,
				 "needs a daemon: a remote cannot be asked on a --store");
	r = verify_view_begin(&v, cli);

	if (r == 0)
		r = verify_local(cli, args->count ? args->words[0] : NULL, &v, &o, err);
	r = verify_view_end(&v, r, o);
	json_decref(o);
	return r;
}

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

int inspect_stats(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *o = NULL;
	int r = stats_local(cli, &o, err);

	(void)args;
	if (r == 0)
		r = cli->json ? cli_print_json(o) : cli_print_fields(o);
	json_decref(o);
	return r;
}
