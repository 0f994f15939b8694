/*
 * Completion of command lines. The script that a shell sources (cmd_completion.c) is small: it
 * asks `varve __complete -- WORD...` for what may stand in the place of the last word, which is
 * worked out here from the same tables as everything else. Answers are candidates, one a line;
 * "@files" and "@dirs" let the shell complete names of files.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/commands/commands.h"
#include "tools/cli/mount_ref.h"
#include "tools/commands/recipe.h"
#include "tools/cli/snapshots_view.h"
#include "tools/cli/store_program.h"
#include "tools/cli/text.h"

#define CONNECT_TIMEOUT_S 2

/* What is known of the words before the one to complete. */
struct place {
	const struct command *command;	  /* NULL: not given yet */
	const struct option_spec *valued; /* the word is the value of this option */
	bool no_options;		  /* behind "--" */
	int index;			  /* of the word among the command's words */
	const char *last;		  /* the word itself */
};

static void offer(const char *last, const char *candidate, const char *behind)
{
	if (strncmp(candidate, last, strlen(last)) == 0)
		printf("%s%s\n", candidate, behind);
}

static const struct option_spec *find_option(const struct option_spec *table, const char *word)
{
	for (; table && table->name; table++) {
		if (strncmp(word, "--", 2) == 0 && strcmp(word + 2, table->name) == 0)
			return table;
		if (word[0] == '-' && word[1] == table->letter && table->letter && !word[2])
			return table;
	}
	return NULL;
}

static void pass_word(struct place *p, struct cli *cli, const char *word)
{
	if (p->valued) {
		if (strcmp(p->valued->name, "socket") == 0) {
			cli->socket = word;
		} else if (strcmp(p->valued->name, "url") == 0) {
			cli->url = word;
		} else if (strcmp(p->valued->name, "store") == 0) {
			cli->store_dir = word;
		}
		p->valued = NULL;
	} else if (!p->no_options && strcmp(word, "--") == 0) {
		p->no_options = true;
	} else if (!p->no_options && word[0] == '-' && word[1]) {
		const struct option_spec *o = find_option(cli_global_options, word);
		if (!o && p->command)
			o = find_option(p->command->options, word);
		p->valued = o && o->value ? o : NULL;
	} else if (!p->command && strcmp(word, "help") != 0) {
		p->command = cli_find_command(word);
	} else if (p->command) {
		p->index++;
	}
}

static void offer_options(const struct option_spec *table, const char *last)
{
	char option[64];

	for (; table && table->name; table++) {
		snprintf(option, sizeof(option), "--%s", table->name);
		if (table->help)
			offer(last, option, "");
	}
}

static void offer_choices(const char *choices, const char *last)
{
	char word[64];

	while (*choices) {
		size_t n = strcspn(choices, "|");
		snprintf(word, sizeof(word), "%.*s", (int)n, choices);
		offer(last, word, "");
		choices += n + (choices[n] == '|');
	}
}

/* Keys of a command's filters. */
static void offer_filters(const struct command *c, const char *last)
{
	static const struct {
		const char *command;
		const struct listing *listing;
	} known[] = {
		{ "snapshots", &snapshots_listing }, { "history", &snapshots_listing },
		{ "mounts", &mounts_listing },	     { "remote", &remotes_listing },
		{ "builds", &builds_listing },	     { "images", &images_listing },
		{ "sandboxes", &sandboxes_listing }, { "checkpoints", &checkpoints_listing },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strcmp(known[i].command, c->name) != 0)
			continue;
		for (const struct listing_key *k = known[i].listing->keys; k->key; k++)
			offer(last, k->key, k->key[strlen(k->key) - 1] == '.' ? "" : "=");
	}
}

static void offer_snapshots(struct cli *cli, const char *last, const char *behind)
{
	struct error ignored = ERROR_INIT;
	json_t *list = NULL, *o;
	size_t i;

	if (cli_call(cli, "GET", "/api/snapshots", NULL, NULL, &list, &ignored) < 0)
		return;
	json_array_foreach(list, i, o)
		offer(last, snapshot_label(o), behind);
	json_decref(list);
}

static void offer_mounts(struct cli *cli, const char *last)
{
	struct error ignored = ERROR_INIT;
	json_t *list = NULL, *o;
	char id[9];
	size_t i, hidden;

	if (cli->store_dir || cli_call(cli, "GET", "/api/mounts", NULL, NULL, &list, &ignored) < 0)
		return;
	if (mounts_hide_own(cli, list, &hidden, &ignored) < 0)
		json_array_clear(list);
	json_array_foreach(list, i, o) {
		snprintf(id, sizeof(id), "%s", cli_str(o, "id"));
		offer(last, id, "");
		offer(last, cli_str(o, "mountpoint"), "");
	}
	json_decref(list);
}

static void offer_ids(struct cli *cli, const char *path, const char *key, const char *last)
{
	struct error ignored = ERROR_INIT;
	json_t *list = NULL, *o;
	size_t i;

	if (cli->store_dir || cli_call(cli, "GET", path, NULL, NULL, &list, &ignored) < 0)
		return;
	json_array_foreach(list, i, o)
		offer(last, cli_str(o, key), "");
	json_decref(list);
}

