/* daemon_access.c - the daemon, as commands reach it: cli_client, cli_call, cli_state_dir. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/bytes_json.h"
#include "tools/cli/cli.h"

static const char *environment(const char *name)
{
	const char *s = getenv(name);

	return s && *s ? s : NULL;
}

const char *cli_environment_socket(void)
{
	const char *s = environment("VARVE_SOCKET");

	return s ? s : environment("SNAPSHOTD_SOCKET");
}

static int find_address(struct cli *cli, struct error *err)
{
	const char *url = cli->url, *socket = cli->socket;
	bool typed = url || socket;

	if (url && socket)
		return error_set(err, -EINVAL, "give --url or --socket, not both");
	if (!typed) {
		url = environment("VARVE_API_URL");
		socket = cli_environment_socket();
	}
	cli->daemon_given = url || socket;
	if (!url)
		return address_of_socket(&cli->daemon, socket ? socket : CLI_SOCKET_DEFAULT, err);
	int r = address_of_url(&cli->daemon, url, environment("VARVE_API_KEY"), err);
	return r < 0 ? error_prefix(err, r, typed ? "--url" : "VARVE_API_URL") : 0;
}

const struct address *cli_address(struct cli *cli, struct error *err)
{
	if (!cli->daemon.text[0] && find_address(cli, err) < 0) {
		cli->daemon = (struct address){ 0 };
		return NULL;
	}
	return &cli->daemon;
}

bool cli_is_remote(struct cli *cli)
{
	struct error ignored = ERROR_INIT;
	const struct address *a = cli_address(cli, &ignored);

	return a && address_is_tcp(a);
}

struct client *cli_client(struct cli *cli, struct error *err)
{
	const struct address *a = cli->client ? NULL : cli_address(cli, err);

	if (a && !(cli->client = client_new(a)))
		error_set(err, -ENOMEM, "out of memory");
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

int cli_daemon_path(struct cli *cli, const char *path, char **out, struct error *err)
{
	if (*path != '/' && cli_is_remote(cli))
		return error_set(err, -EINVAL,
				 "over TCP a path is one of snapshotd's host, and begins with a "
				 "slash, unlike '%.100s'",
				 path);
	return cli_json_path(path, out, err);
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
	int r;

	if (cli_is_remote(cli))
		return error_set(err, -ENOTSUP,
				 "reads the store itself, which is on the host of snapshotd: over "
				 "TCP there is 'varve export SNAPSHOT tar -', or run it there");
	r = cli_call(cli, "GET", "/healthz", NULL, NULL, &health, err);
	if (r == 0) {
		CLEANUP(buf_fini_p) struct buf dir = BUF_INIT;
		r = bytes_json_get(health, "stateDir", &dir);
		json_decref(health);
		if (r < 0)
			return error_set(err, -EIO, "snapshotd does not tell its state directory");
		*out = strndup((const char *)dir.data, dir.len);
		return *out ? 0 : -ENOMEM;
	}
	if (r != -ECONNREFUSED || cli->daemon_given)
		return r;
	if (!is_store(CLI_STATE_DEFAULT))
		return error_set(err, -ENOENT,
				 "no snapshotd at %s and no store in %s: name one with --store DIR",
				 cli->daemon.text, CLI_STATE_DEFAULT);
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
