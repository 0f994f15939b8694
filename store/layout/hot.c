#include "store/layout/hot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/wire.h"

#define MAGIC "VHO1"
#define MAGIC_SIZE 4u
#define FIXED_SIZE 64u
#define ENTRY_SIZE (4u + DIGEST_SIZE)

static uint32_t header_size(uint32_t n)
{
	return FIXED_SIZE + n * ENTRY_SIZE + DIGEST_SIZE;
}

static bool has_digest(enum hot_kind kind)
{
	return kind != HOT_LOCS;
}

static size_t item_size(enum hot_kind kind, size_t len)
{
	return HOT_ITEM_SIZE + (has_digest(kind) ? DIGEST_SIZE : 0) + len;
}

static bool item_is_valid(const struct hot_item *item)
{
	struct vpk_view locs;
	switch (item->kind) {
	case HOT_NODE:
		return vpk_frame_is_valid(item->bytes, item->len, NODE_ENCODED_MAX);
	case HOT_CHUNK:
		return vpk_frame_is_valid(item->bytes, item->len, CHUNK_MAX);
	case HOT_LOCS:
		return vpk_view_locs(&locs, item->bytes, item->len) == 0;
	}
	return false;
}

/* ---- writing ---- */

struct hot_writer {
	struct digest root;
	struct share_id nonce;
	struct buf bytes; /* all segments */
	uint32_t len[HOT_SEGMENTS_MAX];
	uint32_t n;
};

struct hot_writer *hot_writer_new(const struct digest *root, const struct share_id *nonce)
{
	struct hot_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->root = *root;
	w->nonce = *nonce;
	return w;
}

void hot_writer_free(struct hot_writer *w)
{
	if (!w)
		return;
	buf_fini(&w->bytes);
	free(w);
}

/* The first is read together with the header, of whatever size that will be. */
static uint32_t segment_max(uint32_t i)
{
	return i == 0 ? HOT_SEGMENT_MAX - HOT_HEADER_MAX : HOT_SEGMENT_MAX;
}

static int append_item(struct buf *out, const struct hot_item *item)
{
	int r = buf_reserve(out, item_size(item->kind, item->len));
	if (r != 0)
		return r;
	r |= wire_put_u32(out, (uint32_t)item->kind);
	r |= wire_put_u32(out, (uint32_t)item->len);
	if (has_digest(item->kind))
		r |= buf_append(out, item->digest.b, DIGEST_SIZE);
	r |= buf_append(out, item->bytes, item->len);
	return r;
}

int hot_add(struct hot_writer *w, const struct hot_item *item)
{
	size_t size = item_size(item->kind, item->len);
	uint32_t n = w->n;

	if (size > segment_max(0) || !item_is_valid(item))
		return -EINVAL;
	if (n == 0 || w->len[n - 1] + size > segment_max(n - 1))
		n++;
	if (n > HOT_SEGMENTS_MAX || HOT_HEADER_MAX + w->bytes.len + size > HOT_SIZE_MAX)
		return -EFBIG;
	int r = append_item(&w->bytes, item);
	if (r != 0)
		return r;
	w->n = n;
	w->len[n - 1] += (uint32_t)size;
	return 0;
}

static int put_table(const struct hot_writer *w, struct buf *out)
{
	const uint8_t *at = w->bytes.data;
	for (uint32_t i = 0; i < w->n; i++) {
		struct digest sum;
		int r = hash_bytes(at, w->len[i], &sum);
		if (r == 0)
			r = wire_put_u32(out, w->len[i]);
		if (r == 0)
			r = buf_append(out, sum.b, DIGEST_SIZE);
		if (r != 0)
			return r;
		at += w->len[i];
	}
	return 0;
}

int hot_writer_finish(struct hot_writer *w, struct buf *out)
{
	uint8_t fixed[FIXED_SIZE] = MAGIC;
	struct digest sum;
	size_t start = out->len;

	if (w->n == 0 || share_id_is_none(&w->nonce))
		return -EINVAL;
	wire_set32(fixed + 8, w->n);
	memcpy(fixed + 16, w->nonce.b, SHARE_ID_BYTES);
	memcpy(fixed + 32, w->root.b, DIGEST_SIZE);
	int r = buf_reserve(out, header_size(w->n) + w->bytes.len);
	if (r == 0)
		r = buf_append(out, fixed, sizeof(fixed));
	if (r == 0)
		r = put_table(w, out);
	if (r == 0)
		r = hash_bytes(out->data + start, out->len - start, &sum);
	if (r == 0)
		r = buf_append(out, sum.b, DIGEST_SIZE);
	return r == 0 ? buf_append(out, w->bytes.data, w->bytes.len) : r;
}

