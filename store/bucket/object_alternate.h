/*
 * object_alternate.h - stands before a bucket that borrows packs of another one, its alternate:
 * what is read below pack/ and is not in the first is read from the other. Nothing else is asked
 * for there, and nothing is written to it. Packs' names are never used twice, so it does not matter
 * in which of the two one is looked for first: pushes that were found in the other are remembered.
 */
#ifndef VARVE_OBJECT_ALTERNATE_H
#define VARVE_OBJECT_ALTERNATE_H

#include "store/bucket/object_store.h"

/*
 * On success, the new store owns `inner`, and closes `other` with itself. other NULL: it could not
 * be opened, for the reason `why`. Then -ENOENT below pack/ stands, but where who read a pack in
 * vain looks next (moved/, meta/), what is absent is -EIO with that reason. -ENOMEM.
 */
MUST_CHECK int object_alternate_open(struct object_store *inner, struct object_store *other,
				     const struct error *why, struct object_store **out,
				     struct error *err);

#endif
