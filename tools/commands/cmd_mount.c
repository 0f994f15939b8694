/* cmd_mount.c - mount, umount, attach, discard, mounts. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/base/bytes_json.h"
#include "tools/commands/commands.h"
#include "tools/cli/each.h"
#include "tools/cli/listing.h"
#include "tools/cli/mount_ref.h"
#include "tools/cli/remote_ref.h"
#include "tools/cli/table.h"
#include "tools/cli/text.h"

const struct option_spec options_mount[] = {
	{ 'r', "read-only", NULL, "refuse writes" },
	{ 0, "cache", "private|shared", "one page cache a mount (default), or one of all" },
	{ 0, "volatile", NULL, "fsync does nothing: for throw-away work" },
	{ 0, "quota", "SIZE", "limit on what may be written: 500M, 10G" },
	{ 0, "inodes", "N", "limit on files, directories and the like that may be made" },
	{ 0, "dev", NULL, "device nodes work" },
	{ 0, "suid", NULL, "setuid and setgid programs work" },
	{ 0, "noexec", NULL, "no program can be run from it" },
	{ 'f', "force", NULL, "also over a directory that is not empty" },
	{ 0 },
};

const struct option_spec options_umount[] = {
	{ 0, "discard", NULL, "delete what was written" },
	{ 'l', "lazy", NULL, "also where files are in use: it vanishes once they are closed" },
	{ 'f', "force", NULL, "cut off whoever still has it" },
	{ 0 },
};

const struct option_spec options_discard[] = {
	{ 'f', "force", NULL, "cut off whoever still has it" },
	{ 0 },
};

const struct option_spec options_attach[] = {
	{ 'f', "force", NULL, "also at a DIR that is not empty; what is in it is hidden" },
	{ 0 },
};

const struct option_spec options_mounts[] = {
	{ 'a', "all", NULL, "also those of sandboxes and builds" },
	LISTING_QUIET,
	LISTING_FILTER("snapshot, state, mode (ro, rw) or mountpoint"),
	{ 0 },
};

/* The real path of a directory that is to be mounted upon: a new string. */
static int directory_for_mount(struct cli *cli, const char *dir, char **out, struct error *err)
{
	struct stat st;
	char *path = NULL;

	if (cli_is_remote(cli)) /* the daemon looks for it */
		return cli_daemon_path(cli, dir, out, err);
	if (stat(dir, &st) < 0)
		return error_set_errno(err, -errno, "the directory %s", dir);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, -ENOTDIR, "%s is not a directory", dir);
	path = realpath(dir, NULL);
	if (!path)
		return error_set_errno(err, -errno, "%s", dir);
	int r = cli_json_path(path, out, err);
	free(path);
	return r;
}

/* Members are set only where asked for; the daemon has the defaults. */
static int mount_options_json(const struct args *args, json_t *o, struct error *err)
{
	static const struct {
		const char *option, *member;
	} flags[] = { { "read-only", "readOnly" }, { "volatile", "volatile" },
		      { "dev", "allowDev" },	   { "suid", "allowSuid" },
		      { "noexec", "noExec" },	   { "force", "force" } };
	const char *cache = args_get(args, "cache"), *quota = args_get(args, "quota"),
		   *inodes = args_get(args, "inodes");
	uint64_t bytes, n;
	int failed = 0;

	if (quota) {
		if (text_parse_size(quota, &bytes) < 0 || bytes > INT64_MAX)
			return cli_usage(err, "'%s' is no size: 500M, 10G", quota);
		failed |= json_object_set_new(o, "quotaBytes", json_integer((json_int_t)bytes));
	}
	if (inodes) {
		if (text_parse_count(inodes, &n) < 0 || n > INT64_MAX)
			return cli_usage(err, "'%s' is no number of inodes", inodes);
		failed |= json_object_set_new(o, "quotaInodes", json_integer((json_int_t)n));
	}
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (args_has(args, flags[i].option))
			failed |= json_object_set_new(o, flags[i].member, json_true());
	if (cache)
		failed |= json_object_set_new(o, "cache", json_string(cache));
	return failed ? -ENOMEM : 0;
}

static int print_mount(const struct cli *cli, const json_t *m)
{
	if (cli->json)
		return cli_print_json(m);
	printf("%s  ", cli_str(m, "id"));
	int r = cli_print_json_name(m, "mountpoint");
	putchar('\n');
	return r;
}

/* POST `body` with a mountpoint and the options added, and print the mount. Takes body. */
static int make_mount(struct cli *cli, const struct args *args, const char *fmt, const char *arg,
		      json_t *body, struct error *err)
{
	char *dir = NULL;
	json_t *m = NULL;
	int r = body ? directory_for_mount(cli, args->words[1], &dir, err) : -ENOMEM;

	if (r == 0)
		r = json_object_set_new(body, "mountpoint", json_string(dir)) ? -ENOMEM : 0;
	if (r == 0)
		r = mount_options_json(args, body, err);
	if (r == 0)
		r = cli_call(cli, "POST", fmt, arg, body, &m, err);
	if (r == 0)
		r = print_mount(cli, m);
	json_decref(m);
	json_decref(body);
	free(dir);
	return r;
}

