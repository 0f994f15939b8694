/*
 * varve-store - what varve does with a store itself (tools/cli/store_program.h says why that
 * is a program of its own). Nobody but varve runs it, which has checked the arguments.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"
#include "tools/cli/program.h"
#include "tools/cli/store_program.h"
#include "tools/inspect/inspect_commands.h"

/* argv0: of varve; -EINVAL if it is of another version. */
static int check_caller(const char *argv0, struct error *err)
{
	static const char name[] = "varve ";

	if (strcmp(argv0, STORE_PROGRAM_CALLER) == 0)
		return 0;
	if (strncmp(argv0, name, strlen(name)) == 0)
		return error_set(err, -EINVAL,
				 "varve is of version %.50s, and varve-store, which reads stores "
				 "for it, of " VARVE_VERSION ": install both of one version",
				 argv0 + strlen(name));
	return error_set(err, -EINVAL, "this program is for a varve " VARVE_VERSION " to run");
}

static const struct inspect_command *find(const char *name)
{
	for (const struct inspect_command *c = inspect_commands; c->name; c++)
		if (name && strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

static int start(struct cli *cli, int argc, char **argv)
{
	struct error err = ERROR_INIT;
	struct args args;

	if (check_caller(argv[0], &err) < 0)
		return program_usage_failure(NULL, &err);
	if (args_parse(cli_global_options, NULL, true, argc - 1, argv + 1, &args, &err) < 0)
		return program_usage_failure(NULL, &err);
	program_apply_globals(cli, &args);
	const struct inspect_command *c = find(args.words[0]);
	if (!c) {
		error_set(&err, -EINVAL, "this program is for varve to run");
		return program_usage_failure(NULL, &err);
	}
	if (args_parse(c->options, cli_global_options, false, args.count - 1, args.words + 1, &args,
		       &err) < 0)
		return program_usage_failure(c->name, &err);
	program_apply_globals(cli, &args);
	return program_run(cli, c->name, c->run, &args);
}

int main(int argc, char **argv)
{
	struct cli cli = { 0 };

	program_begin();
	int status = program_end(&cli, argc > 0 ? start(&cli, argc, argv) : CLI_FAILED);
	cli_store_close(&cli);
	return status;
}
