/*
 * object_alternate.h - stands before a bucket that borrows packs of another one, its alternate:
 * what is read below pack/ and is not in the first is read from the other. Nothing else is asked
 * for there, and nothing is written to it. Packs' names are never used twice, so it does not matter
 * in which of the two one is looked for first: pushes that were found in the other are remembered.
 *
 * -ENOENT says that a pack is in neither. While the other one cannot be asked, that is known only
 * of packs that the first one had and has rewritten: moved/PUSH-N or meta/PUSH-N is there then. A
 * read of another pack fails as the other one does. All else goes on.
 */
#ifndef VARVE_OBJECT_ALTERNATE_H
#define VARVE_OBJECT_ALTERNATE_H

#include "store/bucket/object_store.h"

/*
 * On success, the new store owns `inner`. The other is not there yet, for the reason `why`: packs
 * of it are -EIO. -ENOMEM.
 */
MUST_CHECK int object_alternate_open(struct object_store *inner, const struct error *why,
				     struct object_store **out, struct error *err);
/* From now on the other is that one, which is closed with os. Once. Any thread. */
void object_alternate_attach(struct object_store *os, struct object_store *other);
/* Why it is not there yet. Any thread. */
void object_alternate_set_why(struct object_store *os, const struct error *why);

#endif
