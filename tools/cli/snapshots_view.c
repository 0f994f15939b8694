#include "tools/cli/snapshots_view.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/cli/table.h"
#include "tools/cli/text.h"

const char *snapshot_label(const json_t *o)
{
	const char *name = cli_str(o, "name");

	return *name ? name : cli_str(o, "id");
}

static void add_row(struct table *t, const json_t *o)
{
	table_name(t, snapshot_label(o), strlen(snapshot_label(o)));
	const char *share = cli_str(o, "share");

	table_cell(t, "%s%s%s%s", cli_str(o, "status"), cli_flag(o, "pinned") ? ", pinned" : "",
		   *share && strcmp(share, "local") != 0 ? ", " : "",
		   strcmp(share, "local") != 0 ? share : "");
	table_size(t, cli_num(o, "sizeBytes"));
	table_size(t, cli_num(o, "newBytes"));
	table_cell(t, "%llu", (unsigned long long)cli_num(o, "fileCount"));
	table_time(t, cli_str(o, "createdAt"));
	const char *source = cli_str(o, "source");
	table_name(t, source, strlen(source));
}

static bool label_fits(const json_t *o, const char *pattern)
{
	return listing_fits(snapshot_label(o), pattern);
}

static const struct listing_key keys[] = {
	{ "name", NULL, label_fits }, { "status", "status", NULL }, { "source", "source", NULL },
	{ "pinned", "pinned", NULL }, { "share", "share", NULL },   { 0 },
};

const struct listing snapshots_listing = {
	.columns = "NAME|STATUS|>SIZE|>NEW|>FILES|CREATED|SOURCE",
	.empty = "no snapshots yet; 'varve import NAME dir PATH' makes one",
	.add_row = add_row,
	.label = snapshot_label,
	.keys = keys,
};

/* Fields in the order of interest; the others follow as they come. */
static int print_fields(const json_t *o)
{
	static const char *const first[] = { "name",	  "id",		"status",    "error",
					     "createdAt", "lastUsedAt", "sizeBytes", "newBytes",
					     "fileCount", "source",	"parent",    "root",
					     "pinned",	  "ttl",	"share",     "hereBytes",
					     "farBytes" };
	const char *key;
	json_t *v;
	json_t *copy = json_object();
	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(first); i++)
		if (json_object_get(o, first[i]))
			json_object_set(copy, first[i], json_object_get(o, first[i]));
	json_object_foreach((json_t *)(uintptr_t)o, key, v) {
		bool empty = json_is_null(v) || (json_is_string(v) && !json_string_length(v)) ||
			     (json_is_array(v) && !json_array_size(v));
		/* checkpointId repeats the id, for the sake of API clients. */
		if (json_object_get(copy, key) || empty || strcmp(key, "checkpointId") == 0)
			continue;
		if (strcmp(key, "manifest") == 0) /* has whole files in it */
			json_object_set_new(copy, "steps",
					    json_integer((json_int_t)json_array_size(
						    json_object_get(v, "steps"))));
		else
			json_object_set(copy, key, v);
	}
	int r = cli_print_fields(copy);
	json_decref(copy);
	return r;
}

struct shown {
	each_fn *get;
	unsigned count;
};

static int show_one(struct cli *cli, const char *word, void *arg, json_t **out, struct error *err)
{
	struct shown *s = arg;
	int r = s->get(cli, word, NULL, out, err);

	if (r == 0 && !cli->json) {
		if (s->count++)
			putchar('\n');
		r = print_fields(*out);
	}
	return r;
}

int snapshots_show(struct cli *cli, char *const *words, each_fn *get, struct error *err)
{
	struct shown s = { .get = get };
	const struct each e = { .command = "show", .one = show_one, .arg = &s };

	return each_run(cli, words, &e, err);
}

int snapshot_print_new(const struct cli *cli, const json_t *o)
{
	char size[TEXT_SIZE_MAX], fresh[TEXT_SIZE_MAX];

	if (cli->json)
		return cli_print_json(o);
	text_size(cli_num(o, "sizeBytes"), size);
	text_size(cli_num(o, "newBytes"), fresh);
	printf("%s: %llu files, %s, %s of it new in the store\n", snapshot_label(o),
	       (unsigned long long)cli_num(o, "fileCount"), size, fresh);
	return 0;
}
