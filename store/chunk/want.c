#include "store/chunk/want.h"

#include <errno.h>

_Thread_local struct want_state want_here;

static bool is_it(const struct want *w, enum source_kind kind, const struct digest *d)
{
	return w->kind == kind && digest_equal(&w->digest, d);
}

int want_note(enum source_kind kind, const struct digest *d)
{
	struct want_state *s = &want_here;

	assert(!s->done);
	for (size_t i = 0; i < s->n_answers; i++) {
		if (!is_it(&s->answers[i], kind, d))
			continue;
		if (s->answers[i].result)
			return s->answers[i].result;
		s->again = true; /* it came, and has gone */
	}
	for (unsigned i = 0; i < s->n; i++)
		if (is_it(&s->list[i], kind, d))
			return -EINPROGRESS;
	if (s->n < WANTS_MAX)
		s->list[s->n++] = (struct want){ .kind = kind, .digest = *d };
	return -EINPROGRESS;
}

int want_get_far(struct source *far, enum source_kind kind, const struct digest *d,
		 struct source_frame *out)
{
	assert(want_may_wait());
	want_waits(true);
	int r = source_get(far, kind, d, out);

	want_waits(false);
	return r;
}
