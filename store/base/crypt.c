#include "store/base/crypt.h"

#include <errno.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_CIPHER *aes; /* NULL if OpenSSL has none; these two are constant after once */
static EVP_KDF *hkdf;

static void init_once(void)
{
	aes = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
}

void crypt_key_wipe(struct crypt_key *k)
{
	explicit_bzero(k, sizeof(*k));
}

/* The kernel rounds its length up to a page. */
struct crypt_key *crypt_key_keep(const struct crypt_key *k)
{
	struct crypt_key *kept = mmap(NULL, sizeof(*kept), PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (kept == MAP_FAILED)
		return NULL;
	/* Best effort: a limit may forbid it. */
	(void)!madvise(kept, sizeof(*kept), MADV_DONTDUMP);
	(void)!mlock(kept, sizeof(*kept));
	*kept = *k;
	return kept;
}

void crypt_key_drop(struct crypt_key *k)
{
	if (!k)
		return;
	crypt_key_wipe(k);
	munmap(k, sizeof(*k));
}

int crypt_random(void *out, size_t len)
{
	uint8_t *to = out;

	while (len) {
		ssize_t n = getrandom(to, len, 0);
		if (n < 0 && errno != EINTR)
			return -EIO;
		if (n > 0) {
			to += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

int crypt_derive(const struct crypt_key *key, const void *salt, size_t salt_len, const void *info,
		 size_t info_len, struct crypt_key *out)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key->b,
						  sizeof(key->b)),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, salt_len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, info_len),
		OSSL_PARAM_construct_end(),
	};
	EVP_KDF_CTX *ctx;
	int rc;

	pthread_once(&once, init_once);
	if (!hkdf)
		return -EIO;
	ctx = EVP_KDF_CTX_new(hkdf);
	if (!ctx)
		return -ENOMEM;
	rc = EVP_KDF_derive(ctx, out->b, sizeof(out->b), params) == 1 ? 0 : -EIO;
	EVP_KDF_CTX_free(ctx);
	return rc;
}

/* A context is the cipher: it is never anything but a pointer here. */
static EVP_CIPHER_CTX *context(struct crypt_cipher *c)
{
	return (EVP_CIPHER_CTX *)c;
}

struct crypt_cipher *crypt_cipher_new(const struct crypt_key *key)
{
	EVP_CIPHER_CTX *ctx;

	pthread_once(&once, init_once);
	ctx = aes ? EVP_CIPHER_CTX_new() : NULL;
	/* Either direction has the same key schedule. */
	if (ctx && EVP_EncryptInit_ex2(ctx, aes, key->b, NULL, NULL) != 1) {
		EVP_CIPHER_CTX_free(ctx);
		ctx = NULL;
	}
	return (struct crypt_cipher *)ctx;
}

void crypt_cipher_free(struct crypt_cipher *c)
{
	EVP_CIPHER_CTX_free(context(c));
}

int crypt_seal(struct crypt_cipher *c, const uint8_t nonce[CRYPT_NONCE_SIZE], const void *in,
	       size_t len, void *out, uint8_t tag[CRYPT_TAG_SIZE])
{
	EVP_CIPHER_CTX *ctx = context(c);
	int n = 0, end = 0;

	if (len > INT_MAX || EVP_EncryptInit_ex2(ctx, NULL, NULL, nonce, NULL) != 1 ||
	    (len && EVP_EncryptUpdate(ctx, out, &n, in, (int)len) != 1) ||
	    EVP_EncryptFinal_ex(ctx, (uint8_t *)out + n, &end) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, CRYPT_TAG_SIZE, tag) != 1)
		return -EIO;
	return 0;
}

int crypt_open(struct crypt_cipher *c, const uint8_t nonce[CRYPT_NONCE_SIZE], const void *in,
	       size_t len, void *out, const uint8_t tag[CRYPT_TAG_SIZE])
{
	EVP_CIPHER_CTX *ctx = context(c);
	int n = 0, end = 0;

	if (len > INT_MAX || EVP_DecryptInit_ex2(ctx, NULL, NULL, nonce, NULL) != 1 ||
	    (len && EVP_DecryptUpdate(ctx, out, &n, in, (int)len) != 1) ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, CRYPT_TAG_SIZE, (void *)tag) != 1 ||
	    EVP_DecryptFinal_ex(ctx, (uint8_t *)out + n, &end) != 1)
		return -EBADMSG;
	return 0;
}
