/*
 * digest_set.h - a set of digests with bounded memory, for walks over trees
 * that share much. It keeps the first 128 bits of each, 16 bytes in an
 * open-addressing table (nobody finds two SHA-256 digests that collide there).
 */
#ifndef VARVE_DIGEST_SET_H
#define VARVE_DIGEST_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"
#include "store/base/hash.h"

struct digest_set {
	struct digest_slot *slots;
	size_t cap;	  /* power of two, or 0 */
	size_t count;	  /* digests in it */
	size_t max_bytes; /* of the table */
	bool full;	  /* some digest could not be added */
};

/* max_bytes: how large the table may get; it starts small. */
void digest_set_init(struct digest_set *s, size_t max_bytes);
void digest_set_fini(struct digest_set *s);
/*
 * Add d; true if it was not in the set. If the set is full or memory is out, d
 * is not added: the next call says true again, so the caller does some work
 * twice, which is harmless.
 */
bool digest_set_add(struct digest_set *s, const struct digest *d);
bool digest_set_has(const struct digest_set *s, const struct digest *d);

#endif
