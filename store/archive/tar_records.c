#include "store/archive/tar_records.h"

#include <errno.h>
#include <string.h>

#include "store/base/base64.h"
#include "store/archive/tar_header.h"

#define SIZE_AT 124
#define SIZE_LEN 12
#define TYPE_AT 156

/* The size field: octal, or base 256 if its first bit is set. UINT64_MAX: malformed. */
static uint64_t body_size(const uint8_t *header)
{
	const uint8_t *p = header + SIZE_AT;
	uint64_t v = 0;
	size_t i = 0;

	if (p[0] & 0x80) {
		for (i = 1; i < SIZE_LEN; i++)
			v = v << 8 | p[i];
		return v;
	}
	while (i < SIZE_LEN && p[i] == ' ')
		i++;
	for (; i < SIZE_LEN && p[i] >= '0' && p[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(p[i] - '0');
	return i == SIZE_LEN || p[i] == ' ' || p[i] == '\0' ? v : UINT64_MAX;
}

/* One record, "LEN KEY=VALUE\n", from p; its length, or 0 if it is malformed. */
static size_t parse_record(const char *p, size_t left, struct tar_record *r)
{
	size_t len = 0, i = 0;

	for (; i < left && p[i] >= '0' && p[i] <= '9' && len <= left; i++)
		len = len * 10 + (size_t)(p[i] - '0');
	if (i == 0 || i >= left || p[i] != ' ' || len > left || len < i + 3 || p[len - 1] != '\n')
		return 0;
	r->key = p + i + 1;
	const char *equals = memchr(r->key, '=', len - i - 2);
	if (!equals)
		return 0;
	r->key_len = (size_t)(equals - r->key);
	r->value = equals + 1;
	r->value_len = (size_t)(p + len - 1 - r->value);
	return len;
}

static int walk_body(const char *p, size_t len, bool global, tar_record_fn fn, void *arg)
{
	while (len > 0) {
		struct tar_record r = { .global = global };
		size_t n = parse_record(p, len, &r);

		if (n == 0)
			return -EBADMSG;
		int rc = fn(arg, &r);
		if (rc)
			return rc;
		p += n;
		len -= n;
	}
	return 0;
}

int tar_records_walk(const void *headers, size_t len, tar_record_fn fn, void *arg)
{
	const uint8_t *p = headers;

	while (len >= TAR_BLOCK && p[TYPE_AT] && strchr("xXgLKNV", p[TYPE_AT])) {
		uint64_t size = body_size(p), padded = (size + TAR_BLOCK - 1) & ~(TAR_BLOCK - 1ull);
		int r = 0;

		len -= TAR_BLOCK;
		if (size > len)
			return -EBADMSG;
		if (strchr("xXg", p[TYPE_AT]))
			r = walk_body((const char *)p + TAR_BLOCK, size, p[TYPE_AT] == 'g', fn,
				      arg);
		if (r)
			return r;
		if (padded > len)
			return 0;
		p += TAR_BLOCK + padded;
		len -= padded;
	}
	return 0;
}

int tar_record_time(const char *text, size_t len, struct timespec *out)
{
	bool negative = len > 0 && text[0] == '-';
	size_t i = negative ? 1 : 0, digits = i;
	int64_t sec = 0;
	long nsec = 0;

	for (; i < len && text[i] >= '0' && text[i] <= '9'; i++)
		if (__builtin_mul_overflow(sec, 10, &sec) ||
		    __builtin_sub_overflow(sec, text[i] - '0', &sec)) /* down: it has one more */
			return -ERANGE;
	if (i == digits || (i < len && text[i] != '.'))
		return -EINVAL;
	long unit = 100000000;
	for (i++; i < len; i++, unit /= 10) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		nsec += unit * (text[i] - '0');
	}
	if (!negative && __builtin_sub_overflow((int64_t)0, sec, &sec))
		return -ERANGE;
	if (negative && nsec > 0) {
		if (__builtin_sub_overflow(sec, 1, &sec))
			return -ERANGE;
		nsec = 1000000000 - nsec;
	}
	*out = (struct timespec){ .tv_sec = sec, .tv_nsec = nsec };
	return 0;
}

int tar_xattr_encode(const char *name, size_t len, struct buf *out)
{
	int r = 0;

	for (size_t i = 0; i < len && r == 0; i++)
		r = name[i] == '%'   ? buf_append(out, "%25", 3)
		    : name[i] == '=' ? buf_append(out, "%3D", 3)
				     : buf_append(out, name + i, 1);
	return r;
}

int tar_xattr_decode(const char *key, size_t len, struct buf *out)
{
	int r = 0;

	for (size_t i = 0; i < len && r == 0; i++) {
		bool percent = len - i >= 3 && memcmp(key + i, "%25", 3) == 0;
		bool equals = len - i >= 3 && memcmp(key + i, "%3D", 3) == 0;

		r = buf_append(out, percent ? "%" : equals ? "=" : key + i, 1);
		i += percent || equals ? 2 : 0;
	}
	return r;
}

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
				      : -1;
}

int tar_xattr_libarchive(const struct tar_record *rec, size_t prefix_len, struct buf *out_name,
			 struct buf *out_value)
{
	const char *name = rec->key + prefix_len;
	size_t len = rec->key_len - prefix_len;
	struct buf text CLEANUP(buf_fini_p) = BUF_INIT;
	int r = 0;

	for (size_t i = 0; i < len && r == 0; i++) {
		char c = name[i];

		if (c == '%' && len - i >= 3 && hex(name[i + 1]) >= 0 && hex(name[i + 2]) >= 0) {
			c = (char)(hex(name[i + 1]) << 4 | hex(name[i + 2]));
			i += 2;
		}
		r = buf_append(out_name, &c, 1);
	}
	if (r == 0)
		r = buf_append(&text, rec->value, rec->value_len);
	while (r == 0 && text.len % 4)
		r = buf_append(&text, "=", 1);
	return r < 0 ? r : base64_decode_n((const char *)text.data, text.len, out_value);
}

/* "user::", "g::", "other:": entries that a mode has too. */
static bool is_of_mode(const char *entry, size_t len)
{
	static const char *const tags[] = { "u::",     "user::", "g::", "group::", "o::",
					    "other::", "o:r",	 "o:-", "other:r", "other:-" };

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++)
		if (len >= strlen(tags[i]) && memcmp(entry, tags[i], strlen(tags[i])) == 0)
			return true;
	return false;
}

size_t tar_acl_entries(const char *text, size_t len, bool named)
{
	const char *p = text, *end = text + len;
	size_t n = 0;

	while (p < end) {
		const char *entry;

		while (p < end && strchr(" \t\n,", *p) && *p)
			p++;
		entry = p;
		while (p < end && *p != ',' && *p != '\n')
			p++;
		if (p > entry && *entry != '#' &&
		    !(named && is_of_mode(entry, (size_t)(p - entry))))
			n++;
	}
	return n;
}
