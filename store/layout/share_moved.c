#include "store/layout/share_moved.h"

#include <errno.h>
#include <string.h>

#include "store/base/wire.h"
#include "store/layout/vpk.h"

#define MAGIC "VMV1"
#define FROM 8
#define TO 28
#define SUM 48

static const char what[] = "where a container's chunks are";

static void put_pack(uint8_t *at, const struct pack_id *p)
{
	memcpy(at, p->push.b, SHARE_ID_BYTES);
	wire_set32(at + SHARE_ID_BYTES, p->number);
}

static void get_pack(const uint8_t *at, struct pack_id *out)
{
	memcpy(out->push.b, at, SHARE_ID_BYTES);
	out->number = wire_get32(at + SHARE_ID_BYTES);
}

static bool pack_is_valid(const struct pack_id *p)
{
	return !share_id_is_none(&p->push) && p->number <= PACK_NUMBER_MAX;
}

static bool place_is_valid(uint32_t offset, uint32_t len)
{
	return offset >= VPK_HEADER_SIZE && len > 0 && len <= VPK_CHUNK_FRAME_MAX &&
	       (uint64_t)offset + len <= VPK_SIZE_MAX;
}

static bool has_chunks(const struct share_moved_head *h)
{
	return !h->none && !share_moved_stays(h);
}

int share_moved_encode(const struct share_moved_head *h, const struct share_moved_chunk *chunks,
		       size_t n, struct buf *out)
{
	uint8_t head[SHARE_MOVED_HEADER] = MAGIC, entry[SHARE_MOVED_ENTRY];
	struct digest sum;
	int rc;

	if (!pack_is_valid(&h->from) || (!h->none && !pack_is_valid(&h->to)) ||
	    (n && !has_chunks(h)))
		return -EINVAL;
	if (n > (SHARE_MOVED_MAX - SHARE_MOVED_HEADER) / SHARE_MOVED_ENTRY)
		return -EFBIG;
	put_pack(head + FROM, &h->from);
	if (!h->none)
		put_pack(head + TO, &h->to);
	rc = hash_bytes(head, SUM, &sum);
	memcpy(head + SUM, sum.b, DIGEST_SIZE);
	if (rc == 0)
		rc = buf_append(out, head, sizeof(head));
	for (size_t i = 0; i < n && rc == 0; i++) {
		if (!place_is_valid(chunks[i].offset, chunks[i].len) ||
		    (i && memcmp(chunks[i - 1].digest.b, chunks[i].digest.b, DIGEST_SIZE) >= 0))
			return -EINVAL;
		memcpy(entry, chunks[i].digest.b, DIGEST_SIZE);
		wire_set32(entry + DIGEST_SIZE, chunks[i].offset);
		wire_set32(entry + DIGEST_SIZE + 4, chunks[i].len);
		rc = buf_append(out, entry, sizeof(entry));
	}
	return rc;
}

int share_moved_head_decode(const void *bytes, size_t len, const struct pack_id *from,
			    struct share_moved_head *out, struct error *err)
{
	static const uint8_t none[SHARE_ID_BYTES + 4];
	const uint8_t *b = bytes;
	struct share_moved_head h;
	struct digest sum;
	int rc;

	if (len < SHARE_MOVED_HEADER || memcmp(b, MAGIC, 3) != 0)
		return error_set(err, -EBADMSG, "%s: damaged", what);
	if (b[3] != MAGIC[3] || wire_get32(b + 4) != 0)
		return error_set(err, -ENOTSUP, "%s: of a newer version", what);
	rc = hash_bytes(b, SUM, &sum);
	if (rc < 0)
		return error_set_errno(err, rc, "%s", what);
	if (memcmp(sum.b, b + SUM, DIGEST_SIZE) != 0)
		return error_set(err, -EBADMSG, "%s: damaged", what);
	get_pack(b + FROM, &h.from);
	get_pack(b + TO, &h.to);
	h.none = memcmp(b + TO, none, sizeof(none)) == 0;
	if (pack_id_cmp(&h.from, from) != 0 || (!h.none && !pack_is_valid(&h.to)))
		return error_set(err, -EBADMSG, "%s: it is of another container", what);
	*out = h;
	return 0;
}

static void get_chunk(const uint8_t *at, struct share_moved_chunk *out)
{
	memcpy(out->digest.b, at, DIGEST_SIZE);
	out->offset = wire_get32(at + DIGEST_SIZE);
	out->len = wire_get32(at + DIGEST_SIZE + 4);
}

int share_moved_decode(const void *bytes, size_t len, const struct pack_id *from,
		       struct share_moved *out, struct error *err)
{
	struct share_moved m;
	struct share_moved_chunk c, before;
	int rc = share_moved_head_decode(bytes, len, from, &m.head, err);

	if (rc < 0)
		return rc;
	len -= SHARE_MOVED_HEADER;
	m.chunks = (const uint8_t *)bytes + SHARE_MOVED_HEADER;
	m.n = len / SHARE_MOVED_ENTRY;
	rc = len % SHARE_MOVED_ENTRY || (m.n && !has_chunks(&m.head)) ? -EBADMSG : 0;
	for (size_t i = 0; i < m.n && rc == 0; i++) {
		get_chunk(m.chunks + i * SHARE_MOVED_ENTRY, &c);
		if (!place_is_valid(c.offset, c.len) ||
		    (i && memcmp(before.digest.b, c.digest.b, DIGEST_SIZE) >= 0))
			rc = -EBADMSG;
		before = c;
	}
	if (rc < 0)
		return error_set(err, rc, "%s: damaged", what);
	*out = m;
	return 0;
}

bool share_moved_find(const struct share_moved *m, const struct digest *d,
		      struct share_moved_chunk *out)
{
	size_t low = 0, high = m->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (memcmp(m->chunks + middle * SHARE_MOVED_ENTRY, d->b, DIGEST_SIZE) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == m->n)
		return false;
	get_chunk(m->chunks + low * SHARE_MOVED_ENTRY, out);
	return digest_equal(&out->digest, d);
}
