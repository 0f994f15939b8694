/* inspect_export.c - export of a snapshot of a store. */
#include <errno.h>

#include "store/export/export.h"
#include "store/store.h"
#include "tools/cli/export_sink.h"
#include "tools/inspect/inspect.h"
#include "tools/inspect/inspect_commands.h"

static int check(struct cli *cli, const struct inspect *in, enum export_format format,
		 struct error *err)
{
	struct remarks remarks;
	int r = export_check(cli->store, &in->snap.root, format, &remarks, err);
	json_t *list = r == 0 ? remarks_to_json(&remarks) : NULL;

	cli_print_remarks(list);
	json_decref(list);
	return r;
}

static int tar_to_sink(struct cli *cli, const char *name, struct export_sink *s, struct error *err)
{
	struct inspect in;
	int r = inspect_open(cli, name, false, &in, err);

	if (r < 0)
		return r;
	s->total = in.snap.size_bytes;
	r = check(cli, &in, EXPORT_TAR, err);
	if (r == 0)
		r = export_tar(cli->store, &in.snap.root, export_sink_write, s, NULL, err);
	inspect_close(&in);
	return r;
}

static int export_oci_to(struct cli *cli, const char *name, const char *path, struct error *err)
{
	struct progress_bar bar;
	struct inspect in;
	int r = inspect_open(cli, name, false, &in, err);

	if (r < 0)
		return r;
	r = check(cli, &in, EXPORT_OCI, err);
	if (r < 0) {
		inspect_close(&in);
		return r;
	}
	progress_bar_init(&bar);
	struct progress p = progress_bar_hook(&bar);
	const struct export_image img = { &in.snap.root, in.snap.config,
					  in.snap.name[0] ? in.snap.name : in.snap.id };
	r = export_oci(cli->store, &img, path, &p, err);
	progress_bar_fini(&bar);
	inspect_close(&in);
	return r;
}

int inspect_export(struct cli *cli, const struct args *args, struct error *err)
{
	const struct export_ways ways = { tar_to_sink, export_oci_to };

	return export_run(cli, args, &ways, err);
}
