#include "tools/libvarve/retry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "store/base/clock.h"

#define PAUSE_FIRST_MS 20
#define PAUSE_MAX_MS 500

struct retry_policy retry_policy_get(void)
{
	const char *text = getenv(RETRY_VARIABLE);
	char *end;
	double s = text && *text ? strtod(text, &end) : -1;

	if (!(s >= 0 && s <= 86400) || *end)
		return (struct retry_policy){ .for_ms = RETRY_MS_DEFAULT };
	return (struct retry_policy){ .for_ms = (int64_t)(s * 1000), .always = true };
}

void retry_answered(struct retry_peer *d, bool keys)
{
	d->reached = true;
	d->keys = keys ? RETRY_KEYS : RETRY_KEYS_NONE;
}

bool retry_asks(const struct retry_policy *p, const struct retry_peer *d, const char *key)
{
	return *key && p->for_ms > 0 && d->keys == RETRY_KEYS_UNKNOWN;
}

bool retry_may(const struct retry_policy *p, struct retry_peer *d, enum retry_failure f,
	       const char *method)
{
	switch (f) {
	case RETRY_NOT_REACHED:
		return d->reached || p->always;
	case RETRY_UNAVAILABLE:
	case RETRY_PENDING:
		return true;
	default: /* it was there */
		d->reached = true;
		return strcmp(method, "GET") == 0 || strcmp(method, "PUT") == 0 ||
		       d->keys == RETRY_KEYS;
	}
}

int64_t retry_next(struct retry *r, const struct retry_policy *p, enum retry_failure f)
{
	int64_t now = monotonic_ms();

	if (f == RETRY_BROKEN || f == RETRY_BROKEN_OFF) {
		if (r->breaks++ == RETRY_BREAKS_MAX)
			return -1;
		r->end_ms = 0;
	}
	if (f == RETRY_PENDING) {
		if (!r->pending_end_ms)
			r->pending_end_ms = now + RETRY_PENDING_MAX_MS;
		if (now >= r->pending_end_ms)
			return -1;
		r->end_ms = 0;
	}
	if (!r->end_ms) {
		r->end_ms = now + p->for_ms;
		r->pause_ms = PAUSE_FIRST_MS;
	}
	if (p->for_ms == 0 || now >= r->end_ms)
		return -1;
	int64_t pause = MIN(r->pause_ms, r->end_ms - now);
	r->pause_ms = MIN(2 * r->pause_ms, PAUSE_MAX_MS);
	return pause;
}

void retry_key(char out[RETRY_KEY_SIZE])
{
	unsigned char bytes[(RETRY_KEY_SIZE - 1) / 2];

	out[0] = '\0';
	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return;
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}
