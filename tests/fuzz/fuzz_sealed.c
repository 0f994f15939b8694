/*
 * Sealed objects: whatever the bytes, they open only if they were sealed so. The input is a sealed
 * object, or, with its first byte odd, content that is sealed and read back in some part; or a
 * bucket's format.
 */
#include "store/bucket/sealed.h"

#include <string.h>

#include "store/layout/share_format.h"
#include "tests/fuzz/fuzz.h"

static const struct crypt_key key = { { 7 } };

/* Nothing opens by chance. */
static void open_foreign(const uint8_t *data, size_t size, uint64_t first, bool sized, bool lenient)
{
	CLEANUP(buf_fini_p) struct buf b = BUF_INIT;
	struct sealed_part part = { .first = first,
				    .size = sized ? first * SEALED_STRIDE + size : 0,
				    .lenient = lenient };

	MUST(buf_append(&b, data, size) == 0);
	MUST(sealed_open(&key, "snap/x", &part, &b) == -EBADMSG);
	MUST(b.len == 0);
}

static void read_part(const uint8_t *data, size_t size, size_t from, size_t n)
{
	CLEANUP(buf_fini_p) struct buf whole = BUF_INIT, b = BUF_INIT;
	uint64_t content = 0;

	MUST(sealed_make(&key, "snap/x", data, size, &whole) == 0);
	MUST(whole.len == sealed_size(size));
	MUST(sealed_content_size(whole.len, &content) == 0 && content == size);
	size_t all = (whole.len + SEALED_STRIDE - 1) / SEALED_STRIDE;
	from %= all;
	n = 1 + n % (all - from);
	size_t start = from * SEALED_STRIDE, end = MIN(start + n * SEALED_STRIDE, whole.len);
	for (int sized = 0; sized < 2; sized++) {
		struct sealed_part part = { .first = from, .size = sized ? whole.len : 0 };

		buf_clear(&b);
		MUST(buf_append(&b, whole.data + start, end - start) == 0);
		MUST(sealed_open(&key, "snap/x", &part, &b) == 0);
		MUST(part.has_end == (from + n == all));
		MUST(b.len == MIN(n * SEALED_SEGMENT, size - from * SEALED_SEGMENT));
		MUST(b.len == 0 || memcmp(b.data, data + from * SEALED_SEGMENT, b.len) == 0);
	}
}

static void read_format(const uint8_t *data, size_t size)
{
	CLEANUP(buf_fini_p) struct buf text = BUF_INIT, about = BUF_INIT, again = BUF_INIT;
	struct share_format f, back;

	if (share_format_decode(data, size, &f, NULL) != 0 || !f.sealed)
		return;
	MUST(share_format_about(data, size, &about, NULL) == 0);
	f.keys[0][0] ^= 1;
	MUST(share_format_rekey(data, size, &f, &text, NULL) == 0);
	MUST(share_format_decode(text.data, text.len, &back, NULL) == 0);
	MUST(back.n_keys == f.n_keys && memcmp(back.keys, f.keys, sizeof(f.keys)) == 0);
	MUST(share_format_about(text.data, text.len, &again, NULL) == 0);
	MUST(about.len == again.len && memcmp(about.data, again.data, about.len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 4)
		return 0;
	read_format(data, size);
	if (data[0] & 1)
		read_part(data + 4, size - 4, data[1], data[2]);
	else
		open_foreign(data + 4, size - 4, data[1], data[2] & 1, data[2] & 2);
	return 0;
}
