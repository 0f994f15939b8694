#include "store/layout/share_packs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANGE_SIZE 20 /* "1048574-1048575" and a NUL */

void share_packs_fini(struct share_packs *p)
{
	free(p->v);
	*p = (struct share_packs){ 0 };
}

static bool range_is_valid(const struct share_range *r)
{
	return !share_id_is_none(&r->push) && r->first <= r->last && r->last <= PACK_NUMBER_MAX;
}

/* Where a range ends before the pack, so far that the two do not even touch. */
static bool ends_before(const struct share_range *r, const struct share_id *push, uint32_t number)
{
	int c = share_id_cmp(&r->push, push);
	return c < 0 || (c == 0 && r->last + 1 < number);
}

/* Index of the first range that does not end before. */
static size_t lower_bound(const struct share_packs *p, const struct share_id *push, uint32_t number)
{
	size_t low = 0, high = p->n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (ends_before(&p->v[middle], push, number))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int reserve_one(struct share_packs *p)
{
	if (p->n < p->cap)
		return 0;
	size_t cap = p->cap ? 2 * p->cap : 8;
	struct share_range *v = reallocarray(p->v, cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	p->v = v;
	p->cap = cap;
	return 0;
}

int share_packs_add_range(struct share_packs *p, const struct share_range *r)
{
	if (!range_is_valid(r))
		return -EINVAL;
	int rc = reserve_one(p);
	if (rc != 0)
		return rc;
	struct share_range sum = *r;
	size_t from = lower_bound(p, &r->push, r->first), to = from;
	/* Those that it meets or touches become one with it. */
	for (;
	     to < p->n && share_id_equal(&p->v[to].push, &r->push) && p->v[to].first <= r->last + 1;
	     to++) {
		sum.first = MIN(sum.first, p->v[to].first);
		sum.last = MAX(sum.last, p->v[to].last);
	}
	memmove(p->v + from + 1, p->v + to, (p->n - to) * sizeof(*p->v));
	p->v[from] = sum;
	p->n = p->n - (to - from) + 1;
	return 0;
}

int share_packs_add(struct share_packs *p, const struct pack_id *pack)
{
	struct share_range r = { pack->push, pack->number, pack->number };
	return share_packs_add_range(p, &r);
}

int share_packs_add_all(struct share_packs *p, const struct share_packs *others)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < others->n; i++)
		r = share_packs_add_range(p, &others->v[i]);
	return r;
}

bool share_packs_has(const struct share_packs *p, const struct pack_id *pack)
{
	size_t i = lower_bound(p, &pack->push, pack->number);
	for (; i < p->n && share_id_equal(&p->v[i].push, &pack->push); i++) {
		if (p->v[i].last >= pack->number)
			return p->v[i].first <= pack->number;
	}
	return false;
}

bool share_packs_meet(const struct share_packs *a, const struct share_packs *b)
{
	size_t i = 0, j = 0;
	while (i < a->n && j < b->n) {
		const struct share_range *x = &a->v[i], *y = &b->v[j];
		int c = share_id_cmp(&x->push, &y->push);
		if (c < 0 || (c == 0 && x->last < y->first))
			i++;
		else if (c > 0 || y->last < x->first)
			j++;
		else
			return true;
	}
	return false;
}

uint64_t share_packs_count(const struct share_packs *p)
{
	uint64_t n = 0;
	for (size_t i = 0; i < p->n; i++)
		n += p->v[i].last - p->v[i].first + 1;
	return n;
}

bool share_packs_next(const struct share_packs *p, struct share_packs_cursor *c,
		      struct pack_id *out)
{
	if (c->range >= p->n)
		return false;
	const struct share_range *r = &p->v[c->range];
	*out = (struct pack_id){ r->push, r->first + c->done++ };
	if (r->first + c->done > r->last)
		*c = (struct share_packs_cursor){ c->range + 1, 0 };
	return true;
}

/* ---- JSON ---- */

static void range_text(const struct share_range *r, char out[RANGE_SIZE])
{
	if (r->first == r->last)
		snprintf(out, RANGE_SIZE, "%" PRIu32, r->first);
	else
		snprintf(out, RANGE_SIZE, "%" PRIu32 "-%" PRIu32, r->first, r->last);
}

json_t *share_packs_to_json(const struct share_packs *p)
{
	json_t *list = json_array();
	for (size_t i = 0; list && i < p->n; i++) {
		char id[SHARE_ID_SIZE], range[RANGE_SIZE];
		share_id_text(&p->v[i].push, id);
		range_text(&p->v[i], range);
		if (json_array_append_new(list, json_pack("[ss]", id, range)) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* Compared with what range_text makes of it, so that only that is taken. */
static bool parse_range(const char *text, struct share_range *r)
{
	char again[RANGE_SIZE];
	unsigned first, last;
	int n = sscanf(text, "%7u-%7u", &first, &last);
	if (n < 1)
		return false;
	r->first = first;
	r->last = n == 2 ? last : first;
	if (!range_is_valid(r))
		return false;
	range_text(r, again);
	return strcmp(text, again) == 0;
}

static int append_json(const json_t *j, struct share_packs *p)
{
	const char *id = json_string_value(json_array_get(j, 0));
	const char *text = json_string_value(json_array_get(j, 1));
	struct share_range r;

	if (!id || !text || share_id_parse(id, &r.push) != 0 || !parse_range(text, &r))
		return -EBADMSG;
	if (p->n > 0 && !ends_before(&p->v[p->n - 1], &r.push, r.first))
		return -EBADMSG;
	int rc = reserve_one(p);
	if (rc == 0)
		p->v[p->n++] = r;
	return rc;
}

int share_packs_from_json(const json_t *j, struct share_packs *out)
{
	CLEANUP(share_packs_fini_p) struct share_packs p = { 0 };
	if (!json_is_array(j))
		return -EBADMSG;
	for (size_t i = 0; i < json_array_size(j); i++) {
		int r = append_json(json_array_get(j, i), &p);
		if (r != 0)
			return r;
	}
	*out = p;
	p = (struct share_packs){ 0 };
	return 0;
}
