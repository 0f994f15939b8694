/* hash.h - SHA-256 digests (OpenSSL EVP). */
#ifndef VARVE_HASH_H
#define VARVE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "store/base/macros.h"

#define DIGEST_SIZE 32
#define DIGEST_HEX_SIZE 65 /* 64 lower-case hex digits and a NUL */

struct digest {
	uint8_t b[DIGEST_SIZE];
};

/* SHA-256 of one buffer. 0, or -ENOMEM. Reuses a per-thread context. */
MUST_CHECK int hash_bytes(const void *data, size_t len, struct digest *out);

/* Incremental form. */
struct hasher;
struct hasher *hasher_new(void);
void hasher_free(struct hasher *h);
DEFINE_CLEANUP(struct hasher *, hasher_free)
MUST_CHECK int hasher_update(struct hasher *h, const void *data, size_t len);
/* Ends the message and starts a new one. */
MUST_CHECK int hasher_final(struct hasher *h, struct digest *out);

void digest_to_hex(const struct digest *d, char out[DIGEST_HEX_SIZE]);
/* -EINVAL unless s is exactly 64 lower-case hex digits. */
MUST_CHECK int digest_from_hex(const char *s, struct digest *out);
static inline bool digest_equal(const struct digest *a, const struct digest *b)
{
	return memcmp(a->b, b->b, DIGEST_SIZE) == 0;
}
/* First 8 bytes as a number, for hash tables and filters. */
static inline uint64_t digest_prefix(const struct digest *d)
{
	uint64_t v;
	memcpy(&v, d->b, sizeof(v));
	return v;
}

#endif
