#include "store/bucket/object_s3_sign.h"

#include <string.h>
#include <time.h>

#include "store/base/hash.h"

#define BLOCK 64 /* bytes, of SHA-256 */

void s3_date_format(int64_t unix_time, char out[S3_DATE_SIZE])
{
	time_t t = unix_time;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(out, S3_DATE_SIZE, "%Y%m%dT%H%M%SZ", &tm))
		memcpy(out, "19700101T000000Z", S3_DATE_SIZE);
}

static bool unreserved(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_' || c == '.' || c == '~';
}

int s3_encode(const char *s, bool keep_slash, struct buf *out)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		int rc = unreserved(c) || (c == '/' && keep_slash) ? buf_append(out, s, 1)
								   : buf_printf(out, "%%%02X", c);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int append_names(const struct s3_signing *s, struct buf *out)
{
	for (size_t i = 0; i < s->n_headers; i++) {
		int rc = buf_printf(out, "%s%s", i ? ";" : "", s->headers[i].name);

		if (rc < 0)
			return rc;
	}
	return 0;
}

int s3_sign_canonical(const struct s3_signing *s, struct buf *out)
{
	int rc = buf_printf(out, "%s\n%s\n%s\n", s->method, s->path, s->query);

	for (size_t i = 0; i < s->n_headers && rc >= 0; i++)
		rc = buf_printf(out, "%s:%s\n", s->headers[i].name, s->headers[i].value);
	if (rc >= 0)
		rc = buf_append_str(out, "\n");
	if (rc >= 0)
		rc = append_names(s, out);
	if (rc >= 0)
		rc = buf_printf(out, "\n%s", s->payload_sha256);
	return rc < 0 ? rc : 0;
}

/* RFC 2104; a key is at most a block, or else its hash stands for it. */
static int hmac(const void *key, size_t key_len, const void *data, size_t len, struct digest *out)
{
	CLEANUP(buf_fini_p) struct buf in = BUF_INIT;
	uint8_t pad[BLOCK] = { 0 }, outer[BLOCK + DIGEST_SIZE];
	struct digest d;
	int rc;

	if (key_len > BLOCK) {
		rc = hash_bytes(key, key_len, &d);
		if (rc < 0)
			return rc;
		memcpy(pad, d.b, DIGEST_SIZE);
	} else {
		memcpy(pad, key, key_len);
	}
	for (size_t i = 0; i < BLOCK; i++) {
		outer[i] = pad[i] ^ 0x5c;
		pad[i] ^= 0x36;
	}
	rc = buf_append(&in, pad, BLOCK);
	if (rc >= 0)
		rc = buf_append(&in, data, len);
	if (rc >= 0)
		rc = hash_bytes(in.data, in.len, &d);
	if (rc < 0)
		return rc;
	memcpy(outer + BLOCK, d.b, DIGEST_SIZE);
	return hash_bytes(outer, sizeof(outer), out);
}

static int hmac_text(const struct digest *key, const char *text, struct digest *out)
{
	return hmac(key->b, DIGEST_SIZE, text, strlen(text), out);
}

static int signing_key(const struct s3_signing *s, const char *secret, struct digest *out)
{
	CLEANUP(buf_fini_p) struct buf key = BUF_INIT;
	struct digest d;
	int rc = buf_printf(&key, "AWS4%s", secret);

	if (rc >= 0)
		rc = hmac(key.data, key.len, s->date, 8, &d);
	if (rc >= 0)
		rc = hmac_text(&d, s->region, &d);
	if (rc >= 0)
		rc = hmac_text(&d, "s3", &d);
	if (rc >= 0)
		rc = hmac_text(&d, "aws4_request", out);
	explicit_bzero(key.data, key.len);
	return rc;
}

int s3_sign(const struct s3_signing *s, const char *access_key, const char *secret, struct buf *out)
{
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT, to_sign = BUF_INIT;
	char hex[DIGEST_HEX_SIZE];
	struct digest d, key;
	int rc = s3_sign_canonical(s, &text);

	if (rc == 0)
		rc = hash_bytes(text.data, text.len, &d);
	if (rc < 0)
		return rc;
	digest_to_hex(&d, hex);
	rc = buf_printf(&to_sign, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/s3/aws4_request\n%s", s->date,
			s->date, s->region, hex);
	if (rc >= 0)
		rc = signing_key(s, secret, &key);
	if (rc >= 0)
		rc = hmac(key.b, DIGEST_SIZE, to_sign.data, to_sign.len, &d);
	if (rc < 0)
		return rc;
	digest_to_hex(&d, hex);
	rc = buf_printf(out,
			"AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/s3/aws4_request, SignedHeaders=",
			access_key, s->date, s->region);
	if (rc >= 0)
		rc = append_names(s, out);
	if (rc >= 0)
		rc = buf_printf(out, ", Signature=%s", hex);
	return rc < 0 ? rc : 0;
}
