#include "store/base/wire.h"

void wire_reader_init(struct wire_reader *r, const void *data, size_t len)
{
	/* An empty input may be a NULL pointer; keep end - p defined. */
	static const uint8_t nothing[1];

	r->p = len ? data : nothing;
	r->end = r->p + len;
	r->failed = false;
}

const uint8_t *wire_bytes(struct wire_reader *r, size_t len)
{
	const uint8_t *p = r->p;

	if (r->failed || len > (size_t)(r->end - r->p)) {
		r->failed = true;
		return NULL;
	}
	r->p += len;
	return p;
}

uint8_t wire_u8(struct wire_reader *r)
{
	const uint8_t *p = wire_bytes(r, 1);

	return p ? *p : 0;
}

uint16_t wire_u16(struct wire_reader *r)
{
	const uint8_t *p = wire_bytes(r, 2);

	return p ? wire_get16(p) : 0;
}

uint32_t wire_u32(struct wire_reader *r)
{
	const uint8_t *p = wire_bytes(r, 4);

	return p ? wire_get32(p) : 0;
}

uint64_t wire_u64(struct wire_reader *r)
{
	const uint8_t *p = wire_bytes(r, 8);

	return p ? wire_get64(p) : 0;
}

int wire_put_u8(struct buf *b, uint8_t v)
{
	return buf_append(b, &v, 1);
}

int wire_put_u16(struct buf *b, uint16_t v)
{
	uint8_t bytes[2] = { (uint8_t)v, (uint8_t)(v >> 8) };

	return buf_append(b, bytes, sizeof(bytes));
}

int wire_put_u32(struct buf *b, uint32_t v)
{
	uint8_t bytes[4];

	wire_set32(bytes, v);
	return buf_append(b, bytes, sizeof(bytes));
}

int wire_put_u64(struct buf *b, uint64_t v)
{
	uint8_t bytes[8];

	wire_set64(bytes, v);
	return buf_append(b, bytes, sizeof(bytes));
}
