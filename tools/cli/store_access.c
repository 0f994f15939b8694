/* store_access.c - cli_store: opening the store to look into. */
#include <errno.h>

#include "store/lazy/absent.h"
#include "store/store.h"
#include "tools/cli/cli.h"

/* What is only in a bucket is no damage. */
static int know_absent(struct cli *cli, struct error *err)
{
	int r = lazy_index_open(cli->store->dir_fd, &cli->index, err);

	if (r < 0)
		return r;
	cli->absent = absent_new(cli->index);
	if (!cli->absent)
		return error_set(err, -ENOMEM, "out of memory");
	store_set_far(cli->store, cli->absent);
	return 0;
}

int cli_store(struct cli *cli, struct store **out, struct error *err)
{
	static const struct store_options options = { .read_only = true };

	if (!cli->store_dir)
		return error_set(err, -EINVAL, "needs --store DIR");
	if (!cli->store) {
		int r = store_open(cli->store_dir, &options, &cli->store, err);
		if (r == -EACCES)
			error_set(err, r, "no permission to read the store in %s", cli->store_dir);
		if (r == 0)
			r = know_absent(cli, err);
		if (r < 0)
			return r;
	}
	*out = cli->store;
	return 0;
}

void cli_store_close(struct cli *cli)
{
	store_close(cli->store);
	source_free(cli->absent);
	lazy_index_free(cli->index);
}
