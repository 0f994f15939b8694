/*
 * cmd_diff.c - diff: what changed between two snapshots, or in a mount.
 *
 * The daemon compares snapshots with each other, and a mount with its base.
 * A mount and the snapshot that it is based on is that second case. For any
 * other pair, each mount is made a snapshot first, by an unnamed checkpoint.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/base/bytes_json.h"
#include "tools/commands/checkpoint.h"
#include "tools/commands/commands.h"
#include "tools/cli/diff_view.h"
#include "tools/cli/mount_ref.h"

/* ---- output ---- */

static int print_entry(const json_t *e)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	CLEANUP(buf_fini_p) struct buf from = BUF_INIT;
	struct diff_line line = { .change = cli_str(e, "change"), .prefix = "" };
	int r = bytes_json_get(e, "path", &path);

	if (r < 0)
		return r;
	line.path = (const char *)path.data;
	line.len = path.len;
	if (strcmp(line.change, "omitted") == 0)
		return diff_omitted_print(&line, cli_num(e, "count"));
	r = bytes_json_get(e, "from", &from);
	if (r < 0 && r != -ENOENT)
		return r;
	line.from = r == 0 ? (const char *)from.data : NULL;
	line.from_len = from.len;
	return diff_line_print(&line);
}

static int print_diff(const struct cli *cli, const json_t *diff)
{
	json_t *e;
	size_t i;
	int r = 0;

	if (cli->json)
		return cli_print_json(diff);
	json_array_foreach(diff, i, e) {
		r = print_entry(e);
		if (r < 0)
			return r;
	}
	return r;
}

/* ---- by the daemon ---- */

struct side {
	json_t *o; /* SnapshotInfo or mount; owned */
	bool is_mount;
};

static int diff_mount(struct cli *cli, const json_t *m, json_t **out, struct error *err)
{
	return cli_call(cli, "GET", "/api/mounts/%s/diff", cli_str(m, "id"), NULL, out, err);
}

/* Of a checkpoint that nobody asked for: the mount keeps the tree by itself. */
#define CHECKPOINT_TTL_S (30 * 86400)

/* Replace a mount by a checkpoint of it. */
static int need_snapshot(struct cli *cli, struct side *s, struct error *err)
{
	const struct checkpoint_options opt = { .mount_id = cli_str(s->o, "id"),
						.wait = true,
						.ttl_s = CHECKPOINT_TTL_S };
	json_t *o = NULL;

	if (!s->is_mount)
		return 0;
	int r = checkpoint_take(cli, &opt, &o, err);
	if (r < 0)
		return r;
	cli_tell("varve: diff: took the unnamed checkpoint %s of the mount at %s", cli_str(o, "id"),
		 cli_str(s->o, "mountpoint"));
	json_decref(s->o);
	s->o = o;
	s->is_mount = false;
	return 0;
}

static int diff_snapshots(struct cli *cli, const json_t *a, const json_t *b, json_t **out,
			  struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	struct client *c = cli_client(cli, err);

	if (!c)
		return err->code;
	if (client_path(&path, "/api/snapshots/%s/diff/%s", cli_str(a, "id"), cli_str(b, "id")) <
		    0 ||
	    !buf_cstr(&path))
		return -ENOMEM;
	return client_call(c, "GET", (const char *)path.data, NULL, out, err);
}

static bool is_base_of(const json_t *snapshot, const json_t *mount)
{
	const char *root = cli_str(snapshot, "root");

	return *root && strcmp(root, cli_str(mount, "base")) == 0;
}

static int diff_remote(struct cli *cli, const char *a, const char *b, json_t **out,
		       struct error *err)
{
	struct side first = { 0 }, second = { 0 };
	int r = mount_or_snapshot(cli, a, &first.o, &first.is_mount, err);

	if (r == 0)
		r = mount_or_snapshot(cli, b, &second.o, &second.is_mount, err);
	if (r == 0 && !first.is_mount && second.is_mount && is_base_of(first.o, second.o)) {
		r = diff_mount(cli, second.o, out, err);
	} else if (r == 0) {
		r = need_snapshot(cli, &first, err);
		if (r == 0)
			r = need_snapshot(cli, &second, err);
		if (r == 0)
			r = diff_snapshots(cli, first.o, second.o, out, err);
	}
	json_decref(first.o);
	json_decref(second.o);
	return r;
}

static int diff_one(struct cli *cli, const char *word, json_t **out, struct error *err)
{
	json_t *o = NULL;
	bool is_mount = false;
	int r = mount_or_snapshot(cli, word, &o, &is_mount, err);

	if (r == 0 && !is_mount)
		r = cli_usage(err, "'%s' is a snapshot: compare it with another, or a mount", word);
	if (r == 0)
		r = diff_mount(cli, o, out, err);
	json_decref(o);
	return r;
}

int cmd_diff(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *diff = NULL;
	int r;

	r = args->count < 2 ? diff_one(cli, args->words[0], &diff, err)
			    : diff_remote(cli, args->words[0], args->words[1], &diff, err);
	if (r == 0)
		r = print_diff(cli, diff);
	json_decref(diff);
	return r;
}
