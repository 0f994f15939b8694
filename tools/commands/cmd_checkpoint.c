/* cmd_checkpoint.c - checkpoint: a snapshot of a live mount or sandbox. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "store/base/bytes_json.h"
#include "tools/commands/checkpoint.h"
#include "tools/commands/commands.h"
#include "tools/cli/id_ref.h"
#include "tools/cli/mount_ref.h"
#include "tools/cli/snapshots_view.h"
#include "tools/cli/text.h"

#define POLL_MS 100

const struct option_spec options_checkpoint[] = {
	{ 0, "no-wait", NULL, "do not wait until it is stored" },
	{ 0, "freeze", "CGROUP", "freeze this cgroup for the moment that it is taken" },
	{ 0 },
};

/* Wait until *snapshot is no longer being built, replacing it by what it is then. */
static int wait_built(struct cli *cli, json_t **snapshot, struct error *err)
{
	const struct timespec pause = { .tv_nsec = POLL_MS * 1000000L };

	while (strcmp(cli_str(*snapshot, "status"), "building") == 0) {
		json_t *o = NULL;
		nanosleep(&pause, NULL);
		int r = cli_snapshot(cli, cli_str(*snapshot, "id"), &o, err);
		if (r < 0)
			return r;
		json_decref(*snapshot);
		*snapshot = o;
	}
	if (strcmp(cli_str(*snapshot, "status"), "failed") == 0)
		return error_set(err, -EIO, "the checkpoint failed: %s",
				 cli_str(*snapshot, "error"));
	return 0;
}

/* How long programs stood still, which the snapshot's own object does not say. */
static int keep_frozen(json_t *snapshot, uint64_t us)
{
	return json_object_set_new(snapshot, "frozenUs", json_integer((json_int_t)us));
}

static int put_text(json_t *o, const char *name, const char *value)
{
	return json_object_set_new(o, name, bytes_json(value, strlen(value))) ? -ENOMEM : 0;
}

int checkpoint_take(struct cli *cli, const struct checkpoint_options *opt, json_t **out,
		    struct error *err)
{
	json_t *o = NULL,
	       *body = json_pack("{s:b, s:I}", "wait", opt->wait, "ttl", (json_int_t)opt->ttl_s);
	int r = body ? 0 : -ENOMEM;

	if (r == 0 && opt->name)
		r = put_text(body, "name", opt->name);
	if (r == 0 && opt->cgroup)
		r = put_text(body, "freezeCgroup", opt->cgroup);
	if (r == 0)
		r = cli_call(cli, "POST", "/api/mounts/%s/checkpoint", opt->mount_id, body, &o,
			     err);
	const uint64_t frozen_us = r == 0 ? cli_num(o, "frozenUs") : 0;

	if (r == 0 && opt->wait)
		r = wait_built(cli, &o, err);
	if (r == 0 && keep_frozen(o, frozen_us))
		r = -ENOMEM;
	if (r == 0)
		*out = json_incref(o);
	json_decref(o);
	json_decref(body);
	return r;
}

/* Of a sandbox: the API has a call of its own, which freezes it. */
static int checkpoint_sandbox(struct cli *cli, const struct args *args, bool wait, json_t **out,
			      struct error *err)
{
	json_t *sandbox = NULL, *body, *o = NULL;
	const char *name = args->words[1];

	if (args_has(args, "freeze"))
		return cli_usage(err, "a sandbox is frozen by itself: no --freeze");
	int r = sandbox_find(cli, args->words[0], &sandbox, err);
	if (r < 0)
		return r;
	body = json_pack("{s:o}", "name", bytes_json(name, strlen(name)));
	r = body ? cli_call(cli, "POST", "/api/sandboxes/%s/checkpoints",
			    cli_str(sandbox, "sandboxID"), body, &o, err)
		 : -ENOMEM;
	if (r == 0)
		r = cli_snapshot(cli, cli_str(o, "id"), out, err);
	if (r == 0 && wait)
		r = wait_built(cli, out, err);
	/* The snapshot has no name; the checkpoint has. */
	if (r == 0 && (json_object_set(*out, "name", json_object_get(body, "name")) ||
		       keep_frozen(*out, cli_num(o, "frozenUs"))))
		r = -ENOMEM;
	json_decref(o);
	json_decref(body);
	json_decref(sandbox);
	return r;
}

static int checkpoint_mount(struct cli *cli, const struct args *args, bool wait, json_t **out,
			    struct error *err)
{
	json_t *m = NULL;
	int r = mount_find(cli, args->words[0], &m, err);

	if (r == 0) {
		const struct checkpoint_options opt = { .mount_id = cli_str(m, "id"),
							.name = args->words[1],
							.cgroup = args_get(args, "freeze"),
							.wait = wait };

		r = checkpoint_take(cli, &opt, out, err);
	}
	json_decref(m);
	return r;
}

int cmd_checkpoint(struct cli *cli, const struct args *args, struct error *err)
{
	char size[TEXT_SIZE_MAX], fresh[TEXT_SIZE_MAX];
	json_t *o = NULL;
	bool wait = !args_has(args, "no-wait");
	int r = is_sandbox_id(args->words[0]) ? checkpoint_sandbox(cli, args, wait, &o, err)
					      : checkpoint_mount(cli, args, wait, &o, err);

	if (r == 0 && cli->json) {
		r = cli_print_json(o);
	} else if (r == 0 && strcmp(cli_str(o, "status"), "ready") != 0) {
		printf("%s: %s\n", snapshot_label(o), cli_str(o, "status"));
	} else if (r == 0) {
		text_size(cli_num(o, "sizeBytes"), size);
		text_size(cli_num(o, "newBytes"), fresh);
		printf("%s: %llu files, %s, %s of it new in the store\n", snapshot_label(o),
		       (unsigned long long)cli_num(o, "fileCount"), size, fresh);
		if (cli_num(o, "frozenUs"))
			printf("programs stood still for %.1f ms\n",
			       (double)cli_num(o, "frozenUs") / 1000);
	}
	json_decref(o);
	return r;
}