int cmd_mount(struct cli *cli, const struct args *args, struct error *err)
{
	char *snapshot = NULL;
	int r = remote_ref_resolve(cli, args->words[0], &snapshot, err);
	json_t *body = r == 0 ? json_object() : NULL;

	if (r < 0)
		return r;
	if (body)
		json_object_set_new(body, "snapshot", bytes_json(snapshot, strlen(snapshot)));
	free(snapshot);
	return make_mount(cli, args, "/api/mounts", NULL, body, err);
}

int cmd_fork(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *source = NULL;
	bool is_mount;
	int r = mount_or_snapshot(cli, args->words[0], &source, &is_mount, err);

	if (r < 0)
		return r;
	const char *id = cli_str(source, "id");
	if (is_mount)
		r = make_mount(cli, args, "/api/mounts/%s/fork", id, json_object(), err);
	else
		r = make_mount(cli, args, "/api/mounts", NULL, json_pack("{s:s}", "snapshot", id),
			       err);
	json_decref(source);
	return r;
}

enum delete_flags { DELETE_DISCARD = 1, DELETE_LAZY = 2, DELETE_FORCE = 4 };

static int delete_mount(struct cli *cli, const json_t *m, unsigned flags, struct error *err)
{
	char path[96];

	snprintf(path, sizeof(path), "/api/mounts/%%s?discard=%d&lazy=%d&force=%d",
		 !!(flags & DELETE_DISCARD), !!(flags & DELETE_LAZY), !!(flags & DELETE_FORCE));
	return cli_call(cli, "DELETE", path, cli_str(m, "id"), NULL, NULL, err);
}

/* What the unmounted mount holds, and what can be done with it. */
static void tell_kept(struct cli *cli, const json_t *m)
{
	struct error ignored = ERROR_INIT;
	char size[TEXT_SIZE_MAX];
	json_t *now = NULL;

	/* Anew: what the kernel had not written yet is counted now. */
	if (cli_call(cli, "GET", "/api/mounts/%s", cli_str(m, "id"), NULL, &now, &ignored) < 0)
		return;
	uint64_t changed = cli_num(now, "changedInodes");
	const char *id = cli_str(now, "id");

	text_size(cli_num(now, "upperBytes"), size);
	if (changed)
		cli_tell("kept %llu changed file%s (%s)", (unsigned long long)changed,
			 changed == 1 ? "" : "s", size);
	else
		cli_tell("kept; nothing has changed since its snapshot");
	cli_tell("'varve attach %.8s' mounts it again, 'varve discard %.8s' deletes it", id, id);
	json_decref(now);
}

static bool is_held(const json_t *m)
{
	return strcmp(cli_str(m, "status"), "held") == 0;
}

static int umount_one(struct cli *cli, const char *word, void *arg, json_t **out, struct error *err)
{
	const unsigned flags = *(const unsigned *)arg;
	json_t *m = NULL;
	int r = mount_find(cli, word, &m, err);

	(void)out;
	if (r == 0 && !cli_flag(m, "attached") && !is_held(m))
		r = error_set(err, -EINVAL, "it is not mounted; 'varve %s %.8s' would %s",
			      flags & DELETE_DISCARD ? "discard" : "attach", cli_str(m, "id"),
			      flags & DELETE_DISCARD ? "delete what it holds" : "mount it again");
	if (r == 0)
		r = delete_mount(cli, m, flags, err);
	if (r == 0 && !cli->json && !(flags & DELETE_DISCARD))
		tell_kept(cli, m);
	json_decref(m);
	return r;
}

int cmd_umount(struct cli *cli, const struct args *args, struct error *err)
{
	unsigned flags = (args_has(args, "discard") ? DELETE_DISCARD : 0) |
			 (args_has(args, "lazy") ? DELETE_LAZY : 0) |
			 (args_has(args, "force") ? DELETE_FORCE : 0);
	const struct each e = { .command = "umount", .one = umount_one, .arg = &flags };

	return each_run(cli, args->words, &e, err);
}

static int discard_one(struct cli *cli, const char *word, void *arg, json_t **out,
		       struct error *err)
{
	json_t *m = NULL;
	int r = mount_find(cli, word, &m, err);

	(void)out;
	if (r == 0 && cli_flag(m, "attached"))
		r = error_set(err, -EBUSY, "it is mounted at %s: use 'varve umount --discard'",
			      cli_str(m, "mountpoint"));
	if (r == 0)
		r = delete_mount(cli, m, *(const unsigned *)arg, err);
	json_decref(m);
	return r;
}

