#include "store/bucket/object_s3_pace.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW_START 16.0
#define WINDOW_CUT 0.7
#define RETRY_SHARE 0.1 /* of successes */
#define RETRY_A_SECOND 1.0
#define RETRIES_MAX 20.0
#define HEDGE_SHARE 0.05
#define HEDGES_MAX 5.0
#define HEDGE_MIN_MS 20u
#define HEDGE_MAX_MS 2000u
#define HEDGE_UNKNOWN_MS 500u /* before there are enough samples */
#define SAMPLES_MIN 20u
#define BACKOFF_MS 50u
#define BACKOFF_THROTTLED_MS 200u
#define BACKOFF_MAX_MS 5000u

void s3_pace_init(struct s3_pace *p, unsigned max, uint64_t seed, int64_t now_ms)
{
	*p = (struct s3_pace){ .max = max,
			       .window = max < WINDOW_START ? max : WINDOW_START,
			       .grown_ms = now_ms,
			       .cut_ms = INT64_MIN,
			       .retries = RETRIES_MAX / 2,
			       .filled_ms = now_ms,
			       .hedges = 1,
			       .random = seed };
}

unsigned s3_pace_window(struct s3_pace *p, int64_t now_ms)
{
	int64_t seconds = (now_ms - p->grown_ms) / 1000;

	if (seconds > 0) {
		p->window = MIN(p->window + (double)seconds, (double)p->max);
		p->grown_ms += seconds * 1000;
	}
	return (unsigned)p->window;
}

void s3_pace_throttled(struct s3_pace *p, int64_t started_ms, int64_t now_ms)
{
	if (started_ms < p->cut_ms)
		return;
	p->window = MAX(s3_pace_window(p, now_ms) * WINDOW_CUT, 1.0);
	p->cut_ms = now_ms;
	p->grown_ms = now_ms;
}

/* splitmix64 */
static uint64_t draw(struct s3_pace *p)
{
	uint64_t z = (p->random += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

unsigned s3_pace_backoff(struct s3_pace *p, unsigned last, bool throttled)
{
	unsigned low = throttled ? BACKOFF_THROTTLED_MS : BACKOFF_MS;
	unsigned high = MIN(MAX(last, low) * 3, BACKOFF_MAX_MS);

	return low + (unsigned)(draw(p) % (high - low + 1));
}

bool s3_pace_take_retry(struct s3_pace *p, int64_t now_ms)
{
	p->retries += (double)(now_ms - p->filled_ms) / 1000 * RETRY_A_SECOND;
	p->retries = MIN(p->retries, RETRIES_MAX);
	p->filled_ms = now_ms;
	if (p->retries < 1)
		return false;
	p->retries -= 1;
	return true;
}

void s3_pace_succeeded(struct s3_pace *p, unsigned retries)
{
	p->retries = MIN(p->retries + (retries ? retries : RETRY_SHARE), RETRIES_MAX);
}

void s3_pace_earn_hedge(struct s3_pace *p)
{
	p->hedges = MIN(p->hedges + HEDGE_SHARE, HEDGES_MAX);
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

void s3_pace_latency(struct s3_pace *p, int64_t us)
{
	uint32_t sorted[S3_PACE_SAMPLES];

	p->latency_us[p->n_latencies++ % S3_PACE_SAMPLES] = (uint32_t)MIN(us, (int64_t)UINT32_MAX);
	/* Sorting costs a few microseconds: not for each. */
	if (p->n_latencies < SAMPLES_MIN || p->n_latencies % 16)
		return;
	unsigned n = MIN(p->n_latencies, S3_PACE_SAMPLES);
	memcpy(sorted, p->latency_us, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), by_size);
	p->p95_us = sorted[n * 95 / 100];
}

unsigned s3_pace_hedge_after_ms(const struct s3_pace *p)
{
	unsigned ms = p->p95_us / 1000 + (p->p95_us % 1000 > 0);

	if (!p->p95_us)
		return HEDGE_UNKNOWN_MS;
	return MIN(MAX(ms, HEDGE_MIN_MS), HEDGE_MAX_MS);
}

bool s3_pace_take_hedge(struct s3_pace *p)
{
	if (p->hedges < 1)
		return false;
	p->hedges -= 1;
	return true;
}
