/*
 * varve - the command line of a snapshotd, and a reader of stores.
 *
 * main finds the command, sorts its arguments against its table of options,
 * runs it and prints its error. The table of commands is in commands.c; they
 * live in cmd_*.c (which talk to the daemon) and inspect_*.c (which read a
 * store themselves).
 */
#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/log.h"
#include "store/base/near.h"
#include "store/base/version.h"
#include "store/store.h"
#include "tools/commands/commands.h"
#include "tools/cli/text.h"

/* Asked for by the completion script, and not listed. */
static const struct command complete_command = {
	.name = "__complete",
	.words = "WORD...",
	.summary = "print completions of the last word",
	.max_words = -1,
	.takes_store = true,
	.run = cmd_complete,
};

static int print_version(void)
{
	printf("varve %s\n", VARVE_VERSION);
	return 0;
}

static void print_help(FILE *f)
{
	fprintf(f, "usage: varve [OPTION...] COMMAND [ARGUMENT...]\n\n"
		   "Copy-on-write mounts of deduplicated filesystem snapshots.\n\nCommands:\n");
	for (const struct command *c = cli_commands; c->name; c++)
		fprintf(f, "  %-12s%s\n", c->name, c->summary);
	fprintf(f, "\nOptions, of every command:\n");
	args_print_options(f, cli_global_options);
	fprintf(f, "\n'varve COMMAND --help' tells more about one; see also varve(1).\n");
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

static void print_error(const char *command, const char *text)
{
	cli_tell("varve: %s%s%s", command, *command ? ": " : "", text);
}

static int usage_failure(const struct command *c, const struct error *err)
{
	print_error(c ? c->name : "", error_text(err));
	fprintf(stderr, "Try 'varve %s%s--help'.\n", c ? c->name : "", c ? " " : "");
	return CLI_USAGE;
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
	return usage_failure(NULL, &err);
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

static void apply_globals(struct cli *cli, const struct args *args)
{
	const char *socket = args_get(args, "socket"), *store = args_get(args, "store");

	if (socket) {
		cli->socket = socket;
		cli->socket_given = true;
	}
	if (store)
		cli->store_dir = store;
	cli->json |= args_has(args, "json");
	if (args_has(args, "wide"))
		cli_set_wide();
}

static int check_words(const struct command *c, const struct args *args, struct error *err)
{
	if (args->count < c->min_words)
		return error_set(err, -EINVAL, "needs %s", c->words);
	if (c->max_words >= 0 && args->count > c->max_words)
		return error_set(err, -EINVAL, "does not take '%.100s'", args->words[c->max_words]);
	return 0;
}

static int run_command(struct cli *cli, const struct command *c, int argc, char **argv)
{
	struct error err = ERROR_INIT;
	struct args args;
	int r = args_parse(c->options, cli_global_options, c == &complete_command, argc, argv,
			   &args, &err);

	if (r < 0)
		return usage_failure(c, &err);
	if (args_has(&args, "help")) {
		print_command_help(c);
		return 0;
	}
	if (args_has(&args, "version"))
		return print_version();
	apply_globals(cli, &args);
	if (check_words(c, &args, &err) < 0)
		return usage_failure(c, &err);
	if (cli->store_dir && !c->takes_store) {
		error_set(&err, -EINVAL, "needs a daemon: it cannot work on a --store");
		return usage_failure(c, &err);
	}
	r = c->run(cli, &args, &err);
	if (r == CLI_USAGE)
		return usage_failure(c, &err);
	if (r < 0 && !err.msg[0] && ferror(stdout))
		error_set_errno(&err, r, "writing the output");
	if (r < 0) {
		err.code = err.code ? err.code : r;
		print_error(c->name, error_text(&err));
		return cli->failure_status ? cli->failure_status : CLI_FAILED;
	}
	return r;
}

static int start(struct cli *cli, int argc, char **argv)
{
	struct error err = ERROR_INIT;
	struct args args;

	if (args_parse(cli_global_options, NULL, true, argc - 1, argv + 1, &args, &err) < 0)
		return usage_failure(NULL, &err);
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
	apply_globals(cli, &args);
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

/* A closed one is empty: it must not become whatever is opened next. */
static void secure_stdin(void)
{
	if (fcntl(STDIN_FILENO, F_GETFD) < 0 && open("/dev/null", O_RDONLY) > STDIN_FILENO)
		abort();
}

int main(int argc, char **argv)
{
	const char *socket = getenv("SNAPSHOTD_SOCKET");
	struct cli cli = { .socket = CLI_SOCKET_DEFAULT };

	secure_stdin();
	/* For the width of characters; what is printed is UTF-8 in any locale. */
	if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		setlocale(LC_CTYPE, "C.UTF-8");
	log_set_level(LOG_ERROR);
	if (socket && *socket) {
		cli.socket = socket;
		cli.socket_given = true;
	}
	int status = start(&cli, argc, argv);
	errno = 0;
	if ((fflush(stdout) == EOF || ferror(stdout)) && status == 0) {
		fprintf(stderr, "varve: writing the output: %s\n", strerror(errno ? errno : EIO));
		status = CLI_FAILED;
	}
	if (status == 0)
		status = cli.status;
	client_free(cli.client);
	store_close(cli.store);
	free(cli.state_dir);
	return status;
}
