/*
 * export_sink.h - where an export goes, with its progress, for the two programs that
 * write exports: from the daemon, and from a store.
 */
#ifndef VARVE_TOOLS_EXPORT_SINK_H
#define VARVE_TOOLS_EXPORT_SINK_H

#include "tools/cli/cli.h"
#include "tools/cli/out_file.h"
#include "tools/cli/progress_bar.h"

struct export_sink {
	struct out_file file;
	int (*write)(void *arg, const void *data, size_t len); /* instead of file, or NULL */
	void *arg;
	struct progress_bar bar;
	uint64_t bytes, total; /* total 0: unknown */
};

/* An export_write_fn; arg is the sink. */
int export_sink_write(void *sink, const void *data, size_t len);

/* Both get the snapshot's name; the tar goes to the sink, the image to a directory. */
struct export_ways {
	int (*tar)(struct cli *cli, const char *name, struct export_sink *s, struct error *err);
	int (*oci)(struct cli *cli, const char *name, const char *dir, struct error *err);
};
/* The command, with its words: by the way that they ask for. CLI_USAGE: neither. */
MUST_CHECK int export_run(struct cli *cli, const struct args *args, const struct export_ways *ways,
			  struct error *err);

#endif