int cmd_discard(struct cli *cli, const struct args *args, struct error *err)
{
	unsigned flags = DELETE_DISCARD | (args_has(args, "force") ? DELETE_FORCE : 0);
	const struct each e = { .command = "discard", .one = discard_one, .arg = &flags };

	return each_run(cli, args->words, &e, err);
}

int cmd_attach(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *m = NULL, *o = NULL, *body = json_object();
	char *dir = NULL;
	int r = body ? mount_find(cli, args->words[0], &m, err) : -ENOMEM;

	if (r == 0 && args_has(args, "force") && json_object_set_new(body, "force", json_true()))
		r = -ENOMEM;
	if (r == 0 && args->count > 1) {
		r = directory_for_mount(cli, args->words[1], &dir, err);
		if (r == 0)
			r = json_object_set_new(body, "mountpoint", json_string(dir)) ? -ENOMEM : 0;
	}
	if (r == 0)
		r = cli_call(cli, "POST", "/api/mounts/%s/attach", cli_str(m, "id"), body, &o, err);
	if (r == 0)
		r = print_mount(cli, o);
	free(dir);
	json_decref(body);
	json_decref(o);
	json_decref(m);
	return r;
}

static const char *snapshot_of(const json_t *m)
{
	const char *name = cli_str(m, "snapshot");

	if (!*name)
		name = cli_str(m, "snapshotName");
	return *name ? name : cli_str(m, "snapshotId");
}

static const char *state_of(const json_t *m)
{
	return is_held(m)		  ? "held"
	       : !cli_flag(m, "attached") ? "detached"
	       : cli_flag(m, "sealing")	  ? "sealing"
					  : "mounted";
}

static void add_row(struct table *t, const json_t *m)
{
	const char *name = snapshot_of(m), *until = cli_str(m, "discardsAt");

	table_cell(t, "%.8s", cli_str(m, "id"));
	table_name(t, name, strlen(name));
	table_cell(t, "%s%s%s", cli_flag(m, "readOnly") ? "ro" : "rw",
		   cli_flag(m, "volatile") ? ",volatile" : "",
		   strcmp(cli_str(m, "cache"), "shared") == 0 ? ",shared" : "");
	if (*until)
		table_cell(t, "detached until %.10s", until);
	else
		table_cell(t, "%s", state_of(m));
	table_cell(t, "%llu", (unsigned long long)cli_num(m, "changedInodes"));
	table_size(t, cli_num(m, "upperBytes"));
	table_json_name(t, m, "mountpoint", "");
}

static void add_row_of_all(struct table *t, const json_t *m)
{
	add_row(t, m);
	if (cli_num(m, "lastFrozenUs"))
		table_cell(t, "%.1f ms", (double)cli_num(m, "lastFrozenUs") / 1000);
	else
		table_cell(t, "-");
}

static bool snapshot_fits(const json_t *m, const char *pattern)
{
	return listing_fits(snapshot_of(m), pattern);
}

static bool state_fits(const json_t *m, const char *pattern)
{
	return listing_fits(state_of(m), pattern);
}

static bool mode_fits(const json_t *m, const char *pattern)
{
	return listing_fits(cli_flag(m, "readOnly") ? "ro" : "rw", pattern);
}

static const struct listing_key keys[] = {
	{ "snapshot", NULL, snapshot_fits },
	{ "state", NULL, state_fits },
	{ "mode", NULL, mode_fits },
	{ "mountpoint", "mountpoint", NULL },
	{ 0 },
};

const struct listing mounts_listing = {
	.columns = "ID|SNAPSHOT|MODE|STATE|>CHANGED|>WRITTEN|MOUNTPOINT",
	.empty = "no mounts; 'varve mount SNAPSHOT DIR' makes one",
	.add_row = add_row,
	.label = listing_id,
	.keys = keys,
};

int cmd_mounts(struct cli *cli, const struct args *args, struct error *err)
{
	struct listing l = mounts_listing;
	json_t *list = NULL;
	size_t hidden = 0;
	const bool all = args_has(args, "all");
	int r = listing_check(cli, args, &l, err);

	if (r == 0)
		r = cli_call(cli, "GET", "/api/mounts", NULL, NULL, &list, err);
	if (r == 0 && !all)
		r = mounts_hide_own(cli, list, &hidden, err);
	if (all) {
		l.columns = "ID|SNAPSHOT|MODE|STATE|>CHANGED|>WRITTEN|MOUNTPOINT|>FROZEN";
		l.add_row = add_row_of_all;
	}
	if (r == 0)
		r = listing_print(cli, args, &l, list);
	if (r == 0 && hidden && !args_has(args, "quiet"))
		cli_tell("%zu more %s to sandboxes and builds: see 'varve mounts --all'", hidden,
			 hidden == 1 ? "mount belongs" : "mounts belong");
	json_decref(list);
	return r;
}
