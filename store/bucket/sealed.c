#include "store/bucket/sealed.h"

#include <errno.h>
#include <string.h>

static const char label[] = "varve object 1";	 /* with its NUL */
static const char hook_label[] = "varve hook 1"; /* so has this */

static int object_key(const struct crypt_key *key, const char *name, const uint8_t *salt,
		      struct crypt_cipher **out)
{
	struct crypt_key CLEANUP(crypt_key_wipe_p) own = { { 0 } };
	struct buf CLEANUP(buf_fini_p) info = BUF_INIT;
	int rc = buf_append(&info, label, sizeof(label));

	if (rc == 0)
		rc = buf_append_str(&info, name);
	if (rc == 0)
		rc = crypt_derive(key, salt, SEALED_SALT_SIZE, info.data, info.len, &own);
	if (rc < 0)
		return rc;
	*out = crypt_cipher_new(&own);
	return *out ? 0 : -ENOMEM;
}

static void make_nonce(uint64_t number, bool last, uint8_t out[CRYPT_NONCE_SIZE])
{
	memset(out, 0, CRYPT_NONCE_SIZE);
	for (unsigned i = 0; i < 8; i++)
		out[10 - i] = (uint8_t)(number >> 8 * i);
	out[11] = last;
}

uint64_t sealed_size(uint64_t content)
{
	uint64_t n = content ? (content - 1) / SEALED_SEGMENT + 1 : 1;

	return content + n * SEALED_OVERHEAD;
}

int sealed_content_size(uint64_t size, uint64_t *out)
{
	uint64_t n = size / SEALED_STRIDE, rest = size % SEALED_STRIDE;

	if (rest && (rest < SEALED_OVERHEAD || (rest == SEALED_OVERHEAD && n)))
		return -EBADMSG;
	if (!size)
		return -EBADMSG;
	*out = size - (n + !!rest) * SEALED_OVERHEAD;
	return 0;
}

int sealed_make(const struct crypt_key *key, const char *name, const void *content, size_t len,
		struct buf *out)
{
	CLEANUP(crypt_cipher_free_p) struct crypt_cipher *c = NULL;
	uint8_t salt[SEALED_SALT_SIZE], nonce[CRYPT_NONCE_SIZE];
	const uint8_t *from = content;
	uint64_t number = 0;
	int rc = crypt_random(salt, sizeof(salt));

	if (rc == 0)
		rc = object_key(key, name, salt, &c);
	if (rc == 0)
		rc = buf_reserve(out, sealed_size(len));
	for (bool last = false; rc == 0 && !last; number++) {
		size_t n = MIN(len, (size_t)SEALED_SEGMENT);
		uint8_t *to = out->data + out->len;

		last = n == len;
		make_nonce(number, last, nonce);
		memcpy(to, salt, sizeof(salt));
		to += sizeof(salt);
		rc = crypt_seal(c, nonce, from, n, to, to + n);
		out->len += n + SEALED_OVERHEAD;
		from = n ? from + n : from;
		len -= n;
	}
	return rc;
}

/* One segment of len bytes; its content goes to `to`, which is not behind it. */
static int open_segment(struct crypt_cipher *c, uint64_t number, bool last, uint8_t *segment,
			size_t len)
{
	uint8_t nonce[CRYPT_NONCE_SIZE], *content = segment + SEALED_SALT_SIZE;
	size_t n = len - SEALED_OVERHEAD;

	if (n == 0 && (number || !last))
		return -EBADMSG;
	make_nonce(number, last, nonce);
	return crypt_open(c, nonce, content, n, content, content + n);
}

/*
 * Whether the segment that ends at `end` of the part is the object's last one. 1 or 0; -1: its size
 * does not say.
 */
static int is_last(const struct sealed_part *part, size_t end, size_t len, bool ends_part)
{
	if (part->size)
		return part->first * SEALED_STRIDE + end == part->size;
	if (len < SEALED_STRIDE)
		return 1;
	return ends_part ? -1 : 0;
}

