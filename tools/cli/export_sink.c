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

int export_words(const struct args *args, bool *out_oci, struct error *err)
{
	const char *kind = args->words[1], *path = args->words[2];
	bool oci = strcmp(kind, "oci") == 0;

	if (!oci && strcmp(kind, "tar") != 0)
		return cli_usage(err, "exports tar or oci, not '%s'", kind);
	if (oci && strcmp(path, "-") == 0)
		return cli_usage(err, "an OCI image is a directory: '-' cannot be one");
	*out_oci = oci;
	return 0;
}
