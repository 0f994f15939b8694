#include "tools/cli/export_sink.h"

#include <string.h>

int export_sink_write(void *sink, const void *data, size_t len)
{
	struct export_sink *s = sink;

	s->bytes += len;
	struct progress_state state = { .phase = "exporting",
					.done_bytes = s->bytes,
					.total_bytes = s->bytes < s->total ? s->total : 0 };
	progress_bar_update(&s->bar, &state);
	return s->write ? s->write(s->arg, data, len) : out_file_write(&s->file, data, len);
}

static int run_tar(struct cli *cli, const struct args *args, const struct export_ways *ways,
		   struct error *err)
{
	struct export_sink s = { .file = OUT_FILE_NONE };
	int r = out_file_open(&s.file, args->words[2], err);

	progress_bar_init(&s.bar);
	if (r == 0)
		r = ways->tar(cli, args->words[0], &s, err);
	progress_bar_fini(&s.bar);
	return out_file_close(&s.file, r, err);
}

int export_run(struct cli *cli, const struct args *args, const struct export_ways *ways,
	       struct error *err)
{
	const char *kind = args->words[1], *path = args->words[2];

	if (strcmp(kind, "tar") == 0)
		return run_tar(cli, args, ways, err);
	if (strcmp(kind, "oci") != 0)
		return cli_usage(err, "exports tar or oci, not '%s'", kind);
	if (strcmp(path, "-") == 0)
		return cli_usage(err, "an OCI image is a directory: '-' cannot be one");
	return ways->oci(cli, args->words[0], path, err);
}
