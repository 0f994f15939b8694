/* store_access.c - cli_store: opening the store to look into. */
#include <errno.h>

#include "store/store.h"
#include "tools/cli/cli.h"

int cli_store(struct cli *cli, struct store **out, struct error *err)
{
	static const struct store_options options = { .read_only = true };

	if (!cli->store_dir)
		return error_set(err, -EINVAL, "needs --store DIR");
	if (!cli->store) {
		int r = store_open(cli->store_dir, &options, &cli->store, err);
		if (r == -EACCES)
			error_set(err, r, "no permission to read the store in %s", cli->store_dir);
		if (r < 0)
			return r;
	}
	*out = cli->store;
	return 0;
}
