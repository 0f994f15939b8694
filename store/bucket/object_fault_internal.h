/*
 * object_fault_internal.h - what the files of object_fault share: object_fault.c has the requests,
 * object_fault_plan.c reads plans, object_fault_old.c remembers what keys had.
 */
#ifndef VARVE_OBJECT_FAULT_INTERNAL_H
#define VARVE_OBJECT_FAULT_INTERNAL_H

#include <pthread.h>

#include "store/bucket/object_fault.h"

struct fault_plan {
	uint64_t seed;
	double drop, lost, delay, throttle, repeat, flip, cut, stale, hide;
	unsigned delay_ms;
	bool has_clock;
	int64_t clock_ms;
	char clock_path[256], frozen[256], under[OBJECT_KEY_MAX + 1];
	uint64_t die, die_after; /* 0: never */
	unsigned ops;		 /* bits by enum object_op */
};
/* -EINVAL with why. */
MUST_CHECK int fault_plan_parse(const char *text, struct fault_plan *out, struct error *err);
/* "30ms", "-2s", "15m" in milliseconds. -EINVAL. */
MUST_CHECK int fault_parse_time(const char *text, int64_t *out_ms);

#define FAULT_OLD_KEYS 256u
#define FAULT_OLD_BYTES (64u << 10) /* longer bodies are not remembered */

/* The last two bodies of keys, of those that hash to a slot the latest. Zeroed: none. */
struct fault_old {
	pthread_mutex_t lock;
	struct fault_old_slot {
		char *key;
		struct buf now, before;
	} slots[FAULT_OLD_KEYS]; /* guarded by lock */
};
void fault_old_init(struct fault_old *o);
void fault_old_fini(struct fault_old *o);
void fault_old_note(struct fault_old *o, const char *key, const void *body, size_t len);
/* The body before the latest, in out. False: not known, or out of memory. */
bool fault_old_get(struct fault_old *o, const char *key, struct buf *out);

#endif
