/* inspect_snapshots.c - snapshots, show and history of a store. */
#include <errno.h>

#include "store/names/snapshot.h"
#include "store/remote/lazy_index.h"
#include "store/lazy/share_state.h"
#include "store/lazy/presence.h"
#include "store/store.h"
#include "tools/cli/snapshots_view.h"
#include "tools/inspect/inspect_commands.h"

/* As the daemon tells it. NULL on failure. */
static json_t *to_json(struct store *s, struct lazy_index *ix, const struct snapshot *snap)
{
	json_t *o = snapshot_to_json(snap);

	if (o && share_state_tell(s->kv, ix, snap->id, o) == 0)
		return o;
	json_decref(o);
	return NULL;
}

/* Print and free them. */
static int print_list(const struct cli *cli, const struct args *args, struct store *s,
		      struct snapshot *list, size_t n)
{
	json_t *array = json_array();
	int r = array ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && r == 0; i++)
		r = json_array_append_new(array, to_json(s, cli->index, &list[i])) ? -ENOMEM : 0;
	snapshots_list_free(list, n);
	if (r == 0)
		r = listing_print(cli, args, &snapshots_listing, array);
	json_decref(array);
	return r;
}

int inspect_snapshots(struct cli *cli, const struct args *args, struct error *err)
{
	struct snapshot *list = NULL;
	struct store *s = NULL;
	size_t n = 0;
	int r;

	if (args_has(args, "remote"))
		return error_set(err, -EINVAL,
				 "needs a daemon: a remote cannot be asked on a --store");
	r = listing_check(cli, args, &snapshots_listing, err);
	if (r == 0)
		r = cli_store(cli, &s, err);
	if (r == 0)
		r = snapshots_list(s->snapshots, &list, &n, err);
	return r != 0 ? r : print_list(cli, args, s, list, n);
}

int inspect_history(struct cli *cli, const struct args *args, struct error *err)
{
	struct snapshot *list = NULL;
	struct store *s = NULL;
	size_t n = 0;
	int r = listing_check(cli, args, &snapshots_listing, err);

	if (r == 0)
		r = cli_store(cli, &s, err);
	if (r == 0)
		r = snapshots_history(s->snapshots, args->words[0], &list, &n, err);
	return r != 0 ? r : print_list(cli, args, s, list, n);
}

static int get_one(struct cli *cli, const char *word, void *arg, json_t **out, struct error *err)
{
	struct snapshot snap = { 0 };
	struct presence here = { 0 };
	struct store *s;
	int r = cli_store(cli, &s, err);

	(void)arg;
	if (r == 0)
		r = snapshots_get(s->snapshots, word, &snap, err);
	if (r < 0)
		return r;
	*out = to_json(s, cli->index, &snap);
	if (*out && snap.status == SNAPSHOT_READY && lazy_index_count(cli->index, NULL)) {
		r = presence_of(s, &snap.root, NULL, &here, err);
		if (r == 0)
			r = presence_tell(&here, *out);
	}
	snapshot_fini(&snap);
	return r < 0 || *out ? r : -ENOMEM;
}

int inspect_show(struct cli *cli, const struct args *args, struct error *err)
{
	return snapshots_show(cli, args->words, get_one, err);
}
