/* daemon_access.c - the daemon, as commands reach it: cli_client, cli_call, cli_state_dir. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/bytes_json.h"
#include "tools/cli/cli.h"

struct client *cli_client(struct cli *cli, struct error *err)
{
	if (!cli->client) {
		int r = client_new(cli->socket, &cli->client, err);
		if (r < 0)
			err->code = r;
	}
	return cli->client;
}

int cli_call(struct cli *cli, const char *method, const char *fmt, const char *arg,
	     const json_t *body, json_t **out, struct error *err)
{
	CLEANUP(buf_fini_p) struct buf path = BUF_INIT;
	struct client *c = cli_client(cli, err);

	if (!c)
		return err->code;
	if (client_path(&path, fmt, arg) < 0 || !buf_cstr(&path))
		return -ENOMEM;
	return client_call(c, method, (const char *)path.data, body, out, err);
}

int cli_snapshot(struct cli *cli, const char *name, json_t **out, struct error *err)
{
	return cli_call(cli, "GET", "/api/snapshots/%s", name, NULL, out, err);
}

static bool is_store(const char *dir)
{
	char *path = NULL;

	if (asprintf(&path, "%s/FORMAT", dir) < 0)
		return false;
	bool found = access(path, F_OK) == 0;
	free(path);
	return found;
}

/*
 * The store of the daemon that answers at the socket; without one, that of the
 * default place, but only where the user named no socket.
 */
static int find_dir(struct cli *cli, char **out, struct error *err)
{
	json_t *health = NULL;
	int r = cli_call(cli, "GET", "/healthz", NULL, NULL, &health, err);

	if (r == 0) {
		CLEANUP(buf_fini_p) struct buf dir = BUF_INIT;
		r = bytes_json_get(health, "stateDir", &dir);
		json_decref(health);
		if (r < 0)
			return error_set(err, -EIO, "snapshotd does not tell its state directory");
		*out = strndup((const char *)dir.data, dir.len);
		return *out ? 0 : -ENOMEM;
	}
	if (r != -ECONNREFUSED || cli->socket_given)
		return r;
	if (!is_store(CLI_STATE_DEFAULT))
		return error_set(err, -ENOENT,
				 "no snapshotd at %s and no store in %s: name one with --store DIR",
				 cli->socket, CLI_STATE_DEFAULT);
	*err = (struct error)ERROR_INIT;
	*out = strdup(CLI_STATE_DEFAULT);
	return *out ? 0 : -ENOMEM;
}

int cli_state_dir(struct cli *cli, const char **out, struct error *err)
{
	int r = cli->state_dir ? 0 : find_dir(cli, &cli->state_dir, err);

	if (r == 0)
		*out = cli->state_dir;
	return r;
}
