/* cmd_remote.c - remotes, and snapshots that travel: remote, push, pull. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/bytes_json.h"
#include "store/remote/reference.h"
#include "tools/cli/each.h"
#include "tools/cli/listing.h"
#include "tools/cli/remote_ref.h"
#include "tools/cli/snapshots_view.h"
#include "tools/cli/table.h"
#include "tools/cli/text.h"
#include "tools/commands/commands.h"
#include "tools/commands/remote_care.h"
#include "tools/commands/remote_list.h"

const struct option_spec options_remote[] = {
	{ 0, "endpoint", "URL", "add: of the S3 service, where it is not AWS's" },
	{ 0, "region", "REGION", "add: of the bucket" },
	{ 'r', "read-only", NULL, "add: nothing is ever written there" },
	{ 0, "path-style", NULL, "add: address HOST/BUCKET, not BUCKET.HOST" },
	{ 0, "proxy", "URL", "add: an HTTP cache that reads go through" },
	{ 0, "ca-file", "FILE", "add: certificates to check the service's with" },
	{ 0, "credentials", "HOW", "add: env, file:PATH, process:COMMAND or metadata" },
	{ 0, "timeout", "DURATION", "add: for a request, with all its attempts (5m)" },
	{ 0, "key-file", "FILE", "add, rekey: the bucket is encrypted, with the key in it" },
	{ 0, "key-command", "CMD", "add, rekey: the same, with the key that CMD prints" },
	{ 0, "alternate", "NAME", "add: packs of that remote, which is permanent, are borrowed" },
	{ 0, "permanent", NULL, "add: a new bucket is one of which nothing is ever deleted" },
	{ 0, "keep-old", NULL, "rekey: former keys open the bucket, too" },
	{ 0, "force", NULL, "rm: also while parts of snapshots may be there alone" },
	{ 'q', "quiet", NULL, "ls: print names alone, one on a line" },
	{ 0, "filter", "KEY=VALUE", "ls: only those whose name, url or mode (ro, rw) is VALUE" },
	{ 0 },
};

/* ---- remote ---- */

static void add_row(struct table *t, const json_t *o)
{
	const char *url = cli_str(o, "url");

	table_cell(t, "%s", cli_str(o, "name"));
	table_name(t, url, strlen(url));
	table_cell(t, "%s", cli_flag(o, "readOnly") ? "ro" : "rw");
	table_name(t, cli_str(o, "endpoint"), strlen(cli_str(o, "endpoint")));
}

static bool mode_fits(const json_t *o, const char *pattern)
{
	return listing_fits(cli_flag(o, "readOnly") ? "ro" : "rw", pattern);
}

static const struct listing_key remote_keys[] = {
	{ "name", "name", NULL },
	{ "url", "url", NULL },
	{ "mode", NULL, mode_fits },
	{ 0 },
};

const struct listing remotes_listing = {
	.columns = "NAME|URL|MODE|ENDPOINT",
	.empty = "no remotes yet; 'varve remote add NAME URL' makes one known",
	.add_row = add_row,
	.label = listing_name,
	.keys = remote_keys,
};

static int remote_ls(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *list = NULL;
	int r = listing_check(cli, args, &remotes_listing, err);

	if (r == 0)
		r = cli_call(cli, "GET", "/api/remotes", NULL, NULL, &list, err);
	if (r == 0)
		r = listing_print(cli, args, &remotes_listing, list);
	json_decref(list);
	return r;
}

/* Set o[member] to an option's value, if it was given. */
static int set_text(json_t *o, const struct args *args, const char *option, const char *member)
{
	const char *v = args_get(args, option);

	return v && json_object_set_new(o, member, bytes_json(v, strlen(v))) ? -ENOMEM : 0;
}

/* The same for a file, which the daemon gets an absolute path of. */
static int set_path(struct cli *cli, json_t *o, const struct args *args, const char *option,
		    const char *member, struct error *err)
{
	const char *file = args_get(args, option);
	char *path = NULL;
	int r = file ? cli_daemon_path(cli, file, &path, err) : 0;

	if (r == 0 && path && json_object_set_new(o, member, json_string(path)))
		r = -ENOMEM;
	free(path);
	return r;
}

static int set_key(struct cli *cli, json_t *o, const struct args *args, struct error *err)
{
	int r = set_path(cli, o, args, "key-file", "keyFile", err);

	return r < 0 ? r : set_text(o, args, "key-command", "keyCommand");
}

