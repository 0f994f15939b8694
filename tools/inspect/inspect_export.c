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

static int export_tar_to(struct cli *cli, const char *name, const char *path, struct error *err)
{
	struct export_sink s = { .file = OUT_FILE_NONE };
	int r = out_file_open(&s.file, path, err);

	progress_bar_init(&s.bar);
	if (r == 0)
		r = tar_to_sink(cli, name, &s, err);
	progress_bar_fini(&s.bar);
	return out_file_close(&s.file, r, err);
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
	r = export_oci(cli->store, &in.snap.root, in.snap.config,
		       in.snap.name[0] ? in.snap.name : in.snap.id, path, &p, err);
	progress_bar_fini(&bar);
	inspect_close(&in);
	return r;
}

int inspect_export(struct cli *cli, const struct args *args, struct error *err)
{
	const char *name = args->words[0], *path = args->words[2];
	bool oci = false;
	int r = export_words(args, &oci, err);

	if (r != 0)
		return r;
	return oci ? export_oci_to(cli, name, path, err) : export_tar_to(cli, name, path, err);
}
