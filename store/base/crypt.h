/*
 * crypt.h - authenticated encryption, derived keys and random bytes, by OpenSSL.
 *
 * AES-256-GCM (NIST SP 800-38D) and HKDF-SHA256 (RFC 5869), nothing of our own. Whoever calls sees
 * to it that no key has two messages with one nonce.
 */
#ifndef VARVE_CRYPT_H
#define VARVE_CRYPT_H

#include <stddef.h>
#include <stdint.h>

#include "store/base/macros.h"

#define CRYPT_KEY_SIZE 32u
#define CRYPT_NONCE_SIZE 12u
#define CRYPT_TAG_SIZE 16u

struct crypt_key {
	uint8_t b[CRYPT_KEY_SIZE];
};
/* Leaves nothing of it in memory. */
void crypt_key_wipe(struct crypt_key *k);
static inline void crypt_key_wipe_p(struct crypt_key *k)
{
	crypt_key_wipe(k);
}

/* A key that lives long: in a page of its own, which core dumps leave out. NULL without memory. */
struct crypt_key *crypt_key_keep(const struct crypt_key *k);
void crypt_key_drop(struct crypt_key *k); /* wipes it; NULL is accepted */

/* From the system. -EIO. */
MUST_CHECK int crypt_random(void *out, size_t len);

/* out = HKDF(key, salt, info). -EIO: OpenSSL does not do it; -ENOMEM. */
MUST_CHECK int crypt_derive(const struct crypt_key *key, const void *salt, size_t salt_len,
			    const void *info, size_t info_len, struct crypt_key *out);

/* A cipher that has its key. One thread at a time. */
struct crypt_cipher;
struct crypt_cipher *crypt_cipher_new(const struct crypt_key *key); /* NULL without memory */
void crypt_cipher_free(struct crypt_cipher *c);
DEFINE_CLEANUP(struct crypt_cipher *, crypt_cipher_free)

/* len bytes from in to out, which may be the same. -EIO. */
MUST_CHECK int crypt_seal(struct crypt_cipher *c, const uint8_t nonce[CRYPT_NONCE_SIZE],
			  const void *in, size_t len, void *out, uint8_t tag[CRYPT_TAG_SIZE]);
/* The reverse. -EBADMSG: not what was sealed; out is then undefined. */
MUST_CHECK int crypt_open(struct crypt_cipher *c, const uint8_t nonce[CRYPT_NONCE_SIZE],
			  const void *in, size_t len, void *out, const uint8_t tag[CRYPT_TAG_SIZE]);

#endif
