#include "tools/cli/program.h"

#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/log.h"

const struct option_spec cli_global_options[] = {
	{ 0, "socket", "PATH",
	  "snapshotd's socket (default $VARVE_SOCKET, $SNAPSHOTD_SOCKET, or " CLI_SOCKET_DEFAULT
	  ")" },
	{ 0, "url", "URL", "snapshotd over TCP, http://HOST:PORT; its key is in $VARVE_API_KEY" },
	{ 0, "store", "DIR", "read the store in DIR itself, without a daemon" },
	{ 'j', "json", NULL, "print JSON" },
	{ 0, "wide", NULL, "shorten no name to fit the terminal" },
	{ 'h', "help", NULL, "print help" },
	{ 'V', "version", NULL, "print the version" },
	{ 0 },
};

/* A closed one is empty: it must not become whatever is opened next. */
static void secure_stdin(void)
{
	if (fcntl(STDIN_FILENO, F_GETFD) < 0 && open("/dev/null", O_RDONLY) > STDIN_FILENO)
		abort();
}

void program_begin(void)
{
	secure_stdin();
	/* For the width of characters; what is printed is UTF-8 in any locale. */
	if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		setlocale(LC_CTYPE, "C.UTF-8");
	log_set_level(LOG_ERROR);
}

void program_apply_globals(struct cli *cli, const struct args *args)
{
	const char *socket = args_get(args, "socket"), *url = args_get(args, "url"),
		   *store = args_get(args, "store");

	if (socket)
		cli->socket = socket;
	if (url)
		cli->url = url;
	if (store)
		cli->store_dir = store;
	cli->json |= args_has(args, "json");
	if (args_has(args, "wide"))
		cli_set_wide();
}

static void print_error(const char *command, const char *text)
{
	cli_tell("varve: %s%s%s", command, *command ? ": " : "", text);
}

int program_usage_failure(const char *command, const struct error *err)
{
	print_error(command ? command : "", error_text(err));
	fprintf(stderr, "Try 'varve %s%s--help'.\n", command ? command : "", command ? " " : "");
	return CLI_USAGE;
}

int program_run(struct cli *cli, const char *command, command_fn *run, const struct args *args)
{
	struct error err = ERROR_INIT;
	int r = run(cli, args, &err);

	if (r == CLI_USAGE)
		return program_usage_failure(command, &err);
	if (r < 0 && !err.msg[0] && ferror(stdout))
		error_set_errno(&err, r, "writing the output");
	if (r < 0) {
		err.code = err.code ? err.code : r;
		print_error(command, error_text(&err));
		return cli->failure_status ? cli->failure_status : CLI_FAILED;
	}
	return r;
}

int program_end(const struct cli *cli, int status)
{
	errno = 0;
	if ((fflush(stdout) == EOF || ferror(stdout)) && status == 0) {
		fprintf(stderr, "varve: writing the output: %s\n", strerror(errno ? errno : EIO));
		status = CLI_FAILED;
	}
	return status == 0 ? cli->status : status;
}
