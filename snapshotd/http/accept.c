#include "snapshotd/http/accept.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define Q_ONE 1000

/* The quality in thousandths that the parameters of a range give it. */
static int quality(const char *params, size_t len)
{
	const char *end = params + len;

	for (const char *p = params; p < end; p++) {
		int q = 0, unit = 100;

		if (*p != ';')
			continue;
		while (++p < end && (*p == ' ' || *p == '\t'))
			;
		if (end - p < 3 || (*p != 'q' && *p != 'Q') || p[1] != '=') {
			p--;
			continue;
		}
		if (p[2] != '0')
			return Q_ONE;
		for (p += 4; p < end && *p >= '0' && *p <= '9'; p++, unit /= 10)
			q += (*p - '0') * unit;
		return q;
	}
	return Q_ONE;
}

/* How much a type is wanted: by the most specific range, named, of its kind or any. */
struct wish {
	const char *type, *kind;
	int specific, q; /* specific: 0 not at all, 1 any, 2 of its kind, 3 by name */
};

static void wish_take(struct wish *w, const char *range, size_t len, int q)
{
	const char *forms[] = { NULL, "*/*", w->kind, w->type };

	for (int i = 3; i > w->specific; i--) {
		if (strlen(forms[i]) != len || strncasecmp(forms[i], range, len) != 0)
			continue;
		w->specific = i;
		w->q = q;
	}
}

bool accept_prefers_events(const char *accept)
{
	struct wish events = { .type = "text/event-stream", .kind = "text/*" };
	struct wish json = { .type = "application/json", .kind = "application/*" };

	for (const char *p = accept ? accept : ""; *p; p += *p == ',') {
		size_t len, whole;
		int q;

		p += strspn(p, " \t");
		whole = strcspn(p, ",");
		len = strcspn(p, "; \t,");
		q = quality(p + len, whole - len);
		wish_take(&events, p, len, q);
		wish_take(&json, p, len, q);
		p += whole;
	}
	return events.specific == 3 && events.q > json.q;
}
