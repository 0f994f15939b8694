/*
 * progress_bar.h - one line on stderr that says how far long work is. Silent
 * unless stderr is a terminal.
 */
#ifndef VARVE_TOOLS_PROGRESS_BAR_H
#define VARVE_TOOLS_PROGRESS_BAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "store/base/progress.h"

struct progress_state {
	const char *phase;
	uint64_t done_items, total_items; /* total 0: unknown */
	uint64_t done_bytes, total_bytes;
};

struct progress_bar {
	bool shown; /* stderr is a terminal */
	bool drawn; /* a line stands there */
	int64_t started_ms, drawn_ms;
	char phase[64]; /* the rate counts from where the phase started */
	uint64_t phase_bytes;
	int64_t phase_ms;
};

void progress_bar_init(struct progress_bar *b);
/* Draw, at most some ten times a second. */
void progress_bar_update(struct progress_bar *b, const struct progress_state *s);
/* From {"phase", "doneItems", "totalItems", "doneBytes", "totalBytes"}. */
void progress_bar_update_json(struct progress_bar *b, const json_t *o);
/* Take the line away, so that what is printed next starts on a clean one. */
void progress_bar_fini(struct progress_bar *b);

/* For work in this process; b outlives it. */
struct progress progress_bar_hook(struct progress_bar *b);

/*
 * The line, of at most width - 1 columns, without a line end. bytes_per_second
 * 0: unknown. size >= 1.
 */
void progress_format(const struct progress_state *s, uint64_t bytes_per_second, unsigned width,
		     char *out, size_t size);

#endif
