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

/* The words of export: is it an OCI image that they ask for? Else CLI_USAGE. */
MUST_CHECK int export_words(const struct args *args, bool *out_oci, struct error *err);

#endif
