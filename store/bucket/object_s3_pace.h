/*
 * object_s3_pace.h - how fast one may ask a service that others ask too: requests in flight, when
 * to try again, when to ask twice. Pure: the caller tells the time, and draws are from a seed.
 *
 *  - In flight: starts at 16; x 0.7 when the service says that it is too much, at most once for
 *    those that were under way then; + 1 a second.
 *  - Again: after a pause with decorrelated jitter, and out of a budget: 10 % of what succeeds, and
 *    one a second. What succeeds at last gives back what it took, so that a service that returns
 *    after an outage is asked as fast as it answers.
 *  - Twice (hedging): when a small read takes longer than 95 % of the last ones; 5 % at most.
 */
#ifndef VARVE_OBJECT_S3_PACE_H
#define VARVE_OBJECT_S3_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/macros.h"

#define S3_PACE_SAMPLES 128u

struct s3_pace {
	double window; /* requests in flight */
	unsigned max;
	int64_t grown_ms, cut_ms;
	double retries; /* what the budget has */
	int64_t filled_ms;
	double hedges;
	uint32_t latency_us[S3_PACE_SAMPLES]; /* of small reads, a ring */
	unsigned n_latencies;		      /* ever */
	uint32_t p95_us;
	uint64_t random;
};

/* max: requests in flight, at least 1. Times are milliseconds of a clock that only goes on. */
void s3_pace_init(struct s3_pace *p, unsigned max, uint64_t seed, int64_t now_ms);
unsigned s3_pace_window(struct s3_pace *p, int64_t now_ms);
/* The service refused, as too many, a request that was sent at started_ms. */
void s3_pace_throttled(struct s3_pace *p, int64_t started_ms, int64_t now_ms);

/* Milliseconds to wait before trying again; last: what this gave the time before, at first 0. */
unsigned s3_pace_backoff(struct s3_pace *p, unsigned last, bool throttled);
/* Take one retry out of the budget, if it has one. */
MUST_CHECK bool s3_pace_take_retry(struct s3_pace *p, int64_t now_ms);
/* A request succeeded, having taken that many retries. */
void s3_pace_succeeded(struct s3_pace *p, unsigned retries);

/* A small read was asked; each earns a twentieth of a hedge. */
void s3_pace_earn_hedge(struct s3_pace *p);
void s3_pace_latency(struct s3_pace *p, int64_t us);
/* How long a small read may take before it is asked again: 20 ms to 2 s. */
unsigned s3_pace_hedge_after_ms(const struct s3_pace *p);
MUST_CHECK bool s3_pace_take_hedge(struct s3_pace *p);

#endif
