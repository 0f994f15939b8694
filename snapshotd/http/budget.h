/*
 * budget.h - how many bytes of memory somebody may hold, and holds: a count that
 * is charged before the memory is taken and released after it is given back.
 *
 * Budgets form a tree: what is charged to one is charged to all above it, so
 * that a part (bodies, replies, output) is bounded by itself and with the
 * others. Any thread; there are no locks.
 */
#ifndef VARVE_SNAPSHOTD_BUDGET_H
#define VARVE_SNAPSHOTD_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "store/base/macros.h"

struct budget {
	struct budget *parent; /* outlives it; NULL: none */
	size_t max;	       /* bytes */
	/*
	 * It gets no more than is left of its parent, so that there is always something
	 * for another one.
	 */
	bool fair;
	atomic_size_t used;
	atomic_ullong refused; /* charges to it, or below it, that failed */
};

/* parent may be NULL. */
void budget_init(struct budget *b, struct budget *parent, size_t max);
/* False: there is no room for so many bytes, and nothing is charged. */
MUST_CHECK bool budget_charge(struct budget *b, size_t bytes);
/* No more than was charged. */
void budget_release(struct budget *b, size_t bytes);
size_t budget_used(const struct budget *b);

/* ---- the daemon's ---- */

#define REQUEST_MEMORY_DEFAULT (256u << 20)
#define REQUEST_MEMORY_MIN (128u << 20) /* the largest body and what it becomes */
#define REQUEST_MEMORY_MAX (1ull << 40)

/* What requests hold, and the output of programs until somebody asks for it. */
struct request_memory {
	struct budget total;
	struct budget bodies;  /* and the JSON that they become */
	struct budget replies; /* that are made whole before they are sent */
	struct budget output;  /* of programs: at most half of it all */
};
void request_memory_init(struct request_memory *m, size_t max);

#endif
