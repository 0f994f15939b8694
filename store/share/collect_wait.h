/*
 * collect_wait.h - the part of a round that waits for pushes which began before it (collect.h, 3).
 */
#ifndef VARVE_SHARE_COLLECT_WAIT_H
#define VARVE_SHARE_COLLECT_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/macros.h"
#include "store/base/progress.h"
#include "store/bucket/object_store.h"
#include "store/layout/share_key.h"

struct collect_wait {
	/* in */
	struct object_store *os;
	int64_t give_up_s; /* as in struct collect_options */
	void (*pause)(void *arg);
	void *pause_arg;
	struct progress *p;
	uint64_t epoch; /* of the round */
	/* out: collect_wait_fini */
	struct buf intents; /* struct listed_intent, ascending: as the last LIST showed them */
	uint64_t given_up;
};

struct listed_intent {
	struct share_id id, node;
	int64_t modified; /* by the service's clock */
	uint64_t epoch;
	bool decided; /* its record exists; only looked at if it began before the round */
	bool gone;    /* the intent was deleted since */
};

/* Until all have decided. An intent that cannot be read or understood is a failure. */
MUST_CHECK int collect_wait_run(struct collect_wait *w, struct error *err);
/* Delete the intents of pushes that began before the round and have decided. */
MUST_CHECK int collect_wait_tidy(struct collect_wait *w, struct error *err);
void collect_wait_fini(struct collect_wait *w);

#endif
