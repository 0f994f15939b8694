/* cmd_daemon.c - the daemon itself: letting another build of it go on. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "tools/commands/commands.h"

#define WAIT_MS 120000
#define POLL_MS 20

/* Until another daemon than number `before` is ready; which. */
static int wait_for_successor(struct client *c, json_int_t before, json_t **out, struct error *err)
{
	const int64_t until = monotonic_ms() + WAIT_MS;

	while (monotonic_ms() < until) {
		json_t *o = NULL;
		/* Whoever leaves may break the connection off. */
		int r = client_call(c, "GET", "/healthz", NULL, &o, err);

		if (r == 0 && json_integer_value(json_object_get(o, "generation")) > before &&
		    json_is_true(json_object_get(o, "ready"))) {
			*out = o;
			return 0;
		}
		json_decref(o);
		usleep(POLL_MS * 1000);
	}
	return error_set(err, -ETIMEDOUT, "no daemon is ready");
}

int cmd_daemon(struct cli *cli, const struct args *args, struct error *err)
{
	struct client *c;
	json_t *o = NULL;
	json_int_t before, now = 0;
	const char *why = NULL;

	if (strcmp(args->words[0], "upgrade") != 0)
		return cli_usage(err, "upgrade, not '%s'", args->words[0]);
	c = cli_client(cli, err);
	int r = c ? client_call(c, "POST", "/api/daemon/upgrade", NULL, &o, err) : err->code;

	before = json_integer_value(json_object_get(o, "generation"));
	json_decref(o);
	o = NULL;
	if (r == 0)
		r = wait_for_successor(c, before, &o, err);
	if (r == 0) {
		now = json_integer_value(json_object_get(o, "generation"));
		why = json_string_value(json_object_get(o, "upgradeFailure"));
	}
	if (r == 0 && now != before + 1)
		r = error_set(err, -EIO,
			      "the new program did not come up, and the one before it goes on: %s",
			      why ? why : "see the daemon's log");
	if (r == 0)
		r = cli->json ? cli_print_json(o) : cli_print_fields(o);
	json_decref(o);
	return r;
}
