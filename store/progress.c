#include "store/progress.h"

#include <stddef.h>
#include <time.h>

#define REPORT_EVERY_MS 100

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void progress_tick(struct progress *p, bool force)
{
	if (!p || !p->report)
		return;
	int64_t now = now_ms();
	int64_t last = __atomic_load_n(&p->last_report_ms, __ATOMIC_RELAXED);
	if (!force && last != 0 && now - last < REPORT_EVERY_MS)
		return;
	/* Of several workers that find a report due, one makes it. */
	if (!__atomic_compare_exchange_n(&p->last_report_ms, &last, now, false, __ATOMIC_RELAXED,
					 __ATOMIC_RELAXED) &&
	    !force)
		return;
	p->report(p->arg, p);
}

bool progress_cancelled(struct progress *p)
{
	return p && p->cancelled && p->cancelled(p->arg);
}
