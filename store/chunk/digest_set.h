/*
 * digest_set.h - a set of digests with bounded memory, for walks over much that
 * is shared. It keeps the first 128 bits of each (SHA-256: two that collide are
 * not found by anybody), 16 bytes in an open-addressing table.
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
 * True where d was not in the set; then it is, unless the set is full (or memory
 * is): whoever asks treats d as new once more, and does work twice, no harm.
 */
bool digest_set_add(struct digest_set *s, const struct digest *d);
bool digest_set_has(const struct digest_set *s, const struct digest *d);

#endif
