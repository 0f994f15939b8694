/*
 * sealed.h - a sealed object: bytes that only who has the bucket's key can read or make. Pure.
 *
 * A sealed object is a run of segments of SEALED_SEGMENT bytes of content each, the last one of 1
 * to that many (of 0 only if it is the sole one):
 *
 *      0  salt, 16 random bytes, the same in all segments of an object
 *     16  AES-256-GCM of the content
 *      .  tag, 16
 *
 * The key is HKDF-SHA256(key: the bucket's, salt: the salt, info: "varve object 1" NUL NAME), where
 * NAME is the object's key below the remote's prefix. The nonce is 11 bytes of the segment's
 * number, big-endian, and a byte that is 1 in the last segment, else 0. Nothing is authenticated
 * beside that.
 *
 * So each segment can be read alone, without a header; and no segment passes under another name, at
 * another place, in an object that was cut or made longer, or beside one of another object or of an
 * earlier one of that name.
 *
 * A new salt for each object that is made, also under a name that was used before: so no key has
 * two messages with one nonce, whatever is written again. A name and a salt meet again with
 * probability 2^-128 for two objects of a name.
 */
#ifndef VARVE_SEALED_H
#define VARVE_SEALED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/crypt.h"
#include "store/base/hash.h"
#include "store/base/macros.h"

/* Small beside what is read at once (128 KiB and more), as a range brings whole segments. */
#define SEALED_SEGMENT 4096u
#define SEALED_SALT_SIZE 16u
#define SEALED_OVERHEAD (SEALED_SALT_SIZE + CRYPT_TAG_SIZE) /* of a segment */
#define SEALED_STRIDE (SEALED_SEGMENT + SEALED_OVERHEAD)

/* Bytes of an object with so much content. */
uint64_t sealed_size(uint64_t content);
/* The reverse. -EBADMSG: no sealed object has that size. */
MUST_CHECK int sealed_content_size(uint64_t size, uint64_t *out);

/* Append the object of that name and content to out. -EIO, -ENOMEM. */
MUST_CHECK int sealed_make(const struct crypt_key *key, const char *name, const void *content,
			   size_t len, struct buf *out);

/* Some segments of an object. */
struct sealed_part {
	uint64_t first; /* the first one's number; of the first that is left, if lenient */
	uint64_t size;	/* of the whole sealed object; 0: not known */
	bool lenient;	/* leave out what comes before a segment that does not open, with it */
	bool has_end;	/* set by sealed_open: the object's last segment is among them */
};
/*
 * Open segments in place: the buffer has whole ones, and then their content. -EBADMSG: one of them
 * is not what was sealed (if lenient: the last one); the buffer is then empty. -EIO, -ENOMEM.
 */
MUST_CHECK int sealed_open(const struct crypt_key *key, const char *name, struct sealed_part *part,
			   struct buf *bytes);

/*
 * What a digest is called in the name of an object, as names are not sealed: the same for each
 * object of the bucket, and nobody without its key can tell of which digest, not even of one that
 * they know. HKDF-SHA256(key: the bucket's, no salt, info: "varve hook 1" NUL DIGEST). -EIO,
 * -ENOMEM.
 */
MUST_CHECK int sealed_digest(const struct crypt_key *key, const struct digest *d,
			     struct digest *out);

#endif
