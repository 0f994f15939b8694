/*
 * object_sealed.h - stands before a bucket and seals what goes there (sealed.h). Who uses it sees
 * contents and their sizes, as in any other bucket; names and the number of requests stay what they
 * are.
 *
 * What does not open is asked for once more, past any cache on the way, and is then -EBADMSG: one
 * segment that was damaged fails a whole range, and so does the end of a range where the object was
 * cut. There are two exceptions. Who asks for the last bytes of an object gets fewer, those behind
 * the damage: they are its end, as is known by the seal. And a range that begins behind the end
 * gives nothing, which proves nothing.
 *
 * Sealing is done by the thread that submits, opening by the one that has the answer. A PUT needs
 * as much memory again as its body.
 */
#ifndef VARVE_OBJECT_SEALED_H
#define VARVE_OBJECT_SEALED_H

#include "store/base/crypt.h"
#include "store/base/hash.h"
#include "store/bucket/object_store.h"

/* On success, the new store owns `inner`. The key is copied. -ENOMEM. */
MUST_CHECK int object_sealed_open(struct object_store *inner, const struct crypt_key *key,
				  struct object_store **out, struct error *err);
/* sealed_digest with the key of os, which object_sealed_open has made. */
MUST_CHECK int object_sealed_digest(const struct object_store *os, const struct digest *d,
				    struct digest *out);

#endif