static int remote_add(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *o = NULL, *body;
	int r;

	if (args->count < 3)
		return cli_usage(err, "add needs NAME URL");
	body = json_pack("{s:o, s:o, s:b, s:b}", "name",
			 bytes_json(args->words[1], strlen(args->words[1])), "url",
			 bytes_json(args->words[2], strlen(args->words[2])), "readOnly",
			 args_has(args, "read-only"), "pathStyle", args_has(args, "path-style"));
	r = body ? set_text(body, args, "endpoint", "endpoint") : -ENOMEM;
	if (r == 0 && args_has(args, "permanent") &&
	    json_object_set_new(body, "permanent", json_true()))
		r = -ENOMEM;
	if (r == 0)
		r = set_text(body, args, "region", "region");
	if (r == 0)
		r = set_text(body, args, "proxy", "proxy");
	if (r == 0)
		r = set_text(body, args, "alternate", "alternate");
	if (r == 0)
		r = set_text(body, args, "credentials", "credentials");
	if (r == 0)
		r = set_path(cli, body, args, "ca-file", "caFile", err);
	if (r == 0)
		r = set_key(cli, body, args, err);
	if (r == 0)
		r = remote_set_seconds(body, args, "timeout", "timeoutSeconds", err);
	if (r == 0)
		r = cli_call(cli, "POST", "/api/remotes", NULL, body, &o, err);
	if (r == 0)
		r = cli->json ? cli_print_json(o) : 0;
	json_decref(body);
	json_decref(o);
	return r;
}

static void add_check(struct table *t, const json_t *o)
{
	table_cell(t, "%s", cli_str(o, "name"));
	table_cell(t, "%s", cli_str(o, "result"));
	table_cell(t, "%s", cli_str(o, "text"));
}

/* What it borrows of, if that cannot be used, as another check. */
static int note_alternate(json_t *o)
{
	const json_t *other = json_object_get(o, "alternate");
	const char *why = json_string_value(json_object_get(other, "error"));

	if (!why)
		return 0;
	return json_array_append_new(json_object_get(o, "checks"),
				     json_pack("{s:s, s:s, s:s++}", "name", "alternate", "result",
					       "away", "text", cli_str(other, "name"), ": ", why));
}

static int remote_check(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *o = NULL;
	int r = cli_call(cli, "POST", "/api/remotes/%s/check", args->words[1], NULL, &o, err);

	if (r < 0)
		return r;
	r = cli->json ? cli_print_json(o)
	    : note_alternate(o) != 0
		    ? -ENOMEM
		    : cli_print_list(cli, json_object_get(o, "checks"), "CHECK|RESULT|", add_check,
				     "nothing was checked");
	if (r == 0 && !cli_flag(o, "usable"))
		r = CLI_FAILED;
	json_decref(o);
	return r;
}

static int remote_set_key(struct cli *cli, const struct args *args, struct error *err)
{
	json_t *o = NULL, *body;
	int r;

	if (!args_get(args, "key-file") == !args_get(args, "key-command"))
		return cli_usage(err, "rekey needs --key-file or --key-command");
	body = json_pack("{s:b}", "keepOld", args_has(args, "keep-old"));
	r = body ? set_key(cli, body, args, err) : -ENOMEM;
	if (r == 0)
		r = cli_call(cli, "POST", "/api/remotes/%s/rekey", args->words[1], body, &o, err);
	if (r == 0 && cli->json)
		r = cli_print_json(o);
	json_decref(body);
	json_decref(o);
	return r;
}

static int rm_one(struct cli *cli, const char *word, void *arg, json_t **out, struct error *err)
{
	(void)out;
	return cli_call(cli, "DELETE",
			*(const bool *)arg ? "/api/remotes/%s?force=true" : "/api/remotes/%s", word,
			NULL, NULL, err);
}

static int remote_rm(struct cli *cli, const struct args *args, struct error *err)
{
	bool force = args_has(args, "force");
	const struct each e = { .command = "remote", .one = rm_one, .arg = &force };

	return each_run(cli, args->words + 1, &e, err);
}

