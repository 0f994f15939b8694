/* cmd_snapshot.c - commands on snapshots' records. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/bytes_json.h"
#include "tools/commands/commands.h"
#include "tools/commands/remote_list.h"
#include "tools/cli/each.h"
#include "tools/cli/mount_ref.h"
#include "tools/cli/remote_ref.h"
#include "tools/cli/snapshots_view.h"
#include "tools/cli/text.h"

/* How many mounts and sandboxes of a deleted snapshot rm names. */
#define USERS_TOLD 5

static int list(struct cli *cli, const struct args *args, const char *fmt, const char *name,
		struct error *err)
{
	json_t *found = NULL;
	int r = listing_check(cli, args, &snapshots_listing, err);

	if (r == 0)
		r = cli_call(cli, "GET", fmt, name, NULL, &found, err);
	if (r == 0)
		r = listing_print(cli, args, &snapshots_listing, found);
	json_decref(found);
	return r;
}

int cmd_snapshots(struct cli *cli, const struct args *args, struct error *err)
{
	if (args_has(args, "remote"))
		return remote_list_print(cli, args, err);
	return list(cli, args, "/api/snapshots", NULL, err);
}

static int get_one(struct cli *cli, const char *word, void *arg, json_t **out, struct error *err)
{
	(void)arg;
	return cli_snapshot(cli, word, out, err);
}

int cmd_show(struct cli *cli, const struct args *args, struct error *err)
{
	return snapshots_show(cli, args->words, get_one, err);
}

int cmd_history(struct cli *cli, const struct args *args, struct error *err)
{
	return list(cli, args, "/api/snapshots/%s/history", args->words[0], err);
}

/* PATCH a snapshot; *out is what it is then. */
static int patch_one(struct cli *cli, const char *word, void *change, json_t **out,
		     struct error *err)
{
	return cli_call(cli, "PATCH", "/api/snapshots/%s", word, change, out, err);
}

/* Takes `change`. */
static int patch(struct cli *cli, const char *command, char *const *words, json_t *change,
		 struct error *err)
{
	const struct each e = { .command = command, .one = patch_one, .arg = change };
	int r = change ? each_run(cli, words, &e, err) : -ENOMEM;

	json_decref(change);
	return r;
}

int cmd_rename(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *change = json_pack("{s:s}", "name", args->words[1]);
	char *const words[] = { args->words[0], NULL };

	if (!change)
		return cli_usage(err, "the new name is not UTF-8");
	return patch(cli, "rename", words, change, err);
}

/* Which mounts and sandboxes keep what the snapshot `id`, which is deleted, has. */
static void tell_users(struct cli *cli, const char *word, const char *id)
{
	struct error ignored = ERROR_INIT;
	json_t *mounts = NULL, *m;
	const char *dir = NULL;
	size_t i, n = 0;

	if ((!cli_is_remote(cli) && cli_state_dir(cli, &dir, &ignored) < 0) ||
	    cli_call(cli, "GET", "/api/mounts", NULL, NULL, &mounts, &ignored) < 0)
		return;
	json_array_foreach(mounts, i, m) {
		CLEANUP(buf_fini_p) struct buf at = BUF_INIT;
		char *own = dir ? mount_own_place(dir, m) : NULL;
		const char *sandboxes = "sandboxes/";

		if (strcmp(cli_str(m, "snapshotId"), id) == 0 && n++ < USERS_TOLD) {
			if (own && strncmp(own, sandboxes, strlen(sandboxes)) == 0)
				cli_tell("%s: the sandbox %.*s still uses its space", word,
					 (int)strcspn(own + strlen(sandboxes), "/"),
					 own + strlen(sandboxes));
			else if (bytes_json_get(m, "mountpoint", &at) == 0 && buf_cstr(&at))
				cli_tell("%s: the mount %.8s (%s) still uses its space", word,
					 cli_str(m, "id"), (const char *)at.data);
		}
		free(own);
	}
	if (n > USERS_TOLD)
		cli_tell("%s: and so do %zu more", word, n - USERS_TOLD);
	json_decref(mounts);
}

static int rm_one(struct cli *cli, const char *word, void *arg, json_t **out, struct error *err)
{
	struct error ignored = ERROR_INIT;
	json_t *snap = NULL;
	int r;

	(void)arg;
	if (remote_ref_is(word)) {
		r = remote_list_remove(cli, word, err);
	} else {
		/* Its id cannot be asked for afterwards. */
		if (!cli->json && cli_snapshot(cli, word, &snap, &ignored) < 0)
			snap = NULL;
		r = cli_call(cli, "DELETE", "/api/snapshots/%s", word, NULL, NULL, err);
	}
	if (r == 0 && snap)
		tell_users(cli, word, cli_str(snap, "id"));
	json_decref(snap);
	if (r == 0 && !(*out = bytes_json(word, strlen(word))))
		r = -ENOMEM;
	return r;
}

int cmd_rm(struct cli *cli, const struct args *args, struct error *err)
{
	const struct each e = { .command = "rm", .one = rm_one, .list = true };

	return each_run(cli, args->words, &e, err);
}

const struct option_spec options_pin[] = {
	{ 0, "unpin", NULL, "take the protection away" },
	{ 0, "ttl", "DURATION",
	  "unpin, and expire when unused that long (30m, 12h, 7d; 0: never)" },
	{ 0 },
};

int cmd_pin(struct cli *cli, const struct args *args, struct error *err)
{
	const char *ttl = args_get(args, "ttl");
	bool pinned = !args_has(args, "unpin") && !ttl;
	int64_t seconds = 0;

	if (ttl && text_parse_duration(ttl, &seconds) < 0)
		return cli_usage(err, "'%s' is no duration: 30m, 12h, 7d", ttl);
	json_t *change = json_pack("{s:b}", "pinned", pinned);
	if (change && ttl)
		json_object_set_new(change, "ttl", json_integer(seconds));
	return patch(cli, "pin", args->words, change, err);
}