/* A segment that may be the last one or not: both are tried. */
static int open_either(struct crypt_cipher *c, uint64_t number, uint8_t *segment, size_t len,
		       bool *out_last)
{
	uint8_t copy[SEALED_STRIDE]; /* what fails leaves no bytes to try again */
	int rc;

	memcpy(copy, segment, len);
	*out_last = false;
	rc = open_segment(c, number, false, segment, len);
	if (rc != -EBADMSG)
		return rc;
	memcpy(segment, copy, len);
	*out_last = true;
	return open_segment(c, number, true, segment, len);
}

/* The segment at `at`. */
static int open_at(struct crypt_cipher *c, struct sealed_part *part, struct buf *bytes, size_t at,
		   const uint8_t *salt)
{
	size_t len = MIN(bytes->len - at, (size_t)SEALED_STRIDE);
	uint64_t number = part->first + at / SEALED_STRIDE;
	int last = is_last(part, at + len, len, at + len == bytes->len);
	uint8_t *segment = bytes->data + at;

	if (len < SEALED_OVERHEAD || memcmp(segment, salt, SEALED_SALT_SIZE) != 0 ||
	    (!last && len < SEALED_STRIDE))
		return -EBADMSG;
	if (last < 0)
		return open_either(c, number, segment, len, &part->has_end);
	part->has_end = part->has_end || last;
	return open_segment(c, number, last, segment, len);
}

/* Leave the contents of those from `from` on. */
static void gather(struct buf *bytes, size_t from)
{
	size_t end = 0, len;

	for (size_t at = from; at < bytes->len; at += len) {
		len = MIN(bytes->len - at, (size_t)SEALED_STRIDE);
		memmove(bytes->data + end, bytes->data + at + SEALED_SALT_SIZE,
			len - SEALED_OVERHEAD);
		end += len - SEALED_OVERHEAD;
	}
	bytes->len = end;
}

static bool part_is_valid(const struct sealed_part *part, size_t len)
{
	uint64_t start = part->first * SEALED_STRIDE;

	return len >= SEALED_OVERHEAD && part->first <= UINT64_MAX / SEALED_STRIDE / 2 &&
	       (!part->size || (start <= part->size && len <= part->size - start));
}

int sealed_open(const struct crypt_key *key, const char *name, struct sealed_part *part,
		struct buf *bytes)
{
	CLEANUP(crypt_cipher_free_p) struct crypt_cipher *c = NULL;
	uint8_t salt[SEALED_SALT_SIZE];
	size_t last, at;
	int rc = part_is_valid(part, bytes->len) ? 0 : -EBADMSG;

	part->has_end = false;
	last = at = bytes->len ? (bytes->len - 1) / SEALED_STRIDE * SEALED_STRIDE : 0;
	if (rc == 0 && bytes->len - last < SEALED_OVERHEAD)
		rc = -EBADMSG;
	if (rc == 0) {
		memcpy(salt, bytes->data + last, sizeof(salt));
		rc = object_key(key, name, salt, &c);
	}
	if (rc == 0)
		rc = open_at(c, part, bytes, at, salt);
	for (; rc == 0 && at; at -= SEALED_STRIDE) {
		rc = open_at(c, part, bytes, at - SEALED_STRIDE, salt);
		if (rc == -EBADMSG && part->lenient) {
			rc = 0;
			break;
		}
	}
	part->first += at / SEALED_STRIDE;
	if (rc == 0)
		gather(bytes, at);
	else
		bytes->len = 0;
	return rc;
}

int sealed_digest(const struct crypt_key *key, const struct digest *d, struct digest *out)
{
	static const uint8_t no_salt[DIGEST_SIZE]; /* as RFC 5869 says */
	struct crypt_key CLEANUP(crypt_key_wipe_p) made = { { 0 } };
	uint8_t info[sizeof(hook_label) + DIGEST_SIZE];
	int rc;

	memcpy(info, hook_label, sizeof(hook_label));
	memcpy(info + sizeof(hook_label), d->b, DIGEST_SIZE);
	rc = crypt_derive(key, no_salt, sizeof(no_salt), info, sizeof(info), &made);
	if (rc == 0)
		memcpy(out->b, made.b, DIGEST_SIZE);
	return rc;
}
