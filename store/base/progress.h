/* progress.h - how long-running work reports progress, and learns that it should stop. */
#ifndef VARVE_PROGRESS_H
#define VARVE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	/* May be NULL. Called from the worker's thread at most ~10 times a second. */
	void (*report)(void *arg, const struct progress *p);
	/* May be NULL. True: stop soon with -ECANCELED. Called from any worker. */
	bool (*cancelled)(void *arg);
	void *arg;
	/* Filled by the work. Total 0: unknown. */
	const char *phase; /* "reading", "sealing", "marking", ... */
	uint64_t done_items, total_items;
	uint64_t done_bytes, total_bytes;
	/* private to progress_tick */
	int64_t last_report_ms;
};

/* Call report if it is due (force: now). p may be NULL. */
void progress_tick(struct progress *p, bool force);
/* p may be NULL. */
bool progress_cancelled(struct progress *p);

#endif
