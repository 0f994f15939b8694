/*
 * share_moved.h - where the chunks of a container are that is gone: the object moved/PUSH-N. Pure.
 *
 * Little-endian:
 *   header, 80 bytes:
 *      0  magic "VMV1"; the digit is the version
 *      4  u32 flags: 0; an unknown one is refused
 *      8  push id 16, u32 number: the container that is gone
 *     28  push id 16, u32 number: the one that has its chunks; all 0: none of them was needed
 *     48  SHA-256 of the 48 bytes before
 *   then to the end {digest 32, u32 offset, u32 length}: each chunk, ascending by digest, none
 *   twice; offset and length as in the FOOTER of the container that has it (vpk.h)
 *
 * Where both containers are the same, it has not moved and never will: it has nodes that a snapshot
 * needs, or is damaged. There are no chunks then.
 *
 * The header alone decides what a collection keeps. What is said of a chunk is proved by its bytes,
 * which must hash to its digest.
 *
 * Errors: -ENOTSUP a newer version or unknown flags; -EBADMSG all other damage; both with a text in
 * err, which may be NULL.
 */
#ifndef VARVE_SHARE_MOVED_H
#define VARVE_SHARE_MOVED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/error.h"
#include "store/base/hash.h"
#include "store/base/macros.h"
#include "store/layout/share_key.h"

#define SHARE_MOVED_HEADER 80u
#define SHARE_MOVED_ENTRY 40u
#define SHARE_MOVED_MAX ((size_t)64 << 20)
/* Containers that one after another lead to a chunk: a reader follows so many. */
#define SHARE_MOVED_HOPS 16u

struct share_moved_head {
	struct pack_id from, to;
	bool none; /* no chunk was needed: `to` is zeroed */
};
static inline bool share_moved_stays(const struct share_moved_head *h)
{
	return !h->none && pack_id_cmp(&h->from, &h->to) == 0;
}

struct share_moved_chunk {
	struct digest digest;
	uint32_t offset, len;
};
/* Appends. The chunks are ascending. -EINVAL: breaks a rule above; -EFBIG: SHARE_MOVED_MAX. */
MUST_CHECK int share_moved_encode(const struct share_moved_head *h,
				  const struct share_moved_chunk *chunks, size_t n,
				  struct buf *out);

/* The header alone, of at least that many bytes; `from` is the container that was asked for. */
MUST_CHECK int share_moved_head_decode(const void *bytes, size_t len, const struct pack_id *from,
				       struct share_moved_head *out, struct error *err);

/* A checked view; borrows the bytes. */
struct share_moved {
	struct share_moved_head head;
	const uint8_t *chunks;
	size_t n;
};
MUST_CHECK int share_moved_decode(const void *bytes, size_t len, const struct pack_id *from,
				  struct share_moved *out, struct error *err);
/* False if it does not have that chunk. */
bool share_moved_find(const struct share_moved *m, const struct digest *d,
		      struct share_moved_chunk *out);

#endif