/* "REMOTE:", and behind the ':' the names that it has. */
static void offer_remotes(struct cli *cli, const char *what, const char *last)
{
	const char *colon = strchr(last, ':');
	struct error ignored = ERROR_INIT;
	char remote[80], path[160];
	json_t *list = NULL, *o;
	size_t i;

	if (cli->store_dir)
		return;
	snprintf(remote, sizeof(remote), "%.*s", colon ? (int)(colon - last) : 0, last);
	snprintf(path, sizeof(path), "/api/remotes%s", colon ? "/%s/snapshots?limit=100" : "");
	if (cli_call(cli, "GET", path, colon ? remote : NULL, NULL, &list, &ignored) < 0)
		return;
	json_array_foreach(list, i, o) {
		snprintf(path, sizeof(path), "%s%s%s", remote, colon ? ":" : "",
			 cli_str(o, "name"));
		offer(last, path, !colon && strncmp(what, "REMOTE:", 7) == 0 ? ":" : "");
	}
	json_decref(list);
}

static void offer_templates(const char *last)
{
	struct error ignored = ERROR_INIT;
	char *dir = NULL, **names = NULL;

	if (recipe_dir(NULL, &dir, &ignored) == 0 && recipe_names(dir, &names, &ignored) == 0)
		for (size_t i = 0; names[i]; i++)
			offer(last, names[i], "");
	recipe_names_free(names);
	free(dir);
}

/* Copy word `index` of a usage line; its last one where that repeats. "" past the end. */
static void usage_word(const char *words, int index, char *out, size_t size)
{
	const char *p = words;

	while (index > 0 && strchr(p, ' ')) {
		p = strchr(p, ' ') + 1;
		index--;
	}
	size_t n = strcspn(p, " ");
	if (index > 0 && !(n > 3 && strncmp(p + n - 3, "...", 3) == 0))
		n = 0;
	snprintf(out, size, "%.*s", (int)n, p);
}

/* varve-store offers what a store has, in the place of this program. */
static void offer_from_store(struct cli *cli, const char *kind, const char *last,
			     const char *behind)
{
	char *args[] = { (char *)"__complete",	    (char *)"--",
			 (char *)(uintptr_t)kind,   (char *)(uintptr_t)last,
			 (char *)(uintptr_t)behind, NULL };
	struct error ignored = ERROR_INIT;

	(void)!store_program_exec(cli, args, &ignored);
}

/* `what` is a placeholder of a usage line or of an option. What a store has comes last. */
static void offer_kind(struct cli *cli, const char *what, const char *last)
{
	const char *behind = strstr(what, "SNAPSHOT:PATH") ? ":" : "", *of_store = NULL;

	if (strstr(what, "SNAPSHOT")) {
		if (strstr(what, ":PATH") && strchr(last, ':'))
			of_store = "paths";
		else if (cli->store_dir)
			of_store = "snapshots";
		else
			offer_snapshots(cli, last, behind);
	}
	if (strstr(what, "REMOTE"))
		offer_remotes(cli, what, last);
	if (strstr(what, "MOUNT"))
		offer_mounts(cli, last);
	if (strstr(what, "SANDBOX"))
		offer_ids(cli, "/api/sandboxes", "sandboxID", last);
	else if (strncmp(what, "BUILD", 5) == 0)
		offer_ids(cli, "/api/builds", "id", last);
	else if (strstr(what, "TEMPLATE"))
		offer_templates(last);
	if (strcmp(what, "DIR") == 0 || strcmp(what, "[DIR]") == 0 || strstr(what, "MOUNT") ||
	    strcmp(what, "CGROUP") == 0)
		puts("@dirs");
	else if (strncmp(what, "PATH", 4) == 0 || strcmp(what, "FILE") == 0)
		puts("@files");
	else if (strchr(what, '|'))
		offer_choices(what, last);
	if (of_store)
		offer_from_store(cli, of_store, last, behind);
}

int cmd_complete(struct cli *cli, const struct args *args, struct error *err)
{
	struct place p = { .last = "" };
	char what[64];

	for (int i = 0; i + 1 < args->count; i++)
		pass_word(&p, cli, args->words[i]);
	/* Who has typed a Tab does not wait for a host that is away. */
	if (cli_address(cli, err))
		cli->daemon.connect_timeout_s = CONNECT_TIMEOUT_S;
	if (args->count)
		p.last = args->words[args->count - 1];
	if (p.valued && p.command && strcmp(p.valued->name, "filter") == 0) {
		offer_filters(p.command, p.last);
	} else if (p.valued) {
		offer_kind(cli, p.valued->value, p.last);
	} else if (p.last[0] == '-' && !p.no_options) {
		if (p.command)
			offer_options(p.command->options, p.last);
		offer_options(cli_global_options, p.last);
	} else if (!p.command) {
		for (const struct command *c = cli_commands; c->name; c++)
			offer(p.last, c->name, "");
	} else {
		usage_word(p.command->words, p.index, what, sizeof(what));
		offer_kind(cli, what, p.last);
	}
	return 0;
}
