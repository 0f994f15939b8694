#include "store/share/hooks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/layout/share_key.h"

_Static_assert(HOOKS_ASKED <= 32, "hooks that were asked for are bits of 32");

/* ---- samples ---- */

static int by_rank(const struct digest *a, const struct digest *b)
{
	int later = !share_digest_hooks(a) - !share_digest_hooks(b);

	return later ? later : memcmp(a->b, b->b, sizeof(a->b));
}

void hook_sample_add(struct hook_sample *s, const struct digest *d, uint32_t bytes)
{
	unsigned at = s->n, moved;

	s->bytes += bytes;
	if (s->n == HOOKS_MAX && by_rank(d, &s->v[s->n - 1]) >= 0)
		return;
	while (at > 0 && by_rank(d, &s->v[at - 1]) < 0)
		at--;
	if (at > 0 && digest_equal(d, &s->v[at - 1]))
		return;
	moved = MIN(s->n, HOOKS_MAX - 1) - at;
	memmove(&s->v[at + 1], &s->v[at], moved * sizeof(s->v[0]));
	s->v[at] = *d;
	s->n = MIN(s->n + 1, HOOKS_MAX);
}

unsigned hook_sample_count(const struct hook_sample *s)
{
	unsigned n = MIN(s->n, HOOKS_LEAST);

	while (n < s->n && share_digest_hooks(&s->v[n]))
		n++;
	return n;
}

/* ---- asking ---- */

struct vote {
	struct share_id id;
	uint32_t hooks; /* bits */
};

static int by_id(const void *a, const void *b)
{
	return share_id_cmp(&((const struct vote *)a)->id, &((const struct vote *)b)->id);
}

/* One vote a snapshot. */
static void gather(struct buf *votes)
{
	struct vote *v = (struct vote *)votes->data;
	size_t n = votes->len / sizeof(*v), kept = 0;

	if (n)
		qsort(v, n, sizeof(*v), by_id);
	for (size_t i = 0; i < n; i++)
		if (kept && share_id_equal(&v[kept - 1].id, &v[i].id))
			v[kept - 1].hooks |= v[i].hooks;
		else
			v[kept++] = v[i];
	votes->len = kept * sizeof(*v);
}

static int note_votes(struct buf *votes, const struct object_request *rq, uint32_t bit)
{
	int rc = 0;

	for (size_t i = 0; i < rq->n_entries && rc == 0; i++) {
		struct share_key k;

		if (share_key_parse(rq->entries[i].key, &k) == 0 && k.kind == SHARE_KEY_HOOK) {
			const struct vote v = { k.id, bit };

			rc = buf_append(votes, &v, sizeof(v));
		}
	}
	return rc;
}

int hooks_ask(struct remote *r, const struct hook_sample *s, struct hook_votes *out)
{
	struct object_request rq[HOOKS_ASKED] = { 0 };
	char keys[HOOKS_ASKED][SHARE_KEY_SIZE];
	unsigned n = MIN(hook_sample_count(s), HOOKS_ASKED);
	int rc = 0;

	for (unsigned i = 0; i < n && rc == 0; i++) {
		struct share_key k = { .kind = SHARE_KEY_HOOK };

		rc = remote_hook(r, &s->v[i], &k.digest);
		if (rc == 0)
			rc = share_key_prefix(&k, keys[i]);
		rq[i] = (struct object_request){ .op = OBJECT_LIST,
						 .priority = OBJECT_PUSH,
						 .key = keys[i] };
	}
	if (rc < 0)
		return rc;
	object_run(remote_objects(r), rq, n);
	for (unsigned i = 0; i < n; i++) {
		if (rc == 0 && rq[i].result == 0)
			rc = note_votes(&out->v, &rq[i], 1u << i);
		object_request_fini(&rq[i]);
	}
	gather(&out->v);
	return rc;
}

bool hook_votes_next(struct hook_votes *votes, uint32_t open, struct share_id *out)
{
	struct vote *v = (struct vote *)votes->v.data;
	size_t n = votes->v.len / sizeof(*v), best = n;
	int most = 0;

	for (size_t i = 0; i < n; i++) {
		int hooks = __builtin_popcount(v[i].hooks & open);

		if (hooks > most) {
			most = hooks;
			best = i;
		}
	}
	if (best == n)
		return false;
	*out = v[best].id;
	v[best].hooks = 0;
	return true;
}

void hook_votes_fini(struct hook_votes *votes)
{
	buf_fini(&votes->v);
}

/* ---- writing ---- */

int hooks_write(struct remote *r, const struct hook_sample *s, const struct share_id *push)
{
	struct object_request rq[HOOKS_ASKED];
	char keys[HOOKS_ASKED][SHARE_KEY_SIZE];
	unsigned n = hook_sample_count(s);
	int rc = 0;

	for (unsigned i = 0; i < n && rc == 0;) {
		unsigned some = 0;

		for (; some < ARRAY_SIZE(rq) && i < n && rc == 0; some++, i++) {
			struct share_key k = { .kind = SHARE_KEY_HOOK, .id = *push };

			rc = remote_hook(r, &s->v[i], &k.digest);
			if (rc == 0)
				rc = share_key_text(&k, keys[some]);
			rq[some] = (struct object_request){ .op = OBJECT_PUT,
							    .priority = OBJECT_PUSH,
							    .key = keys[some],
							    .body = "" };
		}
		if (rc < 0)
			break;
		object_run(remote_objects(r), rq, some);
		for (unsigned k = 0; k < some; k++)
			object_request_fini(&rq[k]);
	}
	return rc;
}
