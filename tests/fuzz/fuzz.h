/*
 * fuzz.h - what the fuzzers share: the entry point, a checked condition, a
 * scratch store, and a reader that cuts the input into parts.
 *
 * A fuzzer looks for crashes and hangs, and for broken promises: what decodes
 * encodes to the same bytes again, what is imported verifies and comes out as it
 * went in.
 */
#ifndef VARVE_FUZZ_H
#define VARVE_FUZZ_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "store/base/log.h"
#include "store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                                                 \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                   \
		}                                                                  \
	} while (0)

/* A store in a directory of its own below TMPDIR, opened once and removed at exit. */
static char fuzz_dir[4096];
static struct store *fuzz_store_handle;

static inline void fuzz_store_close(void)
{
	char cmd[2 * sizeof(fuzz_dir) + 32];

	store_close(fuzz_store_handle);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s' '%s.image'", fuzz_dir, fuzz_dir);
	if (system(cmd) != 0) /* NOLINT: our own mkdtemp name */
		fprintf(stderr, "%s is left\n", fuzz_dir);
}

static inline struct store *fuzz_store(void)
{
	struct error err = ERROR_INIT;
	struct store_options opt = { .node_cache_bytes = 4u << 20,
				     .chunk_cache_bytes = 4u << 20,
				     .block_cache_bytes = 4u << 20 };
	const char *tmp = getenv("TMPDIR");

	if (fuzz_store_handle)
		return fuzz_store_handle;
	snprintf(fuzz_dir, sizeof(fuzz_dir), "%s/fuzz-XXXXXX", tmp ? tmp : "/tmp");
	MUST(mkdtemp(fuzz_dir));
	if (store_open(fuzz_dir, &opt, &fuzz_store_handle, &err) != 0) {
		fprintf(stderr, "store: %s\n", error_text(&err));
		abort();
	}
	atexit(fuzz_store_close);
	log_set_level(LOG_ERROR);
	return fuzz_store_handle;
}

#endif
