/*
 * varve - the command line of a snapshotd.
 *
 * main finds the command, sorts its arguments against its table of options,
 * runs it and prints its error. The table of commands is in commands.c; they
 * live in cmd_*.c. Those that read a store themselves are in another program,
 * which takes the place of this one (store_program.h).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/near.h"
#include "store/base/version.h"
#include "tools/commands/commands.h"
#include "tools/commands/mount_helper.h"
#include "tools/cli/program.h"
#include "tools/cli/remote_ref.h"
#include "tools/cli/store_program.h"

/* Asked for by the completion script, and not listed. */
static const struct command complete_command = {
	.name = "__complete",
	.words = "WORD...",
	.summary = "print completions of the last word",
	.max_words = -1,
	.run = cmd_complete,
};

static int print_version(void)
{
	puts("varve " VARVE_VERSION VARVE_COMMIT);
	return 0;
}

static void print_help(FILE *f)
{
	const struct command_group *group = cli_groups;

	fprintf(f, "usage: varve [OPTION...] COMMAND [ARGUMENT...]\n\n"
		   "Copy-on-write mounts of deduplicated filesystem snapshots.\n");
	for (const struct command *c = cli_commands; c->name; c++) {
		if (group->first && strcmp(group->first, c->name) == 0)
			fprintf(f, "\n%s:\n", group++->title);
		fprintf(f, "  %-12s%s\n", c->name, c->summary);
	}
	fprintf(f, "\nOptions, of every command:\n");
	args_print_options(f, cli_global_options);
	fprintf(f, "\n'varve help COMMAND' tells more about one; see also varve(1).\n");
}

static void print_command_help(const struct command *c)
{
	printf("usage: varve %s%s%s%s\n\n%c%s.\n", c->name, c->options ? " [OPTION...]" : "",
	       *c->words ? " " : "", c->words, c->summary[0] - 'a' + 'A', c->summary + 1);
	if (c->help)
		printf("\n%s", c->help);
	if (c->options) {
		printf("\nOptions:\n");
		args_print_options(stdout, c->options);
	}
	printf("\nOptions of every command%s:\n", c->takes_store ? "" : " (except --store)");
	args_print_options(stdout, cli_global_options);
}

static int unknown_command(const char *name)
{
	const char *nearest = NULL;
	size_t best = SIZE_MAX;
	struct error err = ERROR_INIT;

	for (const struct command *c = cli_commands; c->name; c++) {
		size_t d = near_distance(name, c->name);
		if (d < best && d <= near_limit(name, c->name)) {
			best = d;
			nearest = c->name;
		}
	}
	error_set(&err, -EINVAL, "there is no command '%.100s'%s%s%s", name,
		  nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
	return program_usage_failure(NULL, &err);
}

/* name NULL: on varve as a whole. */
static int help_on(const char *name)
{
	const struct command *c = name ? cli_find_command(name) : NULL;

	if (name && !c)
		return unknown_command(name);
	if (c)
		print_command_help(c);
	else
		print_help(stdout);
	return 0;
}

static int check_words(const struct command *c, const struct args *args, struct error *err)
{
	if (args->count < c->min_words)
		return error_set(err, -EINVAL, "needs %s", c->words);
	if (c->max_words >= 0 && args->count > c->max_words)
		return error_set(err, -EINVAL, "does not take '%.100s'", args->words[c->max_words]);
	return 0;
}

/* Words that are REMOTE:NAME[:PATH] become what the daemon has pulled. */
static int pull_words(struct cli *cli, const struct args *args, struct error *err)
{
	for (int i = 0; i < args->count; i++) {
		char *word = NULL;
		int r = remote_ref_resolve_path(cli, args->words[i], &word, err);

		if (r < 0)
			return r;
		for (char **a = cli->argv + 1; word && *a; a++)
			if (*a == args->words[i])
				*a = word; /* until the end */
	}
	return 0;
}

/* The command as it was typed. */
static int read_store(struct cli *cli, const struct args *args, struct error *err)
{
	const char *dir;
	int r = cli->store_dir ? 0 : cli_state_dir(cli, &dir, err);

	if (r == 0 && !cli->store_dir)
		r = pull_words(cli, args, err);
	return r < 0 ? r : store_program_exec(cli, cli->argv + 1, err);
}

static int run_command(struct cli *cli, const struct command *c, int argc, char **argv)
{
	struct error err = ERROR_INIT;
	struct args args;
	int r = args_parse(c->options, cli_global_options, c == &complete_command, argc, argv,
			   &args, &err);

	if (r < 0)
		return program_usage_failure(c->name, &err);
	if (args_has(&args, "help")) {
		print_command_help(c);
		return 0;
	}
	if (args_has(&args, "version"))
		return print_version();
	program_apply_globals(cli, &args);
	if (check_words(c, &args, &err) < 0)
		return program_usage_failure(c->name, &err);
	if (cli->store_dir && !c->takes_store) {
		error_set(&err, -EINVAL, "needs a daemon: it cannot work on a --store");
		return program_usage_failure(c->name, &err);
	}
	return program_run(cli, c->name, cli->store_dir || !c->run ? read_store : c->run, &args);
}

static int start(struct cli *cli, int argc, char **argv)
{
	struct error err = ERROR_INIT;
	struct args args;

	if (args_parse(cli_global_options, NULL, true, argc - 1, argv + 1, &args, &err) < 0)
		return program_usage_failure(NULL, &err);
	if (args_has(&args, "version"))
		return print_version();
	if (args_has(&args, "help") && args.count == 0) {
		print_help(stdout);
		return 0;
	}
	if (args.count == 0) {
		print_help(stderr);
		return CLI_USAGE;
	}
	program_apply_globals(cli, &args);
	const struct command *c = cli_find_command(args.words[0]);
	if (!c && strcmp(args.words[0], complete_command.name) == 0)
		c = &complete_command;
	if (!c && strcmp(args.words[0], "help") == 0)
		return help_on(args.words[1]);
	if (!c)
		return unknown_command(args.words[0]);
	if (args_has(&args, "help"))
		return help_on(c->name);
	return run_command(cli, c, args.count - 1, args.words + 1);
}

int main(int argc, char **argv)
{
	struct cli cli = { .argv = argv };
	/* Sorting moves words. */
	char **sorted = calloc((size_t)argc + 1, sizeof(*sorted));

	program_begin();
	if (!sorted)
		return CLI_FAILED;
	memcpy(sorted, argv, (size_t)argc * sizeof(*sorted));
	int status = argc > 0 && mount_helper_is(argv[0])
			     ? mount_helper_run(&cli, argc, sorted)
			     : program_end(&cli, start(&cli, argc, sorted));
	client_free(cli.client);
	free(cli.state_dir);
	free(sorted);
	return status;
}
