/* cmd_dashboard.c - the address of the daemon's page, with what lets a browser in. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/commands/commands.h"
#include "tools/cli/text.h"

#define PORT_DEFAULT 8080

const struct option_spec options_dashboard[] = {
	{ 0, "port", "PORT", "the local port that leads to the socket (default 8080)" },
	{ 0 },
};

/* Over TCP there is no token: the page asks for the key. */
static int print_remote(struct cli *cli)
{
	if (cli->json) {
		json_t *o = json_pack("{s:s+}", "url", cli->daemon.text, "/");
		int r = o ? cli_print_json(o) : -ENOMEM;

		json_decref(o);
		return r;
	}
	printf("%s/\n", cli->daemon.text);
	fprintf(stderr, "The page asks for the key.\n");
	return 0;
}

int cmd_dashboard(struct cli *cli, const struct args *args, struct error *err)
{
	const struct client_request rq = { .method = "POST", .path = "/api/dashboard/token" };
	struct client *c = cli_client(cli, err);
	uint64_t port = PORT_DEFAULT;
	const char *token;
	json_t *o = NULL;
	int r;

	if (args_has(args, "port") &&
	    (text_parse_count(args_get(args, "port"), &port) < 0 || port < 1 || port > UINT16_MAX))
		return cli_usage(err, "--port must be 1 to %d", UINT16_MAX);
	if (cli_is_remote(cli))
		return print_remote(cli);
	r = c ? client_run(c, &rq, &o, err) : err->code;
	token = json_string_value(json_object_get(o, "token"));
	if (r == 0 && !token)
		r = error_set(err, -EBADMSG, "snapshotd's answer has no token");
	if (r == 0 && cli->json) {
		r = cli_print_json(o);
	} else if (r == 0) {
		/* After the '#': a browser sends that to nobody. */
		printf("http://localhost:%u/#token=%s\n", (unsigned)port, token);
		fprintf(stderr,
			"Good until snapshotd ends. From another machine, first:\n"
			"  ssh -L %u:%s HOST\n",
			(unsigned)port, cli->daemon.text);
	}
	json_decref(o);
	return r;
}
