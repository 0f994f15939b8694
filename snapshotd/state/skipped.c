#include "snapshotd/state/skipped.h"

#include <errno.h>
#include <string.h>

#include "store/base/clock.h"

#define FIRST_MS (60 * 1000u)
#define MAX_MS (60 * 60 * 1000u)
#define COUNT_MAX 4096

struct one {
	struct share_item it;
	int64_t retry_ms;
	unsigned wait_ms;
	bool seen; /* since the last sweep */
};

void skipped_fini(struct skipped *s)
{
	buf_fini(&s->v);
}

static size_t count(const struct skipped *s)
{
	return s->v.len / sizeof(struct one);
}

static struct one *find(struct skipped *s, const struct share_item *it)
{
	struct one *v = (struct one *)s->v.data;

	for (size_t i = 0; i < count(s); i++)
		if (strcmp(v[i].it.local, it->local) == 0 && strcmp(v[i].it.key, it->key) == 0)
			return &v[i];
	return NULL;
}

static struct one *next_of(struct skipped *s)
{
	struct one *v = (struct one *)s->v.data, *next = v;

	for (size_t i = 1; i < count(s); i++)
		if (v[i].retry_ms < next->retry_ms)
			next = &v[i];
	return next;
}

int skipped_add(struct skipped *s, const struct share_item *it)
{
	const struct one fresh = { .it = *it };
	struct one *k = find(s, it);
	int rc = 0;

	if (!k && count(s) < COUNT_MAX) {
		rc = buf_append(&s->v, &fresh, sizeof(fresh));
		if (rc < 0)
			return rc;
		k = (struct one *)s->v.data + count(s) - 1;
	} else if (!k) {
		k = next_of(s);
		*k = fresh;
	}
	k->wait_ms = k->wait_ms ? MIN(2 * k->wait_ms, MAX_MS) : s->first_ms ?: FIRST_MS;
	k->retry_ms = monotonic_ms() + k->wait_ms;
	k->seen = true;
	return 0;
}

bool skipped_has(struct skipped *s, const struct share_item *it)
{
	struct one *k = find(s, it);

	if (k)
		k->seen = true;
	return k;
}

bool skipped_waits(struct skipped *s, const struct share_item *it)
{
	return skipped_has(s, it) && monotonic_ms() < find(s, it)->retry_ms;
}

void skipped_drop(struct skipped *s, const struct share_item *it)
{
	struct one *k = find(s, it);

	if (!k)
		return;
	s->v.len -= sizeof(*k);
	*k = ((struct one *)s->v.data)[count(s)];
}

void skipped_sweep(struct skipped *s)
{
	struct one *v = (struct one *)s->v.data;
	size_t kept = 0;

	for (size_t i = 0; i < count(s); i++)
		if (v[i].seen) {
			v[kept] = v[i];
			v[kept++].seen = false;
		}
	s->v.len = kept * sizeof(*v);
}
