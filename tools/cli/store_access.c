/* store_access.c - cli_store: which store to look into, and opening it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/bytes_json.h"
#include "store/store.h"
#include "tools/cli/cli.h"

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

int cli_store(struct cli *cli, struct store **out, struct error *err)
{
	static const struct store_options options = { .read_only = true };
	int r = 0;

	if (!cli->store) {
		const char *dir = cli->store_dir;

		if (!dir)
			r = cli_state_dir(cli, &dir, err);
		if (r < 0)
			return r;
		r = store_open(dir, &options, &cli->store, err);
		if (r == -EACCES)
			error_set(err, r, "no permission to read the store in %s", dir);
	}
	if (r == 0)
		*out = cli->store;
	return r;
}
