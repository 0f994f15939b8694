/* cmd_build.c - build, builds, logs, cancel, images: images from manifests. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/base/bytes_json.h"
#include "tools/commands/commands.h"
#include "tools/cli/each.h"
#include "tools/cli/listing.h"
#include "tools/commands/exec_run.h"
#include "tools/cli/id_ref.h"
#include "tools/commands/image_build.h"
#include "tools/cli/said.h"
#include "tools/cli/snapshots_view.h"
#include "tools/cli/table.h"
#include "tools/cli/text.h"

const struct option_spec options_build[] = {
	{ 0, "name", "NAME", "keep the image as the snapshot NAME, which another image loses" },
	{ 0, "no-replace", NULL, "refuse a name that is taken" },
	{ 'f', "force", NULL, "build also what is cached" },
	{ 0, "keep-failed", NULL, "where it fails, keep its mount to look into" },
	{ 'q', "quiet", NULL, "print no log" },
	{ 0 },
};

const struct option_spec options_logs[] = {
	{ 'f', "follow", NULL, "go on until the build has ended" },
	{ 0 },
};

const struct option_spec options_builds[] = {
	LISTING_QUIET,
	LISTING_FILTER("state or name"),
	{ 0 },
};

const struct option_spec options_images[] = {
	LISTING_QUIET,
	LISTING_FILTER("name or base"),
	{ 0 },
};

static int print_image(const struct cli *cli, const json_t *o)
{
	char size[TEXT_SIZE_MAX], fresh[TEXT_SIZE_MAX];
	const char *id = cli_str(o, "snapshotID");

	if (cli->json)
		return cli_print_json(o);
	if (*id) { /* of POST /api/images */
		printf("%s%s\n", id, cli_flag(o, "cached") ? "  (cached)" : "");
		return 0;
	}
	text_size(cli_num(o, "sizeBytes"), size);
	text_size(cli_num(o, "newBytes"), fresh);
	printf("%s: %llu files, %s, %s of it new in the store\n", snapshot_label(o),
	       (unsigned long long)cli_num(o, "fileCount"), size, fresh);
	return 0;
}

int cmd_build(struct cli *cli, const struct args *args, struct error *err)
{
	const char *name = args_get(args, "name");
	json_t *image = NULL, *body, *o = NULL;
	int r = image_read(args->words[0], &image, err);

	if (r < 0)
		return r;
	body = json_pack("{s:O}", "image", image);
	if (!body ||
	    (name && json_object_set_new(body, "name", bytes_json(name, strlen(name))) < 0))
		r = -ENOMEM;
	if (r == 0 && name && !args_has(args, "no-replace") &&
	    json_object_set_new(body, "replace", json_true()) < 0)
		r = -ENOMEM;
	if (r == 0) {
		struct image_build b = { .path = name ? "/api/snapshots" : "/api/images",
					 .body = body,
					 .force = args_has(args, "force"),
					 .keep_failed = args_has(args, "keep-failed"),
					 .quiet = args_has(args, "quiet"),
					 .interruptible = true,
					 .stays = true };
		interrupt_catch();
		r = image_build(cli, &b, &o, err);
		if (r < 0 && interrupt_signal())
			cli->failure_status = 128 + interrupt_signal();
	}
	if (r == 0)
		r = print_image(cli, o);
	json_decref(o);
	json_decref(body);
	json_decref(image);
	return r;
}

/* ---- builds ---- */

static void build_row(struct table *t, const json_t *o)
{
	const char *state = cli_str(o, "state"), *name = cli_str(o, "name"),
		   *error = cli_str(o, "error"), *key = cli_str(o, "key");
	unsigned long long step = cli_num(o, "step"), count = cli_num(o, "stepCount");

	table_cell(t, "%.8s", cli_str(o, "id"));
	table_cell(t, "%s", state);
	table_cell(t, "%llu/%llu", step, count);
	table_cell(t, "%llu", (unsigned long long)cli_num(o, "cachedSteps"));
	table_time(t, cli_str(o, "createdAt"));
	table_name(t, *name ? name : "-", *name ? strlen(name) : 1);
	table_cell(t, "%.12s", key);
	table_name(t, error, strlen(error));
}

static const struct listing_key build_keys[] = {
	{ "state", "state", NULL },
	{ "name", "name", NULL },
	{ 0 },
};

const struct listing builds_listing = {
	.columns = "BUILD|STATE|>STEP|>CACHED|CREATED|NAME|KEY|ERROR",
	.empty = "no builds; 'varve build FILE' starts one",
	.add_row = build_row,
	.label = listing_id,
	.keys = build_keys,
};

static int list(struct cli *cli, const struct args *args, const char *path, const struct listing *l,
		struct error *err)
{
	json_t *found = NULL;
	int r = listing_check(cli, args, l, err);

	if (r == 0)
		r = cli_call(cli, "GET", path, NULL, NULL, &found, err);
	if (r == 0)
		r = listing_print(cli, args, l, found);
	json_decref(found);
	return r;
}

