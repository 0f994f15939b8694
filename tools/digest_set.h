/* digest_set.h - a set of digests, each with two numbers. */
#ifndef VARVE_TOOLS_DIGEST_SET_H
#define VARVE_TOOLS_DIGEST_SET_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"
#include "store/hash.h"

struct digest_entry {
	struct digest digest;
	uint32_t value, size; /* the user's; 0 at first */
	uint32_t used;	      /* private: 0 for an empty place */
};

/* A zeroed struct is an empty set. */
struct digest_set {
	struct digest_entry *table;
	size_t mask; /* places - 1 */
	size_t count;
};
void digest_set_fini(struct digest_set *s);

/*
 * 1 where d was not there and is now, 0 where it was, -ENOMEM. *out (may be
 * NULL): its entry, until the next addition.
 */
MUST_CHECK int digest_set_add(struct digest_set *s, const struct digest *d,
			      struct digest_entry **out);
/* NULL where it is not there. */
struct digest_entry *digest_set_find(const struct digest_set *s, const struct digest *d);

#endif
