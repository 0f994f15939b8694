/* What every part of a running build asks and tells it. */
#include "snapshotd/build/builds_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "store/base/utf8.h"

bool build_is_cancelled(const struct build *bd)
{
	return atomic_load(&bd->cancelled) || atomic_load(&bd->owner->stopping);
}

void build_info(struct build *bd, const char *fmt, ...)
{
	CLEANUP(buf_fini_p) struct buf valid = BUF_INIT;
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (utf8_append_valid(&valid, text, strlen(text)) == 0)
		build_log_add(bd->log, bd->step,
			      bd->step ? bd->m.steps[bd->step - 1].type_name : "info", BUILD_INFO,
			      (const char *)valid.data, valid.len);
}