static const struct verb {
	const char *name;
	int words; /* with its own; the last one may be repeated where `many` is set */
	command_fn *run;
	const char *options; /* between spaces */
	bool many;
} verbs[] = {
	{ "add", 3, remote_add,
	  " endpoint region read-only path-style proxy ca-file credentials timeout key-file "
	  "key-command permanent alternate ",
	  false },
	{ "ls", 1, remote_ls, " quiet filter ", false },
	{ "check", 2, remote_check, "", false },
	{ "rekey", 2, remote_set_key, " key-file key-command keep-old ", false },
	{ "rm", 2, remote_rm, " force ", true },
};

static bool verb_takes(const struct verb *v, const char *option)
{
	char word[32];

	snprintf(word, sizeof(word), " %s ", option);
	return strstr(v->options, word) != NULL;
}

/* An option of another verb. */
static int check_options(const struct verb *v, const struct args *args, struct error *err)
{
	for (const struct option_spec *s = options_remote; s->name; s++) {
		size_t k = 0;

		if (!args_has(args, s->name) || verb_takes(v, s->name))
			continue;
		while (k < ARRAY_SIZE(verbs) - 1 && !verb_takes(&verbs[k], s->name))
			k++;
		return cli_usage(err, "--%s goes with remote %s", s->name, verbs[k].name);
	}
	return 0;
}

int cmd_remote(struct cli *cli, const struct args *args, struct error *err)
{
	const char *word = args->words[0];
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(verbs[i].name, word) != 0)
			continue;
		if (args->count < verbs[i].words ||
		    (args->count > verbs[i].words && !verbs[i].many))
			return cli_usage(err, "remote %s takes %s", word,
					 verbs[i].many	       ? "NAME..."
					 : verbs[i].words == 3 ? "NAME URL"
					 : verbs[i].words == 2 ? "NAME"
							       : "nothing");
		r = check_options(&verbs[i], args, err);
		return r < 0 ? r : verbs[i].run(cli, args, err);
	}
	return cli_usage(err, "'%s' is none of add, ls, check, rekey and rm", word);
}

/* ---- what a remote has ---- */

static void add_shared(struct table *t, const json_t *o)
{
	const char *name = cli_str(o, "name");

	table_name(t, name, strlen(name));
	table_size(t, cli_num(o, "sizeBytes"));
	table_cell(t, "%llu", (unsigned long long)cli_num(o, "fileCount"));
	table_time(t, cli_str(o, "createdAt"));
	table_cell(t, "%s", *cli_str(o, "snapshotID") ? "yes" : "-");
	table_cell(t, "%s", cli_str(o, "id"));
}

static bool here_fits(const json_t *o, const char *pattern)
{
	return listing_fits(*cli_str(o, "snapshotID") ? "yes" : "no", pattern);
}

static const struct listing_key shared_keys[] = {
	{ "name", "name", NULL },
	{ "here", NULL, here_fits },
	{ 0 },
};

/*
 * What other commands take for it: a name alone would be another snapshot's, in the store. By its
 * id where it has no name.
 */
static int add_words(json_t *list, const char *remote)
{
	json_t *o;
	size_t i;

	json_array_foreach(list, i, o) {
		const char *name = listing_name(o);

		if (json_object_set_new(
			    o, "word", json_sprintf("%s:%s", remote, *name ? name : listing_id(o))))
			return -ENOMEM;
	}
	return 0;
}

static const char *shared_label(const json_t *o)
{
	return cli_str(o, "word");
}

static const struct listing shared_listing = {
	.columns = "NAME|>SIZE|>FILES|CREATED|HERE|ID",
	.empty = "nothing there yet; 'varve push SNAPSHOT REMOTE' puts one there",
	.add_row = add_shared,
	.label = shared_label,
	.keys = shared_keys,
};

int remote_list_print(struct cli *cli, const struct args *args, struct error *err)
{
	const char *remote = args_get(args, "remote");
	json_t *list = NULL;
	int r = listing_check(cli, args, &shared_listing, err);

	if (r == 0)
		r = cli_call(cli, "GET", "/api/remotes/%s/snapshots", remote, NULL, &list, err);
	if (r == 0 && args_has(args, "quiet"))
		r = add_words(list, remote);
	if (r == 0)
		r = listing_print(cli, args, &shared_listing, list);
	json_decref(list);
	return r;
}

