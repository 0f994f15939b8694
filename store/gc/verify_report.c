/* What all steps of a verification say while it runs: problems, and how far it is. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "store/gc/verify_internal.h"

void verify_report(struct verify *v, const char *snapshot, const char *path, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	v->res.damaged++;
	if (v->fn)
		v->fn(v->arg, snapshot, path ? path : "", text);
}

const char *verify_reason(int rc)
{
	switch (rc) {
	case -ENODATA:
		return "is missing";
	case -EBADMSG:
		return "is damaged";
	default:
		return "cannot be read";
	}
}

bool verify_is_damage(int rc)
{
	return rc == -ENODATA || rc == -EBADMSG || rc == -EIO;
}

void verify_phase(struct verify *v, const char *name, uint64_t total)
{
	if (!v->p)
		return;
	v->p->phase = name;
	v->p->done_items = v->p->done_bytes = v->p->total_bytes = 0;
	v->p->total_items = total;
	progress_tick(v->p, true);
}

int verify_step(struct verify *v)
{
	if (!v->p)
		return 0;
	pthread_mutex_lock(&v->lock);
	v->p->done_bytes = v->res.raw_bytes;
	int failure = v->failure;
	pthread_mutex_unlock(&v->lock);
	v->p->done_items++;
	progress_tick(v->p, false);
	if (failure)
		return failure;
	return progress_cancelled(v->p) ? -ECANCELED : 0;
}
