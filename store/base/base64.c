#include "store/base/base64.h"

#include <errno.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The six bits of a digit, or -1. */
static int digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* n digits (2..4) to the n - 1 bytes of out. */
static int decode_group(const char *s, size_t n, uint8_t *out)
{
	uint32_t v = 0;

	for (size_t i = 0; i < 4; i++) {
		int d = i < n ? digit_value(s[i]) : 0;
		if (d < 0)
			return -EINVAL;
		v = v << 6 | (uint32_t)d;
	}
	if (v & (0xffffffu >> (8 * (n - 1))))
		return -EINVAL; /* only with padding: stray bits */
	for (size_t i = 0; i + 1 < n; i++)
		out[i] = (uint8_t)(v >> (16 - 8 * i));
	return 0;
}

/* The digits without the padding, or -EINVAL. */
static int64_t digit_count(const char *text, size_t len)
{
	if (len % 4 != 0)
		return -EINVAL;
	if (len > 0 && text[len - 1] == '=')
		len--;
	if (len % 4 == 3 && text[len - 1] == '=')
		len--;
	return (int64_t)len;
}

int64_t base64_check(const char *text, size_t len)
{
	int64_t n = digit_count(text, len), bytes = 0;
	uint8_t group[3];

	for (int64_t i = 0; i < n; i += 4) {
		size_t g = (size_t)MIN(n - i, (int64_t)4);
		if (decode_group(text + i, g, group) < 0)
			return -EINVAL;
		bytes += (int64_t)g - 1;
	}
	return n < 0 ? n : bytes;
}

int base64_decode_n(const char *text, size_t len, struct buf *out)
{
	int64_t n = digit_count(text, len);
	size_t at = out->len;

	if (n < 0)
		return (int)n;
	int r = buf_reserve(out, (size_t)n / 4 * 3 + 3);
	if (r < 0)
		return r;
	for (int64_t i = 0; i < n; i += 4) {
		size_t g = (size_t)MIN(n - i, (int64_t)4);
		r = decode_group(text + i, g, out->data + at);
		if (r < 0)
			return r;
		at += g - 1;
	}
	out->len = at;
	return 0;
}

int base64_decode(const char *text, struct buf *out)
{
	return base64_decode_n(text, strlen(text), out);
}

int base64_encode(const void *data, size_t len, struct buf *out)
{
	const uint8_t *p = data;
	int r = len / 3 >= PTRDIFF_MAX / 4 ? -EOVERFLOW : buf_reserve(out, len / 3 * 4 + 4);

	if (r < 0)
		return r;
	char *to = (char *)out->data + out->len;
	for (size_t i = 0; i < len; i += 3) {
		size_t n = MIN(len - i, (size_t)3);
		uint32_t v = (uint32_t)p[i] << 16;
		v |= n > 1 ? (uint32_t)p[i + 1] << 8 : 0;
		v |= n > 2 ? p[i + 2] : 0;
		for (size_t d = 0; d < 4; d++)
			*to++ = d <= n ? digits[v >> (18 - 6 * d) & 63] : '=';
	}
	out->len = (size_t)(to - (char *)out->data);
	return 0;
}