int remote_list_remove(struct cli *cli, const char *word, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	char remote[REMOTE_NAME_MAX + 1];
	struct client *c = cli_client(cli, err);
	const char *reference;
	json_t *o = NULL;
	int r;

	if (!c)
		return err->code;
	if (!reference_split(word, remote, &reference) ||
	    client_path(&path, "/api/remotes/%s/snapshots/%s", remote, reference) < 0 ||
	    !buf_cstr(&path))
		return -ENOMEM;
	r = client_call(c, "DELETE", (const char *)path.data, NULL, &o, err);
	if (r == 0 && !cli->json && !cli_flag(o, "deleted"))
		cli_tell("%s: the snapshot has other names there and stays", word);
	json_decref(o);
	return r;
}

/* ---- push and pull ---- */

const struct option_spec options_push[] = {
	{ 0, "no-replace", NULL, "fail if the name stands for another snapshot there" },
	{ 0, "repair", NULL, "check what is there, and send anew what is damaged" },
	{ 0 },
};

static int print_pushed(const struct cli *cli, const json_t *o)
{
	char size[TEXT_SIZE_MAX];

	if (cli->json)
		return cli_print_json(o);
	text_size(cli_num(o, "bytes"), size);
	printf("%s:%s: ", cli_str(o, "remote"),
	       *cli_str(o, "name") ? cli_str(o, "name") : cli_str(o, "id"));
	if (cli_flag(o, "existed"))
		printf("was there already\n");
	else
		printf("%llu new chunks, %s sent\n", (unsigned long long)cli_num(o, "chunks"),
		       size);
	if (cli_num(o, "damagedPacks"))
		printf("%llu packs were lost or damaged\n",
		       (unsigned long long)cli_num(o, "damagedPacks"));
	return 0;
}

int cmd_push(struct cli *cli, const struct args *args, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	const char *to = args->words[1], *colon = strchr(to, ':');
	json_t *o = NULL, *body = json_object();
	int r, failed = !body;

	if (colon && !colon[1]) {
		json_decref(body);
		return cli_usage(err, "no name behind the ':' of '%s'", to);
	}
	if (client_path(&path, "/api/snapshots/%s/push", args->words[0]) < 0 || !buf_cstr(&path))
		failed = 1;
	if (!failed)
		failed = json_object_set_new(
			body, "remote", bytes_json(to, colon ? (size_t)(colon - to) : strlen(to)));
	if (!failed && colon)
		failed =
			json_object_set_new(body, "name", bytes_json(colon + 1, strlen(colon + 1)));
	if (!failed && args_has(args, "no-replace"))
		failed = json_object_set_new(body, "noReplace", json_true());
	if (!failed && args_has(args, "repair"))
		failed = json_object_set_new(body, "repair", json_true());
	if (failed) {
		json_decref(body);
		return -ENOMEM;
	}
	r = remote_ref_post(cli, (const char *)path.data, body, &o, err);
	if (r == 0)
		r = print_pushed(cli, o);
	json_decref(o);
	return r;
}

const struct option_spec options_pull[] = {
	{ 0, "name", "NAME", "of the local snapshot, instead of the one there" },
	{ 0, "lazy", NULL, "fetch file data only when it is read" },
	{ 0 },
};

static int print_pulled(const struct cli *cli, const json_t *o)
{
	const json_t *how = json_object_get(o, "pulled");
	char size[TEXT_SIZE_MAX], fetched[TEXT_SIZE_MAX];

	if (cli->json)
		return cli_print_json(o);
	text_size(cli_num(o, "sizeBytes"), size);
	text_size(cli_num(how, "bytes"), fetched);
	printf("%s: %llu files, %s, ", snapshot_label(o),
	       (unsigned long long)cli_num(o, "fileCount"), size);
	if (cli_flag(how, "existed"))
		printf("was here already\n");
	else
		printf("%s fetched\n", fetched);
	return 0;
}

int cmd_pull(struct cli *cli, const struct args *args, struct error *err)
{
	const char *option = args_get(args, "name");
	const char *name = option ? option : args->count > 1 ? args->words[1] : NULL;
	json_t *o = NULL;
	int r;

	if (option && args->count > 1)
		return cli_usage(err, "give the name once");
	if (!remote_ref_is(args->words[0]))
		return cli_usage(err, "'%s' is not REMOTE:NAME", args->words[0]);
	r = remote_ref_pull(cli, args->words[0], name, args_has(args, "lazy"), &o, err);
	if (r == 0)
		r = print_pulled(cli, o);
	json_decref(o);
	return r;
}