int cmd_builds(struct cli *cli, const struct args *args, struct error *err)
{
	return list(cli, args, "/api/builds", &builds_listing, err);
}

static int cancel_one(struct cli *cli, const char *word, void *arg, json_t **out, struct error *err)
{
	json_t *o = NULL;
	int r = build_find(cli, word, &o, err);

	(void)arg, (void)out;
	if (r == 0)
		r = cli_call(cli, "DELETE", "/api/builds/%s", cli_str(o, "id"), NULL, NULL, err);
	json_decref(o);
	return r;
}

int cmd_cancel(struct cli *cli, const struct args *args, struct error *err)
{
	const struct each e = { .command = "cancel", .one = cancel_one };

	return each_run(cli, args->words, &e, err);
}

/* ---- logs ---- */

struct log_printer {
	bool json;
	int failed;
	uint64_t shown, seen; /* so far, and of this call: see on_again */
};

static void print_event(void *arg, const char *type, const json_t *data)
{
	struct log_printer *p = arg;

	if (strcmp(type, "build_log") != 0 || p->seen++ < p->shown)
		return;
	p->shown++;
	if (!p->json) {
		said_build_event(stdout, data, NULL);
	} else {
		if (json_dumpf(data, stdout, JSON_COMPACT) < 0)
			p->failed = cli_write_failure();
		putchar('\n');
	}
	if (fflush(stdout) == EOF)
		p->failed = cli_write_failure();
}

/* The daemon has been replaced: the log comes from its begin. */
static void on_again(void *arg)
{
	struct log_printer *p = arg;

	p->seen = 0;
}

static int print_log(struct cli *cli, const char *id, struct error *err)
{
	struct log_printer p = { .json = cli->json };
	json_t *list = NULL, *event;
	size_t i;
	int r = cli_call(cli, "GET", "/api/builds/%s/logs", id, NULL, &list, err);

	json_array_foreach(list, i, event)
		print_event(&p, "build_log", event);
	json_decref(list);
	return r < 0 ? r : p.failed;
}

static int follow_log(struct cli *cli, const char *id, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	struct log_printer p = { .json = cli->json };
	struct client *c = cli_client(cli, err);

	if (!c)
		return err->code;
	if (client_path(&path, "/api/builds/%s/logs", id) < 0 || !buf_cstr(&path))
		return -ENOMEM;
	struct client_request rq = { .method = "GET",
				     .path = (const char *)path.data,
				     .on_event = print_event,
				     .on_again = on_again,
				     .arg = &p };
	int r = client_run(c, &rq, NULL, err);
	return r < 0 ? r : p.failed;
}

int cmd_logs(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *o = NULL;
	int r = build_find(cli, args->words[0], &o, err);

	if (r == 0)
		r = args_has(args, "follow") ? follow_log(cli, cli_str(o, "id"), err)
					     : print_log(cli, cli_str(o, "id"), err);
	json_decref(o);
	return r;
}

/* ---- images ---- */

static void image_row(struct table *t, const json_t *o)
{
	const json_t *names = json_object_get(o, "names"), *v;
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	const char *base = cli_str(o, "base");
	size_t i;

	json_array_foreach(names, i, v)
		if (buf_printf(&b, "%s%s", i ? "," : "", json_string_value(v)) < 0)
			break;
	table_cell(t, "%.12s", cli_str(o, "key"));
	table_cell(t, "%.8s", cli_str(o, "snapshotID"));
	table_cell(t, "%llu", (unsigned long long)cli_num(o, "steps"));
	table_size(t, cli_num(o, "sizeBytes"));
	table_size(t, cli_num(o, "newBytes"));
	table_time(t, cli_str(o, "lastUsedAt"));
	table_name(t, base, strlen(base));
	table_name(t, b.len ? (const char *)b.data : "-", b.len ? b.len : 1);
}

static bool a_name_fits(const json_t *o, const char *pattern)
{
	const json_t *v;
	size_t i;

	json_array_foreach(json_object_get(o, "names"), i, v)
		if (listing_fits(json_string_value(v), pattern))
			return true;
	return json_array_size(json_object_get(o, "names")) == 0 && listing_fits("", pattern);
}

static const char *snapshot_id(const json_t *o)
{
	return cli_str(o, "snapshotID");
}

static const struct listing_key image_keys[] = {
	{ "name", NULL, a_name_fits },
	{ "base", "base", NULL },
	{ 0 },
};

const struct listing images_listing = {
	.columns = "KEY|SNAPSHOT|>STEPS|>SIZE|>NEW|LAST USED|BASE|NAMES",
	.empty = "no images are cached; 'varve build FILE' makes one",
	.add_row = image_row,
	.label = snapshot_id,
	.keys = image_keys,
};

int cmd_images(struct cli *cli, const struct args *args, struct error *err)
{
	return list(cli, args, "/api/images", &images_listing, err);
}
