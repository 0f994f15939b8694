/*
 * bucket_key.h - the key of an encrypted bucket (sealed.h), and the tenant's key that it is wrapped
 * by.
 *
 * The bucket's key is random and never changes; it is kept in the bucket, wrapped. The tenant's key
 * is the secret that hosts have: in a file, or where a command gets it. It wraps and does nothing
 * else, so it can be replaced without touching what is sealed.
 *
 * A wrapped key, BUCKET_KEY_WRAPPED bytes: salt 32, random for each; AES-256-GCM of the bucket's
 * key, 32; tag 16. The key that it is sealed with is HKDF-SHA256(key: the tenant's, salt: the salt,
 * info: "varve bucket key 1" NUL ABOUT), and used for this alone; the nonce is 0. ABOUT is what the
 * wrapped key is bound to (share_format.h): change that, and it does not open.
 *
 * No secret is ever part of a message.
 */
#ifndef VARVE_BUCKET_KEY_H
#define VARVE_BUCKET_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/crypt.h"
#include "store/base/error.h"
#include "store/base/macros.h"

#define BUCKET_KEY_WRAPPED 80u

/*
 * Read the tenant's key: 64 hex digits or 44 of base64, with white space around. From a file that
 * nobody but its owner may read, who is us or root, or from what a command prints; one of them is
 * NULL. The command is waited for until *stop (NULL: never). -EACCES: others may read the file, or
 * the command fails; -EINVAL: it is no key; -ENOENT.
 */
MUST_CHECK int tenant_key_load(const char *file, const char *command, const _Atomic bool *stop,
			       struct crypt_key *out, struct error *err);

/* A new wrapping of a bucket's key. -EIO, -ENOMEM. */
MUST_CHECK int bucket_key_wrap(const struct crypt_key *tenant, const char *about,
			       const struct crypt_key *key, uint8_t out[BUCKET_KEY_WRAPPED]);
/* -EBADMSG: another tenant's key, or other bytes or another `about` than were wrapped. */
MUST_CHECK int bucket_key_unwrap(const struct crypt_key *tenant, const char *about,
				 const uint8_t wrapped[BUCKET_KEY_WRAPPED], struct crypt_key *out);

#endif
