#include "snapshotd/http/budget.h"

#include <assert.h>

void budget_init(struct budget *b, struct budget *parent, size_t max)
{
	*b = (struct budget){ .parent = parent, .max = max };
}

size_t budget_used(const struct budget *b)
{
	return atomic_load_explicit(&b->used, memory_order_relaxed);
}

/* What b may have in all, as things are. A race makes it less fair, and no larger. */
static size_t limit(const struct budget *b)
{
	size_t taken;

	if (!b->fair)
		return b->max;
	taken = MIN(budget_used(b->parent), b->parent->max);
	return MIN(b->max, b->parent->max - taken);
}

static bool charge_one(struct budget *b, size_t bytes)
{
	size_t max = limit(b), used = budget_used(b);

	do
		if (used > max || bytes > max - used)
			return false;
	while (!atomic_compare_exchange_weak_explicit(&b->used, &used, used + bytes,
						      memory_order_relaxed, memory_order_relaxed));
	return true;
}

bool budget_charge(struct budget *b, size_t bytes)
{
	struct budget *at = b;

	while (at && charge_one(at, bytes))
		at = at->parent;
	if (!at)
		return true;
	for (struct budget *back = b; back != at; back = back->parent)
		atomic_fetch_sub_explicit(&back->used, bytes, memory_order_relaxed);
	for (; b; b = b->parent)
		atomic_fetch_add_explicit(&b->refused, 1, memory_order_relaxed);
	return false;
}

void budget_release(struct budget *b, size_t bytes)
{
	for (; b && bytes; b = b->parent) {
		size_t used = atomic_fetch_sub_explicit(&b->used, bytes, memory_order_relaxed);

		assert(used >= bytes);
		(void)used;
	}
}

void request_memory_init(struct request_memory *m, size_t max)
{
	budget_init(&m->total, NULL, max);
	budget_init(&m->bodies, &m->total, max);
	budget_init(&m->replies, &m->total, max);
	budget_init(&m->output, &m->total, max / 2);
}
