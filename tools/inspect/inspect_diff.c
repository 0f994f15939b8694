/* inspect_diff.c - diff of two snapshots of a store. */
#include <errno.h>
#include <string.h>

#include "store/base/bytes_json.h"
#include "store/diff/fsdiff.h"
#include "tools/cli/diff_view.h"
#include "tools/inspect/inspect.h"
#include "tools/inspect/inspect_commands.h"
#include "tools/inspect/inspect_json.h"

struct local {
	const struct cli *cli;
	struct json_stream json;
};

/* As the API does: a path begins with a slash. The root's own comes with it. */
static const char *slash_before(const char *path)
{
	return path[0] == '/' ? "" : "/";
}

static int set_path(json_t *o, const char *key, const char *path)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;

	if (buf_printf(&b, "%s%s", slash_before(path), path) < 0)
		return -ENOMEM;
	return bytes_json_set(o, key, (const char *)b.data, b.len);
}

static int local_entry(void *arg, const struct fsdiff_entry *e)
{
	struct local *l = arg;
	const char *change = fsdiff_change_name(e->change);

	struct diff_line line = { .change = change,
				  .prefix = slash_before(e->path),
				  .path = e->path,
				  .len = strlen(e->path),
				  .from = e->from,
				  .from_len = e->from ? strlen(e->from) : 0 };

	if (!l->cli->json)
		return e->change == DIFF_OMITTED ? diff_omitted_print(&line, e->count)
						 : diff_line_print(&line);
	json_t *o = json_pack("{s:s, s:I}", "change", change, "mode", (json_int_t)e->mode);
	if (!o ||
	    (e->count && json_object_set_new(o, "count", json_integer((json_int_t)e->count)) < 0) ||
	    set_path(o, "path", e->path) < 0 || (e->from && set_path(o, "from", e->from) < 0)) {
		json_decref(o);
		return -ENOMEM;
	}
	return json_stream_add(&l->json, o);
}

static int diff_local(struct cli *cli, const char *a, const char *b, struct error *err)
{
	struct local l = { .cli = cli };
	struct inspect first, second;
	int r = inspect_open(cli, a, false, &first, err);

	if (r < 0)
		return r;
	r = inspect_open(cli, b, false, &second, err);
	if (r == 0) {
		r = fsdiff_trees(&first.fs, &second.fs, local_entry, &l);
		if (r < 0)
			inspect_failure(r, err, "comparing");
		else if (cli->json)
			r = json_stream_end(&l.json);
		inspect_close(&second);
	}
	inspect_close(&first);
	return r;
}

int inspect_diff(struct cli *cli, const struct args *args, struct error *err)
{
	if (args->count < 2)
		return cli_usage(err, "needs two snapshots with --store");
	return diff_local(cli, args->words[0], args->words[1], err);
}