/* ---- reading ---- */

static int check_magic(const uint8_t *b, struct error *err)
{
	if (memcmp(b, MAGIC, MAGIC_SIZE - 1) != 0 || b[3] < '1' || b[3] > '9')
		return error_set(err, -EBADMSG, "not a hot object");
	if (b[3] != '1')
		return error_set(err, -ENOTSUP,
				 "hot object of version %c, this program reads version 1", b[3]);
	if (wire_get32(b + 4) != 0)
		return error_set(err, -ENOTSUP, "hot object with unknown flags %#x",
				 wire_get32(b + 4));
	return 0;
}

static bool take_table(const uint8_t *b, struct hot_header *h)
{
	uint32_t offset = header_size(h->n);
	for (uint32_t i = 0; i < h->n; i++) {
		struct hot_segment *s = &h->segments[i];
		const uint8_t *at = b + FIXED_SIZE + (size_t)i * ENTRY_SIZE;
		s->offset = offset;
		s->len = wire_get32(at);
		memcpy(s->sum.b, at + 4, DIGEST_SIZE);
		if (s->len == 0 || s->len > segment_max(i) || s->len > HOT_SIZE_MAX - offset)
			return false;
		offset += s->len;
	}
	return true;
}

int hot_header_parse(const void *bytes, size_t len, struct hot_header *out, struct error *err)
{
	const uint8_t *b = bytes;
	struct hot_header h = { 0 };
	struct digest sum;

	if (len < header_size(1))
		return error_set(err, -EBADMSG, "a hot object cannot have %zu bytes", len);
	int r = check_magic(b, err);
	if (r != 0)
		return r;
	h.n = wire_get32(b + 8);
	if (h.n == 0 || h.n > HOT_SEGMENTS_MAX || len < header_size(h.n))
		return error_set(err, -EBADMSG, "hot object with %u segments", h.n);
	size_t summed = header_size(h.n) - DIGEST_SIZE;
	r = hash_bytes(b, summed, &sum);
	if (r != 0)
		return error_set_errno(err, r, "hot object");
	memcpy(h.nonce.b, b + 16, SHARE_ID_BYTES);
	memcpy(h.root.b, b + 32, DIGEST_SIZE);
	if (memcmp(sum.b, b + summed, DIGEST_SIZE) != 0 || wire_get32(b + 12) != 0 ||
	    share_id_is_none(&h.nonce) || !take_table(b, &h))
		return error_set(err, -EBADMSG, "hot object is damaged");
	*out = h;
	return 0;
}

/* The next item, checked as far as the bounds go. */
static bool read_item(struct wire_reader *r, struct hot_item *out)
{
	*out = (struct hot_item){ .kind = (enum hot_kind)wire_u32(r) };
	out->len = wire_u32(r);
	if (has_digest(out->kind)) {
		const uint8_t *digest = wire_bytes(r, DIGEST_SIZE);
		if (digest)
			memcpy(out->digest.b, digest, DIGEST_SIZE);
	}
	out->bytes = wire_bytes(r, out->len);
	return wire_ok(r);
}

int hot_segment_check(const struct hot_segment *s, const void *bytes, size_t len, struct error *err)
{
	struct wire_reader reader;
	struct hot_item item;
	struct digest sum;

	int r = hash_bytes(bytes, len, &sum);
	if (r != 0)
		return error_set_errno(err, r, "hot object");
	if (len != s->len || !digest_equal(&sum, &s->sum))
		return error_set(err, -EBADMSG,
				 "a segment of the hot object is damaged, or of another one");
	wire_reader_init(&reader, bytes, len);
	while (wire_left(&reader) > 0) {
		if (!read_item(&reader, &item) || !item_is_valid(&item))
			return error_set(err, -EBADMSG, "hot object breaks its own format");
	}
	return 0;
}

bool hot_next(const void *bytes, size_t len, size_t *pos, struct hot_item *out)
{
	struct wire_reader r;
	if (*pos >= len)
		return false;
	wire_reader_init(&r, (const uint8_t *)bytes + *pos, len - *pos);
	if (!read_item(&r, out))
		return false;
	*pos += item_size(out->kind, out->len);
	return true;
}
