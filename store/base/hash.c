/*
 * EVP_MD_fetch() costs more than hashing a small chunk, and so does a context:
 * the method is fetched once, and every thread keeps one context until it ends.
 */
#include "store/base/hash.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>

struct hasher {
	EVP_MD_CTX *ctx;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256;	      /* NULL if OpenSSL has none; constant after once */
static pthread_key_t ctx_key; /* frees a thread's context when the thread ends */
static bool have_key;
static __thread EVP_MD_CTX *thread_ctx;

static void free_ctx(void *ctx)
{
	thread_ctx = NULL; /* another key's destructor may still hash */
	EVP_MD_CTX_free(ctx);
}

static void init_once(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	have_key = pthread_key_create(&ctx_key, free_ctx) == 0;
}

/* A context that has been through one EVP_DigestInit with sha256, or NULL. */
static EVP_MD_CTX *new_ctx(void)
{
	pthread_once(&once, init_once);
	EVP_MD_CTX *ctx = sha256 && have_key ? EVP_MD_CTX_new() : NULL;
	if (ctx && !EVP_DigestInit_ex2(ctx, sha256, NULL)) {
		EVP_MD_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

static EVP_MD_CTX *get_thread_ctx(void)
{
	if (thread_ctx)
		return thread_ctx;
	EVP_MD_CTX *ctx = new_ctx();
	if (ctx && pthread_setspecific(ctx_key, ctx) != 0) {
		EVP_MD_CTX_free(ctx);
		return NULL;
	}
	thread_ctx = ctx;
	return ctx;
}

int hash_bytes(const void *data, size_t len, struct digest *out)
{
	EVP_MD_CTX *ctx = get_thread_ctx();

	if (!ctx || !EVP_DigestInit_ex2(ctx, NULL, NULL) || !EVP_DigestUpdate(ctx, data, len) ||
	    !EVP_DigestFinal_ex(ctx, out->b, NULL))
		return -ENOMEM;
	return 0;
}

struct hasher *hasher_new(void)
{
	struct hasher *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->ctx = new_ctx();
	if (!h->ctx) {
		free(h);
		return NULL;
	}
	return h;
}

void hasher_free(struct hasher *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	free(h);
}

int hasher_update(struct hasher *h, const void *data, size_t len)
{
	return EVP_DigestUpdate(h->ctx, data, len) ? 0 : -ENOMEM;
}

int hasher_final(struct hasher *h, struct digest *out)
{
	if (!EVP_DigestFinal_ex(h->ctx, out->b, NULL) || !EVP_DigestInit_ex2(h->ctx, NULL, NULL))
		return -ENOMEM;
	return 0;
}

void digest_to_hex(const struct digest *d, char out[DIGEST_HEX_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < DIGEST_SIZE; i++) {
		out[2 * i] = digits[d->b[i] >> 4];
		out[2 * i + 1] = digits[d->b[i] & 15];
	}
	out[2 * DIGEST_SIZE] = '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int digest_from_hex(const char *s, struct digest *out)
{
	struct digest d;

	for (size_t i = 0; i < DIGEST_SIZE; i++) {
		/* A NUL is not a digit, so s is not read past its end. */
		int high = hex_value(s[2 * i]);
		int low = high < 0 ? -1 : hex_value(s[2 * i + 1]);
		if (low < 0)
			return -EINVAL;
		d.b[i] = (uint8_t)(high << 4 | low);
	}
	if (s[2 * DIGEST_SIZE] != '\0')
		return -EINVAL;
	*out = d;
	return 0;
}
