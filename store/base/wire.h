/*
 * wire.h - bounded little-endian reader and writer for our binary formats.
 *
 * The reader never goes past its end: the first read that would sets `failed`
 * and it and every later read yields 0 or NULL, so a decoder reads all its
 * fields and checks wire_ok() once.
 */
#ifndef VARVE_BASE_WIRE_H
#define VARVE_BASE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/macros.h"

struct wire_reader {
	const uint8_t *p;
	const uint8_t *end;
	bool failed;
};

void wire_reader_init(struct wire_reader *r, const void *data, size_t len);
uint8_t wire_u8(struct wire_reader *r);
uint16_t wire_u16(struct wire_reader *r);
uint32_t wire_u32(struct wire_reader *r);
uint64_t wire_u64(struct wire_reader *r);
/* A pointer to the next `len` bytes inside the input, or NULL. */
const uint8_t *wire_bytes(struct wire_reader *r, size_t len);
static inline size_t wire_left(const struct wire_reader *r)
{
	return r->failed ? 0 : (size_t)(r->end - r->p);
}
static inline bool wire_ok(const struct wire_reader *r)
{
	return !r->failed;
}
/* No failure and every byte consumed. */
static inline bool wire_done(const struct wire_reader *r)
{
	return !r->failed && r->p == r->end;
}

MUST_CHECK int wire_put_u8(struct buf *b, uint8_t v);
MUST_CHECK int wire_put_u16(struct buf *b, uint16_t v);
MUST_CHECK int wire_put_u32(struct buf *b, uint32_t v);
MUST_CHECK int wire_put_u64(struct buf *b, uint64_t v);

/* Fixed-place accessors for encoded records. */
static inline uint16_t wire_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t wire_get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t wire_get64(const uint8_t *p)
{
	return (uint64_t)wire_get32(p) | (uint64_t)wire_get32(p + 4) << 32;
}
static inline void wire_set32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}
static inline void wire_set64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}
static inline uint64_t wire_get64be(const uint8_t *p)
{
	uint64_t v = 0;
	for (int i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}
static inline void wire_set64be(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (56 - 8 * i));
}

#endif
