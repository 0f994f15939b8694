#include "store/base/progress.h"

#include <stddef.h>
#include <time.h>

#include "store/base/clock.h"

#define REPORT_EVERY_MS 100

void progress_tick(struct progress *p, bool force)
{
	if (!p || !p->report)
		return;
	int64_t now = monotonic_coarse_ms();
	int64_t last = __atomic_load_n(&p->last_report_ms, __ATOMIC_RELAXED);
	if (!force && last != 0 && now - last < REPORT_EVERY_MS)
		return;
	/* If several workers find a report due, one makes it. */
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
